// A bell that every process of the machine that has the same file can ring and wait for: a futex in a shared page.
//
// A hint: a ring can be lost (the ringer dies before it, the file is replaced), so that waits have a timeout.

#ifndef KV_INTERNAL_DOORBELL_H_
#define KV_INTERNAL_DOORBELL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"

namespace kv::internal {

// Thread-safe.
class Doorbell {
 public:
  // Makes the file if it is missing. Where that fails (no right, disk full) the bell is heard in this process alone,
  // until Refresh succeeds.
  explicit Doorbell(std::string path);
  ~Doorbell();

  // Wakes all waiters of all processes.
  void Ring();

  // What to give to Wait: a ring after this call ends the wait.
  uint32_t Value() const;

  // Returns after a ring since Value() gave `seen`, at the timeout, or spuriously. InfiniteDuration waits for a ring.
  void Wait(uint32_t seen, absl::Duration timeout) const;

  // Takes up a file that has been replaced or removed. Cheap enough to be called every few milliseconds.
  void Refresh();

 private:
  class Page;
  std::shared_ptr<Page> page() const;

  const std::string path_;
  mutable Mutex mutex_;
  std::shared_ptr<Page> page_ KV_GUARDED_BY(mutex_);
  SteadyTime refreshed_ KV_GUARDED_BY(mutex_);
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_DOORBELL_H_
