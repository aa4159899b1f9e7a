// A copy's session: valid from the sending of its beats, lost at its own deadline, told once, ended in the store; the
// epochs of stores that forget.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

using absl::StatusCode;
using kv::Fault;
using kv::FaultyCall;

constexpr absl::Duration kTtl = absl::Seconds(10);
const absl::Duration kValid = kTtl - kTtl / 6;

bool IsBeat(const FaultyCall& call) {
  return call.kind == kv::CallKind::kUpdate && call.key.find("/session/") != std::string::npos;
}

class SessionTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }
  absl::Time Now() { return world_.runtime().Now(); }

  // What a copy says of itself along the way.
  JoinOptions Noted(const std::string& instance) {
    JoinOptions options = world_.Options(instance);
    options.on_state = [this](SessionState state) { states_.push_back(state); };
    return options;
  }

  World world_{21};
  std::vector<SessionState> states_;
};

// ------------------------------------------------------------------------------------------ validity

// Rule: validity counts from the send time of the beat, never from the receipt of its answer. M06.
TEST_F(SessionTest, ValidityCountsFromTheSendingOfTheBeat) {
  JoinOptions options = world_.Options("a");
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  absl::Time last_sent;
  bool cut = false;
  slow->hook = [&](std::string_view key, bool write) {
    SlowStore::Delay delay{};
    if (!write || key.find("/session/") == std::string_view::npos) return delay;
    if (cut) {
      delay.before = absl::Hours(1);
    } else {
      last_sent = Now();
      delay.after = absl::Milliseconds(1500);
    }
    return delay;
  };
  options.store = slow;
  auto a = world_.Join(options);
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  absl::Time lost_at = absl::InfiniteFuture();
  grant->OnLost([&] { lost_at = Now(); });
  Sleep(kTtl * 3);
  ASSERT_FALSE(grant->Lost());
  cut = true;
  while (!grant->Lost()) Sleep(absl::Milliseconds(1));
  EXPECT_LE(Now(), last_sent + kValid + absl::Milliseconds(1));
  EXPECT_GE(Now(), last_sent + kValid);
  Sleep(absl::Milliseconds(1));
  EXPECT_LE(lost_at, last_sent + kValid + absl::Milliseconds(2)) << "the signal comes at the deadline, not later";
  cut = false;
  Sleep(kTtl);
}

// M07, M11, M22: failed renewals are retried, reach the holder, and end in one signal.
TEST_F(SessionTest, FailedBeatsAreRetriedUntilTheDeadlineThenTheLossIsTold) {
  auto a = world_.Join(Noted("a"));
  auto grant = a->Mutex("m").Acquire(Soon());
  int lost = 0;
  grant->OnLost([&] { ++lost; });
  Sleep(kTtl);
  bool failing = true;
  int beats = 0;
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    if (!failing) return Fault::kNone;
    beats += IsBeat(call) ? 1 : 0;
    return Fault::kFailBefore;
  });
  Sleep(kTtl / 3 + kTtl / 6);
  EXPECT_GE(beats, 2) << "retried at once, jittered";
  failing = false;
  Sleep(kTtl);
  EXPECT_FALSE(grant->Lost()) << "a few failed beats lose nothing";
  EXPECT_GE(a->Stats().failed_beats, 2u);
  EXPECT_EQ(a->state(), SessionState::kAttached);
  EXPECT_EQ(lost, 0);

  states_.clear();
  failing = true;
  Sleep(kTtl * 2);
  EXPECT_TRUE(grant->Lost());
  EXPECT_EQ(lost, 1);
  EXPECT_EQ(a->state(), SessionState::kLost);
  EXPECT_EQ(a->session(), "");
  EXPECT_EQ(states_, (std::vector<SessionState>{SessionState::kUncertain, SessionState::kLost}));
  failing = false;
  Sleep(kTtl);
  EXPECT_EQ(a->state(), SessionState::kAttached);
  EXPECT_EQ(states_.back(), SessionState::kAttached);
  EXPECT_TRUE(grant->Lost()) << "loss is final";
  EXPECT_EQ(lost, 1);
  EXPECT_EQ(a->Stats().sessions, 2u);
  EXPECT_EQ(a->Stats().sessions_lost, 1u);
  EXPECT_NE(world_.log().find("is lost: no beat reached the store in time; joining again"), std::string::npos);
}

TEST_F(SessionTest, UncertainIsVisibleFromHalfATtlOnAndPasses) {
  auto a = world_.Join(Noted("a"));
  auto grant = a->Mutex("m").Acquire(Soon());
  Sleep(kTtl);
  states_.clear();
  bool failing = true;
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    return failing && IsBeat(call) ? Fault::kFailBefore : Fault::kNone;
  });
  while (a->state() == SessionState::kAttached) Sleep(absl::Milliseconds(10));
  EXPECT_EQ(a->state(), SessionState::kUncertain);
  EXPECT_FALSE(grant->Lost());
  EXPECT_NE(a->session(), "");
  failing = false;
  Sleep(kTtl / 6);
  EXPECT_EQ(a->state(), SessionState::kAttached);
  EXPECT_EQ(states_, (std::vector<SessionState>{SessionState::kUncertain, SessionState::kAttached}));
}

