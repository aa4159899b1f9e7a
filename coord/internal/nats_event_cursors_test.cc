// The cursors of the bus over NATS, on a memory store in virtual time.

#include "coord/internal/nats_event_cursors.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/event_cursor.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/executor.h"
#include "coord/internal/nats_event_ledger.h"
#include "coord/options.h"
#include "coord/sim_runtime.h"
#include "gtest/gtest.h"
#include "kv/memory_store.h"
#include "kv/store.h"

namespace coord::internal {
namespace {

class NatsEventCursorsTest : public ::testing::Test {
 protected:
  NatsEventCursorsTest() : store_thread_(runtime_, "store"), store_(Store()) {
    JoinOptions options;
    options.store = Store();
    options.plugin = "p";
    options.instance = "me";
    options.runtime = &runtime_;
    core_ = std::make_shared<Core>(std::move(options));
    worker_ = std::make_shared<EventWorker>(runtime_);
    cursors_ = std::make_shared<NatsEventCursors>(
        core_, worker_,
        [this](absl::Time) -> absl::StatusOr<std::shared_ptr<kv::Store>> {
          ++opened_;
          if (!error_.ok()) return error_;
          return store_;
        },
        [this](kv::Store&, absl::Time) {
          ++checked_;
          return lost_;
        },
        absl::Hours(10));
  }

  void TearDown() override {
    worker_->Stop(absl::InfiniteFuture());
    core_->callbacks->Stop(absl::InfiniteFuture());
    store_thread_.Stop(absl::InfiniteFuture());
  }

  std::shared_ptr<kv::Store> Store() {
    kv::MemoryStoreOptions store;
    store.wall_now = [this] { return runtime_.WallNow(); };
    store.uptime = [this] { return runtime_.Now() - absl::UnixEpoch(); };
    store.executor = [this](std::function<void()> task) { store_thread_.Post(std::move(task)); };
    return kv::NewMemoryStore(std::move(store));
  }

  absl::Time Soon() { return runtime_.Now() + absl::Seconds(10); }

  std::shared_ptr<EventCursors> Get() {
    auto cursors = cursors_->Get(Soon());
    EXPECT_TRUE(cursors.ok()) << cursors.status();
    return *cursors;
  }

  EventCursors::Opened Open(const std::string& epoch, uint64_t present) {
    const auto cursors = Get();
    const auto lost = cursors_->Loss(Soon());
    EXPECT_TRUE(lost.ok()) << lost.status();
    auto opened = cursors->Open("t", "c", {epoch, present, *lost}, Soon());
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }

