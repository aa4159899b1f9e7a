// The rules by which a copy believes what it hears; what the public types show of the engine is tested with them.

#include "coord/internal/cell_engine.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/cell.h"
#include "coord/internal/test_core.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

class ManyFacedStore : public kv::StoreWrapper {
 public:
  ManyFacedStore(std::shared_ptr<kv::Store> base, bool monotonic)
      : StoreWrapper(std::move(base)), traits_(this->base()->traits()) {
    traits_.monotonic_revisions = monotonic;
  }
  const kv::Traits& traits() const override { return traits_; }

 private:
  kv::Traits traits_;
};

class Listener : public CellListener {
 public:
  void OnCell(const std::string&, const CellStatePtr& now) override {
    heard.push_back(now->record ? now->record->value : "absent");
  }
  std::vector<std::string> heard;
};

CellStatePtr State(const std::string& value, kv::Revision revision, const std::string& epoch = "e1") {
  auto state = std::make_shared<CellState>();
  state->record = CellRecord();
  state->record->value = value;
  state->revision = revision;
  state->epoch = epoch;
  return state;
}

CellStatePtr Absent(const std::string& epoch = "e1") {
  auto state = std::make_shared<CellState>();
  state->epoch = epoch;
  return state;
}

class CellTest : public ::testing::TestWithParam<bool> {
 protected:
  explicit CellTest(bool monotonic = true)
      : copy_(world_.runtime, std::make_shared<ManyFacedStore>(world_.store, monotonic)),
        cell_(copy_.core.get(), "demo/value/x", "value \"x\"") {}

  std::string Known() {
    CellStatePtr known = cell_.Known();
    return known == nullptr ? "unknown" : known->record ? known->record->value : "absent";
  }

  SimWorld world_;
  TestCopy copy_;
  Cell cell_;
  Listener listener_;
};

class OddCellTest : public CellTest {
 protected:
  OddCellTest() : CellTest(false) {}
};

TEST_F(CellTest, AStateCountsOnlyAboveAllThatWasReadOrWritten) {
  EXPECT_EQ(Known(), "unknown");
  cell_.LearnRead(cell_.Now(), State("read", 5), false);
  EXPECT_TRUE(cell_.LearnPush(State("late", 4), 4));
  EXPECT_EQ(Known(), "read");
  EXPECT_TRUE(cell_.LearnPush(State("pushed", 6), 6));
  EXPECT_EQ(Known(), "pushed");
  cell_.LearnWrite(cell_.Now(), 6, State("written", 9), 9);
  EXPECT_TRUE(cell_.LearnPush(State("late", 8), 8));
  cell_.LearnRead(cell_.Now(), State("late", 7), false);
  EXPECT_EQ(Known(), "written");
  // The reply to an own write may come after the push of a later one.
  EXPECT_TRUE(cell_.LearnPush(State("later", 20), 20));
  cell_.LearnWrite(cell_.Now(), 9, State("written", 12), 12);
  EXPECT_EQ(Known(), "later");
}

TEST_F(CellTest, DeletesHaveTheirPlaceInTheOrder) {
  cell_.SetListener(&listener_);
  cell_.LearnRead(cell_.Now(), State("a", 5), false);
  EXPECT_TRUE(cell_.LearnPush(Absent(), 7));
  EXPECT_TRUE(cell_.LearnPush(State("late", 6), 6));
  EXPECT_EQ(Known(), "absent");
  cell_.LearnWrite(cell_.Now(), 0, State("again", 9), 9);
  EXPECT_TRUE(cell_.LearnPush(Absent(), 8));
  EXPECT_EQ(Known(), "again");
  // An own delete of which the store gave no revision, and then late pushes.
  cell_.LearnWrite(cell_.Now(), 9, Absent(), 0);
  EXPECT_TRUE(cell_.LearnPush(State("again", 9), 9));
  EXPECT_EQ(Known(), "absent");
  EXPECT_TRUE(cell_.LearnPush(State("new", 11), 11));
  cell_.LearnWrite(cell_.Now(), 9, Absent(), 0);
  EXPECT_EQ(Known(), "new") << "the delete was of an older state";
  EXPECT_FALSE(cell_.LearnPush(Absent(), 0)) << "a delete at an unknown time says nothing";
  EXPECT_EQ(Known(), "new");
  EXPECT_EQ(listener_.heard, (std::vector<std::string>{"a", "absent", "again", "absent", "new"}));
  cell_.ClearListener(&listener_);
}

