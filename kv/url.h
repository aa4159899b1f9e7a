// The parts of a store URL: scheme ':' ['//' authority] path ['?' query]. A pure parser; what the parts mean is decided
// by whoever opens the store.

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

// InvalidArgument with a sentence for what is malformed: no scheme, control characters, a bad percent-escape, a
// fragment, a repeated parameter, a parameter without '='. No message repeats a value.
absl::StatusOr<Url> ParseUrl(std::string_view url);

// `url`, well-formed or not, in the form that may be printed: see kv/open.h.
std::string RedactUrl(std::string_view url);

}  // namespace kv

#endif  // KV_URL_H_
