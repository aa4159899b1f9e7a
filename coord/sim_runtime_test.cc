#include "coord/sim_runtime.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kv/internal/mutex.h"

namespace coord {
namespace {

using ::kv::internal::Mutex;
using ::kv::internal::MutexLock;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr absl::Duration kSecond = absl::Seconds(1);

SimOptions Fifo() {
  SimOptions options;
  options.fifo = true;
  return options;
}

SimOptions Seed(uint64_t seed) {
  SimOptions options;
  options.seed = seed;
  return options;
}

// A condition with its mutex, which counts how often a wait returned.
struct Gate {
  explicit Gate(SimRuntime& runtime) : condition(runtime.NewCondition()) {}

  void Wait(absl::Time until = absl::InfiniteFuture()) {
    MutexLock lock(mu);
    condition->Wait(mu, until);
    ++returns;
  }

  Mutex mu;
  std::unique_ptr<Condition> condition;
  int returns = 0;
};

TEST(SimRuntime, SleepTakesExactlyItsVirtualTime) {
  SimRuntime runtime;
  const absl::Time start = runtime.Now();
  runtime.SleepFor(absl::Hours(1000));
  EXPECT_EQ(runtime.Now() - start, absl::Hours(1000));
  EXPECT_EQ(runtime.WallNow(), runtime.Now());
}

TEST(SimRuntime, ThreadsEndInTheOrderOfTheirTimeouts) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SimRuntime runtime(Seed(seed));
    std::vector<int> order;
    std::vector<std::unique_ptr<Thread>> threads;
    for (const int seconds : {3, 1, 4, 2}) {
      threads.push_back(runtime.StartThread("sleeper", [&runtime, &order, seconds] {
        runtime.SleepFor(seconds * kSecond);
        order.push_back(seconds);
      }));
    }
    threads.clear();
    EXPECT_THAT(order, ElementsAre(1, 2, 3, 4)) << "seed " << seed;
  }
}

TEST(SimRuntime, WaitReturnsOnlyWhenNotifiedOrDue) {
  SimRuntime runtime;
  Gate gate(runtime);
  const absl::Time start = runtime.Now();
  const auto waiter = runtime.StartThread("waiter", [&] { gate.Wait(start + 10 * kSecond); });
  for (int second = 0; second < 9; ++second) {
    runtime.SleepFor(kSecond);
    EXPECT_EQ(gate.returns, 0);
  }
  runtime.SleepFor(kSecond + absl::Nanoseconds(1));
  EXPECT_EQ(gate.returns, 1);
}

TEST(SimRuntime, NotifyWakesAllWaitersAtOnce) {
  SimRuntime runtime;
  Gate gate(runtime);
  const absl::Time start = runtime.Now();
  const auto first = runtime.StartThread("first", [&] { gate.Wait(start + absl::Hours(1)); });
  const auto second = runtime.StartThread("second", [&] { gate.Wait(); });
  runtime.RunUntilIdle();
  EXPECT_EQ(gate.returns, 0);
  gate.condition->NotifyAll();
  runtime.RunUntilIdle();
  EXPECT_EQ(gate.returns, 2);
  EXPECT_EQ(runtime.Now(), start);
}

TEST(SimRuntime, NotifyBeforeWaitIsNotRemembered) {
  SimRuntime runtime;
  Gate gate(runtime);
  gate.condition->NotifyAll();
  const absl::Time until = runtime.Now() + kSecond;
  gate.Wait(until);
  EXPECT_EQ(runtime.Now(), until);
}

TEST(SimRuntime, WaitWithAPassedDeadlineLetsOthersRunAndReturns) {
  SimRuntime runtime(Fifo());
  Gate gate(runtime);
  bool ran = false;
  const auto other = runtime.StartThread("other", [&] { ran = true; });
  const absl::Time start = runtime.Now();
  gate.Wait(absl::InfinitePast());
  EXPECT_TRUE(ran);
  EXPECT_EQ(runtime.Now(), start);
}

