// A runtime whose time is virtual and whose every choice follows from a seed, for tests: of this library, and of code
// that uses it. A test that waits an hour takes no time, and one that fails fails again with the same seed.

#ifndef COORD_SIM_RUNTIME_H_
#define COORD_SIM_RUNTIME_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "coord/runtime.h"

namespace coord {

namespace internal {
class SimScheduler;
}

struct SimOptions {
  // Decides the order in which threads run, and Random(). Print it when a test fails.
  uint64_t seed = 1;
  // Run threads in the order in which they became ready, instead of an order drawn from the seed.
  bool fifo = false;
  // Of each simulated thread; touched pages alone cost memory. Four times as much under a sanitizer.
  size_t stack_bytes = 256 * 1024;
  // Virtual time beyond which the simulation is taken to hang, and aborts with a list of its threads.
  absl::Duration time_limit = absl::Hours(24 * 100);
};

// One moment at which a thread starts to run or goes on.
struct SimStep {
  absl::Time now;         // true time, which is group 0's unless its clock rate was changed
  uint64_t thread = 0;    // 0 is the thread that made the runtime; the others count up in the order of their start
  std::string_view name;  // valid during the call
  int group = 0;
};

// Simulated threads are fibers of one operating system thread: the one that constructs the SimRuntime. It is itself the
// simulated thread 0, "main", and the others run while it waits. Exactly one runs at a time, until it calls
// Condition::Wait, SleepFor, Yield, RunUntilIdle or the destructor of a Thread, or ends; what computes without calling
// these takes no virtual time. When none is ready the clock jumps to the earliest time-out.
//
//   SimOptions options;
//   options.seed = seed;
//   SimRuntime runtime(options);
//   auto thread = runtime.StartThread("worker", [&] { runtime.SleepFor(absl::Hours(1)); });
//   thread.reset();  // an hour later
//
// Guarantees
// - The same seed and the same program give the same order of steps, times and random numbers.
// - Condition::Wait returns only when notified or when its time has come, never for no reason.
// - A time-out is never early, and late only by a pause of its group or by others that are ready at that very moment.
//
// Aborts with a message that names the threads
// - when none is ready and none has a time-out (a deadlock), or the time limit is passed;
// - when a thread waits, sleeps, yields, joins or ends while it holds a kv::internal::Mutex, other than the one
//   it waits with: the next one that locks it would stop the whole simulation;
// - when it is used by an operating system thread other than its own, NotifyAll included: a store that calls back from
//   a thread of its own cannot be used with it (MemoryStoreOptions::executor avoids that);
// - when it is destroyed while a thread has not ended, unless its group was killed; or when a Condition is destroyed
//   while a thread waits on it;
// - on an exception out of a thread's function (std::terminate).
//
// Not promised: thread_local variables are shared by all simulated threads. What blocks the operating system thread
// (a lock of another process, a socket) blocks all of them, and costs no virtual time. AddressSanitizer prints one
// warning about swapcontext, which can be ignored: it is told of every switch.
//
// Time starts in the year 2100, so that a store that compares a deadline with the real clock finds it far ahead.
//
// Groups stand for machines or processes: a thread is in the group of the one that started it, main in group 0. Each
// group has its own clocks, and can be paused and killed. Group numbers are the caller's choice.
class SimRuntime : public Runtime {
 public:
  explicit SimRuntime(SimOptions options = {});
  ~SimRuntime() override;

  // Runtime. Now and WallNow are those of the calling thread's group. Both kinds of condition are alike here. A
  // detached thread must still end before the runtime is destroyed.
  absl::Time Now() override;
  absl::Time WallNow() override;
  uint64_t Random() override;
  std::unique_ptr<Condition> NewCondition(ConditionKind kind = ConditionKind::kPlain) override;
  std::unique_ptr<Thread> StartThread(const std::string& name, std::function<void()> body) override;
  uint64_t CurrentThread() override;

  // Lets the others run until `duration` has passed on the caller's clock. Zero or less: Yield().
  void SleepFor(absl::Duration duration);

  // Lets any thread that is ready run next, the caller included. The clock stands still.
  void Yield();

  // Returns when all others wait. The clock stands still.
  void RunUntilIdle();

  // Moves the wall clock of every group, or of one, forward or back. Steady time is not touched.
  void JumpWallClock(absl::Duration by);
  void JumpWallClock(int group, absl::Duration by);

  // StartThread in another group than the caller's.
  std::unique_ptr<Thread> StartThreadInGroup(int group, const std::string& name, std::function<void()> body);

  // The calling thread's group.
  int CurrentGroup() const;

  // Stops the threads of `group`, not 0, where they stand, as SIGSTOP does: its clocks go on, and what it missed it
  // does after Resume. A thread that pauses its own group goes on until it next waits. Both are idempotent.
  void Pause(int group);
  void Resume(int group);

  // Ends the threads of `group`, not 0, where they stand, as SIGKILL does; for those who join them they have ended.
  // Nothing is unwound: no destructor runs, and what only they owned is leaked (and not reported as a leak). Threads
  // can be started in the group again. A thread that kills its own group does not return.
  void Kill(int group);

  // How fast the clocks of `group` run from now on against true time: 1.01 gains a second in 100. 0.5 to 2. Waits under
  // way end by the changed clock.
  void SetClockRate(int group, double rate);

  // Calls `hook` before each step, also when a thread goes on by itself; null: none. It must not call the runtime.
  void OnStep(std::function<void(const SimStep&)> hook);

 private:
  const std::unique_ptr<internal::SimScheduler> scheduler_;
};

}  // namespace coord

#endif  // COORD_SIM_RUNTIME_H_
