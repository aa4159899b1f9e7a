// What is removed and ended without anybody's asking, and what must never be.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

using kv::Fault;
using kv::FaultyCall;

constexpr absl::Duration kTtl = absl::Seconds(60);  // few beats in the many hours here

class JanitorTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }
  size_t Records(const std::string& prefix) { return world_.data().List(prefix, absl::InfiniteFuture())->size(); }

  // Copies of the longest ttl.
  std::unique_ptr<Cluster> Join(const std::string& instance) {
    JoinOptions options = world_.Options(instance);
    options.ttl = kTtl;
    return world_.Join(options);
  }

  World world_{71};
};

TEST_F(JanitorTest, AFreeRecordGoesAfterAnHourUnusedAndTheFenceStillGrows) {
  auto a = Join("a");
  auto b = Join("b");
  uint64_t fence = 0;
  {
    auto grant = a->Mutex("m").Acquire(Soon());
    fence = grant->fence();
  }
  Sleep(absl::Minutes(59));
  EXPECT_NE(KeyOf(world_, "mutex", "m"), "");
  Sleep(absl::Minutes(2));
  EXPECT_EQ(KeyOf(world_, "mutex", "m"), "");
  for (Cluster* copy : {b.get(), a.get()}) {
    auto grant = copy->Mutex("m").Acquire(Soon());
    ASSERT_TRUE(IsOk(grant));
    EXPECT_GT(grant->fence(), fence);
    fence = grant->fence();
  }
}

TEST_F(JanitorTest, WhatIsHeldWaitedForOrUsedStays) {
  auto a = Join("a");
  auto b = Join("b");
  auto held = a->Mutex("held").Acquire(Soon());
  auto waiting = InBackground(world_, [&] { return b->Mutex("held").Acquire(world_.In(absl::Hours(100))); });
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(IsOk(b->Mutex("used").Acquire(Soon())));
    Sleep(absl::Minutes(30));
    EXPECT_NE(KeyOf(world_, "mutex", "used"), "");
  }
  EXPECT_NE(KeyOf(world_, "mutex", "held"), "");
  EXPECT_FALSE(held->Lost());
  EXPECT_FALSE(waiting->done);
  ASSERT_TRUE(IsOk(held->Release()));
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(waiting->ok());
}

TEST_F(JanitorTest, TheNumberOfPermitsOutlivesDisuse) {
  auto a = Join("a");
  ASSERT_TRUE(IsOk(a->Semaphore("s", 3).SetPermits(5, Soon())));
  Sleep(absl::Hours(5));
  EXPECT_TRUE(Is(absl::StatusCode::kFailedPrecondition, a->Semaphore("s", 3).Acquire(1, Soon()), "has 5 permits"));
}

TEST_F(JanitorTest, WhereRevisionsMayBeginAnewNoRecordIsRemoved) {
  JoinOptions options = world_.Options("a");
  options.ttl = kTtl;
  Shaped(options)->shape.monotonic_revisions = false;
  options.accept_weaker = true;
  auto a = world_.Join(options);
  ASSERT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
  Sleep(absl::Hours(5));
  EXPECT_NE(KeyOf(world_, "mutex", "m"), "");
  EXPECT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
}

TEST_F(JanitorTest, LeftoversOfCopiesThatAreGoneGoToo) {
  {
    auto gone = Join("gone");
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(IsOk(gone->Mutex(absl::StrCat("m", i)).Acquire(Soon())));
  }
  auto a = Join("a");
  EXPECT_EQ(Records("test/mutex/"), 100u);
  Sleep(absl::Hours(3));
  EXPECT_EQ(Records("test/mutex/"), 0u);
  EXPECT_EQ(Records("test/session/"), 2u) << "ended sessions stay for a day";
  Sleep(absl::Hours(26));
  EXPECT_EQ(Records("test/session/"), 1u);
  EXPECT_EQ(a->state(), SessionState::kAttached);
}

TEST_F(JanitorTest, AFewDeletesPerBeat) {
  auto a = Join("a");
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(IsOk(a->Mutex(absl::StrCat("m", i)).Acquire(Soon())));
  kv::CallCounts before = world_.store().Snapshot("test/mutex/");
  int64_t most = 0;
  for (int i = 0; i < 400; ++i) {
    Sleep(kTtl / 3);
    const kv::CallCounts now = world_.store().Snapshot("test/mutex/");
    most = std::max(most, (now - before).deletes);
    before = now;
  }
  EXPECT_LE(most, 32) << "16 a beat, two beats at most in this interval";
  EXPECT_GE(most, 16);
  EXPECT_EQ(Records("test/mutex/"), 0u);
}