TEST_F(SessionTest, ABeatWhoseReplyIsLostCountsFromWhenItWasSent) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    auto a = world.Join("a");
    auto grant = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    world.faults().SetHook([](const FaultyCall& call) { return IsBeat(call) ? Fault::kDropReply : Fault::kNone; });
    world.runtime().SleepFor(kTtl * 10);
    EXPECT_FALSE(grant->Lost()) << "every beat is applied, and a read finds it";
    EXPECT_EQ(a->Stats().sessions_lost, 0u);
    EXPECT_GT(a->Stats().unknown_outcomes, 20u);
  }
}

TEST_F(SessionTest, BeatsThatArriveLateNeitherRenewWithoutNoticeNorLoseTheSession) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    auto a = world.Join("a");
    auto grant = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    int beats = 0;
    const FaultHook hook(world.faults(), [&](const FaultyCall& call) {
      return IsBeat(call) && ++beats % 3 != 0 ? Fault::kApplyLate : Fault::kNone;
    });
    for (int i = 0; i < 100; ++i) {
      world.runtime().SleepFor(absl::Milliseconds(700));
      world.faults().ReleaseHeld();
    }
    EXPECT_FALSE(grant->Lost());
    EXPECT_EQ(a->Stats().sessions_lost, 0u);
  }
}

TEST_F(SessionTest, BeatsThatAreNeverAppliedLoseTheSessionInTime) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  Sleep(kTtl);
  const std::string session = a->session();
  const std::string key = KeyOf(world_, "session", session);
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    return call.write() && call.key == key ? Fault::kApplyLate : Fault::kNone;
  });
  // Dropped at b too: nobody ends it for a while. Its own deadline stands by itself.
  Sleep(kTtl);
  EXPECT_TRUE(grant->Lost());
  world_.faults().SetHook(nullptr);
  world_.faults().DropHeld();
  Sleep(kTtl);
  EXPECT_NE(a->session(), session);
  EXPECT_EQ(SessionOf(world_, session)->mark, internal::SessionMark::kEnded) << "its own lost session is ended";
}

// Rule: a pause beyond the deadline loses the grants, by the clock itself: no thread need have run.
TEST_F(SessionTest, AfterAPauseLostIsRightBeforeAnyThreadHasRun) {
  Process a(world_, 1, "a");
  absl::StatusOr<Grant> grant = absl::UnknownError("");
  bool lost_first = false, signalled = false;
  int signals = 0;
  auto thread = a.Start([&] {
    grant = a->Mutex("m").Acquire(Soon());
    grant->OnLost([&] { ++signals; });
    Sleep(absl::Seconds(1));
    world_.runtime().Pause(1);
    Sleep(absl::Microseconds(1));  // goes on after the pause, perhaps before every other thread of the copy
    lost_first = grant->Lost();
    signalled = signals > 0;
  });
  Sleep(absl::Seconds(2));
  Sleep(kTtl * 2);
  a.Resume();
  thread = nullptr;
  EXPECT_TRUE(lost_first);
  Sleep(absl::Seconds(1));
  EXPECT_EQ(signals, 1) << signalled;
  a.Run([&] { grant = absl::UnknownError(""); });
}

TEST_F(SessionTest, ClocksEightPercentOffNeitherLoseNorDouble) {
  for (const double rate : {0.92, 1.08}) {
    SCOPED_TRACE(rate);
    World world(33);
    world.runtime().SetClockRate(1, rate);
    JoinOptions options = world.Options("drifting");
    Shaped(options)->shape.age = false;  // a store's age is by one clock, and here there are two
    Process a(world, 1, options);
    options.instance = "b";
    auto b = world.Join(options);
    absl::StatusOr<Grant> grant = absl::UnknownError("");
    a.Run([&] { grant = a->Mutex("m").Acquire(world.In(absl::Seconds(1))); });
    auto waiting = InBackground(world, [&] { return b->Mutex("m").Acquire(world.In(absl::Hours(24))); });
    world.runtime().SleepFor(absl::Hours(1));
    ASSERT_FALSE(waiting->done);
    a.Run([&] { EXPECT_FALSE(grant->Lost()); });
    // Cut off, the drifting holder stops before the other starts.
    absl::Time lost_at = absl::InfiniteFuture();
    auto watcher = a.Start([&] {
      while (!grant->Lost()) world.runtime().SleepFor(absl::Milliseconds(1));
    });
    auto main_watcher = world.runtime().StartThread("watch", [&] {
      watcher.reset();
      lost_at = world.runtime().Now();
    });
    const std::string key = KeyOf(world, "session", RecordOf(world, "mutex", "m")->owners[0].session);
    int beats = 0;
    const FaultHook hook(world.faults(), [&](const FaultyCall& call) {
      return call.key == key && call.kind == kv::CallKind::kUpdate && ++beats < 40 ? Fault::kFailBefore : Fault::kNone;
    });
    while (!waiting->done) world.runtime().SleepFor(absl::Milliseconds(10));
    EXPECT_TRUE(IsOk(waiting->grant));
    EXPECT_LE(lost_at, waiting->at);
    main_watcher.reset();
    world.faults().SetHook(nullptr);  // it refers to `key`
    a.Run([&] { grant = absl::UnknownError(""); });
  }
}

