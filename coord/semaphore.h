// A number of permits that the copies of a plugin share. A request for several gets them all at once, in its turn: a
// request that does not fit stops those behind it, so that large ones do not starve.
//
//   coord::Semaphore uploads = cluster->Semaphore("uploads", 10);
//   auto two = uploads.Acquire(2, absl::Now() + absl::Minutes(1));
//
// The number of permits is kept in the store by whoever acquires first. A handle made with another number gets
// FailedPrecondition; SetPermits changes it for all. Threads, fairness and errors as in Mutex. Grants of one write
// share a fence, so FencedCell does not accept them. A store that drops the record (kv::Traits::evicting) has forgotten
// the number too: it is that of whoever acquires next. Where reads may lag, a handle with the right number may be
// refused for as long after SetPermits.

#ifndef COORD_SEMAPHORE_H_
#define COORD_SEMAPHORE_H_

#include "coord/mutex.h"

namespace coord {

class Semaphore {
 public:
  // Waits for `permits` of them (1 to the semaphore's number, else InvalidArgument). Otherwise as Mutex::Acquire.
  absl::StatusOr<Grant> Acquire(uint32_t permits, absl::Time deadline, const CancelToken& cancel = {});
  void AcquireAsync(uint32_t permits, absl::Time deadline, GrantCallback done, const CancelToken& cancel = {});

  // Takes them if they are free and nobody waits, else ResourceExhausted. Otherwise as Mutex::TryAcquire.
  absl::StatusOr<Grant> TryAcquire(uint32_t permits, absl::Time deadline);

  // Makes the number `permits` (1 to 4294967294). Lowering it revokes nothing: nobody is granted any until enough came
  // back. Handles made with the old number are refused from then on, this one goes on with the new. Waiters that ask
  // for more than the new number: InvalidArgument.
  absl::Status SetPermits(uint32_t permits, absl::Time deadline);

  absl::StatusOr<NameInfo> Inspect(absl::Time deadline);

 private:
  friend class Cluster;
  Semaphore(std::shared_ptr<internal::Core> core, std::shared_ptr<const internal::GrantName> name)
      : core_(std::move(core)), name_(std::move(name)) {}
  std::shared_ptr<internal::Core> core_;
  std::shared_ptr<const internal::GrantName> name_;
};

}  // namespace coord

#endif  // COORD_SEMAPHORE_H_
