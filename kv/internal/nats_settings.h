// From our options to the client library's.

#ifndef KV_INTERNAL_NATS_SETTINGS_H_
#define KV_INTERNAL_NATS_SETTINGS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/nats_connection.h"
#include "nats/nats.h"

namespace kv::internal {

// How long one attempt to connect to one server may take, the TLS handshake included. Meanwhile the library holds its
// lock, so that whoever calls it waits as long.
inline constexpr absl::Duration kConnectTimeout = absl::Seconds(2);

// InvalidArgument: something is missing, contradictory or malformed. NotFound: a file cannot be read. No message holds
// a secret.
absl::Status CheckNatsOptions(const NatsOptions& options);

struct FreeNatsOptions {
  void operator()(natsOptions* options) const { natsOptions_Destroy(options); }
};
using NatsSettings = std::unique_ptr<natsOptions, FreeNatsOptions>;

// The token as the library is to be given it; empty if there is none.
std::string NatsToken(const NatsOptions& options);

// The library's options: everything but the callbacks, and the token, which the caller gives by a handler. `servers`
// are tried in their order. InvalidArgument: a certificate, key or credentials file is not one.
absl::StatusOr<NatsSettings> MakeNatsSettings(const NatsOptions& options, const std::vector<std::string>& servers);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_SETTINGS_H_
