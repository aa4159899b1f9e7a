#include "coord/mutex.h"

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/internal/held.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

using absl::StatusCode;
using kv::CallKind;
using kv::Fault;
using kv::FaultyCall;

constexpr absl::Duration kTtl = absl::Seconds(10);

class MutexTest : public ::testing::Test {
 protected:
  absl::Time In(absl::Duration duration) { return world_.In(duration); }
  absl::Time Soon() { return In(absl::Seconds(5)); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }
  std::shared_ptr<Call> Start(Cluster& cluster, absl::Duration patience = absl::Hours(1), CancelToken token = {}) {
    return InBackground(world_, [&, patience, token] { return cluster.Mutex("m").Acquire(In(patience), token); });
  }

  World world_{3};
};

bool IsLockWrite(const FaultyCall& call) { return call.write() && call.key.rfind("test/mutex/", 0) == 0; }

// The first call that `which` picks comes to `fault`; the rest goes through.
void FailOnce(World& world, std::function<bool(const FaultyCall&)> which, Fault fault) {
  auto used = std::make_shared<bool>(false);
  world.faults().SetHook([which, fault, used](const FaultyCall& call) {
    if (*used || !which(call)) return Fault::kNone;
    *used = true;
    return fault;
  });
}

// ------------------------------------------------------------------------------------------ plain use

TEST_F(MutexTest, OneAtATimeAndTheFenceGrows) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto first = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(first));
  EXPECT_FALSE(first->Lost());
  auto waiting = Start(*b);
  Sleep(absl::Seconds(3));
  EXPECT_FALSE(waiting->done);
  const uint64_t fence = first->fence();
  ASSERT_TRUE(IsOk(first->Release()));
  EXPECT_TRUE(first->Lost());
  EXPECT_TRUE(IsOk(first->Release())) << "repeated";
  world_.runtime().RunUntilIdle();
  ASSERT_TRUE(waiting->ok());
  EXPECT_GT(waiting->grant->fence(), fence);
}

TEST_F(MutexTest, TheDestructorReleases) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  { ASSERT_TRUE(IsOk(a->Mutex("m").Acquire(Soon()))); }
  EXPECT_TRUE(IsFree(world_, "mutex", "m"));
  Grant moved;
  EXPECT_TRUE(moved.Lost());
  EXPECT_EQ(moved.fence(), 0u);
  moved = *b->Mutex("m").Acquire(Soon());
  EXPECT_FALSE(moved.Lost());
  moved = Grant();
  EXPECT_TRUE(IsFree(world_, "mutex", "m"));
}

TEST_F(MutexTest, IsNotReentrant) {
  auto a = world_.Join("a");
  auto first = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(first));
  EXPECT_TRUE(Is(StatusCode::kDeadlineExceeded, a->Mutex("m").Acquire(In(absl::Seconds(1))),
                 "was not acquired by the deadline: this copy itself holds it"));
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, a->Mutex("m").TryAcquire(Soon()), "held by this copy"));
  EXPECT_FALSE(first->Lost());
}

TEST_F(MutexTest, BadNamesAreRefusedByEveryCall) {
  auto a = world_.Join("a");
  for (const std::string& name : {std::string(), std::string("a\nb"), std::string("../x"), std::string("a*"),
                                  std::string("\xff"), std::string(129, 'x'), std::string("a\0b", 3)}) {
    EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a->Mutex(name).Acquire(Soon()), "mutex name"));
    EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a->Mutex(name).TryAcquire(Soon()), "mutex name"));
    EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a->Mutex(name).Inspect(Soon()), "mutex name"));
  }
}

TEST_F(MutexTest, DeadlineNamesTheHolderAndLeavesNothingQueued) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  const absl::Time begun = world_.runtime().Now();
  EXPECT_TRUE(Is(StatusCode::kDeadlineExceeded, b->Mutex("m").Acquire(In(absl::Seconds(3))),
                 "copy \"a\" holds it since 2100-"));
  EXPECT_EQ(world_.runtime().Now() - begun, absl::Seconds(3));
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(RecordOf(world_, "mutex", "m")->queue.empty());
  EXPECT_TRUE(Is(StatusCode::kDeadlineExceeded, b->Mutex("m").Acquire(absl::InfinitePast())));
  EXPECT_TRUE(Is(StatusCode::kDeadlineExceeded, b->Mutex("free").TryAcquire(In(-absl::Seconds(1)))));
  Sleep(kTtl);
  EXPECT_TRUE(RecordOf(world_, "mutex", "m")->queue.empty());
  EXPECT_TRUE(IsFree(world_, "mutex", "free"));
}

TEST_F(MutexTest, InspectShowsOwnerWaitersAndFence) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto nobody = a->Mutex("m").Inspect(Soon());
  ASSERT_TRUE(IsOk(nobody));
  EXPECT_EQ(nobody->fence, 0u);
  EXPECT_TRUE(nobody->owners.empty());
  auto held = a->Mutex("m").Acquire(Soon());
  std::shared_ptr<Call> waiting;
  for (int i = 0; i < 2; ++i) {
    auto info = b->Mutex("m").Inspect(Soon());
    ASSERT_TRUE(IsOk(info));
    ASSERT_EQ(info->owners.size(), 1u);
    EXPECT_EQ(info->owners[0].instance, "a");
    EXPECT_EQ(info->owners[0].session, a->session());
    EXPECT_EQ(info->owners[0].fence, held->fence());
    EXPECT_EQ(info->owners[0].weight, 1u);
    EXPECT_EQ(info->fence, held->fence());
    EXPECT_EQ(info->capacity, 1u);
    ASSERT_EQ(info->waiters.size(), static_cast<size_t>(i));
    if (i == 1) {
      EXPECT_EQ(info->waiters[0].instance, "b");
    } else {
      waiting = Start(*b);
    }
  }
  ASSERT_TRUE(IsOk(held->Release()));
}

