// One test for each rule of the lock engine that could be taken out without a test of the primitives noticing it.

#include <memory>
#include <string>
#include <string_view>
#include <utility>

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

class LockRulesTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }

  World world_{5};
};

// What a write gives up is given up before it is sent, whatever becomes of it.
TEST_F(LockRulesTest, ADowngradeWithoutAnAnswerGuardsNoMoreWrites) {
  auto a = world_.Join("a");
  auto held = a->SharedMutex("s").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  ASSERT_TRUE(IsOk(a->FencedCell("c").Set(*held, "before", Soon())));
  const FaultHook hook(world_.faults(), [](const FaultyCall& call) {
    return call.write() && call.key.find("/shared_mutex/") != std::string::npos ? Fault::kFailBefore : Fault::kNone;
  });
  EXPECT_FALSE(a->SharedMutex("s").Downgrade(*held, world_.In(absl::Milliseconds(1))).ok());
  EXPECT_TRUE(
      Is(StatusCode::kFailedPrecondition, a->FencedCell("c").Set(*held, "after", Soon()), "is shared with others"));
  EXPECT_EQ(a->FencedCell("c").Get(Soon())->value, "before");
  EXPECT_FALSE(held->Lost());
}

// Where nobody tells of changes, what a late write has left behind is found by looking.
TEST_F(LockRulesTest, WithoutAWatchWhatALateWriteLeavesIsTakenBackWithinATtl) {
  JoinOptions options = world_.Options("a");
  Shaped(options)->shape.watch = false;
  auto a = world_.Join(std::move(options));
  bool sent = false;
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    if (call.kind != kv::CallKind::kCreate || call.key.find("/mutex/") == std::string::npos) return Fault::kNone;
    return std::exchange(sent, true) ? Fault::kNone : Fault::kApplyLate;
  });
  EXPECT_FALSE(a->Mutex("m").TryAcquire(Soon()).ok());
  Sleep(kTtl);  // a record of this copy's own has settled what came of it
  const std::string key = KeyOf(world_, "mutex", "m");
  ASSERT_NE(key, "");
  const kv::Revision revision = world_.data().Get(key, absl::InfiniteFuture())->revision;
  ASSERT_TRUE(world_.data().Delete(key, revision, absl::InfiniteFuture()).ok());  // unused, as a janitor would
  ASSERT_EQ(world_.faults().ReleaseHeld().size(), 1u);
  ASSERT_FALSE(IsFree(world_, "mutex", "m")) << "the lock belongs to a request of long ago";
  Sleep(kTtl * 2);
  EXPECT_TRUE(IsFree(world_, "mutex", "m"));
}

// The hand-over to a request that has just been cancelled is not one to the request that came after it.
TEST_F(LockRulesTest, AHandOverToACancelledRequestDoesNotLetTheNextOneIn) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  CancelSource cancel;
  auto first = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Minutes(1)), cancel.token()); });
  ASSERT_EQ(RecordOf(world_, "mutex", "m")->queue.size(), 1u);
  world_.faults().PauseWatches();
  ASSERT_TRUE(IsOk(held->Release()));
  cancel.Cancel();
  auto second = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Minutes(1))); });
  world_.faults().ResumeWatches();
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(Is(StatusCode::kCancelled, first->grant));
  ASSERT_TRUE(second->ok());
  EXPECT_FALSE(second->grant->Lost()) << "the record must name the ticket that was let in";
  const auto record = RecordOf(world_, "mutex", "m");
  ASSERT_EQ(record->owners.size(), 1u);
  ASSERT_EQ(record->owners[0].tickets.size(), 1u);
  EXPECT_EQ(record->owners[0].tickets[0].id, second->grant->held()->ticket);
}

TEST_F(LockRulesTest, ASnapshotThatLagsLosesNoGrant) {
  auto a = world_.Join("a");
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  world_.faults().SetEventFilter([](const kv::WatchEvent& event) {
    return event.kind != kv::WatchKind::kPut || event.key.find("/mutex/") == std::string::npos;
  });
  world_.faults().Interrupt(kv::WatchKind::kResync);
  world_.runtime().RunUntilIdle();
  world_.faults().SetEventFilter(nullptr);
  Sleep(kTtl);
  EXPECT_FALSE(held->Lost());
  EXPECT_EQ(a->Stats().grants_lost, 0u);
}

