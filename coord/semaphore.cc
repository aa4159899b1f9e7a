#include "coord/semaphore.h"

#include <utility>

#include "coord/internal/core.h"
#include "coord/internal/grant_engine.h"

namespace coord {

absl::StatusOr<Grant> Semaphore::Acquire(uint32_t permits, absl::Time deadline, const CancelToken& cancel) {
  internal::Ask ask;
  ask.weight = permits;
  return core_->grants->Acquire(name_, std::move(ask), deadline, cancel);
}

void Semaphore::AcquireAsync(uint32_t permits, absl::Time deadline, GrantCallback done, const CancelToken& cancel) {
  internal::Ask ask;
  ask.weight = permits;
  core_->grants->AcquireAsync(name_, std::move(ask), deadline, std::move(done), cancel);
}

absl::StatusOr<Grant> Semaphore::TryAcquire(uint32_t permits, absl::Time deadline) {
  internal::Ask ask;
  ask.weight = permits;
  ask.try_only = true;
  return core_->grants->Acquire(name_, std::move(ask), deadline, {});
}

absl::Status Semaphore::SetPermits(uint32_t permits, absl::Time deadline) {
  return core_->grants->SetPermits(name_, permits, deadline);
}

absl::StatusOr<NameInfo> Semaphore::Inspect(absl::Time deadline) { return core_->grants->Inspect(*name_, deadline); }

}  // namespace coord