TEST_F(CellTest, AbsenceThatWasReadCountsOnlyIfNothingWasLearnedMeanwhile) {
  const Cell::Mark before = cell_.Now();
  EXPECT_TRUE(cell_.LearnPush(State("created meanwhile", 5), 5));
  cell_.LearnRead(before, Absent(), true);
  EXPECT_EQ(Known(), "created meanwhile");
  cell_.SetListener(&listener_);
  cell_.LearnRead(cell_.Now(), Absent(), false);
  EXPECT_EQ(Known(), "created meanwhile") << "the watch will tell";
  cell_.LearnRead(cell_.Now(), Absent(), true);
  EXPECT_EQ(Known(), "absent");
  cell_.ClearListener(&listener_);
}

TEST_F(CellTest, AfterAResetSmallerRevisionsCountAndWhatWasSentBeforeDoesNot) {
  cell_.LearnRead(cell_.Now(), State("old store", 500), false);
  const Cell::Mark before = cell_.Now();
  cell_.SetListener(&listener_);
  cell_.Reset();
  EXPECT_EQ(Known(), "unknown") << "no write starts from the old store's state";
  EXPECT_EQ(listener_.heard, (std::vector<std::string>{"old store"})) << "readers keep it";
  EXPECT_FALSE(cell_.confirmed());
  cell_.LearnWrite(before, 500, State("reply of the old store", 501), 501);
  cell_.LearnRead(before, State("read in the old store", 500), false);
  EXPECT_TRUE(cell_.LearnPush(State("new store", 3), 3));
  EXPECT_EQ(Known(), "new store");
  EXPECT_EQ(listener_.heard, (std::vector<std::string>{"old store", "new store"}));
  cell_.ClearListener(&listener_);
}

TEST_F(CellTest, AnotherEpochBeginsAnew) {
  cell_.LearnRead(cell_.Now(), State("a", 500), false);
  copy_.core->SetEpochId("e2");
  EXPECT_EQ(Known(), "unknown");
  cell_.LearnRead(cell_.Now(), State("read before the change", 600, "e1"), false);
  EXPECT_EQ(Known(), "unknown");
  EXPECT_TRUE(cell_.LearnPush(State("b", 3, "e2"), 3));
  EXPECT_EQ(Known(), "b");
}

TEST_F(CellTest, ADamagedRecordStopsWritesAndIsToldOnce) {
  cell_.LearnRead(cell_.Now(), State("good", 5), false);
  EXPECT_FALSE(cell_.LearnDamaged(4)) << "older than what is known";
  EXPECT_EQ(Known(), "good");
  EXPECT_TRUE(cell_.LearnDamaged(6));
  EXPECT_FALSE(cell_.LearnDamaged(6));
  EXPECT_EQ(Known(), "unknown");
  EXPECT_TRUE(cell_.present());
  EXPECT_TRUE(cell_.LearnPush(State("repaired", 7), 7));
  EXPECT_EQ(Known(), "repaired");
  EXPECT_TRUE(cell_.LearnDamaged(8)) << "damaged once more";
}

TEST_F(CellTest, OnlyWhatASnapshotLeavesOutIsUnconfirmed) {
  cell_.LearnRead(cell_.Now(), State("a", 5), false);
  cell_.Unconfirm();
  EXPECT_FALSE(cell_.confirmed());
  EXPECT_TRUE(cell_.LearnPush(State("a", 5), 5));
  EXPECT_TRUE(cell_.confirmed());
  EXPECT_TRUE(cell_.LearnPush(Absent(), 6));
  cell_.Unconfirm();
  EXPECT_TRUE(cell_.confirmed()) << "absent as it was";
}

TEST_F(OddCellTest, WithoutGrowingRevisionsPushesAreHintsAndReadsMustNotBeOvertaken) {
  EXPECT_FALSE(cell_.LearnPush(State("pushed", 9), 9));
  EXPECT_EQ(Known(), "unknown");
  cell_.LearnRead(cell_.Now(), State("read", 9), false);
  const Cell::Mark before = cell_.Now();
  cell_.LearnWrite(before, 9, State("written", 2), 2);
  EXPECT_EQ(Known(), "written");
  cell_.LearnRead(before, State("read", 9), false);
  EXPECT_EQ(Known(), "written");
  cell_.LearnRead(cell_.Now(), State("by another", 1), false);
  EXPECT_EQ(Known(), "by another");
}