// ------------------------------------------------------------------------------------------ ended from outside

TEST_F(SessionTest, ABrokenSessionIsLostTheOwnerIsToldAndOthersGetItsGrants) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  int lost = 0;
  grant->OnLost([&] { ++lost; });
  const std::string session = a->session();
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  EXPECT_TRUE(
      Is(StatusCode::kNotFound, b->Break("0123456789abcdef", Soon()), "there is no session \"0123456789abcdef\""));
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, b->Break("a\nb", Soon()), "session id"));
  ASSERT_TRUE(IsOk(b->Break(session, Soon())));
  EXPECT_TRUE(IsOk(b->Break(session, Soon()))) << "repeated";
  EXPECT_FALSE(waiting->done);
  Sleep(kTtl / 3 + absl::Seconds(1));
  EXPECT_TRUE(grant->Lost());
  EXPECT_EQ(lost, 1);
  EXPECT_TRUE(waiting->ok()) << "the owner gave up, and ended its session";
  EXPECT_NE(world_.log().find("somebody broke it"), std::string::npos);
  EXPECT_NE(a->session(), session);
  EXPECT_TRUE(IsOk(b->Break(session, Soon()))) << "it has ended: fine";
}

TEST_F(SessionTest, TheGrantsOfABrokenSessionThatDoesNotAnswerGoAfterItsTtlNeverSooner) {
  auto b = world_.Join("b");
  Process a(world_, 1, "a");
  absl::StatusOr<Grant> grant = absl::UnknownError("");
  a.Run([&] { grant = a->Mutex("m").Acquire(Soon()); });
  const std::string session = a->session();
  a.Pause();
  ASSERT_TRUE(IsOk(b->Break(session, Soon())));
  const absl::Time broken = Now();
  auto next = b->Mutex("m").Acquire(world_.In(absl::Hours(1)));
  ASSERT_TRUE(IsOk(next));
  EXPECT_GE(Now() - broken, kTtl);
  EXPECT_LE(Now() - broken, kTtl + absl::Milliseconds(1));
  a.Resume();
  a.Run([&] {
    EXPECT_TRUE(grant->Lost());
    grant = absl::UnknownError("");
  });
}

// Rule: a missing session proves nothing: it is created as broken, with the ttl that the grant states, and waited for.
TEST_F(SessionTest, AMissingSessionIsWaitedForNotTakenForDead) {
  auto b = world_.Join("b");
  JoinOptions options = world_.Options("a");
  options.ttl = absl::Seconds(20);
  Process a(world_, 1, options);
  absl::StatusOr<Grant> grant = absl::UnknownError("");
  a.Run([&] { grant = a->Mutex("m").Acquire(Soon()); });
  const std::string session = a->session();
  const std::string key = KeyOf(world_, "session", session);
  a.Pause();
  const absl::Time paused = Now();
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(
      world_.data().Delete(key, world_.data().Get(key, absl::InfiniteFuture())->revision, absl::InfiniteFuture()).ok());
  world_.runtime().RunUntilIdle();
  const absl::Time deleted = Now();
  auto next = b->Mutex("m").Acquire(world_.In(absl::Hours(1)));
  ASSERT_TRUE(IsOk(next));
  EXPECT_GE(Now() - deleted, absl::Seconds(20)) << "the ttl of the holder, not of the observer (M19)";
  EXPECT_LE(Now() - deleted, absl::Seconds(21));
  EXPECT_EQ(SessionOf(world_, session)->mark, internal::SessionMark::kEnded);
  EXPECT_GT(Now(), paused);
  a.Resume();
  a.Run([&] {
    EXPECT_TRUE(grant->Lost());
    grant = absl::UnknownError("");
  });
}

// M26: renewal never creates.
TEST_F(SessionTest, ARemovedSessionRecordIsALossNotARenewal) {
  auto a = world_.Join("a");
  auto grant = a->Mutex("m").Acquire(Soon());
  const std::string session = a->session();
  const std::string key = KeyOf(world_, "session", session);
  ASSERT_TRUE(
      world_.data().Delete(key, world_.data().Get(key, absl::InfiniteFuture())->revision, absl::InfiniteFuture()).ok());
  Sleep(kTtl / 2);
  EXPECT_TRUE(grant->Lost());
  EXPECT_EQ(KeyOf(world_, "session", session), "") << "not made again";
  EXPECT_NE(a->session(), session);
  EXPECT_NE(a->session(), "");
  EXPECT_NE(world_.log().find("its record is gone from the store"), std::string::npos);
}

