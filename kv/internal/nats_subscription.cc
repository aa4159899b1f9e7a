#include "kv/internal/nats_subscription.h"

#include <algorithm>
#include <chrono>
#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/internal/callback_gate.h"
#include "kv/internal/nats_errors.h"
#include "kv/internal/nats_message.h"
#include "nats/nats.h"

namespace kv {
namespace internal {
namespace {

// Where the client library's thread of one subscription delivers. It is owned by the library until that thread ends.
struct Delivery {
  CallbackGate gate;
  std::function<void(NatsMessage)> callback;
};

void Deliver(natsConnection*, natsSubscription*, natsMsg* raw, void* closure) {
  NatsMessage message = NatsMessageAccess::Make(raw);
  Delivery& delivery = **static_cast<std::shared_ptr<Delivery>*>(closure);
  const CallbackScope scope;
  if (!delivery.gate.Enter()) return;
  delivery.callback(std::move(message));
  if (delivery.gate.Leave()) delivery.callback = nullptr;
}

void EndDelivery(void* closure) { delete static_cast<std::shared_ptr<Delivery>*>(closure); }

constexpr int kMaxPendingBytes = 256 << 20;

int64_t Millis(absl::Duration duration) {
  return std::clamp<int64_t>(absl::ToInt64Milliseconds(absl::Ceil(duration, absl::Milliseconds(1))), 1,
                             absl::ToInt64Milliseconds(absl::Hours(24)));
}

}  // namespace
}  // namespace internal

struct NatsSubscription::Impl {
  std::shared_ptr<internal::NatsLink> link;
  std::shared_ptr<internal::Delivery> delivery;  // none without a callback
  natsSubscription* subscription = nullptr;
};

NatsSubscription::NatsSubscription(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

NatsSubscription::~NatsSubscription() {
  if (impl_->delivery != nullptr && impl_->delivery->gate.Close()) impl_->delivery->callback = nullptr;
  impl_->link->graveyard().Bury(impl_->subscription);
  impl_->link->WakeMaintenance();
}

absl::StatusOr<NatsMessage> NatsSubscription::Next(absl::Duration timeout) {
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(std::min(timeout, absl::Hours(24)));
  while (true) {
    const auto left = absl::FromChrono(deadline - std::chrono::steady_clock::now());
    natsMsg* raw = nullptr;
    const natsStatus s = natsSubscription_NextMsg(&raw, impl_->subscription, internal::Millis(left));
    if (s == NATS_OK) return internal::NatsMessageAccess::Make(raw);
    if (s == NATS_SLOW_CONSUMER) continue;  // said once after messages were dropped; the next ones are there
    if (s == NATS_TIMEOUT) return absl::DeadlineExceededError("no message came in time");
    return internal::FromNats(s, "wait for a message");
  }
}

uint64_t NatsSubscription::dropped() const {
  int64_t count = 0;
  return natsSubscription_GetDropped(impl_->subscription, &count) == NATS_OK ? static_cast<uint64_t>(count) : 0;
}

namespace internal {

absl::StatusOr<std::unique_ptr<NatsSubscription>> SubscribeNats(std::shared_ptr<NatsLink> link,
                                                                const std::string& subject,
                                                                std::function<void(NatsMessage)> callback,
                                                                size_t max_pending) {
  auto impl = std::make_unique<NatsSubscription::Impl>();
  natsStatus s;
  if (callback == nullptr) {
    s = natsConnection_SubscribeSync(&impl->subscription, link->library(), subject.c_str());
  } else {
    impl->delivery = std::make_shared<Delivery>();
    impl->delivery->callback = std::move(callback);
    auto closure = std::make_unique<std::shared_ptr<Delivery>>(impl->delivery);
    s = natsConnection_Subscribe(&impl->subscription, link->library(), subject.c_str(), &Deliver, closure.get());
    // Once it is subscribed the library may use the closure until it says that it has ended; it leaks if the library
    // refuses to say so, which is when the connection has just been closed.
    if (s == NATS_OK) {
      void* released = closure.release();
      natsSubscription_SetOnCompleteCB(impl->subscription, &EndDelivery, released);
    }
  }
  if (s != NATS_OK) return FromNats(s, absl::StrCat("subscribe to ", subject));
  const int limit = static_cast<int>(std::clamp<size_t>(max_pending, 1, INT_MAX));
  natsSubscription_SetPendingLimits(impl->subscription, limit, kMaxPendingBytes);
  impl->link = std::move(link);
  return std::make_unique<NatsSubscription>(std::move(impl));
}

}  // namespace internal
}  // namespace kv
