// What happens between the copies and the store at given moments of true time: the loop of the simulation's main
// thread.

#ifndef TESTS_SIM_NETWORK_H_
#define TESTS_SIM_NETWORK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "coord/sim_runtime.h"
#include "kv/internal/mutex.h"

namespace sim {

class Network {
 public:
  explicit Network(coord::SimRuntime& runtime) : wake_(runtime.NewCondition()), now_(runtime.Now()) {}

  // True time, for any thread: the simulation tells it before each step.
  absl::Time now() const { return now_; }
  void Advance(absl::Time now) { now_ = now; }

  // Calls `fn` on the main thread; what is due at one moment goes in the order of the calls. It must not wait.
  void At(absl::Time due, std::function<void()> fn) {
    const bool first = due_.empty() || due < due_.begin()->first.first;
    due_.emplace(std::make_pair(due, ++calls_), std::move(fn));
    if (first) wake_->NotifyAll();
  }
  void After(absl::Duration delay, std::function<void()> fn) { At(now_ + delay, std::move(fn)); }

  // Main only. Lets the others run until `end`, or until `done` says so (asked after everything that was due).
  void RunUntil(absl::Time end, const std::function<bool()>& done = nullptr) {
    kv::internal::MutexLock lock(mu_);
    while (now_ < end && !(done && done())) {
      if (due_.empty() || due_.begin()->first.first > now_) {
        wake_->Wait(mu_, due_.empty() ? end : std::min(end, due_.begin()->first.first));
        continue;
      }
      const std::function<void()> fn = std::move(due_.begin()->second);
      due_.erase(due_.begin());
      lock.Unlock();
      fn();
      lock.Lock();
    }
  }

  // Main only. Forgets what is not due yet.
  void Clear() { due_.clear(); }

 private:
  kv::internal::Mutex mu_;  // to wait with; all threads are one
  const std::unique_ptr<coord::Condition> wake_;
  absl::Time now_;
  uint64_t calls_ = 0;
  std::map<std::pair<absl::Time, uint64_t>, std::function<void()>> due_;
};

}  // namespace sim

#endif  // TESTS_SIM_NETWORK_H_
