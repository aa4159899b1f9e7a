// Copies on a store whose reads may be answered from the past, while its conditional writes are not: locks hold, and
// what cannot hold is known.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/internal/records.h"
#include "coord/test_lag.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

using absl::StatusCode;

constexpr absl::Duration kTtl = absl::Seconds(10);
constexpr absl::Duration kMaxTtl = absl::Seconds(20);

class LaggingReadsTest : public ::testing::Test {
 protected:
  struct Copy {
    std::shared_ptr<LaggingStore> store;
    std::unique_ptr<Cluster> cluster;
    Cluster* operator->() const { return cluster.get(); }
    // Its Gets under `prefix` are answered from so long ago, or from then on.
    void Lag(absl::Duration by, const std::string& prefix = "test/") {
      store->lag = [by, prefix](std::string_view key) {
        return key.substr(0, prefix.size()) == prefix ? by : absl::ZeroDuration();
      };
    }
    void StandStill(World& world, const std::string& prefix = "test/") {
      store->lag = [&world, prefix, then = world.runtime().Now()](std::string_view key) {
        return key.substr(0, prefix.size()) == prefix ? world.runtime().Now() - then : absl::ZeroDuration();
      };
    }
    void CatchUp() { store->lag = nullptr; }
  };

  LaggingReadsTest() {
    history_->now = [this] { return world_.runtime().Now(); };
  }

  Copy Join(const std::string& instance, bool watch = true) {
    Copy copy;
    JoinOptions options = world_.Options(instance);
    options.max_ttl = kMaxTtl;
    copy.store = std::make_shared<LaggingStore>(
        options.store, std::shared_ptr<kv::Store>(&world_.data(), [](kv::Store*) {}), history_);
    if (!watch) copy.store->Blind();
    options.store = copy.store;
    copy.cluster = world_.Join(options);
    return copy;
  }
  std::shared_ptr<Call> Wait(const Copy& copy) {
    return InBackground(world_, [&] { return copy->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  }

  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  absl::Time Now() { return world_.runtime().Now(); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }
  kv::CallCounts Counts(const std::string& prefix) { return world_.store().Snapshot(prefix); }

  World world_{9};
  const std::shared_ptr<History> history_ = std::make_shared<History>();
};

TEST_F(LaggingReadsTest, IsNotRefused) {
  auto a = Join("a");
  EXPECT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
  EXPECT_EQ(world_.log(), "");
}

// ------------------------------------------------------------------------------------------ records

// A reader from before the record: its silence must not cost a holder its grant.
TEST_F(LaggingReadsTest, ARecordThatAReadDoesNotFindIsAskedForByAWrite) {
  auto a = Join("a");
  Sleep(kTtl);
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  Sleep(absl::Seconds(1));
  a.Lag(absl::Seconds(5), "test/mutex/");
  const kv::CallCounts before = Counts("test/mutex/");
  world_.faults().Interrupt(kv::WatchKind::kResync);  // what is held is compared
  Sleep(absl::Seconds(1));
  EXPECT_FALSE(grant->Lost());
  EXPECT_EQ((Counts("test/mutex/") - before).gets, 1);
  EXPECT_EQ((Counts("test/mutex/") - before).updates, 1) << ToString(Counts("test/mutex/") - before);
  ASSERT_TRUE(IsOk(grant->Release()));
  EXPECT_TRUE(IsFree(world_, "mutex", "m")) << "and a release is written";
}

TEST_F(LaggingReadsTest, ARecordThatIsReallyGoneIsLost) {
  auto a = Join("a");
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  const std::string key = KeyOf(world_, "mutex", "m");
  world_.faults().SetEventFilter([](const kv::WatchEvent&) { return false; });
  const kv::Revision revision = world_.data().Get(key, absl::InfiniteFuture())->revision;
  ASSERT_TRUE(world_.data().Delete(key, revision, absl::InfiniteFuture()).ok());
  world_.faults().SetEventFilter(nullptr);
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(grant->Lost());
}

TEST_F(LaggingReadsTest, WaitersGetTheLockInTurnHoweverLateTheirReadsAre) {
  for (const bool watch : {true, false}) {
    SCOPED_TRACE(watch ? "watch" : "no watch");
    std::vector<Copy> copies;
    for (int i = 0; i < 4; ++i) copies.push_back(Join(absl::StrCat(watch ? "w" : "p", i), watch));
    auto grant = copies[0]->Mutex("m").Acquire(Soon());
    ASSERT_TRUE(IsOk(grant));
    uint64_t fence = grant->fence();
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 1; i < 4; ++i) {
      calls.push_back(Wait(copies[i]));
      Sleep(absl::Milliseconds(100));
    }
    for (Copy& copy : copies) copy.Lag(absl::Seconds(4));
    Sleep(absl::Seconds(5));
    ASSERT_TRUE(IsOk(grant->Release()));
    for (auto& call : calls) {
      Sleep(absl::Seconds(4) + kTtl / 8);
      ASSERT_TRUE(call->ok());
      EXPECT_GT(call->grant->fence(), fence);
      fence = call->grant->fence();
      Sleep(absl::Seconds(1));
      EXPECT_FALSE(call->grant->Lost());
      ASSERT_TRUE(IsOk(call->grant->Release()));
    }
    for (Copy& copy : copies) EXPECT_EQ(copy->Stats().sessions_lost, 0u);
  }
}

// Rule: passing on needs a look that is younger than ttl/3. A look at the past would let the others starve.
TEST_F(LaggingReadsTest, WhoPassesOnAmongItsThreadsProvesByAWriteThatNobodyWaits) {
  auto a = Join("a", /*watch=*/false);
  auto b = Join("b", /*watch=*/false);
  auto first = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(first));
  bool done = false;
  int held = 0;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 2; ++i) {
    threads.push_back(world_.runtime().StartThread("user", [&] {
      while (!done) {
        auto grant = a->Mutex("m").Acquire(world_.In(absl::Seconds(1)));
        held += grant.ok() ? 1 : 0;
        world_.runtime().SleepFor(absl::Milliseconds(100));
      }
    }));
  }
  world_.runtime().RunUntilIdle();
  ASSERT_TRUE(IsOk(first->Release()));  // passed on: nothing is written
  Sleep(absl::Milliseconds(1));
  a.StandStill(world_, "test/mutex/");
  Sleep(absl::Milliseconds(1));
  auto waiting = Wait(b);
  Sleep(kTtl / 3 + absl::Milliseconds(200));
  EXPECT_GT(held, 20);
  held = 0;
  Sleep(kTtl / 2);
  EXPECT_EQ(held, 0) << "a write has lost: somebody waits, though the reads do not show it";
  a.CatchUp();
  Sleep(kTtl / 4);
  done = true;
  EXPECT_TRUE(waiting->ok());
  if (waiting->ok()) {
    EXPECT_TRUE(IsOk(waiting->grant->Release()));
  }
  threads.clear();
}

