// What a copy holds while it owns a lock, permits, or a leadership.
//
// A grant is valid until it is released or lost. It is lost when the session of its copy is: no beat reached the store
// for 5/6 of the ttl, somebody broke it, the store forgot. Loss is final for this grant, also if the copy joins again.
//
//   state    how it gets there                     Lost()   Release()
//   held     Acquire, TryAcquire, Campaign         false    gives it up, OK
//   lost     the session ended                     true     FailedPrecondition; never touches a successor's grant
//   released Release, or the destructor            true     OK, does nothing
//
// Thread safety: Lost, fence and OnLost may be called from any thread; moving, Release and destruction by one at a
// time.
//
// A store that may drop records by itself (kv::Traits::evicting; a Cluster refuses it unless told otherwise) may drop
// that of a held lock. Then the lock is free for whoever comes, and its holder loses the grant at its next look, which
// is within ttl/3; until then two may hold it, the second with a higher fence. Who waited queues anew.
//
// Not promised: a process that is paused (SIGSTOP, a VM migration) after it asked Lost() may act while another copy
// already owns. Only a check of the fence where the data is excludes that: FencedCell does it for data in the same
// store.

#ifndef COORD_GRANT_H_
#define COORD_GRANT_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace coord {

namespace internal {
struct Held;
class GrantEngine;
}  // namespace internal

class Grant {
 public:
  // Holds nothing: Lost() is true, fence() 0.
  Grant() = default;
  Grant(Grant&&) noexcept;
  Grant& operator=(Grant&&) noexcept;  // releases what it held, as the destructor does
  Grant(const Grant&) = delete;
  Grant& operator=(const Grant&) = delete;
  // Releases. Blocks as Release() does; an error is logged, never thrown.
  ~Grant();

  // Above the fence of every earlier owner of this name, over crashes and re-creations. Send it along with what the
  // lock protects, and refuse there whatever comes with a smaller one.
  // Where the store's revisions may begin anew (kv::Traits::monotonic_revisions is false) the record counts its fences,
  // from the time of day at which it was made. If the store drops it, the next one begins above, provided that it is
  // made by a copy that has seen the old one, or that the clocks of the two copies differ by less than the time between
  // the making of the two records. The same holds for all records over a restart of the store that no copy survived.
  uint64_t fence() const;

  // True once the grant is no longer valid. Compares the clock itself, so it is right even if no thread of the library
  // has run. A few nanoseconds; no store call.
  bool Lost() const;

  // Calls `fn` once when the grant is lost, on the Cluster's loss thread; at once (on this thread) if it already is;
  // never if it is released first. `fn` should be short: other losses wait for it. Several may be set.
  void OnLost(std::function<void()> fn);

  // Gives the grant up, first here and then in the store: after it returns, whatever it returns, this copy does not
  // hold it. OK: the store has it. FailedPrecondition: it was lost before; nothing was written. Unavailable,
  // DeadlineExceeded: the store did not confirm within `timeout`; the library goes on trying in the background, and
  // others take over at the latest when this copy's session ends. Repeated: OK.
  absl::Status Release(absl::Duration timeout = absl::Seconds(2));

  explicit operator bool() const { return held_ != nullptr; }

 private:
  friend class internal::GrantEngine;
  friend struct internal::Held;
  explicit Grant(std::shared_ptr<internal::Held> held) : held_(std::move(held)) {}

 public:
  // For the library's own primitives.
  const std::shared_ptr<internal::Held>& held() const { return held_; }

 private:
  std::shared_ptr<internal::Held> held_;
};

}  // namespace coord

#endif  // COORD_GRANT_H_
