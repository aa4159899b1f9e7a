// Opens a store by URL.
//
//   memory:                        a private store in this process, for tests; nothing outlives it
//   sqlite:                        the embedded default, at $XDG_STATE_HOME/coord/coord.db
//   sqlite:PATH[?sync=full]        the same at PATH; a relative PATH is taken from the working directory
//
// A URL may carry a secret; RedactUrl gives the form that may be printed, and every error message uses it.

#ifndef KV_OPEN_H_
#define KV_OPEN_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kv/store.h"

namespace kv {

// InvalidArgument for a malformed URL or an unknown scheme (the message lists the known ones); else what the backend
// says. Blocks for at most `timeout`.
absl::StatusOr<std::shared_ptr<Store>> Open(std::string_view url, absl::Duration timeout = absl::Seconds(5));

// `url` with the password, and every query parameter whose name suggests a secret, replaced by "***".
std::string RedactUrl(std::string_view url);

}  // namespace kv

#endif  // KV_OPEN_H_
