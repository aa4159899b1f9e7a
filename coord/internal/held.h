// What is behind a Grant, and the life of the session that it hangs on.

#ifndef COORD_INTERNAL_HELD_H_
#define COORD_INTERNAL_HELD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/runtime.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

struct Core;
class LeaderCell;

// How long a session is valid, readable by anybody at any time without a lock.
struct SessionLife {
  std::string id;
  absl::Duration ttl;
  std::atomic<int64_t> valid_until_ns{0};  // steady time, as absl::ToUnixNanos
  std::atomic<bool> lost{false};           // sticky: set once, before anybody is told

  bool Valid(absl::Time steady_now) const {
    return !lost.load(std::memory_order_acquire) &&
           absl::ToUnixNanos(steady_now) < valid_until_ns.load(std::memory_order_acquire);
  }
};

// What a handle names. `error` is returned by every call if the name was bad.
struct GrantName {
  std::string kind;  // "mutex", "semaphore", "shared_mutex", "election"
  std::string name;
  mutable std::atomic<uint32_t> capacity{1};  // SetPermits changes it
  bool retain = false;
  bool fence_each = false;
  absl::Status error;
  // Elections: what Leader() reads. Set once by the engine, which keeps `leader_owner`; the pointer lives as long as
  // this name.
  mutable std::atomic<LeaderCell*> leader{nullptr};
  mutable std::shared_ptr<LeaderCell> leader_owner;
};

// One grant. Shared by the Grant, the engine, and those that check it.
struct Held {
  std::shared_ptr<Core> core;  // the engine it came from
  std::shared_ptr<const GrantName> name;
  std::shared_ptr<SessionLife> session;
  uint64_t ticket = 0;
  uint32_t weight = 1;
  uint64_t fence = 0;
  std::atomic<bool> exclusive{
      true};  // fences of this grant may guard writes; false for permits, readers, and after a downgrade
  std::atomic<bool> lost{false};      // sticky
  std::atomic<bool> released{false};  // sticky

  // Neither lost nor released, and its session is valid now.
  bool Valid() const;

  kv::internal::Mutex mu;
  bool told KV_GUARDED_BY(mu) = false;  // the callbacks were taken out to be run
  std::vector<std::function<void()>> on_lost KV_GUARDED_BY(mu);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_HELD_H_