TEST(SimRuntime, WaitHoldsTheMutexAgainWhenItReturns) {
  SimRuntime runtime;
  Mutex mu;
  const auto condition = runtime.NewCondition(Runtime::ConditionKind::kAlarm);
  MutexLock lock(mu);
  condition->Wait(mu, runtime.Now() + kSecond);
  EXPECT_EQ(Mutex::HeldByThisThread(), 1);
}

TEST(SimRuntime, RunUntilIdleDoesNotMoveTheClock) {
  SimRuntime runtime;
  int steps = 0;
  const auto worker = runtime.StartThread("worker", [&] {
    for (; steps < 5; ++steps) runtime.Yield();
    runtime.SleepFor(kSecond);
    ++steps;
  });
  const absl::Time start = runtime.Now();
  runtime.RunUntilIdle();
  EXPECT_EQ(steps, 5);
  EXPECT_EQ(runtime.Now(), start);
  runtime.SleepFor(2 * kSecond);
  EXPECT_EQ(steps, 6);
}

TEST(SimRuntime, JumpOfTheWallClockDoesNotMoveASteadyDeadline) {
  SimRuntime runtime;
  Gate gate(runtime);
  const absl::Time start = runtime.Now();
  const absl::Time until = runtime.SteadyDeadline(runtime.WallNow() + 10 * kSecond);
  const auto waiter = runtime.StartThread("waiter", [&] {
    gate.Wait(until);
    EXPECT_EQ(runtime.Now() - start, 10 * kSecond);
  });
  runtime.SleepFor(kSecond);
  runtime.JumpWallClock(absl::Hours(5));
  EXPECT_EQ(runtime.Now() - start, kSecond);
  EXPECT_EQ(runtime.WallNow() - start, absl::Hours(5) + kSecond);
  runtime.JumpWallClock(1, -absl::Hours(2));  // another group's
  EXPECT_EQ(runtime.WallNow() - start, absl::Hours(5) + kSecond);
  EXPECT_EQ(runtime.SteadyDeadline(runtime.WallNow() + kSecond), runtime.Now() + kSecond);
}

// The steps of three threads that sleep and yield, as text.
std::string TraceOf(uint64_t seed, bool fifo = false) {
  SimOptions options = Seed(seed);
  options.fifo = fifo;
  SimRuntime runtime(options);
  std::string trace;
  const absl::Time start = runtime.Now();
  runtime.OnStep([&](const SimStep& step) {
    absl::StrAppend(&trace, step.thread, ":", std::string(step.name), "@", absl::ToInt64Nanoseconds(step.now - start),
                    " ");
  });
  std::vector<std::unique_ptr<Thread>> threads;
  for (const char* name : {"a", "b", "c"}) {
    threads.push_back(runtime.StartThread(name, [&runtime] {
      for (int round = 0; round < 5; ++round) {
        runtime.Yield();
        runtime.SleepFor(absl::Nanoseconds(runtime.Random() % 100));
      }
    }));
  }
  threads.clear();
  runtime.OnStep(nullptr);
  return trace;
}

TEST(SimRuntime, TheSeedDecidesEverything) {
  EXPECT_EQ(TraceOf(7), TraceOf(7));
  EXPECT_NE(TraceOf(7), TraceOf(8));
  EXPECT_EQ(TraceOf(7, /*fifo=*/true), TraceOf(7, /*fifo=*/true));
}

TEST(SimRuntime, RandomOrderReachesEveryOrder) {
  std::vector<std::string> seen;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SimRuntime runtime(Seed(seed));
    std::string order;
    const auto a = runtime.StartThread("a", [&] { order += "a"; });
    const auto b = runtime.StartThread("b", [&] { order += "b"; });
    const auto c = runtime.StartThread("c", [&] { order += "c"; });
    runtime.RunUntilIdle();
    if (std::find(seen.begin(), seen.end(), order) == seen.end()) seen.push_back(order);
  }
  EXPECT_THAT(seen, UnorderedElementsAre("abc", "acb", "bac", "bca", "cab", "cba"));
}

