// Subscriptions that can be destroyed at any time, from anywhere.

#ifndef KV_INTERNAL_NATS_SUBSCRIPTION_H_
#define KV_INTERNAL_NATS_SUBSCRIPTION_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kv/internal/nats_link.h"
#include "kv/nats_connection.h"

namespace kv::internal {

// As NatsConnection::Subscribe.
absl::StatusOr<std::unique_ptr<NatsSubscription>> SubscribeNats(std::shared_ptr<NatsLink> link,
                                                                const std::string& subject,
                                                                std::function<void(NatsMessage)> callback,
                                                                size_t max_pending);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_SUBSCRIPTION_H_
