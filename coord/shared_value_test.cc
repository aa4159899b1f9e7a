#include "coord/shared_value.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/test_core.h"
#include "gtest/gtest.h"

namespace coord {
namespace {

using internal::SimWorld;
using internal::TestCopy;
using kv::CallKind;
using kv::Fault;

constexpr char kKey[] = "demo/value/settings";

class SharedValueTest : public ::testing::Test {
 protected:
  SharedValueTest() : copy_(world_.NewCopy()), other_(world_.NewCopy()), value_(copy_->Shared("settings")) {}

  absl::Time Soon() { return other_->Soon(); }
  kv::CallCounts Counts() { return copy_->counting->Snapshot(kKey); }
  static std::string Text(const std::shared_ptr<const Versioned>& now) {
    return now == nullptr ? "absent" : now->value;
  }
  std::string Now() { return Text(value_->Get()); }
  Revision SetElsewhere(const std::string& value) { return *other_->Value("settings").Set(value, Soon()); }
  void DeleteElsewhere() {
    AtomicValue value = other_->Value("settings");
    ASSERT_TRUE(value.Delete(value.Get(Soon())->revision, Soon()).ok());
  }
  Subscription Listen() {
    return value_->OnChange([this](const std::shared_ptr<const Versioned>& now) { heard_.push_back(Text(now)); });
  }

  SimWorld world_;
  std::unique_ptr<TestCopy> copy_;
  std::unique_ptr<TestCopy> other_;
  std::shared_ptr<SharedValue> value_;
  std::vector<std::string> heard_;
};

TEST_F(SharedValueTest, FollowsWhatOthersWriteWithoutAsking) {
  EXPECT_EQ(Now(), "absent");
  const kv::CallCounts before = Counts();
  const Revision revision = SetElsewhere("a");
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "a");
  EXPECT_EQ(value_->Get()->revision, revision);
  SetElsewhere("b");
  DeleteElsewhere();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "absent");
  SetElsewhere("c");
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "c");
  EXPECT_EQ((Counts() - before).calls(), 0);
}

TEST_F(SharedValueTest, AReadCostsNoCallAndAnUpdateOneWrite) {
  SetElsewhere("1");
  world_.runtime.RunUntilIdle();
  const kv::CallCounts before = Counts();
  for (int i = 0; i < 1000; ++i) value_->Get();
  EXPECT_EQ((Counts() - before).calls(), 0);
  ASSERT_TRUE(value_->Update([](const auto& now) -> absl::StatusOr<std::string> { return *now + "2"; }, Soon()).ok());
  EXPECT_EQ((Counts() - before).writes(), 1);
  EXPECT_EQ((Counts() - before).reads(), 0);
  EXPECT_EQ(Now(), "12");
}

TEST_F(SharedValueTest, OwnWritesAreSeenAtOnce) {
  copy_->faulty->PauseWatches();
  const Revision revision = *value_->Set("a", Soon());
  EXPECT_EQ(Now(), "a");
  ASSERT_TRUE(value_->CompareAndSet(revision, "b", Soon()).ok());
  EXPECT_EQ(Now(), "b");
  ASSERT_TRUE(value_->Update([](const auto&) -> absl::StatusOr<std::string> { return "c"; }, Soon()).ok());
  EXPECT_EQ(Now(), "c");
  ASSERT_TRUE(copy_->Value("settings").Set("d", Soon()).ok());
  EXPECT_EQ(Now(), "d") << "written through an AtomicValue of the name";
  ASSERT_TRUE(value_->Delete(value_->Get()->revision, Soon()).ok());
  EXPECT_EQ(Now(), "absent");
  copy_->faulty->ResumeWatches();
}

TEST_F(SharedValueTest, AnOwnWriteWhoseReplyWasLostIsSeenAtOnce) {
  copy_->faulty->PauseWatches();
  ASSERT_TRUE(value_->Set("a", Soon()).ok());
  copy_->Fail(CallKind::kUpdate, Fault::kDropReply, 1);
  ASSERT_TRUE(value_->Set("b", Soon()).ok());
  EXPECT_EQ(Now(), "b");
  copy_->faulty->ResumeWatches();
}

