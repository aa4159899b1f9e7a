// One test for each bug that another library of this kind has had and that the tests of the primitives do not show.

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/cancel.h"
#include "coord/internal/held.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

using absl::StatusCode;
using kv::Fault;
using kv::FaultyCall;

constexpr absl::Duration kTtl = absl::Seconds(10);

class PeersTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }

  World world_{5};
};

// Somebody has emptied the record with a tool of the store's own while a campaign waited in it.
TEST_F(PeersTest, ACampaignWhosePlaceIsGoneLeadsOnlyOnceTheRecordNamesIt) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto c = world_.Join("c");
  auto term = a->Election("e").Campaign("A", Soon());
  ASSERT_TRUE(IsOk(term));
  auto second = InBackground(world_, [&] { return b->Election("e").Campaign("B", world_.In(absl::Hours(1))); });
  auto third = InBackground(world_, [&] { return c->Election("e").Campaign("C", world_.In(absl::Hours(1))); });
  auto record = RecordOf(world_, "election", "e");
  ASSERT_EQ(record->queue.size(), 2u);
  record->owners.clear();
  record->queue.clear();
  ASSERT_TRUE(world_.data().Put(KeyOf(world_, "election", "e"), Format(*record), absl::InfiniteFuture()).ok());
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(term->Lost());
  ASSERT_NE(second->ok(), third->ok()) << "one leads, and one waits";
  Call& leader = second->ok() ? *second : *third;
  record = RecordOf(world_, "election", "e");
  ASSERT_EQ(record->owners.size(), 1u);
  EXPECT_EQ(record->owners[0].session, leader.grant->held()->session->id);
  EXPECT_EQ(record->owners[0].value, second->ok() ? "B" : "C");
  EXPECT_EQ(record->queue.size(), 1u);
  leader.grant = absl::UnknownError("resigned");
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(second->ok() || third->ok());
}

TEST_F(PeersTest, ACandidacyWithdrawnWhileItsSessionIsLostDoesNotComeBack) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto term = a->Election("e").Campaign("A", Soon());
  int elected = 0;
  CandidateOptions options;
  options.value = "B";
  options.on_elected = [&](std::shared_ptr<const Grant>) { ++elected; };
  std::unique_ptr<Candidate> candidate = b->Election("e").Stand(options);
  Sleep(absl::Seconds(1));
  ASSERT_EQ(RecordOf(world_, "election", "e")->queue.size(), 1u);
  ASSERT_TRUE(IsOk(a->Break(b->session(), Soon())));
  candidate = nullptr;
  Sleep(kTtl * 3);
  ASSERT_TRUE(IsOk(term->Release()));
  Sleep(kTtl);
  EXPECT_EQ(elected, 0);
  EXPECT_TRUE(IsFree(world_, "election", "e"));
}

TEST_F(PeersTest, AReaderIsNotLetInByAPushAfterItsSessionHasRunOut) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    auto a = world.Join("a");
    Process b(world, 1, "b");
    auto held = a->SharedMutex("s").Acquire(world.In(absl::Seconds(1)));
    absl::StatusOr<Grant> got = absl::UnknownError("not yet");
    bool valid_at_return = false;
    auto thread = b.Start([&] {
      got = b->SharedMutex("s").AcquireShared(world.In(absl::Hours(1)));
      valid_at_return = got.ok() && !got->Lost();
    });
    world.runtime().SleepFor(absl::Seconds(1));
    ASSERT_EQ(RecordOf(world, "shared_mutex", "s")->queue.size(), 1u);
    b.Pause();
    world.runtime().SleepFor(kTtl);  // beyond what b may rely on
    ASSERT_TRUE(IsOk(held->Release()));
    b.Resume();  // which of b's threads runs first is up to the seed
    world.runtime().SleepFor(kTtl * 3);
    ASSERT_TRUE(IsOk(got));
    EXPECT_TRUE(valid_at_return);
    b.Run([&] { got = absl::UnknownError("released"); });
  }
}

TEST_F(PeersTest, TheWaitOfAReaderCanBeCancelled) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->SharedMutex("s").Acquire(Soon());
  CancelSource cancel;
  auto waiting = InBackground(
      world_, [&] { return b->SharedMutex("s").AcquireShared(world_.In(absl::Minutes(1)), cancel.token()); });
  ASSERT_EQ(RecordOf(world_, "shared_mutex", "s")->queue.size(), 1u);
  cancel.Cancel();
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(waiting->done);
  EXPECT_TRUE(Is(StatusCode::kCancelled, waiting->grant, "cancelled by its caller"));
  EXPECT_TRUE(RecordOf(world_, "shared_mutex", "s")->queue.empty());
}

TEST_F(PeersTest, TheHolderHearsOfFailedRenewalsBeforeAnybodyTakesOver) {
  auto b = world_.Join("b");
  JoinOptions options = world_.Options("a");
  auto cut = std::make_shared<kv::FaultyStore>(options.store);
  options.store = cut;
  auto a = world_.Join(std::move(options));
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  absl::Time told_at = absl::InfiniteFuture();
  held->OnLost([&] { told_at = world_.runtime().Now(); });
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  Sleep(kTtl * 2);
  cut->SetHook([](const FaultyCall&) { return Fault::kFailBefore; });
  Sleep(kTtl * 2);
  EXPECT_TRUE(waiting->ok());
  EXPECT_LE(told_at + kTtl / 6, waiting->at);
  cut->SetHook(nullptr);
}

