// Where a memcached server is, and that it is one.

#ifndef KV_INTERNAL_MEMCACHED_ADDRESS_H_
#define KV_INTERNAL_MEMCACHED_ADDRESS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kv::internal {

struct MemcachedAddress {
  std::string host;
  uint16_t port = 11211;

  // "host:port", "[::1]:port"
  std::string Text() const;
};

// Parses "host:port", "host" or "[v6]:port". A list of servers, a path and everything else is InvalidArgument with the
// reason.
absl::StatusOr<MemcachedAddress> ParseMemcachedAddress(std::string_view server);

// The addresses that the name stands for, as numbers. Blocks as long as the system's resolver does. Unavailable where
// there is none.
absl::StatusOr<std::vector<std::string>> ResolveMemcachedAddress(const MemcachedAddress& address);

// A name that stands for several addresses of one family may be several servers, between which connections would
// alternate: InvalidArgument.
absl::Status CheckOneServer(const MemcachedAddress& address, const std::vector<std::string>& resolved);

}  // namespace kv::internal

#endif  // KV_INTERNAL_MEMCACHED_ADDRESS_H_
