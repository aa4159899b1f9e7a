#include "coord/runtime.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <set>
#include <string>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kv/internal/mutex.h"

namespace coord {
namespace {

using ::kv::internal::Mutex;
using ::kv::internal::MutexLock;
using ConditionKind = Runtime::ConditionKind;

class EveryCondition : public ::testing::TestWithParam<ConditionKind> {
 protected:
  Runtime& runtime_ = RealRuntime();
  const std::unique_ptr<Condition> condition_ = runtime_.NewCondition(GetParam());
  Mutex mu_;
};

TEST_P(EveryCondition, NotifyEndsAWaitWithoutLimit) {
  bool ready = false;
  auto notifier = runtime_.StartThread("notifier", [&] {
    {
      MutexLock lock(mu_);
      ready = true;
    }
    condition_->NotifyAll();
  });
  MutexLock lock(mu_);
  while (!ready) condition_->Wait(mu_, absl::InfiniteFuture());
  EXPECT_EQ(Mutex::HeldByThisThread(), 1);
}

// Each side waits for the other; one lost wake-up would hang the test.
TEST_P(EveryCondition, NoWakeUpIsLostBetweenTwoThreads) {
  constexpr int kRounds = 5000;
  const auto back = runtime_.NewCondition(GetParam());
  int turn = 0;
  auto other = runtime_.StartThread("other", [&] {
    for (int round = 0; round < kRounds; ++round) {
      MutexLock lock(mu_);
      while (turn != 2 * round + 1) condition_->Wait(mu_, absl::InfiniteFuture());
      ++turn;
      lock.Unlock();
      back->NotifyAll();
      lock.Lock();
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    MutexLock lock(mu_);
    ++turn;
    lock.Unlock();
    condition_->NotifyAll();
    lock.Lock();
    while (turn != 2 * round + 2) back->Wait(mu_, absl::InfiniteFuture());
  }
  other.reset();
  EXPECT_EQ(turn, 2 * kRounds);
}

TEST_P(EveryCondition, TimedWaitsEndAndNeverEarly) {
  MutexLock lock(mu_);
  for (int i = 0; i < 20; ++i) {
    const absl::Time until = runtime_.Now() + absl::Microseconds(500 * i);
    while (runtime_.Now() < until) condition_->Wait(mu_, until);
  }
  // The same limit again, and one long past, return at once.
  const absl::Time until = runtime_.Now() + absl::Milliseconds(1);
  while (runtime_.Now() < until) condition_->Wait(mu_, until);
  condition_->Wait(mu_, until);
  condition_->Wait(mu_, absl::UnixEpoch());
  condition_->Wait(mu_, absl::InfinitePast());
  EXPECT_EQ(Mutex::HeldByThisThread(), 1);
}

TEST_P(EveryCondition, ANearerAndAFartherLimitReplaceTheLast) {
  bool ready = false;
  MutexLock lock(mu_);
  auto notifier = runtime_.StartThread("notifier", [&] {
    MutexLock inner(mu_);
    ready = true;
    condition_->NotifyAll();
  });
  while (!ready) condition_->Wait(mu_, runtime_.Now() + absl::Hours(24 * 365 * 200));
  const absl::Time until = runtime_.Now() + absl::Milliseconds(5);
  while (runtime_.Now() < until) condition_->Wait(mu_, until);
  lock.Unlock();
  notifier.reset();
  lock.Lock();
}

INSTANTIATE_TEST_SUITE_P(Runtime, EveryCondition, ::testing::Values(ConditionKind::kPlain, ConditionKind::kAlarm),
                         [](const auto& kind) { return kind.param == ConditionKind::kPlain ? "Plain" : "Alarm"; });

TEST(AlarmCondition, ReturnsAtTheTimeAndNotBeforeItWithOneWait) {
  Runtime& runtime = RealRuntime();
  const auto alarm = runtime.NewCondition(ConditionKind::kAlarm);
  alarm->NotifyAll();  // nobody waits: not remembered
  Mutex mu;
  MutexLock lock(mu);
  for (int i = 1; i <= 10; ++i) {
    const absl::Time until = runtime.Now() + absl::Microseconds(700 * i) + absl::Nanoseconds(0.25);
    alarm->Wait(mu, until);
    EXPECT_GE(runtime.Now(), until);
  }
}

// A waiter that is woken again and again for one event would be right, and burn a processor.
TEST(AlarmCondition, ReturnsOnceForEachEvent) {
  Runtime& runtime = RealRuntime();
  const auto alarm = runtime.NewCondition(ConditionKind::kAlarm);
  Mutex mu;
  bool ready = false;
  const auto notify_at = [&](absl::Time time) {
    const auto sleep = runtime.NewCondition();
    MutexLock lock(mu);
    while (runtime.Now() < time) sleep->Wait(mu, time);
    ready = true;
    alarm->NotifyAll();
  };
  MutexLock lock(mu);
  alarm->Wait(mu, runtime.Now() + absl::Milliseconds(1));
  // The timer has expired; now there is no limit.
  auto notifier = runtime.StartThread("notifier", [&] { notify_at(runtime.Now() + absl::Milliseconds(5)); });
  alarm->Wait(mu, absl::InfiniteFuture());
  EXPECT_TRUE(ready);
  lock.Unlock();
  notifier.reset();
  lock.Lock();
  // The notification has been used up.
  const absl::Time until = runtime.Now() + absl::Milliseconds(1);
  alarm->Wait(mu, until);
  EXPECT_GE(runtime.Now(), until);
}

int OpenDescriptors() {
  int count = 0;
  DIR* const descriptors = opendir("/proc/self/fd");
  while (readdir(descriptors) != nullptr) ++count;
  closedir(descriptors);
  return count;
}

// Seen from outside: a suspend of the machine cannot be tested here.
TEST(AlarmCondition, ItsTimerCountsSuspendedTime) {
  const auto count_boottime_timers = [] {
    int timers = 0;
    DIR* const descriptors = opendir("/proc/self/fdinfo");
    while (const dirent* entry = readdir(descriptors)) {
      std::ifstream info(std::string("/proc/self/fdinfo/") + entry->d_name);
      for (std::string line; std::getline(info, line);) {
        if (line == "clockid: " + std::to_string(CLOCK_BOOTTIME)) ++timers;
      }
    }
    closedir(descriptors);
    return timers;
  };
  const int before = count_boottime_timers();
  auto alarm = RealRuntime().NewCondition(ConditionKind::kAlarm);
  EXPECT_EQ(count_boottime_timers(), before + 1);
  alarm.reset();
  EXPECT_EQ(count_boottime_timers(), before);
}

TEST(AlarmCondition, FallsBackWithASentenceWhenNoDescriptorIsLeft) {
  Runtime& runtime = RealRuntime();
  rlimit usual;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const int open_before = OpenDescriptors();
  // With one left the timer can be made, but not its event counter.
  for (const int left : {0, 1}) {
    testing::internal::CaptureStderr();
    const int first = dup(0);
    close(first);
    rlimit short_of = usual;
    short_of.rlim_cur = first + left;
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &short_of), 0);
    const auto alarm = runtime.NewCondition(ConditionKind::kAlarm);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
    EXPECT_THAT(testing::internal::GetCapturedStderr(),
                testing::HasSubstr("no timer could be made (Too many open files); raise the limit on open files"));
    Mutex mu;
    MutexLock lock(mu);
    const absl::Time until = runtime.Now() + absl::Milliseconds(2);
    while (runtime.Now() < until) alarm->Wait(mu, until);
    EXPECT_EQ(OpenDescriptors(), open_before) << "a descriptor was leaked";
  }
}

TEST(AlarmConditionDeathTest, TwoWaiters) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Runtime& runtime = RealRuntime();
        const auto alarm = runtime.NewCondition(ConditionKind::kAlarm);
        Mutex mu;
        const auto wait = [&] {
          MutexLock lock(mu);
          for (;;) alarm->Wait(mu, absl::InfiniteFuture());
        };
        const auto one = runtime.StartThread("one", wait);
        const auto two = runtime.StartThread("two", wait);
        wait();
      },
      "two threads wait on one alarm condition; only one at a time may");
}

