// Where a secret is read from.

#ifndef KV_INTERNAL_SECRET_SOURCE_H_
#define KV_INTERNAL_SECRET_SOURCE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kv {

// The first line of a file, without its end; at most 4 KiB. `what` names the secret in errors: "password".
// FailedPrecondition: it cannot be read, or the line is empty or too long.
absl::StatusOr<std::string> ReadSecretFile(const std::string& what, const std::string& path);

// FailedPrecondition: the variable does not exist, or is empty. InvalidArgument: it can be no name of one.
absl::StatusOr<std::string> ReadSecretVariable(const std::string& what, const std::string& name);

// The first line of the standard input, which is read once per process: all calls give the same line. Reads no byte
// after it. FailedPrecondition: it is a terminal, which would show what is typed, or ends without a line.
// DeadlineExceeded: no line came by `deadline`.
absl::StatusOr<std::string> ReadStandardInputLine(absl::Time deadline);

}  // namespace kv

#endif  // KV_INTERNAL_SECRET_SOURCE_H_
