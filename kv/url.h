// The parts of a URL of a store or of what carries events: scheme ':' ['//' authority] path ['?' query]. A pure parser;
// what the parts mean is decided by whoever opens it.

#ifndef KV_URL_H_
#define KV_URL_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kv {

struct Url {
  std::string scheme;                    // in lower case
  std::optional<std::string> authority;  // as written, user and password included; absent without "//"
  std::string path;                      // percent-decoded
  // In the order of the URL, percent-decoded. No name occurs twice.
  std::vector<std::pair<std::string, std::string>> query;

  // The value of a query parameter.
  std::optional<std::string> Parameter(std::string_view name) const;

  // InvalidArgument for a query parameter whose name is not among `known`; the message lists those.
  absl::Status CheckParameters(const std::vector<std::string>& known) const;
};

// The authority of the URL of a server or of several: [user[:password]@]host[:port][,host[:port]...].
struct Authority {
  std::optional<std::string> user;      // percent-decoded, as the password is
  std::optional<std::string> password;  // only with a user
  std::vector<std::string> servers;     // "host:port", an IPv6 address in brackets; at least one
};

// InvalidArgument with a sentence for what is malformed: no scheme, control characters, a bad percent-escape, a
// fragment, a repeated parameter, a parameter without '='. No message repeats a value.
absl::StatusOr<Url> ParseUrl(std::string_view url);

// InvalidArgument with a sentence for an authority that is absent or malformed, and for a path after it. No message
// repeats any of it, for a piece of a password may stand in a wrong place.
absl::StatusOr<Authority> ParseAuthority(const Url& url, int default_port);

}  // namespace kv

#endif  // KV_URL_H_