// ------------------------------------------------------------------------------------------ order

TEST(MutexOrderTest, CopiesAreServedInTheOrderInWhichTheyQueued) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    std::vector<std::unique_ptr<Cluster>> copies;
    for (int i = 0; i < 5; ++i) copies.push_back(world.Join(absl::StrCat("c", i)));
    auto held = copies[0]->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    std::vector<int> order;
    std::vector<uint64_t> fences;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 1; i < 5; ++i) {
      threads.push_back(world.runtime().StartThread("waiter", [&, i] {
        auto grant = copies[i]->Mutex("m").Acquire(world.In(absl::Hours(1)));
        ASSERT_TRUE(IsOk(grant));
        order.push_back(i);
        fences.push_back(grant->fence());
        world.runtime().SleepFor(absl::Seconds(1));
      }));
      world.runtime().RunUntilIdle();
    }
    ASSERT_TRUE(IsOk(held->Release()));
    threads.clear();
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
    EXPECT_TRUE(std::is_sorted(fences.begin(), fences.end()));
    EXPECT_EQ(std::adjacent_find(fences.begin(), fences.end()), fences.end());
  }
}

TEST(MutexOrderTest, AReleaseWithLocalWaitersPutsTheCopyAtTheTail) {
  World world(5);
  auto a = world.Join("a");
  auto b = world.Join("b");
  std::vector<std::string> order;
  std::vector<std::unique_ptr<Thread>> threads;
  const auto queue = [&](Cluster& copy, const std::string& label) {
    threads.push_back(world.runtime().StartThread("waiter", [&world, &copy, &order, label] {
      auto grant = copy.Mutex("m").Acquire(world.In(absl::Hours(1)));
      ASSERT_TRUE(IsOk(grant));
      order.push_back(label);
      world.runtime().SleepFor(absl::Seconds(1));
    }));
    world.runtime().RunUntilIdle();
  };
  queue(*a, "a1");
  queue(*a, "a2");
  queue(*a, "a3");
  queue(*b, "b1");
  queue(*b, "b2");
  threads.clear();
  EXPECT_EQ(order, (std::vector<std::string>{"a1", "b1", "a2", "b2", "a3"}));
}

// ------------------------------------------------------------------------------------------ options

TEST_F(MutexTest, FenceEachMakesEveryPassingOnAWriteWithAFenceOfItsOwn) {
  auto a = world_.Join("a");
  MutexOptions options;
  options.fence_each = true;
  auto held = a->Mutex("m", options).Acquire(Soon());
  auto waiting = InBackground(world_, [&] { return a->Mutex("m", options).Acquire(In(absl::Minutes(1))); });
  const kv::CallCounts before = world_.store().Snapshot("test/mutex/");
  ASSERT_TRUE(IsOk(held->Release()));
  world_.runtime().RunUntilIdle();
  ASSERT_TRUE(waiting->ok());
  EXPECT_GT(waiting->grant->fence(), held->fence());
  EXPECT_EQ((world_.store().Snapshot("test/mutex/") - before).writes(), 1) << "given up and taken in one write";
}

TEST_F(MutexTest, WhatIsRetainedIsGivenUpWhenAnotherCopyAsks) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  MutexOptions retain;
  retain.retain = true;
  ASSERT_TRUE(IsOk(a->Mutex("m", retain).Acquire(Soon())));
  EXPECT_FALSE(IsFree(world_, "mutex", "m"));
  Sleep(kTtl * 5);
  const absl::Time begun = world_.runtime().Now();
  auto grant = b->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  EXPECT_EQ(world_.runtime().Now(), begun) << "by pushes alone";
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, a->Mutex("m", retain).TryAcquire(Soon())));
}

// Rule: passing on and retaining need a look younger than ttl/3; a dead watch must not starve the others.
TEST_F(MutexTest, ADeadWatchDoesNotLetARetainerOrPasserOnStarveOthers) {
  for (const bool retaining : {true, false}) {
    SCOPED_TRACE(retaining);
    World world(17);
    auto a = world.Join("a");
    auto b = world.Join("b");
    MutexOptions options;
    options.retain = retaining;
    auto first = a->Mutex("m", options).Acquire(world.In(absl::Seconds(1)));
    ASSERT_TRUE(IsOk(first));
    world.faults().SetEventFilter([](const kv::WatchEvent& event) { return event.kind != kv::WatchKind::kPut; });
    bool stop = false;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < 2; ++i) {
      threads.push_back(world.runtime().StartThread("busy", [&] {
        while (!stop) {
          auto grant = a->Mutex("m", options).Acquire(world.In(absl::Minutes(1)));
          ASSERT_TRUE(IsOk(grant));
          world.runtime().SleepFor(absl::Milliseconds(100));
        }
      }));
    }
    ASSERT_TRUE(IsOk(first->Release()));
    const absl::Time begun = world.runtime().Now();
    auto grant = b->Mutex("m").Acquire(world.In(absl::Hours(1)));
    ASSERT_TRUE(IsOk(grant));
    // The passers-on look within ttl/3, and the waiter reads once per ttl.
    EXPECT_LE(world.runtime().Now() - begun, kTtl + kTtl / 3 + absl::Seconds(1));
    stop = true;
    grant = Grant();
    world.faults().SetEventFilter(nullptr);
    threads.clear();
  }
}

