// One thread that runs queued functions one at a time, in order.

#ifndef COORD_INTERNAL_EXECUTOR_H_
#define COORD_INTERNAL_EXECUTOR_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "coord/runtime.h"

namespace coord::internal {

class Executor {
 public:
  // At most `kMaxQueued` functions wait; Post blocks nobody and returns false beyond that.
  static constexpr size_t kMaxQueued = 1 << 20;

  Executor(Runtime& runtime, std::string name);
  ~Executor();  // Stop()

  // Queues `fn`. False, and `fn` is dropped, after Stop or when the queue is full.
  bool Post(std::function<void()> fn);

  // Runs what is queued until `until` (steady time), drops the rest, and waits for that. Called from inside a function
  // of this executor it does not wait: the rest runs after that function. Idempotent; any thread.
  void Stop(absl::Time until);

  // True inside a function of this executor.
  bool IsCurrent() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::unique_ptr<Thread> thread_;  // guarded by the State's mutex
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EXECUTOR_H_