TEST_F(CellTest, WritesTakeTurnsInTheOrderOfComing) {
  std::vector<int> order;
  std::vector<std::unique_ptr<Thread>> threads;
  ASSERT_TRUE(cell_.EnterLane(absl::InfiniteFuture()).ok());
  for (int i = 0; i < 5; ++i) {
    threads.push_back(world_.runtime.StartThread("w", [&, i] {
      ASSERT_TRUE(cell_.EnterLane(absl::InfiniteFuture()).ok());
      order.push_back(i);
      cell_.LeaveLane();
    }));
    world_.runtime.RunUntilIdle();
  }
  EXPECT_TRUE(order.empty());
  cell_.LeaveLane();
  threads.clear();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST_F(CellTest, TheLaneIsBounded) {
  std::vector<std::unique_ptr<Thread>> threads;
  ASSERT_TRUE(cell_.EnterLane(absl::InfiniteFuture()).ok());
  int waited = 0;
  for (size_t i = 0; i < Cell::kMaxWaitingWrites; ++i) {
    threads.push_back(world_.runtime.StartThread("w", [&] {
      const absl::Status status = cell_.EnterLane(world_.runtime.Now() + absl::Seconds(1));
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
      ++waited;
    }));
  }
  world_.runtime.RunUntilIdle();
  const absl::Status status = cell_.EnterLane(absl::InfiniteFuture());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(status.message()).find("1024 writes of this process to value \"x\" wait already"),
            std::string::npos)
      << status;
  world_.runtime.SleepFor(absl::Seconds(2));
  EXPECT_EQ(static_cast<size_t>(waited), Cell::kMaxWaitingWrites);
  cell_.LeaveLane();
}

class RefresherTest : public ::testing::Test {
 protected:
  struct Item : public Refreshable {
    absl::Status Refresh(absl::Time) override {
      ++reads;
      if (hook) hook();
      return reads <= failures ? absl::UnavailableError("down") : absl::OkStatus();
    }
    void OnEpochChanged() override { ++epochs; }
    int reads = 0, failures = 0, epochs = 0;
    std::function<void()> hook;
  };

  SimWorld world_;
  TestCopy copy_{world_.runtime, world_.store};
  std::shared_ptr<Item> item_ = std::make_shared<Item>();
};

TEST_F(RefresherTest, ReadsOnceForManyRequestsAndAgainAfterAFailure) {
  CellRefresher& refresher = copy_.core->cells->refresher();
  refresher.Add(item_);
  world_.runtime.SleepFor(absl::Minutes(1));
  EXPECT_EQ(item_->reads, 0) << "there is a watch: nothing is polled";
  for (int i = 0; i < 10; ++i) refresher.Schedule(item_);
  world_.runtime.SleepFor(absl::Minutes(1));
  EXPECT_EQ(item_->reads, 1);
  item_->failures = 4;
  refresher.Schedule(item_);
  world_.runtime.SleepFor(absl::Minutes(1));
  EXPECT_EQ(item_->reads, 5);
  refresher.EpochChanged();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(item_->epochs, 1);
  EXPECT_EQ(item_->reads, 6);
}

TEST_F(RefresherTest, StopWaitsForARunningReadUntilItsTimeIsUp) {
  CellRefresher& refresher = copy_.core->cells->refresher();
  bool ended = false;
  item_->hook = [&] {
    world_.runtime.SleepFor(absl::Seconds(30));
    ended = true;
  };
  refresher.Schedule(item_);
  world_.runtime.RunUntilIdle();
  const absl::Time begun = world_.runtime.Now();
  refresher.Stop(begun + absl::Seconds(1));
  EXPECT_EQ(world_.runtime.Now() - begun, absl::Seconds(1));
  EXPECT_FALSE(ended);
  refresher.Schedule(item_);
  world_.runtime.SleepFor(absl::Minutes(1));  // the thread that was left behind ends by itself
  EXPECT_TRUE(ended);
  EXPECT_EQ(item_->reads, 1);
}

TEST_F(RefresherTest, WhatIsGoneIsNotRead) {
  CellRefresher& refresher = copy_.core->cells->refresher();
  refresher.Add(item_);
  refresher.Schedule(item_);
  item_ = nullptr;
  refresher.EpochChanged();
  world_.runtime.RunUntilIdle();
}

}  // namespace
}  // namespace coord::internal