// ------------------------------------------------------------------------------------------ cancelling

TEST_F(MutexTest, CancelBeforeDuringAndAfter) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  CancelSource before;
  before.Cancel();
  EXPECT_TRUE(Is(StatusCode::kCancelled, a->Mutex("m").Acquire(Soon(), before.token()), "cancelled by its caller"));
  auto held = a->Mutex("m").Acquire(Soon());

  CancelSource during;
  auto waiting = Start(*b, absl::Hours(1), during.token());
  ASSERT_EQ(RecordOf(world_, "mutex", "m")->queue.size(), 1u);
  Sleep(absl::Seconds(1));
  const absl::Time now = world_.runtime().Now();
  during.Cancel();
  world_.runtime().RunUntilIdle();
  ASSERT_TRUE(waiting->done);
  EXPECT_TRUE(Is(StatusCode::kCancelled, waiting->grant));
  EXPECT_EQ(waiting->at, now);
  EXPECT_TRUE(RecordOf(world_, "mutex", "m")->queue.empty()) << "a cancelled request leaves the queue at once";

  CancelSource after;
  ASSERT_TRUE(IsOk(held->Release()));
  auto grant = b->Mutex("m").Acquire(Soon(), after.token());
  ASSERT_TRUE(IsOk(grant));
  after.Cancel();
  after.Cancel();
  EXPECT_FALSE(grant->Lost()) << "too late";
}

TEST_F(MutexTest, CancelEndsAWaitWhoseStoreDoesNotAnswer) {
  auto a = world_.Join("a");
  world_.faults().SetHook([](const FaultyCall&) { return Fault::kFailBefore; });
  CancelSource source;
  auto waiting = Start(*a, absl::InfiniteDuration(), source.token());
  Sleep(absl::Seconds(1));
  ASSERT_FALSE(waiting->done);
  source.Cancel();
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(waiting->done);
  EXPECT_TRUE(Is(StatusCode::kCancelled, waiting->grant));
  world_.faults().SetHook(nullptr);
}

// ------------------------------------------------------------------------------------------ asynchronous

struct AsyncResult {
  int calls = 0;
  absl::StatusOr<Grant> grant = absl::UnknownError("not yet");
  GrantCallback Done() {
    return [this](absl::StatusOr<Grant> got) {
      ++calls;
      grant = std::move(got);
    };
  }
};

TEST_F(MutexTest, AsyncGrantDeadlineCancelAndBadName) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  AsyncResult granted, late, cancelled, cancelled_before, bad, next;
  a->Mutex("m").AcquireAsync(Soon(), granted.Done());
  EXPECT_EQ(granted.calls, 0) << "never from inside the call";
  world_.runtime().RunUntilIdle();
  ASSERT_EQ(granted.calls, 1);
  ASSERT_TRUE(IsOk(granted.grant));

  CancelSource source;
  b->Mutex("m").AcquireAsync(In(absl::Seconds(2)), late.Done());
  b->Mutex("m").AcquireAsync(absl::InfiniteFuture(), cancelled.Done(), source.token());
  b->Mutex("a//b").AcquireAsync(Soon(), bad.Done());
  b->Mutex("m").AcquireAsync(In(absl::Hours(1)), next.Done());
  Sleep(absl::Seconds(1));
  EXPECT_EQ(late.calls, 0);
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, bad.grant, "mutex name"));
  Sleep(absl::Seconds(1) + absl::Milliseconds(1));
  EXPECT_TRUE(Is(StatusCode::kDeadlineExceeded, late.grant, "copy \"a\" holds it"));
  source.Cancel();
  b->Mutex("m").AcquireAsync(In(absl::Hours(1)), cancelled_before.Done(), source.token());
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(Is(StatusCode::kCancelled, cancelled.grant));
  EXPECT_TRUE(Is(StatusCode::kCancelled, cancelled_before.grant));
  EXPECT_EQ(next.calls, 0);
  ASSERT_TRUE(IsOk(granted.grant->Release()));
  world_.runtime().RunUntilIdle();
  ASSERT_TRUE(IsOk(next.grant));
  for (AsyncResult* result : {&granted, &late, &cancelled, &cancelled_before, &bad, &next}) EXPECT_EQ(result->calls, 1);
  next.grant = absl::UnknownError("gone");
  EXPECT_TRUE(IsFree(world_, "mutex", "m"));
}

TEST_F(MutexTest, AsyncEndsWithCancelledAtLeaveAlsoFromInsideACallback) {
  for (const bool inside : {false, true}) {
    SCOPED_TRACE(inside);
    World world(23);
    auto a = world.Join("a");
    auto b = world.Join("b");
    auto held = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    AsyncResult waiting, after;
    b->Mutex("m").AcquireAsync(absl::InfiniteFuture(), waiting.Done());
    world.runtime().SleepFor(absl::Seconds(1));
    bool left = false;
    if (inside) {
      b->Mutex("other").AcquireAsync(world.In(absl::Seconds(1)), [&](absl::StatusOr<Grant>) {
        EXPECT_TRUE(IsOk(b->Leave(world.In(absl::Seconds(2)))));
        left = true;
      });
      world.runtime().SleepFor(absl::Seconds(1));
      EXPECT_TRUE(left);
    } else {
      EXPECT_TRUE(IsOk(b->Leave(world.In(absl::Seconds(2)))));
    }
    EXPECT_EQ(waiting.calls, 1);
    EXPECT_TRUE(Is(StatusCode::kCancelled, waiting.grant, "has left its cluster"));
    b->Mutex("m").AcquireAsync(absl::InfiniteFuture(), after.Done());
    world.runtime().RunUntilIdle();
    EXPECT_EQ(after.calls, 1);
    EXPECT_TRUE(Is(StatusCode::kCancelled, after.grant));
  }
}

