// What nats.c's results mean for the caller: the one place where they are translated.

#ifndef KV_INTERNAL_NATS_ERRORS_H_
#define KV_INTERNAL_NATS_ERRORS_H_

#include <string_view>

#include "absl/status/status.h"
#include "nats/nats.h"

namespace kv::internal {

// The status of something that was to be sent. `what` says what it was, as "publish to a.b". Unavailable: no byte was
// sent and none will be. DeadlineExceeded: it may have reached the server. nats.c's own texts are left out: they may
// hold a server's URL.
absl::Status FromNats(natsStatus status, std::string_view what);

// The status of an attempt to connect, made on this thread just now. Unavailable: worth another try. PermissionDenied:
// the credentials are refused. FailedPrecondition: TLS cannot be agreed on, or the server's certificate is not trusted.
absl::Status FromNatsConnect(natsStatus status);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_ERRORS_H_