// The two clocks are as far apart as the margin allows.
TEST_F(LockRulesTest, AHolderWithASlowClockThatIsCutOffStopsBeforeAFastOneTakesOver) {
  world_.runtime().SetClockRate(1, 0.92);
  world_.runtime().SetClockRate(2, 1.08);
  JoinOptions options = world_.Options("b");
  Shaped(options)->shape.age = false;  // a store's age is by one clock, and here there are two
  Process b(world_, 2, options);
  options.instance = "a";
  auto cut = std::make_shared<kv::FaultyStore>(options.store);
  options.store = cut;
  Process a(world_, 1, options);
  absl::StatusOr<Grant> held = absl::UnknownError(""), next = absl::UnknownError("");
  a.Run([&] { held = a->Mutex("m").Acquire(Soon()); });
  ASSERT_TRUE(IsOk(held));
  absl::Time lost_at = absl::InfiniteFuture(), taken_at = absl::InfiniteFuture();
  auto waiting = b.Start([&] { next = b->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  Sleep(kTtl * 2);
  cut->SetHook([](const FaultyCall&) { return Fault::kFailBefore; });
  auto watching = a.Start([&] {
    while (!held->Lost()) Sleep(absl::Milliseconds(1));
  });
  auto noted = world_.runtime().StartThread("noted", [&] {
    watching = nullptr;
    lost_at = world_.runtime().Now();
  });
  waiting = nullptr;
  taken_at = world_.runtime().Now();
  noted = nullptr;
  EXPECT_TRUE(IsOk(next));
  EXPECT_LT(lost_at, taken_at);
  cut->SetHook(nullptr);
  a.Run([&] { held = absl::UnknownError(""); });
  b.Run([&] { next = absl::UnknownError(""); });
}

// When a session is first known to be silent counts from its last sign of life, and not from the latest look at it.
TEST_F(LockRulesTest, TriesAloneNoticeADeadHolderWhereTheStoreTellsNoAge) {
  for (const bool watch : {true, false}) {
    SCOPED_TRACE(watch);
    World world(31);
    JoinOptions options = world.Options("a");
    const auto shaped = Shaped(options);
    shaped->shape.watch = watch;
    shaped->shape.age = false;
    auto a = world.Join(options);
    options.instance = "b";
    Process b(world, 1, options);
    auto* grant = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
    b.Run([&] { *grant = b->Mutex("m").Acquire(world.In(absl::Seconds(1))); });
    ASSERT_TRUE(IsOk(*grant));
    b.Kill();
    const absl::Time died = world.runtime().Now();
    absl::StatusOr<Grant> mine = absl::UnknownError("");
    while (!mine.ok() && world.runtime().Now() < died + kTtl * 4) {
      mine = a->Mutex("m").TryAcquire(world.In(absl::Seconds(1)));
      world.runtime().SleepFor(absl::Seconds(1));
    }
    ASSERT_TRUE(IsOk(mine));
    EXPECT_GE(world.runtime().Now() - died, kTtl / 2);
    EXPECT_LE(world.runtime().Now() - died, kTtl * 2);
  }
}

// A break makes the owner lose; what it holds goes to others once it cannot believe in it any more.
TEST_F(LockRulesTest, ABrokenSessionIsWaitedForItsWholeTtl) {
  auto b = world_.Join("b");
  Process a(world_, 1, "a");
  absl::StatusOr<Grant> held = absl::UnknownError("");
  a.Run([&] { held = a->Mutex("m").Acquire(Soon()); });
  const std::string session = a->session();
  Sleep(kTtl * 2);
  a.Pause();
  ASSERT_TRUE(IsOk(b->Break(session, Soon())));
  const absl::Time broken = world_.runtime().Now();
  Sleep(absl::Milliseconds(1));
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, b->Mutex("m").TryAcquire(Soon()), "is taken"));
  auto next = b->Mutex("m").Acquire(world_.In(absl::Hours(1)));
  ASSERT_TRUE(IsOk(next));
  EXPECT_GE(world_.runtime().Now() - broken, kTtl);
  a.Resume();
  a.Run([&] {
    EXPECT_TRUE(held->Lost());
    held = absl::UnknownError("");
  });
}

// A watch that is dead without saying so: who waits is heard of by looking alone.
TEST_F(LockRulesTest, WhoRetainsLooksFirstWhetherSomebodyWaits) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  MutexOptions retain;
  retain.retain = true;
  auto held = a->Mutex("m", retain).Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  world_.faults().SetEventFilter(
      [](const kv::WatchEvent& event) { return event.key.find("/mutex/") == std::string::npos; });
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  Sleep(kTtl / 2);
  ASSERT_TRUE(IsOk(held->Release()));
  world_.runtime().RunUntilIdle();
  const auto record = RecordOf(world_, "mutex", "m");
  ASSERT_EQ(record->owners.size(), 1u);
  EXPECT_EQ(record->owners[0].session, b->session());
  Sleep(kTtl);
  EXPECT_TRUE(waiting->ok());
  world_.faults().SetEventFilter(nullptr);
}