TEST(SimRuntime, FifoRunsThreadsInTheOrderInWhichTheyBecameReady) {
  SimRuntime runtime(Fifo());
  std::string order;
  std::vector<std::unique_ptr<Thread>> threads;
  for (const char* name : {"a", "b", "c"}) {
    threads.push_back(runtime.StartThread(name, [&runtime, &order, name] {
      order += name;
      runtime.Yield();
      order += name;
    }));
  }
  threads.clear();
  EXPECT_EQ(order, "abcabc");
}

TEST(SimRuntime, JoinWaitsForTheEnd) {
  SimRuntime runtime;
  const absl::Time start = runtime.Now();
  bool ended = false;
  auto thread = runtime.StartThread("worker", [&] {
    runtime.SleepFor(absl::Hours(1));
    ended = true;
  });
  EXPECT_FALSE(thread->IsCurrent());
  thread.reset();
  EXPECT_TRUE(ended);
  EXPECT_EQ(runtime.Now() - start, absl::Hours(1));
}

TEST(SimRuntime, DetachedThreadEndsByItself) {
  SimRuntime runtime;
  bool ended = false;
  auto thread = runtime.StartThread("worker", [&] {
    runtime.SleepFor(kSecond);
    ended = true;
  });
  thread->Detach();
  thread.reset();
  EXPECT_FALSE(ended);
  runtime.SleepFor(2 * kSecond);
  EXPECT_TRUE(ended);
}

TEST(SimRuntime, ThreadDestroyedInsideItselfGoesOn) {
  SimRuntime runtime;
  std::unique_ptr<Thread> thread;
  bool ended = false;
  thread = runtime.StartThread("worker", [&] {
    EXPECT_TRUE(thread->IsCurrent());
    thread.reset();
    runtime.Yield();
    ended = true;
  });
  runtime.RunUntilIdle();
  EXPECT_TRUE(ended);
}

TEST(SimRuntime, WhatAThreadCapturedDiesOnThatThreadAndMayWait) {
  SimRuntime runtime;
  struct WaitsAtItsEnd {
    WaitsAtItsEnd(SimRuntime& r, uint64_t& d) : runtime(r), died_on(d) {}
    ~WaitsAtItsEnd() {
      runtime.SleepFor(kSecond);
      died_on = runtime.CurrentThread();
    }
    SimRuntime& runtime;
    uint64_t& died_on;
  };
  uint64_t worker = 0;
  uint64_t died_on = 0;
  auto thread =
      runtime.StartThread("worker", [&worker, &runtime, owned = std::make_shared<WaitsAtItsEnd>(runtime, died_on)] {
        worker = runtime.CurrentThread();
      });
  thread.reset();
  EXPECT_NE(worker, runtime.CurrentThread());
  EXPECT_EQ(died_on, worker);
}

// The C++ runtime keeps the exceptions that are being handled by operating system thread; each simulated one needs its
// own.
TEST(SimRuntime, ThreadsMayWaitWhileTheyHandleExceptions) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SimRuntime runtime(Seed(seed));
    std::vector<std::unique_ptr<Thread>> threads;
    for (int number = 0; number < 4; ++number) {
      threads.push_back(runtime.StartThread("thrower", [&runtime, number, seed] {
        try {
          throw std::runtime_error(absl::StrCat(number));
        } catch (const std::runtime_error&) {
          for (int i = 0; i < 3; ++i) runtime.SleepFor(absl::Nanoseconds(runtime.Random() % 3));
          try {
            throw;
          } catch (const std::runtime_error& error) {
            EXPECT_EQ(error.what(), absl::StrCat(number)) << "seed " << seed;
          }
        }
      }));
    }
    threads.clear();
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  }
}