TEST_F(MutexTest, AnAsyncGrantThatNobodyTakesIsReleased) {
  auto a = world_.Join("a");
  a->Mutex("m").AcquireAsync(Soon(), [](absl::StatusOr<Grant> grant) { EXPECT_TRUE(IsOk(grant)); });
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(IsFree(world_, "mutex", "m"));
}

// ------------------------------------------------------------------------------------------ trying

TEST_F(MutexTest, TryTakesWhatIsFreeAndNeverQueues) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").TryAcquire(Soon());
  ASSERT_TRUE(IsOk(held));
  EXPECT_TRUE(
      Is(StatusCode::kResourceExhausted, b->Mutex("m").TryAcquire(Soon()), "mutex \"m\" is taken: held by copy \"a\""));
  EXPECT_TRUE(RecordOf(world_, "mutex", "m")->queue.empty());
  ASSERT_TRUE(IsOk(held->Release()));
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(IsOk(b->Mutex("m").TryAcquire(Soon())));
}

TEST_F(MutexTest, TryDoesNotOvertakeThoseWhoWait) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto c = world_.Join("c");
  auto held = a->Mutex("m").Acquire(Soon());
  auto waiting = Start(*b);
  ASSERT_TRUE(IsOk(held->Release()));
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, c->Mutex("m").TryAcquire(Soon())));
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, a->Mutex("m").TryAcquire(Soon())));
}

TEST_F(MutexTest, ADeadHolderIsNoticedByRepeatedTriesAlone) {
  for (const bool watch : {true, false}) {
    SCOPED_TRACE(watch);
    World world(31);
    JoinOptions options = world.Options("a");
    Shaped(options)->shape.watch = watch;
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
      EXPECT_TRUE(mine.ok() || absl::IsResourceExhausted(mine.status())) << mine.status();
      world.runtime().SleepFor(absl::Milliseconds(100));
    }
    ASSERT_TRUE(IsOk(mine));
    EXPECT_GT(mine->fence(), (*grant)->fence());
    EXPECT_GE(world.runtime().Now() - died, kTtl / 2);
    EXPECT_LE(world.runtime().Now() - died, kTtl * 2);
  }
}

TEST_F(MutexTest, TryFailsAtOnceWhereTheStoreDoes) {
  auto a = world_.Join("a");
  world_.faults().SetHook([](const FaultyCall&) { return Fault::kFailBefore; });
  const absl::Time begun = world_.runtime().Now();
  EXPECT_TRUE(Is(StatusCode::kUnavailable, a->Mutex("m").TryAcquire(In(absl::Minutes(1)))));
  EXPECT_EQ(world_.runtime().Now(), begun);
  EXPECT_TRUE(Is(StatusCode::kUnavailable, a->Mutex("m").Inspect(In(absl::Minutes(1)))));
  world_.faults().SetHook(nullptr);
}

TEST_F(MutexTest, ATryWithALostReplyLeavesNothingBehind) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  FailOnce(world_, IsLockWrite, Fault::kDropReply);
  EXPECT_TRUE(Is(StatusCode::kDeadlineExceeded, a->Mutex("m").TryAcquire(Soon())));
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(IsFree(world_, "mutex", "m"));
  EXPECT_TRUE(IsOk(b->Mutex("m").TryAcquire(Soon())));
}

// ------------------------------------------------------------------------------------------ unknown outcomes

enum class Moment { kCreate, kUpdate, kJoinQueue, kRelease, kEvict, kTakeOut };
struct Unknown {
  Moment moment;
  Fault fault;              // kDropReply: applied; kApplyLate: not yet
  absl::Duration released;  // when the late write arrives; infinite: never
};

class UnknownOutcomeTest : public ::testing::TestWithParam<Unknown> {};