TEST_F(LaggingReadsTest, WhatIsRetainedCostsOneWritePerThirdOfATtl) {
  auto a = Join("a");
  MutexOptions retain;
  retain.retain = true;
  Mutex mutex = a->Mutex("m", retain);
  ASSERT_TRUE(IsOk(mutex.Acquire(Soon())));
  Sleep(kTtl / 3 + absl::Milliseconds(1));
  const kv::CallCounts before = Counts("test/mutex/");
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(IsOk(mutex.Acquire(Soon())));
  EXPECT_EQ((Counts("test/mutex/") - before).updates, 1) << ToString(Counts("test/mutex/") - before);
  EXPECT_EQ((Counts("test/mutex/") - before).calls(), 1);
}

TEST_F(LaggingReadsTest, SetPermitsIsAWriteEvenIfAnOldRecordHasTheNumberAlready) {
  auto a = Join("a");
  auto b = Join("b", /*watch=*/false);
  ASSERT_TRUE(IsOk(a->Semaphore("s", 5).Acquire(1, Soon())));
  Sleep(absl::Seconds(5));
  ASSERT_TRUE(IsOk(a->Semaphore("s", 5).SetPermits(3, Soon())));
  b.Lag(absl::Seconds(2), "test/semaphore/");
  ASSERT_TRUE(IsOk(b->Semaphore("s", 5).SetPermits(5, world_.In(absl::Seconds(30)))));
  EXPECT_EQ(RecordOf(world_, "semaphore", "s")->capacity, 5u);
}

// ------------------------------------------------------------------------------------------ sessions

TEST_F(LaggingReadsTest, ABeatWithoutAReplyIsNotTakenForSomebodyElsesByAnOldRead) {
  auto a = Join("a");
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  const std::string session = a->session();
  for (int i = 0; i < 10; ++i) {
    Sleep(kTtl);
    a.Lag(kTtl / 2);
    int drops = 1;
    const FaultHook drop(world_.faults(), [&](const kv::FaultyCall& call) {
      const bool beat = call.kind == kv::CallKind::kUpdate && call.key.find("/session/") != std::string::npos;
      return beat && drops-- > 0 ? kv::Fault::kDropReply : kv::Fault::kNone;
    });
    Sleep(kTtl / 2);
    a.CatchUp();
  }
  EXPECT_EQ(a->session(), session) << world_.log();
  EXPECT_FALSE(grant->Lost());
}

