// Looks at what a server says before anything is said to it. The client library would believe any peer: one that speaks
// another protocol makes it wait, or fill its memory. And it does not tell the server's version.

#ifndef KV_INTERNAL_NATS_PROBE_H_
#define KV_INTERNAL_NATS_PROBE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"

namespace kv::internal {

// What a server's first line says.
struct NatsServerInfo {
  std::string version;  // "2.9.10"; never empty
  size_t max_payload = 0;
  bool tls_required = false;
  bool tls_available = false;
  bool headers = false;
};

// Connects to "host:port", reads the first line and hangs up. Unavailable: nobody answers there, or says nothing by
// `deadline`. FailedPrecondition: it is not NATS. The messages do not repeat `server`. Name resolution is the system's,
// which may take longer than `deadline`.
absl::StatusOr<NatsServerInfo> ProbeNats(const std::string& server, SteadyTime deadline);

// The same for a line that has been read already, without its line end.
absl::StatusOr<NatsServerInfo> ParseNatsInfo(std::string_view line);

// Whether `version` is `major`.`minor` or later. False for what is not a version.
bool NatsVersionAtLeast(std::string_view version, int major, int minor);

// Splits "host:port", or "[::1]:port". InvalidArgument: it is not such; the message does not repeat it, for it may be a
// URL with a password.
struct HostPort {
  std::string host;  // without brackets
  std::string port;
};
absl::StatusOr<HostPort> SplitHostPort(std::string_view server);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_PROBE_H_
