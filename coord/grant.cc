#include "coord/grant.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/core.h"
#include "coord/internal/grant_engine.h"
#include "coord/internal/held.h"
#include "coord/names.h"

namespace coord {

using kv::internal::MutexLock;

namespace {

void ReleaseQuietly(std::shared_ptr<internal::Held> held) noexcept {
  if (held == nullptr || held->released || held->lost) return;
  const std::shared_ptr<internal::Core> core = held->core;
  const absl::Status status = core->grants->Release(held, absl::Seconds(2));
  if (status.ok() || absl::IsFailedPrecondition(status)) return;
  core->Log(LogLevel::kWarning, std::string(status.message()));
}

}  // namespace

Grant::Grant(Grant&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}

Grant& Grant::operator=(Grant&& other) noexcept {
  if (this != &other) {
    ReleaseQuietly(std::exchange(held_, nullptr));
    held_ = std::exchange(other.held_, nullptr);
  }
  return *this;
}

Grant::~Grant() { ReleaseQuietly(std::move(held_)); }

uint64_t Grant::fence() const { return held_ == nullptr ? 0 : held_->fence; }

bool Grant::Lost() const { return held_ == nullptr || !held_->Valid(); }

void Grant::OnLost(std::function<void()> fn) {
  if (held_ == nullptr || held_->released) return;
  {
    MutexLock lock(held_->mu);
    if (!held_->told) {
      held_->on_lost.push_back(std::move(fn));
      return;
    }
  }
  fn();
}

absl::Status Grant::Release(absl::Duration timeout) {
  if (held_ == nullptr) return absl::OkStatus();
  return held_->core->grants->Release(held_, timeout);
}

}  // namespace coord