TEST_F(SharedValueTest, LatePushesNeverBringAnOlderStateBack) {
  Subscription subscription = Listen();
  world_.runtime.RunUntilIdle();
  copy_->faulty->PauseWatches();
  SetElsewhere("old");
  DeleteElsewhere();
  SetElsewhere("older than mine");
  ASSERT_TRUE(value_->Set("mine", Soon()).ok());
  EXPECT_EQ(Now(), "mine");
  world_.runtime.RunUntilIdle();
  copy_->faulty->ResumeWatches();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "mine");
  // The state that the first attempt lost against may have been heard of, but nothing after "mine".
  EXPECT_EQ(heard_.front(), "absent");
  EXPECT_EQ(heard_.back(), "mine");
  EXPECT_EQ(std::count(heard_.begin(), heard_.end(), "mine"), 1);
  EXPECT_EQ(std::count(heard_.begin(), heard_.end(), "old"), 0);
}

TEST_F(SharedValueTest, LatePushesDoNotUndoAnOwnDelete) {
  SetElsewhere("a");
  copy_->faulty->PauseWatches();
  world_.runtime.RunUntilIdle();
  AtomicValue same = copy_->Value("settings");
  ASSERT_TRUE(same.Delete(same.Get(Soon())->revision, Soon()).ok());
  EXPECT_EQ(Now(), "absent");
  copy_->faulty->ResumeWatches();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "absent");
}

TEST_F(SharedValueTest, RepeatedPushesAreNoChange) {
  SetElsewhere("a");
  world_.runtime.RunUntilIdle();
  Subscription subscription = Listen();
  world_.runtime.RunUntilIdle();
  copy_->faulty->Interrupt(kv::WatchKind::kResync);
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"a"}));
  EXPECT_EQ(Now(), "a");
}

TEST_F(SharedValueTest, AResyncBringsWhatWasMissed) {
  SetElsewhere("a");
  world_.runtime.RunUntilIdle();
  copy_->faulty->SetEventFilter([](const kv::WatchEvent&) { return false; });
  SetElsewhere("b");
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "a");
  copy_->faulty->SetEventFilter(nullptr);
  copy_->faulty->Interrupt(kv::WatchKind::kResync);
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "b");
}

TEST_F(SharedValueTest, AResyncFindsWhatWasDeletedMeanwhile) {
  SetElsewhere("a");
  world_.runtime.RunUntilIdle();
  Subscription subscription = Listen();
  world_.runtime.RunUntilIdle();
  copy_->faulty->SetEventFilter([](const kv::WatchEvent&) { return false; });
  DeleteElsewhere();
  world_.runtime.RunUntilIdle();
  copy_->faulty->SetEventFilter(nullptr);
  copy_->Fail(CallKind::kGet, Fault::kFailBefore, 3);  // the background read is tried again
  copy_->faulty->Interrupt(kv::WatchKind::kResync);
  world_.runtime.SleepFor(absl::Seconds(1));
  EXPECT_EQ(Now(), "absent");
  EXPECT_EQ(heard_, (std::vector<std::string>{"a", "absent"}));
}

TEST_F(SharedValueTest, AnotherEpochIsReadAnew) {
  SetElsewhere("a");
  world_.runtime.RunUntilIdle();
  copy_->core->SetEpochId("e2");
  copy_->core->cells->EpochChanged();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "a");
  EXPECT_EQ(value_->Get()->revision.epoch, "e2");
  ASSERT_TRUE(value_->CompareAndSet(value_->Get()->revision, "b", Soon()).ok());
}

TEST_F(SharedValueTest, ADeleteOfUnknownRevisionIsLookedAt) {
  SetElsewhere("a");
  world_.runtime.RunUntilIdle();
  // A store that does not know the revisions of its deletes.
  auto cell = copy_->core->cells->FindCell(kKey, "value \"settings\"");
  auto absent = std::make_shared<internal::CellState>();
  absent->epoch = "e1";
  EXPECT_FALSE(cell->LearnPush(absent, 0));
  EXPECT_EQ(Now(), "a");
}

