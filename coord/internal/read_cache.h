// One immutable value that is read far more often than it is replaced, by many threads at once.
//
// A shared_ptr behind a mutex makes all readers write to the mutex and to one reference count. Here each thread keeps a
// reference of its own, with its own count, and looks only at a version number, which no reader writes to.
//
// The price: a thread may keep up to kSlots values of each type alive after they were replaced, until it reads again or
// ends.

#ifndef COORD_INTERNAL_READ_CACHE_H_
#define COORD_INTERNAL_READ_CACHE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace coord::internal {

// The ids of all caches of the process, never reused.
inline uint64_t NextReadCacheId() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

// Thread-safe.
template <typename T>
class ReadCache {
 public:
  static constexpr size_t kSlots = 8;

  // To be called whenever the value was replaced, before whoever replaced it goes on.
  void Changed() { version_.fetch_add(1, std::memory_order_release); }

  // The value; null is one too. `load` returns it, under the owner's lock, when it was replaced since this thread read
  // it.
  template <typename Load>
  std::shared_ptr<const T> Get(const Load& load) const {
    thread_local std::array<Slot, kSlots> slots;
    const uint64_t version = version_.load(std::memory_order_acquire);
    Slot& slot = slots[id_ % kSlots];
    if (slot.id != id_ || slot.version != version) {
      std::shared_ptr<const T> value = Own(load());  // at least as new as `version`
      std::swap(slot.value, value);
      slot.id = id_;
      slot.version = version;
    }
    return slot.value;
  }

 private:
  struct Slot {
    uint64_t id = 0;
    uint64_t version = 0;
    std::shared_ptr<const T> value;
  };

  // The same value behind a reference count of the thread's own.
  static std::shared_ptr<const T> Own(std::shared_ptr<const T> shared) {
    if (shared == nullptr) return nullptr;
    const T* value = shared.get();
    return std::shared_ptr<const T>(std::make_shared<std::shared_ptr<const T>>(std::move(shared)), value);
  }

  const uint64_t id_ = NextReadCacheId();
  std::atomic<uint64_t> version_{0};
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_READ_CACHE_H_
