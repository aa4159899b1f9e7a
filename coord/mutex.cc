#include "coord/mutex.h"

#include <utility>

#include "coord/internal/core.h"
#include "coord/internal/grant_engine.h"

namespace coord {

absl::StatusOr<Grant> Mutex::Acquire(absl::Time deadline, const CancelToken& cancel) {
  return core_->grants->Acquire(name_, {}, deadline, cancel);
}

void Mutex::AcquireAsync(absl::Time deadline, GrantCallback done, const CancelToken& cancel) {
  core_->grants->AcquireAsync(name_, {}, deadline, std::move(done), cancel);
}

absl::StatusOr<Grant> Mutex::TryAcquire(absl::Time deadline) {
  internal::Ask ask;
  ask.try_only = true;
  return core_->grants->Acquire(name_, std::move(ask), deadline, {});
}

absl::StatusOr<NameInfo> Mutex::Inspect(absl::Time deadline) { return core_->grants->Inspect(*name_, deadline); }

}  // namespace coord