TEST_F(SharedValueTest, ADamagedPushKeepsTheLastGoodState) {
  SetElsewhere("good");
  world_.runtime.RunUntilIdle();
  Subscription subscription = Listen();
  world_.runtime.RunUntilIdle();
  ASSERT_TRUE(world_.store->Put(kKey, "damaged", Soon()).ok());
  world_.runtime.RunUntilIdle();
  copy_->faulty->Interrupt(kv::WatchKind::kResync);
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "good");
  EXPECT_EQ(value_->Set("x", Soon()).status().code(), absl::StatusCode::kDataLoss);
  ASSERT_EQ(copy_->log.size(), 1u);
  EXPECT_NE(copy_->log[0].find("value \"settings\""), std::string::npos) << copy_->log[0];
  ASSERT_TRUE(world_.store->Put(kKey, "{\"v\":\"1.0\",\"w\":\"n\"}\nrepaired", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "repaired");
  EXPECT_TRUE(value_->Set("x", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"good", "repaired", "x"}));
}

TEST_F(SharedValueTest, ANewerMajorThatIsPushedKeepsTheLastGoodState) {
  SetElsewhere("good");
  world_.runtime.RunUntilIdle();
  ASSERT_TRUE(world_.store->Put(kKey, "{\"v\":\"2.0\",\"w\":\"n\"}\nnew", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "good");
  EXPECT_EQ(value_->Set("x", Soon()).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SharedValueTest, WithoutAWatchItIsPolled) {
  auto blind = std::make_shared<internal::NoWatchStore>(world_.store);
  TestCopy poller(world_.runtime, blind);
  std::shared_ptr<SharedValue> value = poller.Shared("settings");
  SetElsewhere("a");
  world_.runtime.SleepFor(poller.core->options.ttl / 8 * 1.6);
  EXPECT_EQ(Text(value->Get()), "a");
  DeleteElsewhere();
  world_.runtime.SleepFor(poller.core->options.ttl / 8 * 1.6);
  EXPECT_EQ(Text(value->Get()), "absent");
  const kv::CallCounts before = poller.counting->Snapshot(kKey);
  world_.runtime.SleepFor(poller.core->options.ttl * 10);
  const int64_t polls = (poller.counting->Snapshot(kKey) - before).reads();
  EXPECT_GT(polls, 60);
  EXPECT_LT(polls, 100);
}

TEST_F(SharedValueTest, CallbacksHearThePresentStateAndTheLastOfQuickChanges) {
  SetElsewhere("before");
  world_.runtime.RunUntilIdle();
  Subscription subscription = Listen();
  EXPECT_TRUE(heard_.empty()) << "not on the caller's thread";
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"before"}));
  for (int i = 0; i <= 10; ++i) ASSERT_TRUE(value_->Set(std::to_string(i), Soon()).ok());
  world_.runtime.RunUntilIdle();
  ASSERT_GE(heard_.size(), 2u);
  EXPECT_LT(heard_.size(), 12u) << "quick changes are folded";
  EXPECT_EQ(heard_.back(), "10");
  subscription = Subscription();
  ASSERT_TRUE(value_->Set("unheard", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_.back(), "10");
}

TEST_F(SharedValueTest, ACallbackMayDestroyItsSubscriptionAndTheValue) {
  auto subscription = std::make_shared<Subscription>();
  *subscription = value_->OnChange([this, subscription](const std::shared_ptr<const Versioned>& now) {
    heard_.push_back(Text(now));
    *subscription = Subscription();
    value_ = nullptr;
    heard_.push_back("still here");
  });
  subscription = nullptr;
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"absent", "still here"}));
  EXPECT_EQ(value_, nullptr);
}

TEST_F(SharedValueTest, DestroyingASubscriptionWaitsForItsRunningCallback) {
  bool finished = false;
  Subscription subscription = value_->OnChange([&](const auto&) {
    world_.runtime.SleepFor(absl::Seconds(3));
    finished = true;
  });
  world_.runtime.RunUntilIdle();
  EXPECT_FALSE(finished);
  subscription = Subscription();
  EXPECT_TRUE(finished);
}

