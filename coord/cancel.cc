#include "coord/cancel.h"

#include <utility>

namespace coord {

using kv::internal::MutexLock;

bool CancelToken::cancelled() const {
  if (state_ == nullptr) return false;
  MutexLock lock(state_->mu);
  return state_->cancelled;
}

uint64_t CancelToken::OnCancel(std::function<void()> wake) const {
  if (state_ == nullptr) return 0;
  MutexLock lock(state_->mu);
  const uint64_t id = state_->next_id++;
  if (state_->cancelled) {
    wake();
  } else {
    state_->wakes.emplace(id, std::move(wake));
  }
  return id;
}

void CancelToken::Forget(uint64_t id) const {
  if (state_ == nullptr) return;
  MutexLock lock(state_->mu);
  state_->wakes.erase(id);
}

CancelSource::CancelSource() { token_.state_ = std::make_shared<CancelToken::State>(); }

void CancelSource::Cancel() {
  CancelToken::State& state = *token_.state_;
  MutexLock lock(state.mu);
  if (state.cancelled) return;
  state.cancelled = true;
  for (auto& [id, wake] : state.wakes) wake();
  state.wakes.clear();
}

}  // namespace coord
