// Hints between stores that cannot watch, over a plain subject.

#ifndef COORD_INTERNAL_NATS_EVENT_HINTS_H_
#define COORD_INTERNAL_NATS_EVENT_HINTS_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "coord/event_bus.h"
#include "kv/nats_connection.h"

namespace coord::internal {

// As EventDriver::MakeHints. `id` is this channel's own: 16 lower-case hex digits.
std::unique_ptr<HintChannel> MakeNatsHints(std::shared_ptr<kv::NatsConnection> connection, const std::string& subject,
                                           const std::string& id, std::function<void(std::string_view key)> on_hint);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_HINTS_H_