TEST(RealRuntime, TimeNeverGoesBack) {
  Runtime& runtime = RealRuntime();
  absl::Time last = runtime.Now();
  for (int i = 0; i < 100000; ++i) {
    const absl::Time now = runtime.Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(RealRuntime, DeadlinesInWallTimeAndBack) {
  Runtime& runtime = RealRuntime();
  EXPECT_EQ(runtime.SteadyDeadline(absl::InfiniteFuture()), absl::InfiniteFuture());
  EXPECT_EQ(runtime.SteadyDeadline(absl::InfinitePast()), absl::InfinitePast());
  const absl::Time before = runtime.Now();
  const absl::Time deadline = runtime.SteadyDeadline(runtime.WallNow() + absl::Hours(1));
  // Between the two readings of the clock nothing can be measured; the wall clock itself may be slewed meanwhile.
  EXPECT_GT(deadline, before + absl::Minutes(59));
  EXPECT_LT(deadline, runtime.Now() + absl::Minutes(61));
}

TEST(RealRuntime, RandomDiffersAlsoInAForkedChild) {
  Runtime& runtime = RealRuntime();
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(runtime.Random());
  EXPECT_EQ(seen.size(), 1000u);
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  const pid_t child = fork();
  if (child == 0) {
    const uint64_t bits = runtime.Random();
    _exit(write(fds[1], &bits, sizeof(bits)) == sizeof(bits) ? 0 : 1);
  }
  uint64_t of_child = 0;
  ASSERT_EQ(read(fds[0], &of_child, sizeof(of_child)), static_cast<ssize_t>(sizeof(of_child)));
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_NE(of_child, runtime.Random());
  close(fds[0]);
  close(fds[1]);
}

TEST(RealRuntime, ThreadIsNamedAndJoined) {
  Runtime& runtime = RealRuntime();
  std::string name;
  auto thread = runtime.StartThread("a-name-that-is-too-long", [&] {
    char kept[32] = "";
    pthread_getname_np(pthread_self(), kept, sizeof(kept));
    name = kept;
  });
  EXPECT_FALSE(thread->IsCurrent());
  thread.reset();
  EXPECT_EQ(name, "a-name-that-is-");
}

// The ways out of a thread that nobody joins; `done` is how the test knows of the end.
class Finish {
 public:
  void Signal() {
    MutexLock lock(mu_);
    done_ = true;
    condition_->NotifyAll();
  }
  void Await() {
    MutexLock lock(mu_);
    while (!done_) condition_->Wait(mu_, absl::InfiniteFuture());
  }

 private:
  Mutex mu_;
  const std::unique_ptr<Condition> condition_ = RealRuntime().NewCondition();
  bool done_ KV_GUARDED_BY(mu_) = false;
};

TEST(RealRuntime, ThreadDestroyedInsideItselfGoesOn) {
  Finish handed_over;
  std::unique_ptr<Thread> thread;
  // Shared: the thread may still be inside Signal when this function returns.
  const auto finish = std::make_shared<Finish>();
  thread = RealRuntime().StartThread("worker", [&thread, &handed_over, finish] {
    handed_over.Await();
    EXPECT_TRUE(thread->IsCurrent());
    thread.reset();
    finish->Signal();
  });
  handed_over.Signal();
  finish->Await();
}

TEST(RealRuntime, DetachedThreadIsNotWaitedFor) {
  const auto go_on = std::make_shared<Finish>();
  const auto finish = std::make_shared<Finish>();
  auto thread = RealRuntime().StartThread("worker", [go_on, finish] {
    go_on->Await();
    finish->Signal();
  });
  thread->Detach();
  thread.reset();  // would hang if it waited
  go_on->Signal();
  finish->Await();
}

TEST(RealRuntime, CurrentThreadTellsLivingThreadsApart) {
  Runtime& runtime = RealRuntime();
  EXPECT_NE(runtime.CurrentThread(), 0u);
  EXPECT_EQ(runtime.CurrentThread(), runtime.CurrentThread());
  uint64_t other = 0;
  runtime.StartThread("other", [&] { other = runtime.CurrentThread(); }).reset();
  EXPECT_NE(other, 0u);
  EXPECT_NE(other, runtime.CurrentThread());
}

}  // namespace
}  // namespace coord
