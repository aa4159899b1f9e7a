// Percent-escapes in URLs.

#ifndef KV_INTERNAL_PERCENT_H_
#define KV_INTERNAL_PERCENT_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace kv {

// InvalidArgument for a '%' without two digits behind it, and for an escaped NUL; no message repeats `text`.
absl::StatusOr<std::string> PercentDecode(std::string_view text);

}  // namespace kv

#endif  // KV_INTERNAL_PERCENT_H_
