#include "coord/internal/callback_list.h"

#include <algorithm>

namespace coord::internal {

using kv::internal::MutexLock;

CallbackGate::CallbackGate(Runtime& runtime) : runtime_(runtime), left_(runtime.NewCondition()) {}

bool CallbackGate::Run(const std::function<void()>& fn) {
  const uint64_t self = runtime_.CurrentThread();
  {
    MutexLock lock(mu_);
    if (cancelled_) return false;
    running_.push_back({self});
  }
  fn();
  MutexLock lock(mu_);
  // The innermost call of this thread is the one that ends.
  auto mine = std::find_if(running_.rbegin(), running_.rend(), [&](const Call& call) { return call.thread == self; });
  running_.erase(std::next(mine).base());
  left_->NotifyAll();
  return true;
}

void CallbackGate::Cancel() {
  const uint64_t self = runtime_.CurrentThread();
  MutexLock lock(mu_);
  cancelled_ = true;
  for (Call& call : running_) {
    if (call.thread == self) call.cancelling = true;
  }
  left_->NotifyAll();  // others may now stop waiting for this thread
  while (Busy(self)) left_->Wait(mu_, absl::InfiniteFuture());
  for (Call& call : running_) {
    if (call.thread == self) call.cancelling = false;
  }
}

void CallbackGate::Shut() {
  MutexLock lock(mu_);
  cancelled_ = true;
}

bool CallbackGate::cancelled() const {
  MutexLock lock(mu_);
  return cancelled_;
}

bool CallbackGate::Busy(uint64_t self) const {
  return std::any_of(running_.begin(), running_.end(),
                     [&](const Call& call) { return call.thread != self && !call.cancelling; });
}

}  // namespace coord::internal
