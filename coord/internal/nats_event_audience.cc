#include "coord/internal/nats_event_audience.h"

#include <algorithm>
#include <utility>

namespace coord::internal {

using kv::internal::MutexLock;

NatsEventAudience::NatsEventAudience(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                                     std::shared_ptr<kv::NatsConnection> connection,
                                     std::shared_ptr<const NatsEventStream> stream)
    : core_(std::move(core)),
      worker_(std::move(worker)),
      connection_(std::move(connection)),
      stream_(std::move(stream)) {}

void NatsEventAudience::Start() {
  std::shared_ptr<void> handle = connection_->OnState([weak = weak_from_this()](kv::NatsState state) {
    if (const auto self = weak.lock()) self->OnState(state);
  });
  MutexLock lock(mu_);
  state_handle_ = std::move(handle);
}

bool NatsEventAudience::Add(const std::shared_ptr<NatsEventSubscriber>& subscriber) {
  MutexLock lock(mu_);
  if (closed_) return false;
  subscribers_.erase(
      std::remove_if(subscribers_.begin(), subscribers_.end(), [](const auto& weak) { return weak.expired(); }),
      subscribers_.end());
  subscribers_.push_back(subscriber);
  QueueLook();
  return true;
}

std::vector<std::shared_ptr<NatsEventSubscriber>> NatsEventAudience::All() {
  std::vector<std::shared_ptr<NatsEventSubscriber>> all;
  MutexLock lock(mu_);
  for (const auto& weak : subscribers_) {
    if (auto subscriber = weak.lock()) all.push_back(std::move(subscriber));
  }
  return all;
}

void NatsEventAudience::Close() {
  std::shared_ptr<void> handle;
  {
    MutexLock lock(mu_);
    closed_ = true;
    handle = std::move(state_handle_);
  }
  handle.reset();
  for (const auto& subscriber : All()) subscriber->End();
}

// On a thread of the connection.
void NatsEventAudience::OnState(kv::NatsState state) {
  MutexLock lock(mu_);
  if (state != kv::NatsState::kConnected) {
    lost_ = true;
  } else if (std::exchange(lost_, false) && !closed_) {
    worker_->Post(core_->runtime->Now(), [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      for (const auto& subscriber : self->All()) subscriber->OnReconnected();
    });
  }
}

void NatsEventAudience::QueueLook() {
  if (closed_ || std::exchange(look_due_, true)) return;
  const double spread = static_cast<double>(core_->runtime->Random() % 1000) / 1000;
  worker_->Post(core_->runtime->Now() + look_after_ * (0.8 + 0.2 * spread), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Look();
  });
}

void NatsEventAudience::Look() {
  const auto all = All();
  {
    MutexLock lock(mu_);
    look_due_ = false;
    if (all.empty()) return;  // the next subscription begins anew
  }
  const absl::StatusOr<NatsEventStreamState> state = stream_->Ensure(core_->CallDeadline(absl::InfiniteFuture()));
  {
    MutexLock lock(mu_);
    if (state.ok()) {
      const uint64_t held = state->last + 1 - state->first;
      const bool fast = first_ != 0 && state->first > first_ && state->first - first_ > held / 8;
      look_after_ = std::clamp(fast ? look_after_ / 2 : look_after_ * 2, kLookMin, kLookMax);
      first_ = state->first;
    }
    QueueLook();
  }
  if (!state.ok()) return;
  for (const auto& subscriber : all) subscriber->Check(*state);
}

}  // namespace coord::internal