// The beat is applied, and this is found out only when it has been given up.
TEST_F(LockRulesTest, ABeatThatIsFoundToBeAppliedCountsFromItsSending) {
  JoinOptions options = world_.Options("a");
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  options.store = slow;
  auto a = world_.Join(std::move(options));
  auto held = a->Mutex("m").Acquire(Soon());
  absl::Time lost_at = absl::InfiniteFuture(), sent = absl::InfinitePast();
  held->OnLost([&] { lost_at = world_.runtime().Now(); });
  bool cut = false;
  const FaultHook hook(world_.faults(), [&](const FaultyCall&) { return cut ? Fault::kFailBefore : Fault::kNone; });
  slow->hook = [&](std::string_view key, bool write) {
    const bool session = key.find("/session/") != std::string_view::npos;
    if (write && session && sent == absl::InfinitePast()) {
      sent = world_.runtime().Now();
      return SlowStore::Delay{absl::ZeroDuration(), kTtl};
    }
    return SlowStore::Delay{};
  };
  for (int i = 0; i < 2000 && a->Stats().unknown_outcomes == 0; ++i) Sleep(absl::Milliseconds(10));
  Sleep(absl::Milliseconds(1));  // the read that finds it
  cut = true;
  Sleep(kTtl);
  EXPECT_TRUE(held->Lost());
  EXPECT_LE(lost_at, sent + kTtl * 5 / 6 + absl::Milliseconds(1));
  EXPECT_GE(lost_at, sent + kTtl / 2);
  slow->hook = nullptr;
}

TEST_F(LockRulesTest, ValidityCountsFromTheSendingOfTheReadOfTheEpoch) {
  JoinOptions options = world_.Options("a");
  Shaped(options)->shape.proves_incarnation = false;
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  options.store = slow;
  auto a = world_.Join(std::move(options));
  auto held = a->Mutex("m").Acquire(Soon());
  absl::Time lost_at = absl::InfiniteFuture(), asked = absl::InfinitePast();
  held->OnLost([&] { lost_at = world_.runtime().Now(); });
  bool cut = false;
  const FaultHook hook(world_.faults(), [&](const FaultyCall&) { return cut ? Fault::kFailBefore : Fault::kNone; });
  slow->hook = [&](std::string_view key, bool write) {
    if (write || key != "test/epoch") return SlowStore::Delay{};
    asked = world_.runtime().Now();
    return SlowStore::Delay{absl::ZeroDuration(), absl::Milliseconds(500)};
  };
  const uint64_t beats = a->Stats().beats;
  for (int i = 0; i < 2000 && a->Stats().beats < beats + 2; ++i) Sleep(absl::Milliseconds(10));
  ASSERT_GE(a->Stats().beats, beats + 2);
  cut = true;
  const absl::Time confirmed = asked;
  Sleep(kTtl);
  EXPECT_TRUE(held->Lost());
  EXPECT_LE(lost_at, confirmed + kTtl * 5 / 6 + absl::Milliseconds(1));
  EXPECT_GE(lost_at, confirmed + kTtl / 2);
  slow->hook = nullptr;
}

TEST_F(LockRulesTest, ACallbackThatTakesLongerThanTheTtlHoldsUpNoBeat) {
  auto a = world_.Join("a");
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  bool done = false;
  a->Mutex("other").AcquireAsync(Soon(), [&](absl::StatusOr<Grant>) {
    Sleep(kTtl * 2);
    done = true;
  });
  Sleep(kTtl * 3);
  EXPECT_TRUE(done);
  EXPECT_FALSE(held->Lost());
  EXPECT_EQ(a->Stats().sessions_lost, 0u);
}

// What the copy writes next must be over the newest record, and not over that of its own late reply.
TEST_F(LockRulesTest, AReplyThatIsOvertakenDoesNotBringTheOlderRecordBack) {
  auto a = world_.Join("a");
  JoinOptions options = world_.Options("b");
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  options.store = slow;
  auto b = world_.Join(std::move(options));
  auto observed = b->Election("e").Leader();  // b follows the record
  ASSERT_TRUE(IsOk(observed));
  slow->hook = [](std::string_view key, bool write) {
    const bool lock = key.find("/election/") != std::string_view::npos;
    return SlowStore::Delay{absl::ZeroDuration(), lock && write ? absl::Seconds(1) : absl::ZeroDuration()};
  };
  auto campaign = InBackground(world_, [&] { return b->Election("e").Campaign("B", world_.In(absl::Minutes(1))); });
  ASSERT_EQ(RecordOf(world_, "election", "e")->owners.size(), 1u);
  auto behind = InBackground(world_, [&] { return a->Election("e").Campaign("A", world_.In(absl::Minutes(1))); });
  ASSERT_EQ(RecordOf(world_, "election", "e")->queue.size(), 1u);
  Sleep(absl::Seconds(2));
  ASSERT_TRUE(campaign->ok());
  const uint64_t conflicts = b->Stats().conflicts;
  slow->hook = nullptr;
  ASSERT_TRUE(IsOk(campaign->grant->Release()));
  EXPECT_EQ(b->Stats().conflicts, conflicts) << "its view was that of its own old reply";
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(behind->ok());
}

}  // namespace
}  // namespace coord::testing
