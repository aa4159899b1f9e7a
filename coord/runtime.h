// The only source of time, of randomness, of threads and of blocking waits in coord/. Production uses real threads;
// a simulator runs the same code on fibers with virtual time and a seed. Nothing in coord/ may reach around it.

#ifndef COORD_RUNTIME_H_
#define COORD_RUNTIME_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "kv/internal/mutex.h"

namespace coord {

// A condition variable. Any thread may notify; several may wait.
class Condition {
 public:
  Condition() = default;
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  virtual ~Condition() = default;

  // Releases `mu`, blocks until notified or until Runtime::Now() reaches `until` (absl::InfiniteFuture(): no limit),
  // takes `mu` again. May return earlier for no reason, so wait in a loop. No other kv::internal::Mutex may be held by
  // the caller.
  virtual void Wait(kv::internal::Mutex& mu, absl::Time until) KV_REQUIRES(mu) = 0;
  virtual void NotifyAll() = 0;
};

// A running thread. The destructor waits for its function to return; called inside that very function it lets the
// thread finish by itself instead.
class Thread {
 public:
  Thread() = default;
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  virtual ~Thread() = default;
  // True inside the thread's own function.
  virtual bool IsCurrent() const = 0;
  // Lets the thread finish by itself: the destructor will not wait for it.
  virtual void Detach() = 0;
};

class Runtime {
 public:
  Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  virtual ~Runtime() = default;

  // Steady time: never jumps, and goes on while the machine sleeps (CLOCK_BOOTTIME). Comparable only with itself,
  // within one process; its zero means nothing.
  virtual absl::Time Now() = 0;

  // The wall clock, which may jump. For stamps that people read, and for deadlines that come from or go to interfaces
  // that speak wall time; never for deciding who owns what.
  virtual absl::Time WallNow() = 0;

  // 64 uniformly random bits, from the operating system in production; thread-safe.
  virtual uint64_t Random() = 0;

  // `kAlarm` keeps its time-out on the steady clock even over a suspend of the machine, at the price of two file
  // descriptors; at most one thread may wait on it at a time. `kPlain` may be late by the length of the suspend.
  enum class ConditionKind { kPlain, kAlarm };
  virtual std::unique_ptr<Condition> NewCondition(ConditionKind kind = ConditionKind::kPlain) = 0;

  // Starts a thread. `name` is for people (at most 15 bytes are kept).
  virtual std::unique_ptr<Thread> StartThread(const std::string& name, std::function<void()> body) = 0;

  // Identifies the calling thread (or fiber) among those that run now; never 0.
  virtual uint64_t CurrentThread() = 0;

  // The steady time at which a deadline in wall time is due, fixed now: a later jump of the wall clock has no effect.
  absl::Time SteadyDeadline(absl::Time wall_deadline) {
    if (wall_deadline == absl::InfiniteFuture() || wall_deadline == absl::InfinitePast()) return wall_deadline;
    return Now() + (wall_deadline - WallNow());
  }

  // The reverse, for calls that take wall time.
  absl::Time WallDeadline(absl::Time steady_deadline) {
    if (steady_deadline == absl::InfiniteFuture() || steady_deadline == absl::InfinitePast()) return steady_deadline;
    return WallNow() + (steady_deadline - Now());
  }
};

// The runtime of production: real threads and clocks. One per process, never destroyed.
Runtime& RealRuntime();

}  // namespace coord

#endif  // COORD_RUNTIME_H_