TEST_F(SessionTest, AWaiterOfALostSessionGoesOnUnderTheNewOne) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  const std::string session = b->session();
  ASSERT_TRUE(IsOk(a->Break(session, Soon())));
  Sleep(kTtl * 2);
  EXPECT_FALSE(waiting->done);
  ASSERT_TRUE(IsOk(grant->Release()));
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(waiting->ok());
  EXPECT_FALSE(waiting->grant->Lost());
  EXPECT_NE(RecordOf(world_, "mutex", "m")->owners[0].session, session);
  EXPECT_TRUE(RecordOf(world_, "mutex", "m")->queue.empty());
}

// M19: the observer goes by the ttl that the session states.
TEST_F(SessionTest, AShortTtlOfTheHolderMeansASoonTakeoverWhateverTheObserversTtl) {
  auto b = world_.Join("b");
  JoinOptions options = world_.Options("a");
  options.ttl = absl::Seconds(1);
  Process a(world_, 1, options);
  auto* grant = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
  a.Run([&] { *grant = a->Mutex("m").Acquire(Soon()); });
  a.Kill();
  const absl::Time died = Now();
  ASSERT_TRUE(IsOk(b->Mutex("m").Acquire(world_.In(absl::Hours(1)))));
  EXPECT_LE(Now() - died, absl::Seconds(1) + absl::Milliseconds(1));
}

// M17: dead waiters ahead of a live one do not block it, nor does a dead owner behind them.
TEST_F(SessionTest, DeadWaitersAheadAreTakenOutAndOnlyTheFirstLiveOneActs) {
  auto owner = world_.Join("owner");
  auto held = owner->Mutex("m").Acquire(Soon());
  std::vector<std::unique_ptr<Process>> dead;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 3; ++i) {
    dead.push_back(std::make_unique<Process>(world_, i + 1, absl::StrCat("dead", i)));
    Process* process = dead.back().get();
    threads.push_back(process->Start(
        [this, process] { static_cast<void>((*process)->Mutex("m").Acquire(world_.In(absl::Hours(1)))); }));
    world_.runtime().RunUntilIdle();
  }
  auto b = world_.Join("b");
  auto c = world_.Join("c");
  auto first = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  auto second = InBackground(world_, [&] { return c->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  for (auto& process : dead) process->Kill();
  Sleep(kTtl + absl::Seconds(1));
  EXPECT_EQ(b->Stats().evictions + c->Stats().evictions, 3u);
  EXPECT_EQ(c->Stats().evictions, 0u) << "who stands behind a live waiter leaves it to that one";
  ASSERT_TRUE(IsOk(held->Release()));
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(first->ok()) << "the release names it at once";
  EXPECT_FALSE(second->done);
  EXPECT_FALSE(held->held() == nullptr);
}

// Rule: beats have a lane of their own, and take-outs run a few at a time: a crash with many grants does not starve the
// survivors.
TEST_F(SessionTest, ACrashWithManyGrantsDoesNotStarveTheSurvivorsBeats) {
  constexpr int kGrants = 300;
  Process dead(world_, 1, "dead");
  dead.Run([&] {
    for (int i = 0; i < kGrants; ++i) {
      LeftBehind(absl::StatusOr<Grant>(dead->Mutex(absl::StrCat("m", i)).Acquire(Soon())));
    }
  });
  JoinOptions options = world_.Options("a");
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  int now = 0, most = 0;
  bool slowly = false;
  slow->hook = [&](std::string_view key, bool) {
    if (!slowly) return SlowStore::Delay{};
    if (key.find("/mutex/") == std::string_view::npos) return SlowStore::Delay{absl::Milliseconds(300), {}};
    most = std::max(most, ++now);
    Sleep(absl::Milliseconds(300));
    --now;
    return SlowStore::Delay{};
  };
  options.store = slow;
  auto a = world_.Join(options);
  int got = 0;
  std::vector<Grant> grants;
  for (int i = 0; i < kGrants; ++i) {
    a->Mutex(absl::StrCat("m", i)).AcquireAsync(absl::InfiniteFuture(), [&](absl::StatusOr<Grant> grant) {
      ASSERT_TRUE(IsOk(grant));
      ++got;
      grants.push_back(*std::move(grant));
    });
  }
  Sleep(absl::Seconds(1));
  slowly = true;
  dead.Kill();
  while (got < kGrants) {
    Sleep(kTtl / 10);
    ASSERT_EQ(a->state(), SessionState::kAttached);
  }
  EXPECT_LE(most, 16);
  EXPECT_GE(most, 2);
  EXPECT_EQ(a->Stats().sessions_lost, 0u);
  EXPECT_EQ(a->Stats().evictions, 1u);
  slowly = false;
}

// ------------------------------------------------------------------------------------------ callbacks

TEST_F(SessionTest, ASlowUserCallbackDelaysNoLossSignal) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  bool slow_runs = false;
  a->Mutex("other").AcquireAsync(Soon(), [&](absl::StatusOr<Grant>) {
    slow_runs = true;
    Sleep(kTtl * 4);
  });
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(slow_runs);
  absl::Time lost_at = absl::InfiniteFuture();
  grant->OnLost([&] { lost_at = Now(); });
  ASSERT_TRUE(IsOk(b->Break(a->session(), Soon())));
  const absl::Time broken = Now();
  Sleep(kTtl);
  EXPECT_LE(lost_at - broken, kTtl / 3 + absl::Seconds(1));
  Sleep(kTtl * 4);
}