  SimRuntime runtime_;
  Executor store_thread_;
  std::shared_ptr<kv::Store> store_;
  std::shared_ptr<Core> core_;
  std::shared_ptr<EventWorker> worker_;
  std::shared_ptr<NatsEventCursors> cursors_;
  absl::Status error_;
  int opened_ = 0;
  int checked_ = 0;
  absl::StatusOr<bool> lost_ = false;
};

TEST_F(NatsEventCursorsTest, TheBucketIsOpenedByTheFirstThatNeedsIt) {
  EXPECT_EQ(opened_, 0);
  error_ = absl::FailedPreconditionError("other settings");
  EXPECT_EQ(cursors_->Get(Soon()).status(), error_);
  error_ = absl::UnavailableError("no server");
  EXPECT_EQ(cursors_->Get(Soon()).status(), error_);
  EXPECT_GT(opened_, 5) << "what may pass is tried again until the deadline";
  error_ = absl::OkStatus();
  opened_ = 0;
  const auto first = Get();
  EXPECT_EQ(Get(), first);
  EXPECT_EQ(opened_, 1);
}

// The sequences of a stream are unrelated to the revisions of the cursors' own bucket.
TEST_F(NatsEventCursorsTest, PlacesAreTheStreams) {
  EventCursors::Opened opened = Open("e1", 0);
  EXPECT_TRUE(opened.fresh);
  EXPECT_EQ(opened.at.revision, 0u);
  Get()->Release(opened.place);
  runtime_.SleepFor(absl::Seconds(1));
  opened = Open("e1", 1000);
  EXPECT_FALSE(opened.fresh);
  EXPECT_EQ(opened.at.revision, 0u) << "nothing was delivered yet, and the stream was empty";
  Get()->Advance(opened.place, 1234567, "0123456789abcdef00000001", 7);
  Get()->Release(opened.place);
  runtime_.SleepFor(absl::Seconds(1));
  opened = Open("e2", 5);
  EXPECT_EQ(opened.at.epoch, "e1");
  EXPECT_EQ(opened.at.revision, 1234567u);
  EXPECT_EQ(opened.at.last.at("0123456789abcdef00000001"), 7u);
  EXPECT_EQ(opened.gap, "");
}

// One that does not exist may be one of those that were lost: its owner learns of it, also if it had no time to.
TEST_F(NatsEventCursorsTest, ACursorThatMayHaveBeenLostIsAGapUntilThatWasTold) {
  lost_ = true;
  EventCursors::Opened opened = Open("e1", 3);
  EXPECT_EQ(opened.gap,
            "cursor \"c\" of topic \"t\" may have been lost: the bucket of cursors was lost or removed, and made anew, "
            "while the stream of events was not");
  EXPECT_EQ(opened.at.revision, 3u);
  Get()->Release(opened.place);
  runtime_.SleepFor(absl::Seconds(1));
  opened = Open("e1", 50);
  EXPECT_NE(opened.gap, "");
  EXPECT_EQ(opened.at.revision, 50u);
  Get()->Restart(opened.place, "e1", opened.at.revision);
  Get()->Release(opened.place);
  runtime_.SleepFor(absl::Seconds(1));
  opened = Open("e1", 90);
  EXPECT_EQ(opened.gap, "");
  EXPECT_EQ(opened.at.revision, 50u);
}

TEST_F(NatsEventCursorsTest, WhetherTheBucketWasLostIsAskedUntilItIsKnown) {
  (void)Get();
  lost_ = absl::NotFoundError("no bucket");
  EXPECT_EQ(cursors_->Loss(Soon()).status(), lost_.status());
  EXPECT_GT(checked_, 5);
  checked_ = 0;
  lost_ = absl::FailedPreconditionError("no JetStream");
  EXPECT_EQ(cursors_->Loss(Soon()).status(), lost_.status());
  EXPECT_EQ(checked_, 1);
}

TEST_F(NatsEventCursorsTest, UnusedCursorsAreForgottenAndTheirOwnersLearnOfIt) {
  EventCursors::Opened opened = Open("e1", 3);
  runtime_.SleepFor(absl::Hours(24));
  Get()->Release(opened.place);
  runtime_.SleepFor(absl::Hours(5));
  opened = Open("e1", 50);
  EXPECT_EQ(opened.gap, "") << "one in use is kept, however quiet its topic";
  EXPECT_EQ(opened.at.revision, 3u);
  Get()->Release(opened.place);
  runtime_.SleepFor(absl::Hours(24));
  opened = Open("e1", 70);
  EXPECT_EQ(opened.gap, "cursor \"c\" of topic \"t\" was not used for long and was forgotten");
  EXPECT_EQ(opened.at.revision, 70u);
  // Until that was told it is told again.
  Get()->Release(opened.place);
  runtime_.SleepFor(absl::Seconds(1));
  opened = Open("e1", 80);
  EXPECT_NE(opened.gap, "");
  Get()->Restart(opened.place, "e1", opened.at.revision);
  Get()->Release(opened.place);
  runtime_.SleepFor(absl::Seconds(1));
  EXPECT_EQ(Open("e1", 90).gap, "");
}

TEST(NatsEventLedgerTest, ADescriptionKeepsWhatElseItSays) {
  EXPECT_EQ(NotedBucket(""), "");
  EXPECT_EQ(NotedBucket("ours (cursors in the bucket of "), "");
  const std::string once = NoteBucket("", "2024-01-01T00:00:00Z");
  EXPECT_EQ(once, "(cursors in the bucket of 2024-01-01T00:00:00Z)");
  EXPECT_EQ(NotedBucket(once), "2024-01-01T00:00:00Z");
  EXPECT_EQ(NoteBucket("ours", "x"), "ours (cursors in the bucket of x)");
  EXPECT_EQ(NoteBucket("ours " + once + " too", "y"), "ours (cursors in the bucket of y) too");
}

}  // namespace
}  // namespace coord::internal
