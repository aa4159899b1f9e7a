#include "coord/shared_mutex.h"

#include <utility>

#include "coord/internal/core.h"
#include "coord/internal/grant_engine.h"

namespace coord {

namespace {

internal::Ask AskFor(bool shared, bool try_only) {
  internal::Ask ask;
  ask.weight = shared ? 1 : internal::kUnbounded;
  ask.reader = shared;
  ask.try_only = try_only;
  return ask;
}

}  // namespace

absl::StatusOr<Grant> SharedMutex::Acquire(absl::Time deadline, const CancelToken& cancel) {
  return core_->grants->Acquire(name_, AskFor(false, false), deadline, cancel);
}

absl::StatusOr<Grant> SharedMutex::AcquireShared(absl::Time deadline, const CancelToken& cancel) {
  return core_->grants->Acquire(name_, AskFor(true, false), deadline, cancel);
}

absl::StatusOr<Grant> SharedMutex::TryAcquire(absl::Time deadline) {
  return core_->grants->Acquire(name_, AskFor(false, true), deadline, {});
}

absl::StatusOr<Grant> SharedMutex::TryAcquireShared(absl::Time deadline) {
  return core_->grants->Acquire(name_, AskFor(true, true), deadline, {});
}

void SharedMutex::AcquireAsync(absl::Time deadline, GrantCallback done, const CancelToken& cancel) {
  core_->grants->AcquireAsync(name_, AskFor(false, false), deadline, std::move(done), cancel);
}

void SharedMutex::AcquireSharedAsync(absl::Time deadline, GrantCallback done, const CancelToken& cancel) {
  core_->grants->AcquireAsync(name_, AskFor(true, false), deadline, std::move(done), cancel);
}

absl::Status SharedMutex::Downgrade(Grant& grant, absl::Time deadline) {
  const std::shared_ptr<internal::Held>& held = grant.held();
  if (held == nullptr || held->name->kind != name_->kind || held->name->name != name_->name || held->core != core_) {
    return absl::FailedPreconditionError("the grant is not of this shared mutex");
  }
  return core_->grants->Downgrade(held, deadline);
}

absl::StatusOr<NameInfo> SharedMutex::Inspect(absl::Time deadline) { return core_->grants->Inspect(*name_, deadline); }

}  // namespace coord