// Rule: no operation is applied twice, no waiter locks itself out, whatever becomes of a reply.
TEST_P(UnknownOutcomeTest, EverybodyGetsTheLockOnceAndNothingIsLeft) {
  const Unknown& param = GetParam();
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    SimRuntime& runtime = world.runtime();
    auto a = world.Join("a");
    auto b = world.Join("b");
    auto c = world.Join("c");
    std::unique_ptr<Process> dead;
    if (param.moment == Moment::kUpdate) {
      ASSERT_TRUE(IsOk(b->Mutex("m").Acquire(world.In(absl::Seconds(1)))));
    }
    absl::StatusOr<Grant> first = absl::UnknownError("");
    if (param.moment == Moment::kJoinQueue || param.moment == Moment::kRelease) {
      first = b->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    }
    if (param.moment == Moment::kEvict || param.moment == Moment::kTakeOut) {
      dead = std::make_unique<Process>(world, 1, "dead");
      auto* grant = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
      dead->Run([&] { *grant = (*dead)->Mutex("m").Acquire(world.In(absl::Seconds(1))); });
      ASSERT_TRUE(IsOk(*grant));
      dead->Kill();
    }
    const bool session = param.moment == Moment::kEvict;
    const std::string key = session ? KeyOf(world, "session", RecordOf(world, "mutex", "m")->owners[0].session) : "";
    bool joined = false;
    FailOnce(
        world,
        [&, session, key](const FaultyCall& call) {
          if (session) return call.write() && call.key == key;
          if (!IsLockWrite(call)) return false;
          const bool first_write = !std::exchange(joined, true);
          return param.moment != Moment::kTakeOut || !first_write;  // behind the one that joins the queue
        },
        param.fault);
    int inside = 0;
    uint64_t fence = 0;
    int rounds = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    if (param.moment == Moment::kRelease) {
      const absl::Status released = first->Release(absl::Seconds(1));
      EXPECT_TRUE(released.ok() || absl::IsDeadlineExceeded(released)) << released;
      EXPECT_TRUE(first->Lost());
    }
    for (Cluster* copy : {a.get(), c.get()}) {
      threads.push_back(runtime.StartThread("user", [&, copy] {
        auto grant = copy->Mutex("m").Acquire(world.In(absl::Minutes(10)));
        ASSERT_TRUE(IsOk(grant));
        EXPECT_EQ(++inside, 1);
        EXPECT_GT(grant->fence(), fence);
        fence = grant->fence();
        runtime.SleepFor(absl::Seconds(2));
        EXPECT_FALSE(grant->Lost());
        --inside;
        ++rounds;
      }));
    }
    if (param.moment == Moment::kJoinQueue) {
      runtime.SleepFor(absl::Seconds(3));
      ASSERT_TRUE(IsOk(first->Release()));
    }
    if (param.released < absl::InfiniteDuration()) {
      const absl::Time release_at = runtime.Now() + param.released;
      while (world.faults().held() == 0 && runtime.Now() < release_at + kTtl * 3)
        runtime.SleepFor(absl::Milliseconds(5));
      runtime.SleepFor(param.released);
      world.faults().ReleaseHeld();
    }
    threads.clear();
    EXPECT_EQ(rounds, 2);
    runtime.SleepFor(kTtl);
    EXPECT_TRUE(IsFree(world, "mutex", "m"))
        << world.data().Get(KeyOf(world, "mutex", "m"), absl::InfiniteFuture())->value;
    EXPECT_EQ(a->Stats().sessions_lost + b->Stats().sessions_lost + c->Stats().sessions_lost, 0u);
    world.faults().DropHeld();
    world.faults().SetHook(nullptr);
  }
}

std::string UnknownName(const ::testing::TestParamInfo<Unknown>& info) {
  static constexpr const char* kMoments[] = {"Create", "Update", "JoinQueue", "Release", "Evict", "TakeOut"};
  const char* how = info.param.fault == Fault::kDropReply             ? "ReplyLost"
                    : info.param.released == absl::InfiniteDuration() ? "NeverApplied"
                    : info.param.released == absl::ZeroDuration()     ? "AppliedAtOnce"
                                                                      : "AppliedLate";
  return absl::StrCat(kMoments[static_cast<int>(info.param.moment)], how);
}

std::vector<Unknown> AllUnknown() {
  std::vector<Unknown> all;
  for (Moment moment :
       {Moment::kCreate, Moment::kUpdate, Moment::kJoinQueue, Moment::kRelease, Moment::kEvict, Moment::kTakeOut}) {
    all.push_back({moment, Fault::kDropReply, absl::InfiniteDuration()});
    all.push_back({moment, Fault::kApplyLate, absl::InfiniteDuration()});
    all.push_back({moment, Fault::kApplyLate, absl::ZeroDuration()});
    all.push_back({moment, Fault::kApplyLate, absl::Milliseconds(700)});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Writes, UnknownOutcomeTest, ::testing::ValuesIn(AllUnknown()), UnknownName);

// Rule: the same revision is not settled; a no-op of one's own is. Without it the delayed write arrives after the
// caller has left, and makes an owner that nobody knows of.
TEST_F(MutexTest, AWriteThatArrivesAfterItsCallerLeftTakesNothing) {
  auto a = world_.Join("a");
  ASSERT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
  FailOnce(world_, IsLockWrite, Fault::kApplyLate);
  EXPECT_FALSE(a->Mutex("m").TryAcquire(Soon()).ok());
  Sleep(absl::Seconds(1));
  ASSERT_EQ(world_.faults().held(), 1u);
  world_.faults().ReleaseHeld();
  EXPECT_TRUE(IsFree(world_, "mutex", "m")) << "a no-op write had settled it";
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(IsFree(world_, "mutex", "m"));
}

TEST_F(MutexTest, AnUnsettledWriteIsRetriedWhileTheStoreIsAway) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  bool away = true;
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    return away && call.key.find("/mutex/") != std::string::npos ? Fault::kFailBefore : Fault::kNone;
  });
  const absl::Time begun = world_.runtime().Now();
  EXPECT_TRUE(
      Is(StatusCode::kUnavailable, held->Release(absl::Seconds(1)), "its release is not confirmed by the store yet"));
  EXPECT_EQ(world_.runtime().Now() - begun, absl::Seconds(1));
  EXPECT_TRUE(held->Lost()) << "given up here, whatever the reply";
  Sleep(absl::Seconds(4));
  EXPECT_FALSE(IsFree(world_, "mutex", "m"));
  away = false;
  Sleep(absl::Seconds(2));
  EXPECT_TRUE(IsFree(world_, "mutex", "m")) << "the library goes on in the background";
}