TEST_F(SharedValueTest, ACallbackMayWriteTheValue) {
  Subscription subscription = value_->OnChange([this](const std::shared_ptr<const Versioned>& now) {
    heard_.push_back(Text(now));
    if (now == nullptr) {
      EXPECT_TRUE(value_->Set("written inside", Soon()).ok());
    }
  });
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"absent", "written inside"}));
}

TEST_F(SharedValueTest, ASubscriptionFollowsOnWithoutItsObject) {
  Subscription subscription = Listen();
  value_ = nullptr;
  SetElsewhere("a");
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_.back(), "a");
}

TEST_F(SharedValueTest, ObjectsOfOneNameShareTheirMemory) {
  const kv::CallCounts before = Counts();
  std::shared_ptr<SharedValue> again = copy_->Shared("settings");
  EXPECT_EQ((Counts() - before).calls(), 0);
  copy_->faulty->PauseWatches();
  ASSERT_TRUE(again->Set("a", Soon()).ok());
  EXPECT_EQ(Now(), "a");
  copy_->faulty->ResumeWatches();
}

TEST_F(SharedValueTest, ItOutlivesItsClusterAndKeepsTheLastState) {
  SetElsewhere("a");
  world_.runtime.RunUntilIdle();
  Subscription subscription = Listen();
  world_.runtime.RunUntilIdle();
  copy_->Leave();
  copy_->core = nullptr;
  EXPECT_EQ(Now(), "a");
  EXPECT_EQ(value_->Set("b", absl::InfiniteFuture()).status().code(), absl::StatusCode::kCancelled);
  SetElsewhere("c");
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "a");
  subscription = Subscription();
  value_ = nullptr;
}

TEST_F(SharedValueTest, OpeningReportsBadNamesDeadStoresAndLeave) {
  auto open = [&](const std::string& name) {
    return internal::CellTestPeer::OpenSharedValue(copy_->core, name, copy_->In(absl::Seconds(1))).status();
  };
  EXPECT_EQ(open("a\nb").code(), absl::StatusCode::kInvalidArgument);
  copy_->faulty->SetHook([](const kv::FaultyCall&) { return Fault::kFailBefore; });
  EXPECT_EQ(open("new").code(), absl::StatusCode::kUnavailable);
  copy_->faulty->SetHook(nullptr);
  EXPECT_TRUE(open("new").ok());
  copy_->Leave();
  EXPECT_EQ(open("other").code(), absl::StatusCode::kCancelled);
}

TEST(SharedValueThreads, ReadsNeverGoBackAndEveryThreadSeesItsOwnWrites) {
  std::shared_ptr<kv::Store> store = kv::NewMemoryStore();
  TestCopy one(RealRuntime(), store), two(RealRuntime(), store);
  std::shared_ptr<SharedValue> a = one.Shared("n"), b = two.Shared("n");
  ASSERT_TRUE(a->Set("0", one.Soon()).ok());
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (const std::shared_ptr<SharedValue>& value : {a, b, a, b}) {
    threads.emplace_back([&, value] {
      int last = 0;
      while (!done) {
        std::shared_ptr<const Versioned> now = value->Get();
        const int seen = now == nullptr ? 0 : std::stoi(now->value);
        ASSERT_GE(seen, last);
        last = seen;
      }
    });
  }
  std::vector<std::thread> writers;
  for (const std::shared_ptr<SharedValue>& value : {a, b}) {
    writers.emplace_back([&, value] {
      for (int i = 0; i < 200; ++i) {
        absl::StatusOr<Versioned> written = value->Update(
            [](const auto& now) -> absl::StatusOr<std::string> {
              return std::to_string(std::stoi(now.value_or("0")) + 1);
            },
            one.In(absl::Minutes(5)));
        ASSERT_TRUE(written.ok()) << written.status();
        ASSERT_GE(std::stoi(value->Get()->value), std::stoi(written->value));
      }
    });
  }
  for (std::thread& thread : writers) thread.join();
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store->Get("demo/value/n", one.Soon()).ok(), true);
  EXPECT_EQ(one.Value("n").Get(one.Soon())->value, "400");
}

}  // namespace
}  // namespace coord