// Rule: every loss is signalled exactly once, also where an earlier signal's callback still runs.
TEST_F(SessionTest, LossesOfSeveralSessionsBehindASlowLossCallbackAreAllTold) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto first = a->Mutex("one").Acquire(Soon());
  int told_first = 0, told_second = 0;
  first->OnLost([&] {
    ++told_first;
    Sleep(kTtl * 6);
  });
  ASSERT_TRUE(IsOk(b->Break(a->session(), Soon())));
  Sleep(kTtl * 2);
  ASSERT_EQ(told_first, 1);
  ASSERT_NE(a->session(), "") << "joined again meanwhile";
  auto second = a->Mutex("two").Acquire(Soon());
  ASSERT_TRUE(IsOk(second));
  second->OnLost([&] { ++told_second; });
  ASSERT_TRUE(IsOk(b->Break(a->session(), Soon())));
  Sleep(kTtl * 2);
  EXPECT_TRUE(second->Lost());
  EXPECT_EQ(told_second, 0) << "the thread of loss signals is held up by the user";
  auto third = a->Mutex("three").Acquire(Soon());
  EXPECT_TRUE(IsOk(third)) << "and the copy goes on";
  Sleep(kTtl * 4);
  EXPECT_EQ(told_first, 1);
  EXPECT_EQ(told_second, 1);
  EXPECT_EQ(a->Stats().sessions_lost, 2u);
}

// ------------------------------------------------------------------------------------------ joining

TEST_F(SessionTest, JoiningWaitsForAStoreThatComesBackAndGivesUpAtItsTimeout) {
  bool away = true;
  const FaultHook hook(world_.faults(), [&](const FaultyCall&) { return away ? Fault::kFailBefore : Fault::kNone; });
  auto back = world_.runtime().StartThread("back", [&] {
    Sleep(absl::Seconds(3));
    away = false;
  });
  auto a = Cluster::Join(world_.Options("a"));
  ASSERT_TRUE(IsOk(a));
  EXPECT_EQ(a.value()->state(), SessionState::kAttached);
  back = nullptr;
  away = true;
  const absl::Time begun = Now();
  EXPECT_TRUE(Is(StatusCode::kUnavailable, Cluster::Join(world_.Options("b"))));
  EXPECT_GE(Now() - begun, absl::Seconds(9));
  EXPECT_LE(Now() - begun, absl::Seconds(11));
  away = false;
}

TEST_F(SessionTest, JoiningSurvivesLostRepliesOfTheEpochAndTheSession) {
  for (int lost = 1; lost <= 4; ++lost) {
    for (const Fault fault : {Fault::kDropReply, Fault::kApplyLate}) {
      SCOPED_TRACE(absl::StrCat("call ", lost, fault == Fault::kDropReply ? " applied" : " not applied"));
      World world(static_cast<uint64_t>(lost));
      int calls = 0;
      const FaultHook hook(world.faults(), [&](const FaultyCall&) { return ++calls == lost ? fault : Fault::kNone; });
      auto a = Cluster::Join(world.Options("a"));
      ASSERT_TRUE(IsOk(a));
      world.faults().ReleaseHeld();
      auto b = world.Join("b");
      auto grant = a.value()->Mutex("m").Acquire(world.In(absl::Seconds(5)));
      ASSERT_TRUE(IsOk(grant));
      EXPECT_TRUE(Is(StatusCode::kResourceExhausted, b->Mutex("m").TryAcquire(world.In(absl::Seconds(5)))));
      world.runtime().SleepFor(kTtl * 3);
      EXPECT_FALSE(grant->Lost());
      EXPECT_EQ(world.data().List("test/epoch", absl::InfiniteFuture())->size(), 1u);
    }
  }
}

TEST_F(SessionTest, TwoLiveCopiesOfOneLabelMayJoinWithAWarning) {
  auto a = world_.Join("same");
  EXPECT_EQ(world_.log(), "");
  auto b = world_.Join("same");
  EXPECT_NE(world_.log().find("another session of plugin test has the label \"same\""), std::string::npos);
  EXPECT_NE(a->session(), b->session());
}

TEST_F(SessionTest, ACopyThatRejoinsAfterADeathLongAgoIsNotWarned) {
  {
    Process dead(world_, 1, "same");
    dead.Kill();
  }
  Sleep(kTtl * 2);
  auto b = world_.Join("same");
  EXPECT_EQ(world_.log().find("another session"), std::string::npos) << world_.log();
}

