// Finds a server that is alive and speaks NATS, and makes the connections of one process with equal options one.

#ifndef KV_INTERNAL_NATS_CONNECT_H_
#define KV_INTERNAL_NATS_CONNECT_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/nats_link.h"
#include "kv/nats_connection.h"

namespace kv::internal {

// As NatsConnection::Connect, for options that have been checked, and always a new one.
absl::StatusOr<std::shared_ptr<NatsLink>> ConnectNats(const NatsOptions& options, SteadyTime deadline);

// The connection that this process has with `options`, unless it is closed; else what `make` returns. Of several
// callers with equal options one makes it, and the others wait.
absl::StatusOr<std::shared_ptr<NatsConnection>> SharedNatsConnection(
    const NatsOptions& options, SteadyTime deadline,
    const std::function<absl::StatusOr<std::shared_ptr<NatsConnection>>()>& make);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_CONNECT_H_
