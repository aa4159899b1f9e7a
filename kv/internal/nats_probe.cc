#include "kv/internal/nats_probe.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"

namespace kv::internal {
namespace {

// A real first line has some hundred bytes, or a few thousand where it lists the servers of a large cluster.
constexpr size_t kMaxLine = 32 << 10;
constexpr std::string_view kFirstWord = "INFO ";

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

// False at the deadline.
bool WaitFor(int fd, short events, SteadyTime deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (left <= 0) return false;
    pollfd poll_fd{fd, events, 0};
    const int ready = poll(&poll_fd, 1, static_cast<int>(std::min<int64_t>(left, 60'000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

absl::Status Connect(int fd, const addrinfo& address, SteadyTime deadline) {
  if (connect(fd, address.ai_addr, address.ai_addrlen) == 0) return absl::OkStatus();
  if (errno != EINPROGRESS) return absl::UnavailableError(strerror(errno));
  if (!WaitFor(fd, POLLOUT, deadline)) return absl::UnavailableError("no connection in time");
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return absl::UnavailableError(strerror(error));
  return absl::OkStatus();
}

absl::Status NotNats() {
  return absl::FailedPreconditionError("it does not speak NATS; check the address: 4222 is the usual port of clients");
}

// A server that wants to begin with TLS says nothing, too.
absl::Status Silent() {
  return absl::UnavailableError(
      "it takes the connection but says nothing; it hangs, is no NATS server, or expects the client to begin TLS "
      "(handshake_first), which is not supported");
}

absl::StatusOr<NatsServerInfo> ReadInfo(int fd, SteadyTime deadline) {
  std::string line;
  char buffer[4096];
  while (true) {
    if (!WaitFor(fd, POLLIN, deadline)) return line.empty() ? Silent() : NotNats();
    const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return absl::UnavailableError(strerror(errno));
    if (n == 0) {
      return line.empty() ? absl::UnavailableError("it closes the connection at once") : NotNats();
    }
    line.append(buffer, n);
    const size_t compared = std::min(line.size(), kFirstWord.size());
    if (line.compare(0, compared, kFirstWord, 0, compared) != 0) return NotNats();
    if (const size_t end = line.find("\r\n"); end != std::string::npos) return ParseNatsInfo(line.substr(0, end));
    if (line.size() > kMaxLine) return NotNats();
  }
}

}  // namespace

absl::StatusOr<NatsServerInfo> ProbeNats(const std::string& server, SteadyTime deadline) {
  absl::StatusOr<HostPort> parts = SplitHostPort(server);
  if (!parts.ok()) return parts.status();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(parts->host.c_str(), parts->port.c_str(), &hints, &found); error != 0) {
    return absl::UnavailableError(absl::StrCat("the name cannot be resolved: ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, &freeaddrinfo);

  absl::Status status = absl::UnavailableError("it has no address");
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    const Socket socket(::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket.fd() < 0) {
      status = absl::UnavailableError(strerror(errno));
      continue;
    }
    status = Connect(socket.fd(), *address, deadline);
    if (status.ok()) return ReadInfo(socket.fd(), deadline);
  }
  return status;
}

absl::StatusOr<NatsServerInfo> ParseNatsInfo(std::string_view line) {
  if (line.substr(0, kFirstWord.size()) != kFirstWord) return NotNats();
  const nlohmann::json json = nlohmann::json::parse(line.substr(kFirstWord.size()), nullptr, false);
  if (!json.is_object() || !json.contains("version") || !json["version"].is_string()) return NotNats();
  NatsServerInfo info;
  info.version = json["version"].get<std::string>();
  if (info.version.empty()) info.version = "unknown";
  const auto flag = [&](const char* name) { return json.contains(name) && json[name] == true; };
  info.tls_required = flag("tls_required");
  info.tls_available = flag("tls_available");
  info.headers = flag("headers");
  if (json.contains("max_payload") && json["max_payload"].is_number_unsigned()) {
    info.max_payload = json["max_payload"].get<size_t>();
  }
  return info;
}

bool NatsVersionAtLeast(std::string_view version, int major, int minor) {
  const std::vector<std::string> parts = absl::StrSplit(std::string(version), '.');
  int found_major = 0;
  int found_minor = 0;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &found_major) || !absl::SimpleAtoi(parts[1], &found_minor)) {
    return false;
  }
  return found_major > major || (found_major == major && found_minor >= minor);
}

absl::StatusOr<HostPort> SplitHostPort(std::string_view server) {
  const absl::Status malformed = absl::InvalidArgumentError("a server's address must be written host:port");
  const size_t colon = server.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return malformed;
  HostPort parts{std::string(server.substr(0, colon)), std::string(server.substr(colon + 1))};
  int port = 0;
  if (!std::all_of(parts.port.begin(), parts.port.end(), absl::ascii_isdigit) || !absl::SimpleAtoi(parts.port, &port) ||
      port < 1 || port > 65535) {
    return malformed;
  }
  const bool brackets = parts.host.front() == '[' && parts.host.back() == ']';
  if (brackets) parts.host = parts.host.substr(1, parts.host.size() - 2);
  const auto allowed = [&](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '-' || c == '_' || (brackets && (c == ':' || c == '%'));
  };
  if (parts.host.empty() || !std::all_of(parts.host.begin(), parts.host.end(), allowed)) return malformed;
  return parts;
}

}  // namespace kv::internal