TEST(SimRuntime, PausedGroupStandsStillAndCatchesUp) {
  SimRuntime runtime;
  const absl::Time start = runtime.Now();
  std::vector<absl::Duration> ticks;
  auto ticker = runtime.StartThreadInGroup(1, "ticker", [&] {
    EXPECT_EQ(runtime.CurrentGroup(), 1);
    for (int i = 0; i < 3; ++i) {
      runtime.SleepFor(kSecond);
      ticks.push_back(runtime.Now() - start);
    }
  });
  runtime.SleepFor(absl::Milliseconds(1500));
  runtime.Pause(1);
  runtime.Pause(1);
  runtime.SleepFor(10 * kSecond);
  EXPECT_THAT(ticks, ElementsAre(kSecond));
  runtime.Resume(1);
  ticker.reset();
  // The second tick was due at 2 s; the pause ended at 11.5 s.
  EXPECT_THAT(ticks, ElementsAre(kSecond, absl::Milliseconds(11500), absl::Milliseconds(12500)));
}

TEST(SimRuntime, PausedThreadThatIsReadyDoesNotRun) {
  SimRuntime runtime;
  bool ran = false;
  auto thread = runtime.StartThreadInGroup(1, "ready", [&] { ran = true; });
  runtime.Pause(1);
  runtime.RunUntilIdle();
  EXPECT_FALSE(ran);
  runtime.Resume(1);
  thread.reset();
  EXPECT_TRUE(ran);
}

TEST(SimRuntime, ThreadMayPauseItsOwnGroup) {
  SimRuntime runtime;
  int step = 0;
  auto thread = runtime.StartThreadInGroup(1, "pauser", [&] {
    runtime.Pause(1);
    step = 1;
    runtime.Yield();
    step = 2;
  });
  runtime.RunUntilIdle();
  EXPECT_EQ(step, 1);
  runtime.Resume(1);
  thread.reset();
  EXPECT_EQ(step, 2);
}

TEST(SimRuntime, ClockRateStretchesNowAndWaits) {
  SimRuntime runtime;
  const absl::Time start = runtime.Now();
  runtime.SetClockRate(1, 1.25);
  runtime.SetClockRate(2, 0.8);
  std::vector<std::string> woken;
  const auto sleeper = [&](const char* name) {
    return [&, name] {
      const absl::Time until = runtime.Now() + 10 * kSecond;
      runtime.SleepFor(10 * kSecond);
      EXPECT_GE(runtime.Now(), until) << name;
      EXPECT_LT(runtime.Now(), until + absl::Microseconds(1)) << name;
      woken.push_back(name);
    };
  };
  const auto fast = runtime.StartThreadInGroup(1, "fast", sleeper("fast"));
  const auto slow = runtime.StartThreadInGroup(2, "slow", sleeper("slow"));
  const auto right = runtime.StartThread("right", sleeper("right"));
  runtime.SleepFor(absl::Milliseconds(7999));
  EXPECT_THAT(woken, ElementsAre());
  runtime.SleepFor(absl::Milliseconds(2));  // 8.001 s
  EXPECT_THAT(woken, ElementsAre("fast"));
  runtime.SleepFor(absl::Milliseconds(4498));  // 12.499 s
  EXPECT_THAT(woken, ElementsAre("fast", "right"));
  runtime.SleepFor(absl::Milliseconds(2));
  EXPECT_THAT(woken, ElementsAre("fast", "right", "slow"));
  EXPECT_EQ(runtime.Now() - start, absl::Milliseconds(12501));
}

TEST(SimRuntime, ClockRateChangeMovesWaitsUnderWayAndNeverTheClockItself) {
  SimRuntime runtime;
  const absl::Time start = runtime.Now();
  absl::Time before;
  absl::Time after;
  const auto sleeper = runtime.StartThreadInGroup(1, "sleeper", [&] {
    runtime.SleepFor(10 * kSecond);
    before = runtime.Now();
    runtime.SetClockRate(1, 0.5);
    after = runtime.Now();
  });
  runtime.SleepFor(4 * kSecond);
  runtime.SetClockRate(1, 2.0);  // 6 s to go by its clock are now 3
  runtime.SleepFor(3 * kSecond + absl::Nanoseconds(1));
  EXPECT_EQ(before - start, 10 * kSecond);
  EXPECT_EQ(after, before);
}

