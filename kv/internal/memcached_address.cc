#include "kv/internal/memcached_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kv::internal {
namespace {

// The longest that libmemcached keeps whole.
constexpr size_t kMaxHost = 255;

absl::Status Refused(std::string_view server, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("memcached: \"", std::string(server), "\": ", std::string(why)));
}

std::string Number(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address->sa_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text, sizeof(text));
  } else if (address->sa_family == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text, sizeof(text));
  }
  return text;
}

bool IsHost(std::string_view host) {
  return std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == ':' || c == '%';
  });
}

}  // namespace

std::string MemcachedAddress::Text() const {
  return host.find(':') == std::string::npos ? absl::StrCat(host, ":", port) : absl::StrCat("[", host, "]:", port);
}

absl::StatusOr<MemcachedAddress> ParseMemcachedAddress(std::string_view server) {
  if (server.find_first_of(", ;") != std::string_view::npos) {
    return Refused(server,
                   "a store is on one memcached server, because revisions of several are unrelated and each key would "
                   "live on only one of them; name one server as host:port");
  }
  if (server.find('/') != std::string_view::npos) {
    return Refused(server, "paths and Unix sockets are not supported; name the server as host:port");
  }
  std::string_view host = server;
  std::string_view port;
  if (server.substr(0, 1) == "[") {
    const size_t end = server.find(']');
    if (end == std::string_view::npos) return Refused(server, "the ] is missing; an IPv6 address is [address]:port");
    host = server.substr(1, end - 1);
    port = server.substr(end + 1);
  } else if (const size_t colon = server.find(':'); colon != std::string_view::npos) {
    host = server.substr(0, colon);
    port = server.substr(colon);
  }
  if (host.empty() || host.size() > kMaxHost) return Refused(server, "no host; name the server as host:port");
  if (!IsHost(host)) {
    return Refused(server, "the host has characters that no host name has; name the server as host:port");
  }
  MemcachedAddress address;
  address.host = std::string(host);
  if (port.empty()) return address;
  int number = 0;
  if (port.front() != ':' || !absl::SimpleAtoi(std::string(port.substr(1)), &number) || number < 1 || number > 65535) {
    return Refused(server, "the port is not a number from 1 to 65535; name the server as host:port, or [address]:port");
  }
  address.port = static_cast<uint16_t>(number);
  return address;
}

absl::StatusOr<std::vector<std::string>> ResolveMemcachedAddress(const MemcachedAddress& address) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = getaddrinfo(address.host.c_str(), nullptr, &hints, &found); code != 0) {
    return absl::UnavailableError(
        absl::StrCat("memcached: the host of ", address.Text(), " cannot be looked up: ", gai_strerror(code)));
  }
  std::vector<std::string> numbers;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    std::string number = Number(each->ai_addr);
    if (std::find(numbers.begin(), numbers.end(), number) == numbers.end()) numbers.push_back(std::move(number));
  }
  freeaddrinfo(found);
  return numbers;
}

absl::Status CheckOneServer(const MemcachedAddress& address, const std::vector<std::string>& resolved) {
  const auto v6 = std::count_if(resolved.begin(), resolved.end(),
                                [](const std::string& number) { return number.find(':') != std::string::npos; });
  const auto v4 = static_cast<ptrdiff_t>(resolved.size()) - v6;
  if (v4 <= 1 && v6 <= 1) return absl::OkStatus();
  return Refused(address.Text(), absl::StrCat("the name stands for several addresses (", absl::StrJoin(resolved, ", "),
                                              "); a store is on one memcached server, so name one address"));
}

}  // namespace kv::internal
