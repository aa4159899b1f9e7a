// Refuses what would break NATS's protocol of lines, or make the server hang up: the client library checks little.

#ifndef KV_INTERNAL_NATS_SUBJECT_H_
#define KV_INTERNAL_NATS_SUBJECT_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "kv/nats_connection.h"

namespace kv::internal {

// InvalidArgument: an empty subject or part of one, blanks, control characters, wildcards where there must be none,
// more than 2048 bytes.
absl::Status CheckNatsSubject(std::string_view subject, bool wildcards);

// InvalidArgument: the subject or a header is malformed, or it all is larger than `max_payload`.
absl::Status CheckNatsMessage(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                              size_t max_payload);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_SUBJECT_H_
