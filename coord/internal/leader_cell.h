// The leader of one election as this copy sees it, and those who want to hear of changes.

#ifndef COORD_INTERNAL_LEADER_CELL_H_
#define COORD_INTERNAL_LEADER_CELL_H_

#include <atomic>
#include <memory>

#include "coord/election.h"
#include "coord/internal/callback_list.h"

namespace coord::internal {

class LeaderCell {
 public:
  LeaderCell(Runtime& runtime, Executor& callbacks) : callbacks_(callbacks), observers_(runtime) {}

  // Null: nobody leads, as far as is known. `known` says whether anything is.
  std::shared_ptr<const LeaderInfo> Get() const { return std::atomic_load(&leader_); }
  bool known() const { return known_.load(std::memory_order_acquire); }

  void Set(std::shared_ptr<const LeaderInfo> leader) {
    kv::internal::MutexLock lock(mu_);  // so that observers hear of leaders in their order
    const std::shared_ptr<const LeaderInfo> before = std::atomic_exchange(&leader_, leader);
    known_.store(true, std::memory_order_release);
    const bool same = before != nullptr && leader != nullptr && before->fence == leader->fence &&
                      before->session == leader->session && before->value == leader->value;
    if (leader != nullptr && !same) observers_.Post(callbacks_, *leader);
  }

  // Calls `fn` with the present leader, if any, and every later one.
  Subscription Observe(std::function<void(const LeaderInfo&)> fn) {
    kv::internal::MutexLock lock(mu_);
    auto slot = observers_.Add(std::move(fn));
    if (std::shared_ptr<const LeaderInfo> now = Get()) PostTo(callbacks_, slot, *now);
    return MakeSubscription(slot);
  }

 private:
  Executor& callbacks_;
  std::shared_ptr<const LeaderInfo> leader_;
  std::atomic<bool> known_{false};
  kv::internal::Mutex mu_;
  CallbackList<const LeaderInfo&> observers_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_LEADER_CELL_H_
