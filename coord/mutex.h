// A lock that at most one copy of the plugin holds.
//
//   coord::Mutex mutex = cluster->Mutex("orders");
//   absl::StatusOr<coord::Grant> grant = mutex.Acquire(absl::Now() + absl::Seconds(5));
//   if (!grant.ok()) return grant.status();
//   WriteOrders(grant->fence());            // released at the end of the scope
//
// Fair: copies get it in the order in which they asked; threads of one copy in theirs. A release names its successor in
// the same write. While no other copy waits, the threads of one copy pass the lock on among themselves without a store
// call, and the fence stays.
//
// On a store without a watch a waiting copy notices a hand-over when it next reads the record: after ttl/8 at the
// latest, and at once where JoinOptions::events carries hints. On a store whose reads may lag (a cut-off NATS leader)
// waiting and Inspect may be late by as much, and a Try may call a name taken that was just released; who holds a lock
// is decided by writes alone.
//
// Not reentrant: a second Acquire of the same thread waits for the first grant like any other.
//
// Thread safety: all methods, from any thread, user callbacks included. Handles are cheap to copy; all handles of one
// name in one Cluster are the same lock.
//
// Errors of every method: InvalidArgument (the name), Cancelled (after Leave, or by the token), DeadlineExceeded,
// Unavailable (only from Try and Inspect: the store cannot be reached), DataLoss or FailedPrecondition (the record is
// damaged, of another kind or of a newer version), ResourceExhausted (more than 256 copies wait).

#ifndef COORD_MUTEX_H_
#define COORD_MUTEX_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/cancel.h"
#include "coord/grant.h"
#include "coord/inspect.h"

namespace coord {

namespace internal {
struct Core;
struct GrantName;
}  // namespace internal

struct MutexOptions {
  // Keep the lock after a release while no other copy waits for it, for a ttl at most, so that this copy takes it again
  // without a store call. For a lock that one copy takes often. Others pay one more write when they come.
  bool retain = false;
  // A new fence with every grant, also when threads of one copy pass the lock on: then each passing is a write. For
  // data that tells threads apart by fence.
  bool fence_each = false;
};

using GrantCallback = std::function<void(absl::StatusOr<Grant>)>;

class Mutex {
 public:
  // Waits until this copy holds the lock. Blocks until `deadline` at most (wall time; InfiniteFuture: for ever), then
  // DeadlineExceeded, with the last error of the store in the message if there was one. After an error nothing stays
  // queued.
  absl::StatusOr<Grant> Acquire(absl::Time deadline, const CancelToken& cancel = {});

  // The same without blocking: `done` is called once, on the Cluster's callback thread (or on this one, with Cancelled,
  // once the Cluster has left).
  void AcquireAsync(absl::Time deadline, GrantCallback done, const CancelToken& cancel = {});

  // Takes the lock if nobody holds it and nobody waits, else ResourceExhausted. Blocks for the store calls only, until
  // `deadline` at most (DeadlineExceeded). A dead holder is noticed when its ttl has passed, also by repeated tries
  // alone.
  absl::StatusOr<Grant> TryAcquire(absl::Time deadline);

  // What the record says now. One read.
  absl::StatusOr<NameInfo> Inspect(absl::Time deadline);

 private:
  friend class Cluster;
  Mutex(std::shared_ptr<internal::Core> core, std::shared_ptr<const internal::GrantName> name)
      : core_(std::move(core)), name_(std::move(name)) {}
  std::shared_ptr<internal::Core> core_;
  std::shared_ptr<const internal::GrantName> name_;
};

}  // namespace coord

#endif  // COORD_MUTEX_H_