TEST_F(LaggingReadsTest, ALivingOwnerIsNotTakenOutByWhoReadsItsPast) {
  auto a = Join("a", /*watch=*/false);
  auto b = Join("b", /*watch=*/false);
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  b.StandStill(world_);
  auto waiting = Wait(b);
  const kv::CallCounts before = Counts("test/");
  Sleep(kTtl * 10);
  EXPECT_FALSE(grant->Lost());
  EXPECT_FALSE(waiting->done);
  EXPECT_EQ(a->Stats().sessions_lost, 0u);
  EXPECT_LE((Counts("test/") - before).calls(), 1500) << ToString(Counts("test/") - before);
  b.CatchUp();
  ASSERT_TRUE(IsOk(grant->Release()));
  Sleep(kTtl * 2);
  EXPECT_TRUE(waiting->ok()) << waiting->grant.status();
}

TEST_F(LaggingReadsTest, ADeadOwnerIsTakenOutSoonAfterTheReadsCatchUp) {
  auto b = Join("b", /*watch=*/false);
  auto a = std::make_unique<Process>(world_, 1, world_.Options("a"));
  auto* held = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
  a->Run([&] { *held = (*a)->Mutex("m").Acquire(world_.In(absl::Seconds(5))); });
  ASSERT_TRUE(IsOk(*held));
  auto waiting = Wait(b);
  Sleep(kTtl);
  a->Kill();
  const absl::Time killed = Now();
  b.Lag(absl::Seconds(3));
  Sleep(kTtl * 2);
  ASSERT_TRUE(waiting->ok());
  EXPECT_GE(waiting->at - killed, kTtl - kTtl / 3);
}

// ------------------------------------------------------------------------------------------ epochs

internal::EpochRecord NewEpoch(World& world) {
  auto entry = world.data().Get("test/epoch", absl::InfiniteFuture());
  internal::EpochRecord epoch = *internal::ParseEpochRecord(entry->value, "epoch");
  epoch.id = "00000000000000ff";
  epoch.created_us += 1000000000;
  epoch.settled = false;
  epoch.nonce = "somebody";
  return epoch;
}

// As it is after a proven rollback: the old sessions' records are still there, and their beats succeed.
TEST_F(LaggingReadsTest, ANewEpochSettlesOnlyWhenWhoIsShownTheOldOneCannotBeValidAnyMore) {
  auto a = Join("a");
  auto b = Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  Sleep(kTtl * 2);
  a.Lag(kMaxTtl);
  world_.faults().SetEventFilter([](const kv::WatchEvent& event) { return event.key != "test/epoch"; });
  auto entry = world_.data().Get("test/epoch", absl::InfiniteFuture());
  const absl::Time replaced = Now();
  ASSERT_TRUE(b.store->Update("test/epoch", Format(NewEpoch(world_)), entry->revision, Soon()).ok());
  auto waiting = Wait(b);
  absl::Time lost;
  grant->OnLost([&] { lost = Now(); });
  Sleep(kMaxTtl);
  EXPECT_FALSE(grant->Lost()) << "it is shown the old epoch, and its beats are written";
  Sleep(kMaxTtl * 2);
  ASSERT_TRUE(waiting->ok()) << waiting->grant.status();
  EXPECT_GT(waiting->at, lost) << "never two at a time";
  EXPECT_GE(waiting->at - replaced, 2 * kMaxTtl);
  EXPECT_LE(waiting->at - replaced, 2 * kMaxTtl + kTtl);
  EXPECT_GT(waiting->grant->fence(), grant->fence());
  world_.faults().SetEventFilter(nullptr);
}

TEST_F(LaggingReadsTest, AnOlderEpochInAReadIsNoNewOne) {
  auto a = Join("a");
  Sleep(kTtl);
  auto entry = world_.data().Get("test/epoch", absl::InfiniteFuture());
  ASSERT_TRUE(a.store->Update("test/epoch", Format(NewEpoch(world_)), entry->revision, Soon()).ok());
  Sleep(kTtl);
  EXPECT_EQ(a->Stats().sessions_lost, 1u);
  const std::string session = a->session();
  const absl::Time until = Now() + kTtl / 3;
  a.store->lag = [&](std::string_view key) {
    return key == "test/epoch" && Now() < until ? kTtl * 2 : absl::ZeroDuration();
  };
  Sleep(kTtl * 2);
  EXPECT_EQ(a->session(), session) << world_.log();
  EXPECT_EQ(a->Stats().sessions_lost, 1u);
}

// ------------------------------------------------------------------------------------------ values