// Rule: names with an unsettled write stay on a bounded list; if it is full the copy ends its session.
TEST_F(MutexTest, TooManyOpenOutcomesEndTheSession) {
  auto a = world_.Join("a");
  auto held = a->Mutex("held").Acquire(Soon());
  const std::string session = a->session();
  bool open = true;
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    return open && IsLockWrite(call) ? Fault::kDropReply : Fault::kNone;
  });
  for (int i = 0; i < 4096; ++i) static_cast<void>(a->Mutex(absl::StrCat("m", i)).TryAcquire(Soon()));
  EXPECT_FALSE(held->Lost());
  for (int i = 4096; i < 4200; ++i) static_cast<void>(a->Mutex(absl::StrCat("m", i)).TryAcquire(Soon()));
  EXPECT_TRUE(held->Lost());
  open = false;
  Sleep(kTtl);
  EXPECT_NE(a->session(), session);
  EXPECT_NE(world_.log().find("more than 4096 locks have writes whose outcome is open"), std::string::npos);
}

// M24: a destructor logs what it cannot do.
TEST_F(MutexTest, ADestructorThatCannotReleaseLogsAndReturnsInTime) {
  auto a = world_.Join("a");
  auto held = a->Mutex("m").Acquire(Soon());
  const FaultHook hook(world_.faults(),
                       [&](const FaultyCall& call) { return IsLockWrite(call) ? Fault::kFailBefore : Fault::kNone; });
  const absl::Time begun = world_.runtime().Now();
  held = absl::UnknownError("destroyed");
  EXPECT_EQ(world_.runtime().Now() - begun, absl::Seconds(2));
  EXPECT_NE(world_.log().find("its release is not confirmed by the store yet"), std::string::npos);
}

// Rule: what a write gives up is given up before it is sent, and nobody enters on that view again without a write.
TEST_F(MutexTest, AfterAnUnconfirmedReleaseNobodyEntersOnTheOldRecord) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  FailOnce(world_, IsLockWrite, Fault::kApplyLate);
  EXPECT_FALSE(held->Release(absl::ZeroDuration()).ok());
  const kv::CallCounts before = world_.store().Snapshot("test/mutex/");
  auto again = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(again));
  EXPECT_GE((world_.store().Snapshot("test/mutex/") - before).writes(), 1);
  EXPECT_GT(again->fence(), held->fence());
  world_.faults().ReleaseHeld();
  Sleep(kTtl);
  EXPECT_FALSE(again->Lost()) << "the late release was of an old revision";
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, b->Mutex("m").TryAcquire(Soon())));
}

// ------------------------------------------------------------------------------------------ pushes

// Rule: every waiter also reads the record once per ttl, for a lost push may have named it owner.
TEST_F(MutexTest, AWaiterWhosePushWasLostEntersByItsOwnRead) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  auto waiting = Start(*b);
  world_.faults().SetEventFilter([](const kv::WatchEvent&) { return false; });
  ASSERT_TRUE(IsOk(held->Release()));
  world_.runtime().RunUntilIdle();
  EXPECT_FALSE(waiting->done);
  Sleep(kTtl + absl::Milliseconds(1));
  EXPECT_TRUE(waiting->ok());
  world_.faults().SetEventFilter(nullptr);
}

// Rule: a record that arrives counts only if its revision is above all seen for its key.
TEST_F(MutexTest, PushesThatComeLateOrTwiceChangeNothing) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  world_.faults().PauseWatches();
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held->Release()));
  held = a->Mutex("m").Acquire(Soon());
  auto waiting = Start(*b);
  ASSERT_TRUE(IsOk(held->Release()));
  auto other = Start(*a);
  Sleep(kTtl + absl::Seconds(1));
  ASSERT_TRUE(waiting->ok());
  world_.faults().ResumeWatches();
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Sleep(absl::Seconds(1));
  EXPECT_FALSE(waiting->grant->Lost());
  EXPECT_FALSE(other->done);
  EXPECT_EQ(b->Stats().grants_lost, 0u);
  waiting->grant = absl::UnknownError("released");
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(other->ok());
}

TEST_F(MutexTest, AnOldPushDoesNotReplaceANewerView) {
  auto a = world_.Join("a");
  world_.faults().PauseWatches();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
    world_.runtime().RunUntilIdle();  // else the store folds the events into one
  }
  int passed = 0;
  world_.faults().SetEventFilter(
      [&](const kv::WatchEvent& event) { return event.key.find("/mutex/") == std::string::npos || ++passed <= 2; });
  const kv::CallCounts before = world_.store().Snapshot("test/mutex/");
  world_.faults().ResumeWatches();
  world_.runtime().RunUntilIdle();
  ASSERT_GT(passed, 2);
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  EXPECT_EQ((world_.store().Snapshot("test/mutex/") - before).calls(), 1) << "what a holds is the newest";
  world_.faults().SetEventFilter(nullptr);
}