// ------------------------------------------------------------------------------------------ epochs

TEST_F(SessionTest, CopiesThatJoinTogetherAgreeOnOneEpoch) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    std::vector<std::unique_ptr<Cluster>> copies(4);
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < 4; ++i) {
      threads.push_back(world.runtime().StartThread("join", [&, i] {
        JoinOptions options = world.Options(absl::StrCat("c", i));
        auto slow = std::make_shared<SlowStore>(world.runtime(), options.store);
        slow->hook = [&](std::string_view, bool) {
          return SlowStore::Delay{absl::Microseconds(world.runtime().Random() % 1000),
                                  absl::Microseconds(world.runtime().Random() % 1000)};
        };
        options.store = slow;
        copies[i] = world.Join(options);
      }));
    }
    threads.clear();
    auto grant = copies[0]->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    for (int i = 1; i < 4; ++i) {
      EXPECT_TRUE(Is(StatusCode::kResourceExhausted, copies[i]->Mutex("m").TryAcquire(world.In(absl::Seconds(1)))));
    }
  }
}

TEST_F(SessionTest, ATtlAboveTheDeploymentsMaxIsRefusedAndAShorterOneIsNot) {
  JoinOptions options = world_.Options("a");
  options.max_ttl = absl::Seconds(30);
  auto a = world_.Join(options);
  options = world_.Options("b");
  options.max_ttl = absl::Hours(1);
  options.ttl = absl::Seconds(31);
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, Cluster::Join(options),
                 "a ttl of 31s is above this deployment's max_ttl of 30s, which its first copy fixed"));
  options.ttl = absl::Seconds(30);
  EXPECT_TRUE(IsOk(Cluster::Join(options)));
}

TEST_F(SessionTest, AnEpochOfANewerVersionOrDamagedIsRefusedBySentence) {
  { auto a = world_.Join("a"); }
  Edit(world_, "test/epoch", "\"v\":\"1.0\"", "\"v\":\"2.0\"");
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, Cluster::Join(world_.Options("b")), "newer version (2.0) of coord"));
  Edit(world_, "test/epoch", "{", "[");
  EXPECT_TRUE(Is(StatusCode::kDataLoss, Cluster::Join(world_.Options("b")), "epoch record in the store is damaged"));
}

// Rule: every new epoch of a volatile store is settling: nobody is granted anything for max_ttl.
TEST_F(SessionTest, AVolatileStoreSettlesForMaxTtlBeforeAnybodyIsGrantedAnything) {
  JoinOptions options = world_.Options("a");
  options.max_ttl = absl::Seconds(30);
  options.accept_weaker = true;
  auto shaped = Shaped(options);
  shaped->shape.volatile_storage = true;
  shaped->shape.proves_incarnation = false;
  auto a = world_.Join(options);
  options.instance = "b";
  auto b = world_.Join(options);
  const absl::Time joined = Now();
  EXPECT_TRUE(
      Is(StatusCode::kUnavailable, a->Mutex("m").TryAcquire(Soon()), "cannot be had yet: the store began anew"));
  EXPECT_TRUE(Is(StatusCode::kDeadlineExceeded, a->Mutex("m").Acquire(Soon())));
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  Sleep(absl::Minutes(2));
  ASSERT_TRUE(waiting->ok());
  EXPECT_GE(waiting->at - joined, absl::Seconds(30));
  EXPECT_LE(waiting->at - joined, absl::Seconds(30) + kTtl);
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, a->Mutex("m").TryAcquire(Soon())));
  EXPECT_EQ(a->Stats().sessions_lost, 0u);
}

// A store without a watch that can be put back to what it was, as from an old copy of its file.
class RestorableStore : public kv::Store {
 public:
  explicit RestorableStore(SimRuntime& runtime) : runtime_(runtime) { traits_.name = "restorable"; }
  const kv::Traits& traits() const override { return traits_; }