TEST_F(JanitorTest, ALargeBacklogIsWorkedOffByLargerShares) {
  constexpr int kNames = 20000;
  auto a = Join("a");
  for (int i = 0; i < kNames; ++i) ASSERT_TRUE(IsOk(a->Mutex(absl::StrCat("m", i)).Acquire(Soon())));
  Sleep(absl::Hours(1) - kTtl);
  kv::CallCounts before = world_.store().Snapshot("test/mutex/");
  int64_t most = 0;
  int beats = 0;
  for (; beats < 300 && Records("test/mutex/") > 0; ++beats) {
    Sleep(kTtl / 3);
    const kv::CallCounts now = world_.store().Snapshot("test/mutex/");
    most = std::max(most, (now - before).deletes);
    before = now;
  }
  EXPECT_EQ(Records("test/mutex/"), 0u);
  EXPECT_LE(most, 2 * 1024) << "two beats at most in this interval";
  EXPECT_GT(most, 512);
  EXPECT_LE(beats, 120);
}

TEST_F(JanitorTest, WhatCouldNotBeRemovedIsTriedAgain) {
  auto a = Join("a");
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(IsOk(a->Mutex(absl::StrCat("m", i)).Acquire(Soon())));
  int tried = 0;
  {
    const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
      return call.kind == kv::CallKind::kDelete && ++tried > 0 ? Fault::kFailBefore : Fault::kNone;
    });
    Sleep(absl::Hours(1) + 10 * kTtl);
    EXPECT_GE(tried, 10);
    EXPECT_LE(tried, 40) << "a store that does not answer is asked once a beat";
    EXPECT_EQ(Records("test/mutex/"), 100u);
  }
  Sleep(10 * kTtl);
  EXPECT_EQ(Records("test/mutex/"), 0u);
}

// Each copy also ends the silent sessions that it comes across while nobody waits.
TEST_F(JanitorTest, ASessionThatFellSilentIsEndedThoughNobodyWaits) {
  for (const bool watch : {true, false}) {
    SCOPED_TRACE(watch);
    World world(73);
    Process dead(world, 1, "dead");
    auto* grant = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
    dead.Run([&] { *grant = dead->Mutex("m").Acquire(world.In(absl::Seconds(5))); });
    const std::string session = dead->session();
    dead.Kill();
    JoinOptions options = world.Options("a");
    options.ttl = kTtl;
    Shaped(options)->shape.watch = watch;
    auto a = world.Join(options);
    world.runtime().SleepFor(absl::Hours(2) + absl::Minutes(40));
    EXPECT_EQ(SessionOf(world, session)->mark, internal::SessionMark::kEnded);
    const absl::Time begun = world.runtime().Now();
    EXPECT_TRUE(IsOk(a->Mutex("m").Acquire(world.In(absl::Seconds(5)))));
    EXPECT_EQ(world.runtime().Now(), begun) << "so that who comes later need not wait";
  }
}

TEST_F(JanitorTest, RecordsOfADeadEpochGoAndTheNewOnesStay) {
  JoinOptions options = world_.Options("a");
  options.ttl = kTtl;
  auto a = world_.Join(options);
  ASSERT_TRUE(IsOk(a->Mutex("old").Acquire(Soon())));
  auto held = a->Mutex("m").Acquire(Soon());
  internal::EpochRecord record =
      *internal::ParseEpochRecord(world_.data().Get("test/epoch", absl::InfiniteFuture())->value, "epoch");
  const std::string before = record.id;
  record.id = "00000000000000ab";
  record.created_us += 1000000;
  ASSERT_TRUE(world_.data().Put("test/epoch", internal::Format(record), absl::InfiniteFuture()).ok());
  Sleep(kTtl);
  ASSERT_TRUE(held->Lost());
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  EXPECT_GT(Records("test/mutex/" + before + "/"), 0u);
  Sleep(absl::Hours(3));
  EXPECT_EQ(Records("test/mutex/" + before + "/"), 0u);
  EXPECT_EQ(Records("test/session/" + before + "/"), 0u);
  EXPECT_EQ(Records("test/mutex/00000000000000ab/"), 1u);
  EXPECT_FALSE(grant->Lost());
}

TEST_F(JanitorTest, ADeleteThatComesTooLateOrWhoseReplyIsLostDisturbsNobody) {
  for (const Fault fault : {Fault::kDropReply, Fault::kApplyLate}) {
    World world(79);
    auto a = world.Join("a");
    auto b = world.Join("b");
    uint64_t fence = 0;
    {
      auto grant = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
      fence = grant->fence();
    }
    const FaultHook hook(world.faults(), [&](const FaultyCall& call) {
      return call.kind == kv::CallKind::kDelete ? fault : Fault::kNone;
    });
    world.runtime().SleepFor(absl::Hours(1) + absl::Minutes(1));
    auto grant = b->Mutex("m").Acquire(world.In(absl::Seconds(5)));
    ASSERT_TRUE(IsOk(grant));
    world.faults().ReleaseHeld();
    world.runtime().SleepFor(kTtl);
    EXPECT_FALSE(grant->Lost());
    EXPECT_GT(grant->fence(), fence);
    EXPECT_EQ(RecordOf(world, "mutex", "m")->owners.size(), 1u);
    world.faults().SetHook(nullptr);
  }
}

}  // namespace
}  // namespace coord::testing