// Rule: the successor enters only if its session is valid when the push is processed. M01.
TEST_F(MutexTest, APushDoesNotLetInACopyWhoseSessionHasRunOut) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    auto a = world.Join("a");
    Process b(world, 1, "b");
    auto held = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    absl::StatusOr<Grant> got = absl::UnknownError("not yet");
    bool valid_at_return = false;
    auto thread = b.Start([&] {
      got = b->Mutex("m").Acquire(world.In(absl::Hours(1)));
      valid_at_return = got.ok() && !got->Lost();
    });
    world.runtime().SleepFor(absl::Seconds(1));
    ASSERT_EQ(RecordOf(world, "mutex", "m")->queue.size(), 1u);
    const std::string session = b->session();
    b.Pause();
    world.runtime().SleepFor(kTtl);  // beyond what b may rely on
    ASSERT_TRUE(IsOk(held->Release()));
    ASSERT_EQ(RecordOf(world, "mutex", "m")->owners[0].session, session) << "the record names the old session";
    b.Resume();  // which of b's threads runs first is up to the seed
    world.runtime().SleepFor(kTtl * 3);
    ASSERT_TRUE(IsOk(got));
    EXPECT_TRUE(valid_at_return);
    b.Run([&] {
      EXPECT_NE(b->session(), session);
      EXPECT_FALSE(got->Lost());
      EXPECT_EQ(got->held()->session->id, b->session());
      got = absl::UnknownError("released");
    });
  }
}

// ------------------------------------------------------------------------------------------ losing the record

// Rule: after every resync a holder compares its record, by a read.
TEST_F(MutexTest, AfterAResyncAHolderWhoseRecordDoesNotNameItHasLost) {
  auto a = world_.Join("a");
  auto grant = a->Mutex("m").Acquire(Soon());
  int lost = 0;
  grant->OnLost([&] { ++lost; });
  world_.faults().SetEventFilter([](const kv::WatchEvent&) { return false; });
  ASSERT_TRUE(world_.data()
                  .Delete(KeyOf(world_, "mutex", "m"),
                          world_.data().Get(KeyOf(world_, "mutex", "m"), absl::InfiniteFuture())->revision,
                          absl::InfiniteFuture())
                  .ok());
  world_.runtime().RunUntilIdle();
  EXPECT_FALSE(grant->Lost()) << "nobody has told it";
  world_.faults().SetEventFilter(nullptr);
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(grant->Lost());
  EXPECT_EQ(lost, 1);
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, grant->Release(), "was lost before it was released"));
}

TEST_F(MutexTest, AHolderThatAPushedRecordDoesNotNameHasLost) {
  auto a = world_.Join("a");
  auto grant = a->Mutex("m").Acquire(Soon());
  int lost = 0;
  grant->OnLost([&] { ++lost; });
  const std::string key = KeyOf(world_, "mutex", "m");
  internal::GrantRecord record = *RecordOf(world_, "mutex", "m");
  record.fence = grant->fence();
  record.owners.clear();
  ASSERT_TRUE(world_.data().Put(key, internal::Format(record), absl::InfiniteFuture()).ok());
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(grant->Lost());
  EXPECT_EQ(lost, 1);
  EXPECT_TRUE(IsFree(world_, "mutex", "m")) << "and leaves the record alone";
}

TEST_F(MutexTest, OnAStoreThatEvictsALostRecordIsNoticedWithinABeat) {
  JoinOptions options = world_.Options("a");
  auto shaped = Shaped(options);
  shaped->shape.evicting = true;
  shaped->shape.watch = false;
  options.accept_weaker = true;
  auto a = world_.Join(options);
  auto grant = a->Mutex("m").Acquire(Soon());
  Sleep(kTtl);
  const std::string key = KeyOf(world_, "mutex", "m");
  ASSERT_TRUE(
      world_.data().Delete(key, world_.data().Get(key, absl::InfiniteFuture())->revision, absl::InfiniteFuture()).ok());
  EXPECT_FALSE(grant->Lost());
  Sleep(kTtl / 3 + absl::Milliseconds(1));
  EXPECT_TRUE(grant->Lost());
}

TEST_F(MutexTest, ReleaseOfALostGrantNeverTouchesTheSuccessor) {
  Process b(world_, 1, "b");
  auto a = world_.Join("a");
  absl::StatusOr<Grant> old = absl::UnknownError("");
  b.Run([&] { old = b->Mutex("m").Acquire(Soon()); });
  b.Pause();
  auto grant = a->Mutex("m").Acquire(In(absl::Minutes(1)));
  ASSERT_TRUE(IsOk(grant));
  b.Resume();
  b.Run([&] {
    EXPECT_TRUE(old->Lost());
    EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, old->Release(), "nothing was written"));
    EXPECT_TRUE(IsOk(old->Release())) << "repeated";
  });
  Sleep(kTtl * 2);
  EXPECT_FALSE(grant->Lost());
  EXPECT_EQ(RecordOf(world_, "mutex", "m")->owners[0].instance, "a");
}

TEST_F(MutexTest, OnLostRules) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto lost_one = a->Mutex("lost").Acquire(Soon());
  auto released = a->Mutex("released").Acquire(Soon());
  int first = 0, second = 0, never = 0, at_once = 0;
  lost_one->OnLost([&] { ++first; });
  lost_one->OnLost([&] { ++second; });
  released->OnLost([&] { ++never; });
  ASSERT_TRUE(IsOk(released->Release()));
  released->OnLost([&] { ++never; });
  ASSERT_TRUE(IsOk(b->Break(a->session(), Soon())));
  Sleep(kTtl);
  EXPECT_TRUE(lost_one->Lost());
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 1);
  lost_one->OnLost([&] { ++at_once; });
  EXPECT_EQ(at_once, 1);
  Sleep(kTtl * 2);
  EXPECT_EQ(first + second + never + at_once, 3);
}

// ------------------------------------------------------------------------------------------ records