  void Save() { saved_ = state_; }
  void Restore() { state_ = saved_; }

  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Time deadline) override {
    if (runtime_.WallNow() >= deadline) return absl::DeadlineExceededError("too late");
    auto found = state_.entries.find(std::string(key));
    if (found == state_.entries.end()) return absl::NotFoundError("no such key");
    return found->second;
  }
  kv::WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Write(key, value, 0, deadline);
  }
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override {
    return Write(key, value, expected, deadline);
  }
  kv::WriteResult Delete(std::string_view key, kv::Revision expected, absl::Time) override {
    auto found = state_.entries.find(std::string(key));
    if (found == state_.entries.end()) return {absl::NotFoundError("no such key"), 0, std::nullopt};
    if (found->second.revision != expected) return {absl::AbortedError("changed"), 0, found->second};
    state_.entries.erase(found);
    return {absl::OkStatus(), ++state_.revision, std::nullopt};
  }
  kv::WriteResult Put(std::string_view, std::string_view, absl::Time) override {
    return {absl::UnimplementedError("not needed"), 0, std::nullopt};
  }
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(std::string_view prefix, absl::Time) override {
    std::vector<kv::KeyedEntry> entries;
    for (const auto& [key, entry] : state_.entries) {
      if (key.compare(0, prefix.size(), std::string(prefix)) == 0) entries.push_back({key, entry});
    }
    return entries;
  }
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view, kv::WatchCallback) override {
    return absl::UnimplementedError("no watch");
  }

 private:
  kv::WriteResult Write(std::string_view key, std::string_view value, kv::Revision expected, absl::Time deadline) {
    if (runtime_.WallNow() >= deadline) return {absl::DeadlineExceededError("too late"), 0, std::nullopt};
    auto found = state_.entries.find(std::string(key));
    const kv::Revision present = found == state_.entries.end() ? 0 : found->second.revision;
    if (present != 0 && expected == 0) return {absl::AlreadyExistsError("exists"), 0, found->second};
    if (present == 0 && expected != 0) return {absl::NotFoundError("no such key"), 0, std::nullopt};
    if (present != expected) return {absl::AbortedError("changed"), 0, found->second};
    state_.entries[std::string(key)] = {std::string(value), ++state_.revision, std::nullopt};
    return {absl::OkStatus(), state_.revision, std::nullopt};
  }

  struct State {
    std::map<std::string, kv::Entry> entries;
    kv::Revision revision = 0;
  };
  SimRuntime& runtime_;
  kv::Traits traits_;
  State state_, saved_;
};

std::string EpochId(World& world) {
  auto entry = world.data().Get("test/epoch", absl::InfiniteFuture());
  if (!entry.ok()) return "";
  return internal::ParseEpochRecord(entry->value, "epoch")->id;
}

// Rule: a successful write whose revision is not above all seen before it was sent proves a store that forgot; whoever
// proves it replaces the epoch, and the new one settles.
TEST_F(SessionTest, AStoreThatProvesToHaveForgottenGetsANewEpochThatSettles) {
  for (const Fault fault : {Fault::kNone, Fault::kDropReply, Fault::kApplyLate}) {
    SCOPED_TRACE(static_cast<int>(fault));
    World world(41);
    auto restorable = std::make_shared<RestorableStore>(world.runtime());
    auto faulty = std::make_shared<kv::FaultyStore>(restorable);
    const auto epoch = [&] {
      return *internal::ParseEpochRecord(restorable->Get("test/epoch", absl::InfiniteFuture())->value, "epoch");
    };
    JoinOptions options = world.Options("a");
    options.max_ttl = absl::Seconds(30);
    options.store = faulty;
    auto a = world.Join(options);
    options.instance = "b";
    auto b = world.Join(options);
    const std::string id = epoch().id;
    restorable->Save();
    uint64_t fence = 0;
    absl::StatusOr<Grant> grant = absl::UnknownError("");
    for (int i = 0; i < 100; ++i) {
      grant = absl::UnknownError("released");
      grant = a->Mutex("m").Acquire(world.In(absl::Seconds(5)));
      ASSERT_TRUE(IsOk(grant));
      fence = grant->fence();
    }
    bool used = fault == Fault::kNone;
    const FaultHook hook(*faulty, [&](const FaultyCall& call) {
      if (used || !call.write() || call.key != "test/epoch") return Fault::kNone;
      used = true;
      return fault;
    });
    world.runtime().SleepFor(kTtl);
    restorable->Restore();
    const absl::Time forgot = world.runtime().Now();
    world.runtime().SleepFor(kTtl);
    EXPECT_TRUE(used);
    EXPECT_TRUE(grant->Lost());
    EXPECT_NE(epoch().id, id);
    EXPECT_FALSE(epoch().settled);
    for (Cluster* copy : {a.get(), b.get()}) {
      EXPECT_TRUE(Is(StatusCode::kUnavailable, copy->Mutex("m").TryAcquire(world.In(absl::Seconds(1))), "began anew"));
    }
    auto next = b->Mutex("m").Acquire(world.In(absl::Minutes(2)));
    ASSERT_TRUE(IsOk(next));
    EXPECT_GE(world.runtime().Now() - forgot, absl::Seconds(30)) << "who is cut off may still be valid until then";
    EXPECT_GT(next->fence(), fence) << "fences grow over a lost store too";
    faulty->ReleaseHeld();
    world.runtime().SleepFor(kTtl);
    EXPECT_FALSE(next->Lost());
  }
}

