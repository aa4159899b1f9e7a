// A lock for many readers or one writer. First come, first served among copies: readers that follow each other are let
// in together, and neither side starves. Threads, options and errors as in Mutex.
//
// There is no upgrade: release the shared grant, acquire the exclusive one, and look again at what was read.

#ifndef COORD_SHARED_MUTEX_H_
#define COORD_SHARED_MUTEX_H_

#include "coord/mutex.h"

namespace coord {

class SharedMutex {
 public:
  absl::StatusOr<Grant> Acquire(absl::Time deadline, const CancelToken& cancel = {});        // as the only one
  absl::StatusOr<Grant> AcquireShared(absl::Time deadline, const CancelToken& cancel = {});  // among readers
  absl::StatusOr<Grant> TryAcquire(absl::Time deadline);
  absl::StatusOr<Grant> TryAcquireShared(absl::Time deadline);
  void AcquireAsync(absl::Time deadline, GrantCallback done, const CancelToken& cancel = {});
  void AcquireSharedAsync(absl::Time deadline, GrantCallback done, const CancelToken& cancel = {});

  // Makes the exclusive `grant` a shared one; in the same write the readers next in line are let in. The fence stays
  // and must not guard writes any more. FailedPrecondition if the grant is lost, or not an exclusive one of this lock.
  // On Unavailable and DeadlineExceeded it counts as shared here, and the library goes on telling the store.
  absl::Status Downgrade(Grant& grant, absl::Time deadline);

  absl::StatusOr<NameInfo> Inspect(absl::Time deadline);

 private:
  friend class Cluster;
  SharedMutex(std::shared_ptr<internal::Core> core, std::shared_ptr<const internal::GrantName> name)
      : core_(std::move(core)), name_(std::move(name)) {}
  std::shared_ptr<internal::Core> core_;
  std::shared_ptr<const internal::GrantName> name_;
};

}  // namespace coord

#endif  // COORD_SHARED_MUTEX_H_
