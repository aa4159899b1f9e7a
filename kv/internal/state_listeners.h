// Those who want to know of every change of a state.

#ifndef KV_INTERNAL_STATE_LISTENERS_H_
#define KV_INTERNAL_STATE_LISTENERS_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kv/internal/callback_gate.h"
#include "kv/internal/mutex.h"

namespace kv::internal {

// Thread-safe; Tell one at a time.
template <typename State>
class StateListeners {
 public:
  // `listener` is called until the handle is destroyed, which waits for a running call, except from inside it.
  std::shared_ptr<void> Add(std::function<void(State)> listener) {
    auto entry = std::make_shared<Entry>();
    entry->listener = std::move(listener);
    MutexLock lock(mutex_);
    entries_.push_back(entry);
    // What is returned has an end of its own, for a running call keeps the entry alive.
    return std::shared_ptr<void>(entry.get(), [entry](void*) {
      if (entry->gate.Close()) entry->listener = nullptr;
    });
  }

  void Tell(State state) {
    std::vector<std::shared_ptr<Entry>> entries;
    {
      MutexLock lock(mutex_);
      const auto gone = [](const std::weak_ptr<Entry>& entry) { return entry.expired(); };
      entries_.erase(std::remove_if(entries_.begin(), entries_.end(), gone), entries_.end());
      for (const std::weak_ptr<Entry>& weak : entries_) {
        if (auto entry = weak.lock()) entries.push_back(std::move(entry));
      }
    }
    const CallbackScope scope;
    for (const std::shared_ptr<Entry>& entry : entries) {
      if (!entry->gate.Enter()) continue;
      entry->listener(state);
      if (entry->gate.Leave()) entry->listener = nullptr;
    }
  }

 private:
  struct Entry {
    CallbackGate gate;
    std::function<void(State)> listener;
  };

  Mutex mutex_;
  std::vector<std::weak_ptr<Entry>> entries_ KV_GUARDED_BY(mutex_);
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_STATE_LISTENERS_H_
