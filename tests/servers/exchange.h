// One question to a server, and its answer.

#ifndef TESTS_SERVERS_EXCHANGE_H_
#define TESTS_SERVERS_EXCHANGE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace servers::internal {

// Connects to host:port, an address and not a name, sends `question`, which may be empty, and reads until the answer
// ends with `end`; with an empty `end` until the server closes. Unavailable if it is not there or closes early,
// DeadlineExceeded if it is silent.
absl::StatusOr<std::string> Exchange(const std::string& host, int port, const std::string& question,
                                     const std::string& end, absl::Time deadline);

// The body of a page of HTTP, of whatever status: nats-server tells of what is not well in the body too.
absl::StatusOr<std::string> HttpGet(const std::string& host, int port, const std::string& path, absl::Time deadline);

}  // namespace servers::internal

#endif  // TESTS_SERVERS_EXCHANGE_H_