// Rule: every beat first reads the epoch; one that is another ends the session.
TEST_F(SessionTest, AnEpochReplacedByAnotherCopyVoidsEverySessionAndGrant) {
  for (const bool watch : {true, false}) {
    SCOPED_TRACE(watch);
    World world(43);
    JoinOptions options = world.Options("a");
    options.max_ttl = absl::Seconds(30);
    auto shaped = Shaped(options);
    shaped->shape.watch = watch;
    shaped->shape.proves_incarnation = false;
    auto a = world.Join(options);
    auto grant = a->Mutex("m").Acquire(world.In(absl::Seconds(5)));
    auto entry = world.data().Get("test/epoch", absl::InfiniteFuture());
    internal::EpochRecord record = *internal::ParseEpochRecord(entry->value, "epoch");
    record.id = "00000000000000ab";
    record.created_us += 1000000;
    ASSERT_TRUE(world.data().Put("test/epoch", internal::Format(record), absl::InfiniteFuture()).ok());
    const absl::Time replaced = world.runtime().Now();
    while (!grant->Lost()) world.runtime().SleepFor(absl::Milliseconds(10));
    EXPECT_LE(world.runtime().Now() - replaced, watch ? absl::Milliseconds(20) : kTtl / 3 + absl::Seconds(1));
    world.runtime().SleepFor(kTtl);
    EXPECT_EQ(a->state(), SessionState::kAttached);
    EXPECT_NE(KeyOf(world, "session", a->session()).find("00000000000000ab"), std::string::npos);
    auto next = a->Mutex("m").Acquire(world.In(absl::Seconds(5)));
    ASSERT_TRUE(IsOk(next));
    EXPECT_GT(next->fence(), grant->fence());
    EXPECT_NE(KeyOf(world, "mutex", "m"), "");
  }
}

// Rule: an epoch whose time is below what this copy knows to have been given out is replaced.
TEST_F(SessionTest, AnEpochWhoseTimeIsTooLowIsReplacedByWhoeverKnowsBetter) {
  JoinOptions options = world_.Options("a");
  options.max_ttl = absl::Seconds(30);
  Shaped(options)->shape.proves_incarnation = false;
  auto a = world_.Join(options);
  auto grant = a->Mutex("m").Acquire(Soon());
  const uint64_t fence = grant->fence();
  internal::EpochRecord record =
      *internal::ParseEpochRecord(world_.data().Get("test/epoch", absl::InfiniteFuture())->value, "epoch");
  record.id = "00000000000000ab";
  record.created_us -= 1000000;
  ASSERT_TRUE(world_.data().Put("test/epoch", internal::Format(record), absl::InfiniteFuture()).ok());
  Sleep(kTtl);
  EXPECT_TRUE(grant->Lost());
  EXPECT_NE(EpochId(world_), "00000000000000ab");
  auto next = a->Mutex("m").Acquire(world_.In(absl::Minutes(2)));
  ASSERT_TRUE(IsOk(next));
  EXPECT_GT(next->fence(), fence);
}

TEST_F(SessionTest, AnEpochRecordThatVanishesIsMadeAnewAndSettles) {
  JoinOptions options = world_.Options("a");
  options.max_ttl = absl::Seconds(30);
  Shaped(options)->shape.proves_incarnation = false;
  auto a = world_.Join(options);
  auto grant = a->Mutex("m").Acquire(Soon());
  const uint64_t fence = grant->fence();
  const std::string epoch = EpochId(world_);
  ASSERT_TRUE(world_.data()
                  .Delete("test/epoch", world_.data().Get("test/epoch", absl::InfiniteFuture())->revision,
                          absl::InfiniteFuture())
                  .ok());
  const absl::Time gone = Now();
  Sleep(kTtl);
  EXPECT_TRUE(grant->Lost());
  EXPECT_NE(EpochId(world_), "");
  EXPECT_NE(EpochId(world_), epoch);
  auto next = a->Mutex("m").Acquire(world_.In(absl::Minutes(2)));
  ASSERT_TRUE(IsOk(next));
  EXPECT_GE(Now() - gone, absl::Seconds(30));
  EXPECT_GT(next->fence(), fence);
}

// kEpochChanged is a hint: where the epoch is the same nothing is lost, and what was missed is read.
TEST_F(SessionTest, AnEpochChangedHintThatIsNotTrueLosesNothing) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  for (int i = 0; i < 5; ++i) {
    world_.faults().Interrupt(kv::WatchKind::kEpochChanged);
    Sleep(absl::Seconds(3));
  }
  EXPECT_FALSE(grant->Lost());
  EXPECT_EQ(a->Stats().sessions, 1u);
  ASSERT_TRUE(IsOk(grant->Release()));
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(waiting->ok());
}

// Rule: with a store that does not prove its incarnation, validity also hangs on the last read of the epoch.
TEST_F(SessionTest, BeatsWithoutAReadOfTheEpochDoNotKeepASessionAlive) {
  JoinOptions options = world_.Options("a");
  Shaped(options)->shape.proves_incarnation = false;
  auto a = world_.Join(options);
  auto grant = a->Mutex("m").Acquire(Soon());
  Sleep(kTtl);
  bool failing = true;
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    return failing && call.key == "test/epoch" ? Fault::kFailBefore : Fault::kNone;
  });
  Sleep(kValid);
  EXPECT_TRUE(grant->Lost());
  failing = false;
  Sleep(kTtl);
  EXPECT_EQ(a->state(), SessionState::kAttached);
}

}  // namespace
}  // namespace coord::testing