TEST(SimRuntime, KilledGroupNeverRunsAgain) {
  SimRuntime runtime;
  Gate gate(runtime);
  int ticks = 0;
  auto ticker = runtime.StartThreadInGroup(1, "ticker", [&] {
    const std::string owned(1000, 'x');  // on the heap, and only there from this stack
    for (;; ++ticks) runtime.SleepFor(kSecond + absl::Nanoseconds(owned.size() - 1000));
  });
  const auto waiter = runtime.StartThreadInGroup(1, "waiter", [&] { gate.Wait(); });
  bool joined = false;
  const auto joiner = runtime.StartThreadInGroup(2, "joiner", [&] {
    ticker.reset();
    joined = true;
  });
  runtime.SleepFor(absl::Milliseconds(2500));
  const auto unstarted = runtime.StartThreadInGroup(1, "unstarted", [&, owned = std::string(1000, 'x')] { ++ticks; });
  runtime.Kill(1);
  gate.condition->NotifyAll();
  runtime.SleepFor(absl::Hours(1));
  EXPECT_EQ(ticks, 2);
  EXPECT_EQ(gate.returns, 0);
  EXPECT_TRUE(joined);
  // The number may be used again.
  bool ran = false;
  runtime.StartThreadInGroup(1, "again", [&] { ran = true; }).reset();
  EXPECT_TRUE(ran);
}

TEST(SimRuntime, KilledWhilePausedThenUsedAgain) {
  SimRuntime runtime;
  const auto thread = runtime.StartThreadInGroup(1, "stopped", [&] { FAIL(); });
  runtime.Pause(1);
  runtime.Kill(1);
  bool ran = false;
  runtime.StartThreadInGroup(1, "again", [&] { ran = true; }).reset();
  EXPECT_TRUE(ran);
}

TEST(SimRuntime, ThreadThatKillsItsOwnGroupDoesNotReturn) {
  SimRuntime runtime;
  bool returned = false;
  runtime
      .StartThreadInGroup(1, "suicide",
                          [&] {
                            runtime.Kill(runtime.CurrentGroup());
                            returned = true;
                          })
      .reset();
  runtime.SleepFor(kSecond);
  EXPECT_FALSE(returned);
}

TEST(SimRuntime, ManyThreadsOneAfterTheOther) {
  SimRuntime runtime;
  int ran = 0;
  for (int i = 0; i < 2000; ++i) runtime.StartThread("short", [&] { ++ran; }).reset();
  EXPECT_EQ(ran, 2000);
}

TEST(SimRuntime, CurrentThreadTellsThreadsApart) {
  SimRuntime runtime;
  uint64_t first = 0;
  uint64_t second = 0;
  runtime.StartThread("first", [&] { first = runtime.CurrentThread(); }).reset();
  runtime.StartThread("second", [&] { second = runtime.CurrentThread(); }).reset();
  EXPECT_NE(runtime.CurrentThread(), 0u);
  EXPECT_NE(first, runtime.CurrentThread());
  EXPECT_NE(second, first);
}

using SimRuntimeDeathTest = ::testing::Test;

TEST(SimRuntimeDeathTest, DeadlockListsTheThreadsAndWhatTheyWaitFor) {
  EXPECT_DEATH(
      {
        SimRuntime runtime(Fifo());
        Gate gate(runtime);
        auto waiter = runtime.StartThreadInGroup(3, "waiter", [&] { gate.Wait(); });
        runtime.SleepFor(kSecond);
        runtime.Pause(3);
        waiter.reset();
      },
      "deadlock: no thread is ready and none waits for a time\n"
      "at \\+1s of virtual time:\n"
      "  thread 0 'main' \\(group 0\\) waits for the end of thread 1 'waiter'\n"
      "  thread 1 'waiter' \\(group 3, paused\\) waits for condition 1 \\(made by 'main'\\)\n");
}

TEST(SimRuntimeDeathTest, EndlessTicksReachTheTimeLimit) {
  EXPECT_DEATH(
      {
        SimOptions options;
        options.time_limit = absl::Hours(2);
        SimRuntime runtime(options);
        auto ticker = runtime.StartThread("ticker", [&] {
          for (;;) runtime.SleepFor(absl::Minutes(50));
        });
        ticker.reset();
      },
      "the time limit of 2h of virtual time would be passed\nat \\+1h40m.*\n.*\n.*'ticker' \\(group 0\\) sleeps until "
      "\\+2h30m");
}