TEST_F(LaggingReadsTest, NoUpdateIsLostAndNoCopyGoesBack) {
  auto a = Join("a");
  auto b = Join("b");
  a.Lag(absl::Seconds(2));
  b.Lag(absl::Seconds(1));
  const auto add = [](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
    return absl::StrCat(now ? std::stoi(*now) + 1 : 1);
  };
  for (int i = 1; i <= 20; ++i) {
    for (Copy* copy : {&a, &b}) {
      AtomicValue value = (*copy)->AtomicValue("v");
      auto updated = value.Update(add, world_.In(absl::Seconds(30)));
      ASSERT_TRUE(IsOk(updated));
      auto read = value.Get(Soon());
      ASSERT_TRUE(IsOk(read) || absl::IsNotFound(read.status()));
      if (read.ok()) {
        EXPECT_GE(std::stoi(read->value), std::stoi(updated->value)) << "own writes are seen";
      }
    }
  }
  EXPECT_EQ(a->AtomicValue("v").Update(add, world_.In(absl::Seconds(30)))->value, "41");
}

TEST_F(LaggingReadsTest, AReadMayShowAnotherCopysPast) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(IsOk(a->AtomicValue("v").Set("old", Soon())));
  Sleep(absl::Seconds(5));
  ASSERT_TRUE(IsOk(a->AtomicValue("v").Set("new", Soon())));
  b.Lag(absl::Seconds(1));
  EXPECT_EQ(b->AtomicValue("v").Get(Soon())->value, "old");
  auto grant = b->Mutex("m").Acquire(Soon());
  auto written = b->AtomicValue("v").Update([](const auto& now) { return *now + "er"; }, world_.In(absl::Seconds(5)));
  ASSERT_TRUE(IsOk(written));
  EXPECT_EQ(written->value, "newer") << "a write never rests on it";
}

// A value that a lagging read has shown as absent comes back with the next push of it, or the next read.
TEST_F(LaggingReadsTest, AbsenceOfThePastIsNotForEver) {
  auto a = Join("a");
  auto b = Join("b");
  auto value = *b->SharedValue("v", Soon());
  Sleep(absl::Seconds(5));
  ASSERT_TRUE(IsOk(a->AtomicValue("v").Set("1", Soon())));
  Sleep(absl::Milliseconds(1));
  ASSERT_EQ(value->Get()->value, "1");
  b.Lag(absl::Seconds(2), "test/value/");
  // A snapshot that lags as much: without the value; then the value's own, old push.
  world_.faults().SetEventFilter([&](const kv::WatchEvent& event) { return event.key != "test/value/v"; });
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Sleep(absl::Seconds(1));
  EXPECT_EQ(value->Get(), nullptr);
  b.CatchUp();
  world_.faults().SetEventFilter(nullptr);
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Sleep(absl::Seconds(1));
  ASSERT_NE(value->Get(), nullptr);
  EXPECT_EQ(value->Get()->value, "1");
}

// The epoch is the same: what this copy knows of values stays, and no read of the past counts.
TEST_F(LaggingReadsTest, AValueDoesNotGoBackWhenTheSessionIsLost) {
  auto a = Join("a", /*watch=*/false);
  auto b = Join("b");
  auto value = *a->SharedValue("v", Soon());
  ASSERT_TRUE(IsOk(value->Set("1", Soon())));
  Sleep(absl::Seconds(1));
  a.StandStill(world_, "test/value/");
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(IsOk(value->Set("2", Soon())));
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(IsOk(b->Break(a->session(), Soon())));
  Sleep(kTtl * 2);
  EXPECT_EQ(a->Stats().sessions, 2u);
  EXPECT_EQ(value->Get()->value, "2");
}

TEST_F(LaggingReadsTest, AFencedCellRefusesAnOldFenceAllTheSame) {
  auto a = Join("a");
  auto b = Join("b");
  auto old = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(a->FencedCell("f").Set(*old, "a", Soon())));
  ASSERT_TRUE(IsOk(b->Break(a->session(), Soon())));
  // It is told nothing, and stays valid by its own clock.
  auto waiting = Wait(b);
  Sleep(kTtl * 2);
  ASSERT_TRUE(waiting->ok());
  Sleep(absl::Seconds(2));
  ASSERT_TRUE(IsOk(b->FencedCell("f").Set(*waiting->grant, "b", Soon())));
  a.Lag(absl::Seconds(1));
  EXPECT_FALSE(a->FencedCell("f").Set(*old, "a", Soon()).ok());
  EXPECT_EQ(b->FencedCell("f").Get(Soon())->value, "b");
}

}  // namespace
}  // namespace coord::testing
