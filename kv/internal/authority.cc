// ParseAuthority of kv/url.h.

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kv/internal/percent.h"
#include "kv/url.h"

namespace kv {
namespace {

absl::Status Malformed(const Url& url, const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("the ", url.scheme, " URL ", what));
}

bool IsHostName(std::string_view host) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_';
  });
}

bool IsIpv6Address(std::string_view text) {
  in6_addr ignored;
  return inet_pton(AF_INET6, std::string(text).c_str(), &ignored) == 1;
}

// host[:port] or [address][:port]
absl::StatusOr<std::string> ParseServer(const Url& url, std::string_view text, int default_port) {
  std::string_view host = text;
  std::string_view after;
  if (!text.empty() && text[0] == '[') {
    const size_t end = text.find(']');
    if (end == std::string_view::npos || !IsIpv6Address(text.substr(1, end - 1))) {
      return Malformed(url, "has brackets around what is no IPv6 address");
    }
    host = text.substr(0, end + 1);
    after = text.substr(end + 1);
  } else {
    host = text.substr(0, text.find(':'));
    after = text.substr(host.size());
    if (std::count(text.begin(), text.end(), ':') > 1) {
      return Malformed(url,
                       "has a host with several ':'; an IPv6 address stands in brackets, and a ':' in a password "
                       "is written as '%3A'");
    }
    if (host.empty()) {
      return Malformed(url, "lacks a host; between two commas, and before a ':' or '/', stands one");
    }
    if (!IsHostName(host)) return Malformed(url, "has a host with characters that no host name has");
  }
  int port = default_port;
  if (!after.empty()) {
    const absl::string_view digits(after.data() + 1, after.size() - 1);
    const bool plain = after[0] == ':' && std::all_of(digits.begin(), digits.end(), ::isdigit);
    if (!plain || !absl::SimpleAtoi(digits, &port) || port < 1 || port > 65535) {
      return Malformed(url, "has a port that is no number from 1 to 65535");
    }
  }
  return absl::StrCat(absl::string_view(host.data(), host.size()), ":", port);
}

absl::Status ParseUser(const Url& url, std::string_view text, Authority* authority) {
  if (text.find('@') != std::string_view::npos) {
    return Malformed(url,
                     "has more than one '@'; user and password stand once, before the first host, and an '@' in them "
                     "is written as '%40'");
  }
  const size_t colon = text.find(':');
  absl::StatusOr<std::string> user = PercentDecode(text.substr(0, colon));
  if (!user.ok()) return user.status();
  if (user->empty()) return Malformed(url, "has an '@' and no user before it");
  authority->user = *std::move(user);
  if (colon == std::string_view::npos) return absl::OkStatus();
  absl::StatusOr<std::string> password = PercentDecode(text.substr(colon + 1));
  if (!password.ok()) return password.status();
  authority->password = *std::move(password);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Authority> ParseAuthority(const Url& url, int default_port) {
  if (!url.path.empty() && url.path != "/" && url.authority.has_value()) {
    return Malformed(url, "has a path, which no server has; a '/' in a user or a password is written as '%2F'");
  }
  if (url.authority.value_or("").empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the ", url.scheme, " URL names no server: write ", url.scheme, "://HOST:", default_port));
  }
  std::string_view text = *url.authority;
  Authority authority;
  if (const size_t at = text.rfind('@'); at != std::string_view::npos) {
    if (absl::Status status = ParseUser(url, text.substr(0, at), &authority); !status.ok()) return status;
    text.remove_prefix(at + 1);
  }
  for (const absl::string_view part : absl::StrSplit(absl::string_view(text.data(), text.size()), ',')) {
    absl::StatusOr<std::string> server = ParseServer(url, {part.data(), part.size()}, default_port);
    if (!server.ok()) return server.status();
    authority.servers.push_back(*std::move(server));
  }
  return authority;
}

}  // namespace kv