TEST(SimRuntimeDeathTest, SwitchWhileHoldingAMutex) {
  SimRuntime runtime;
  Gate gate(runtime);
  Mutex mu;
  const auto hold_and = [&](const auto& action) {
    MutexLock lock(mu);
    action();
  };
  EXPECT_DEATH(hold_and([&] { runtime.SleepFor(kSecond); }),
               "thread 'main' calls SleepFor while it holds 1 kv::internal::Mutex; unlock first");
  EXPECT_DEATH(hold_and([&] { runtime.Yield(); }), "calls Yield while it holds 1 kv");
  EXPECT_DEATH(hold_and([&] { runtime.RunUntilIdle(); }), "calls RunUntilIdle while it holds 1 kv");
  EXPECT_DEATH(hold_and([&] { gate.Wait(); }), "calls Condition::Wait while it holds 1 further kv");
  EXPECT_DEATH(hold_and([&] { runtime.StartThread("x", [] {}).reset(); }),
               "calls the destructor of a Thread while it holds 1 kv");
  EXPECT_DEATH(runtime
                   .StartThread("keeper",
                                []() KV_NO_THREAD_SAFETY_ANALYSIS {
                                  static Mutex kept;
                                  kept.Lock();
                                })
                   .reset(),
               "thread 'keeper' calls the end of its function while it holds 1 kv");
}

TEST(SimRuntimeDeathTest, WaitWithoutItsMutex) {
  SimRuntime runtime;
  const auto wait = [&]() KV_NO_THREAD_SAFETY_ANALYSIS {
    Mutex mu;
    runtime.NewCondition()->Wait(mu, runtime.Now());
  };
  EXPECT_DEATH(wait(), "thread 'main' calls Condition::Wait without its mutex held");
}

TEST(SimRuntimeDeathTest, DestroyedWithABlockedThread) {
  EXPECT_DEATH(
      {
        SimRuntime runtime;
        Gate gate(runtime);
        auto waiter = runtime.StartThread("waiter", [&] { gate.Wait(); });
        waiter->Detach();
        runtime.RunUntilIdle();
        runtime.~SimRuntime();
      },
      "destroyed while threads have not ended: end and join them first, or kill their group\n.*\n.*\n"
      "  thread 1 'waiter' \\(group 0\\) waits for condition 1");
}

TEST(SimRuntimeDeathTest, ConditionDestroyedUnderAWaiter) {
  EXPECT_DEATH(
      {
        SimRuntime runtime;
        Gate gate(runtime);
        const auto waiter = runtime.StartThread("waiter", [&] { gate.Wait(); });
        runtime.RunUntilIdle();
        gate.condition.reset();
      },
      "condition 1 \\(made by 'main'\\) is destroyed while a thread waits for it");
}

TEST(SimRuntimeDeathTest, UsedByAnotherOperatingSystemThread) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        SimRuntime runtime;
        const auto condition = runtime.NewCondition();
        std::thread([&] { condition->NotifyAll(); }).join();
      },
      "NotifyAll was called by an operating system thread other than the one that made the runtime");
}

TEST(SimRuntimeDeathTest, BadArguments) {
  SimRuntime runtime;
  EXPECT_DEATH(runtime.Pause(0), "group 0 cannot be paused, for main is in it");
  EXPECT_DEATH(runtime.Kill(0), "group 0 cannot be killed, for main is in it");
  EXPECT_DEATH(runtime.SetClockRate(1, 0), "a clock rate of 0 was asked for; it must be from 0.5 to 2");
}

TEST(SimRuntimeDeathTest, ExceptionOutOfAThread) {
  EXPECT_DEATH(
      {
        SimRuntime runtime;
        runtime.StartThread("thrower", [] { throw std::runtime_error("the reason"); }).reset();
      },
      "the reason");
}

}  // namespace
}  // namespace coord