TEST_F(MutexTest, ARecordOfANewerMajorIsRefusedAndUntouched) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  ASSERT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
  const std::string key = KeyOf(world_, "mutex", "m");
  Edit(world_, key, "\"v\":\"1.0\"", "\"v\":\"2.0\"");
  const std::string value = world_.data().Get(key, absl::InfiniteFuture())->value;
  for (Cluster* copy : {a.get(), b.get()}) {
    const absl::Time begun = world_.runtime().Now();
    EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, copy->Mutex("m").Acquire(In(absl::Hours(1))),
                   "newer version (2.0) of coord"));
    EXPECT_LT(world_.runtime().Now() - begun, absl::Seconds(2)) << "waiting does not help";
    EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, copy->Mutex("m").TryAcquire(In(absl::Hours(1))), "upgrade"));
    EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, copy->Mutex("m").Inspect(Soon()), "newer version"));
  }
  EXPECT_EQ(world_.data().Get(key, absl::InfiniteFuture())->value, value);
}

TEST_F(MutexTest, ADamagedRecordIsDataLossAndUntouchedAndItsHolderLoses) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  const std::string key = KeyOf(world_, "mutex", "m");
  Edit(world_, key, "\"owners\":[", "\"owners\":{");
  Sleep(absl::Seconds(1));
  EXPECT_TRUE(held->Lost());
  const std::string value = world_.data().Get(key, absl::InfiniteFuture())->value;
  EXPECT_TRUE(Is(StatusCode::kDataLoss, b->Mutex("m").Acquire(In(absl::Hours(1))), "is damaged"));
  EXPECT_TRUE(Is(StatusCode::kDataLoss, b->Mutex("m").Inspect(Soon()), "inspect it with the store's own tool"));
  EXPECT_EQ(world_.data().Get(key, absl::InfiniteFuture())->value, value);
  const kv::CallCounts before = world_.store().Snapshot("test/mutex/");
  Sleep(kTtl * 3);
  EXPECT_LE((world_.store().Snapshot("test/mutex/") - before).calls(), 3) << "nobody wants it: nobody reads it";
}

// Old and new copies side by side: fields of a newer minor survive what an older copy does.
TEST_F(MutexTest, FieldsOfANewerMinorSurviveAcquireQueueAndRelease) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  const std::string key = KeyOf(world_, "mutex", "m");
  Edit(world_, key, "\"v\":\"1.0\"", "\"v\":\"1.7\"");
  Edit(world_, key, "\"queue\":[]", "\"queue\":[],\"colour\":{\"deep\":[1,2]}");
  Edit(world_, key, "\"tickets\":", "\"mood\":\"calm\",\"tickets\":");
  Sleep(absl::Seconds(1));
  EXPECT_FALSE(held->Lost());
  auto waiting = Start(*b);
  std::string value = world_.data().Get(key, absl::InfiniteFuture())->value;
  EXPECT_NE(value.find("\"v\":\"1.7\""), std::string::npos) << value;
  EXPECT_NE(value.find("\"mood\":\"calm\""), std::string::npos) << value;
  ASSERT_TRUE(IsOk(held->Release()));
  world_.runtime().RunUntilIdle();
  ASSERT_TRUE(waiting->ok());
  waiting->grant = absl::UnknownError("released");
  value = world_.data().Get(key, absl::InfiniteFuture())->value;
  EXPECT_NE(value.find("\"colour\":{\"deep\":[1,2]}"), std::string::npos) << value;
  EXPECT_EQ(value.find("mood"), std::string::npos) << "it was the owner's";
  EXPECT_TRUE(IsFree(world_, "mutex", "m"));
}

TEST_F(MutexTest, The257thCopyIsTurnedAwayBySentence) {
  auto a = world_.Join("a");
  auto held = a->Mutex("m").Acquire(Soon());
  internal::GrantRecord record = *RecordOf(world_, "mutex", "m");
  for (int i = 0; i < 255; ++i) {
    internal::GrantEntry entry;
    entry.session = absl::StrCat("s", i);
    entry.ttl = absl::Hours(1);
    entry.tickets = {{1, 1}};
    record.queue.push_back(entry);
  }
  record.fence = record.owners[0].fence = held->fence();
  ASSERT_TRUE(world_.data().Put(KeyOf(world_, "mutex", "m"), internal::Format(record), absl::InfiniteFuture()).ok());
  auto b = world_.Join("b");
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, b->Mutex("m").Acquire(Soon()), "at most 256"));
  EXPECT_FALSE(held->Lost());
}

// ------------------------------------------------------------------------------------------ clocks

// M13: waits are measured by the steady clock.
TEST_F(MutexTest, AJumpOfTheWallClockNeitherEndsNorProlongsAWaitNorAGrant) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  for (const absl::Duration jump : {absl::Hours(48), -absl::Hours(96)}) {
    const absl::Time begun = world_.runtime().Now();
    auto waiting = Start(*b, absl::Seconds(30));
    Sleep(absl::Seconds(10));
    world_.runtime().JumpWallClock(jump);
    Sleep(absl::Seconds(19));
    EXPECT_FALSE(waiting->done);
    Sleep(absl::Seconds(2));
    ASSERT_TRUE(waiting->done);
    EXPECT_TRUE(Is(StatusCode::kDeadlineExceeded, waiting->grant));
    EXPECT_EQ(waiting->at - begun, absl::Seconds(30));
    EXPECT_FALSE(held->Lost());
  }
}

}  // namespace
}  // namespace coord::testing