TEST_F(PeersTest, CopiesThatFailedTogetherDoNotTryAgainInStep) {
  constexpr int kCopies = 8;
  std::vector<std::unique_ptr<Cluster>> copies;
  for (int i = 0; i < kCopies; ++i) copies.push_back(world_.Join(absl::StrCat("c", i)));
  std::map<absl::Time, int> calls;
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    if (call.key.find("/mutex/") == std::string::npos) return Fault::kNone;
    ++calls[world_.runtime().Now()];
    return Fault::kFailBefore;
  });
  std::vector<std::shared_ptr<Call>> waiting;
  for (int i = 0; i < kCopies; ++i) {
    waiting.push_back(InBackground(
        world_, [&, i] { return copies[i]->Mutex(absl::StrCat("m", i)).Acquire(world_.In(absl::Seconds(2))); }));
  }
  Sleep(absl::Seconds(3));
  int together = 0, all = 0;
  for (const auto& [at, count] : calls) {
    all += count;
    if (count > 1) together += count;
  }
  EXPECT_GT(all, 3 * kCopies) << "they do try again";
  EXPECT_LE(together, kCopies + all / 4) << "all at once is the first try alone, of " << all;
}

// Who may take over is decided by what was seen when, and by no stamp.
TEST_F(PeersTest, AJumpOfTheWallClockMakesNobodyTakeOver) {
  for (const absl::Duration jump : {absl::Hours(5), -absl::Hours(5)}) {
    auto a = world_.Join("a");
    auto b = world_.Join("b");
    auto c = world_.Join("c");
    auto held = a->Mutex("m").Acquire(Soon());
    ASSERT_TRUE(IsOk(held));
    auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Minutes(1))); });
    Sleep(kTtl);
    world_.runtime().JumpWallClock(jump);
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(Is(StatusCode::kResourceExhausted, c->Mutex("m").TryAcquire(Soon()), "is taken"));
      Sleep(kTtl / 3);
    }
    EXPECT_FALSE(held->Lost());
    EXPECT_EQ(a->Stats().sessions_lost, 0u);
    EXPECT_FALSE(waiting->done);
    ASSERT_TRUE(IsOk(held->Release()));
    world_.runtime().RunUntilIdle();
    EXPECT_TRUE(waiting->ok());
  }
}

// Whether the thread that asks or the one that tells of losses is the first to run after a pause is up to the seed.
TEST_F(PeersTest, AfterAPauseNoGrantIsHeldFromMemory) {
  int asked_first = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    Process a(world, 1, "a");
    absl::StatusOr<Grant> grant = absl::UnknownError("");
    bool lost = false, told = false, told_before = false;
    auto thread = a.Start([&] {
      grant = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
      grant->OnLost([&] { told = true; });
      world.runtime().Pause(1);
      world.runtime().SleepFor(absl::Microseconds(1));  // goes on after the pause
      lost = grant->Lost();
      told_before = told;
    });
    world.runtime().SleepFor(kTtl * 2);
    a.Resume();
    thread = nullptr;
    EXPECT_TRUE(lost);
    if (!told_before) ++asked_first;
    world.runtime().SleepFor(absl::Seconds(1));
    EXPECT_TRUE(told);
    a.Run([&] { grant = absl::UnknownError(""); });
  }
  EXPECT_GT(asked_first, 0) << "no seed shows what this is about";
}

// A beat that finds another's writing is no renewal.
TEST_F(PeersTest, ASessionWhoseRecordSomebodyElseWritesIsLost) {
  auto a = world_.Join("a");
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  const std::string session = a->session();
  auto record = SessionOf(world_, session);
  ASSERT_TRUE(record.has_value());
  record->nonce = "of-another-process";
  ASSERT_TRUE(world_.data().Put(KeyOf(world_, "session", session), Format(*record), absl::InfiniteFuture()).ok());
  Sleep(kTtl);
  EXPECT_TRUE(held->Lost());
  EXPECT_NE(a->session(), session);
  EXPECT_NE(world_.log().find("another process writes its record"), std::string::npos) << world_.log();
}

// The watch is up before anybody can wait. What comes while the request of the waiter is still under way counts too.
TEST_F(PeersTest, AReleaseThatOvertakesTheReplyToTheWaitersRequestWakesIt) {
  auto a = world_.Join("a");
  JoinOptions options = world_.Options("b");
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  options.store = slow;
  auto b = world_.Join(std::move(options));
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  slow->hook = [](std::string_view key, bool write) {
    const bool lock = key.find("/mutex/") != std::string_view::npos;
    return SlowStore::Delay{absl::ZeroDuration(), lock && write ? absl::Seconds(1) : absl::ZeroDuration()};
  };
  const absl::Time begun = world_.runtime().Now();
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Minutes(1))); });
  Sleep(absl::Milliseconds(500));
  ASSERT_EQ(RecordOf(world_, "mutex", "m")->queue.size(), 1u);
  ASSERT_TRUE(IsOk(held->Release()));
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(waiting->ok()) << "not only at its next look at the record";
  EXPECT_LE(waiting->at - begun, absl::Seconds(1));
  const auto record = RecordOf(world_, "mutex", "m");
  ASSERT_EQ(record->owners.size(), 1u);
  EXPECT_EQ(record->owners[0].session, b->session());
}

}  // namespace
}  // namespace coord::testing
