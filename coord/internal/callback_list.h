// Callbacks of users: run on an Executor, ended by their Subscription at any moment, also from inside themselves.
//
//   CallbackList<const std::string&> list(runtime);
//   Subscription subscription = MakeSubscription(list.Add(fn));
//   list.Post(*core->callbacks, "news");        // every slot, on the executor's thread
//
// Thread-safe. No callback runs under a lock.

#ifndef COORD_INTERNAL_CALLBACK_LIST_H_
#define COORD_INTERNAL_CALLBACK_LIST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "coord/internal/executor.h"
#include "coord/runtime.h"
#include "coord/subscription.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// Knows who runs and whether anybody still may. Separate from what is run, so that one gate can serve the several
// callbacks of one object (a candidate's), whose destructor waits for all of them.
class CallbackGate {
 public:
  explicit CallbackGate(Runtime& runtime);
  CallbackGate(const CallbackGate&) = delete;
  CallbackGate& operator=(const CallbackGate&) = delete;

  // Calls `fn` on this thread, and returns true; false, without a call, once cancelled. Different threads may be inside
  // at the same time.
  bool Run(const std::function<void()>& fn) KV_EXCLUDES(mu_);

  // No call begins from now on; waits for those that run, save for the one that it is called from, and for such as are
  // themselves waiting here (two callbacks that cancel each other). Idempotent; each call waits.
  void Cancel() KV_EXCLUDES(mu_);

  // No call begins from now on; those that run are not waited for.
  void Shut() KV_EXCLUDES(mu_);

  bool cancelled() const KV_EXCLUDES(mu_);

 private:
  struct Call {
    uint64_t thread = 0;
    bool cancelling = false;
  };
  bool Busy(uint64_t self) const KV_REQUIRES(mu_);

  Runtime& runtime_;
  mutable kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> left_;
  bool cancelled_ KV_GUARDED_BY(mu_) = false;
  std::vector<Call> running_ KV_GUARDED_BY(mu_);
};

// One callback and its gate. The function, with all that it captured, is destroyed when the slot is cancelled (or right
// after the call that runs then), so that a function which owns its own Subscription leaks nothing.
template <typename... Args>
class CallbackSlot {
 public:
  using Function = std::function<void(Args...)>;

  CallbackSlot(Runtime& runtime, Function fn) : gate_(runtime), fn_(std::make_shared<const Function>(std::move(fn))) {}

  // Calls the function on this thread unless cancelled.
  void Run(Args... args) {
    gate_.Run([&] {
      // Held inside the gate only: Cancel also waits for the destruction of what the function captured.
      const std::shared_ptr<const Function> fn = Take(/*last=*/false);
      if (fn != nullptr) (*fn)(args...);
    });
  }

  void Cancel() {
    std::shared_ptr<const Function> fn = Take(/*last=*/true);
    gate_.Cancel();
  }

  // As Cancel, but does not wait for a call that runs, nor destroys the function.
  void Shut() { gate_.Shut(); }

  bool cancelled() const { return gate_.cancelled(); }

 private:
  std::shared_ptr<const Function> Take(bool last) KV_EXCLUDES(mu_) {
    kv::internal::MutexLock lock(mu_);
    return last ? std::move(fn_) : fn_;
  }

  CallbackGate gate_;
  kv::internal::Mutex mu_;
  std::shared_ptr<const Function> fn_ KV_GUARDED_BY(mu_);
};

// Runs `slot` on `executor` with copies of `args`. False if the executor takes nothing more.
template <typename... Args, typename... Given>
bool PostTo(Executor& executor, const std::shared_ptr<CallbackSlot<Args...>>& slot, const Given&... given) {
  return executor.Post([slot, copies = std::tuple<std::decay_t<Args>...>(given...)] {
    std::apply([&](const auto&... args) { slot->Run(args...); }, copies);
  });
}

// A subscription that cancels `slot` (anything with Cancel(), held by shared_ptr) when it is destroyed, and keeps
// `alive` until then.
template <typename Slot>
Subscription MakeSubscription(std::shared_ptr<Slot> slot, std::shared_ptr<void> alive = nullptr) {
  struct Owner {
    Owner(std::shared_ptr<Slot> given_slot, std::shared_ptr<void> given_alive)
        : alive(std::move(given_alive)), slot(std::move(given_slot)) {}
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;
    ~Owner() { slot->Cancel(); }
    std::shared_ptr<void> alive;
    std::shared_ptr<Slot> slot;
  };
  return Subscription(std::make_shared<Owner>(std::move(slot), std::move(alive)));
}

// Several slots of one kind, in the order in which they were added. Cancelled ones are forgotten at the next call.
template <typename... Args>
class CallbackList {
 public:
  using Slot = CallbackSlot<Args...>;

  explicit CallbackList(Runtime& runtime) : runtime_(runtime) {}

  std::shared_ptr<Slot> Add(typename Slot::Function fn) {
    auto slot = std::make_shared<Slot>(runtime_, std::move(fn));
    kv::internal::MutexLock lock(mu_);
    Prune();
    slots_.push_back(slot);
    return slot;
  }

  std::vector<std::shared_ptr<Slot>> Slots() {
    kv::internal::MutexLock lock(mu_);
    Prune();
    return slots_;
  }

  // Runs every slot on `executor` with copies of `given`. False if the executor refused one.
  template <typename... Given>
  bool Post(Executor& executor, const Given&... given) {
    bool posted = true;
    for (const std::shared_ptr<Slot>& slot : Slots()) posted = PostTo(executor, slot, given...) && posted;
    return posted;
  }

 private:
  void Prune() KV_REQUIRES(mu_) {
    size_t kept = 0;
    for (std::shared_ptr<Slot>& slot : slots_) {
      if (!slot->cancelled()) slots_[kept++] = slot;
    }
    slots_.resize(kept);
  }

  Runtime& runtime_;
  kv::internal::Mutex mu_;
  std::vector<std::shared_ptr<Slot>> slots_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_CALLBACK_LIST_H_
