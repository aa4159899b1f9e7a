#include "tests/servers/ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>
#include <utility>

#include "absl/status/status.h"
#include "tests/servers/servers.h"

namespace servers {
namespace internal {
namespace {

// Below the range from which Linux takes the ports of clients.
constexpr int kFirst = 10000;
constexpr int kLast = 32000;
constexpr int kTries = 1000;

}  // namespace

absl::StatusOr<HeldPort> HeldPort::Hold() {
  std::random_device random;
  std::uniform_int_distribution<int> any(kFirst, kLast);
  int error = 0;
  for (int i = 0; i < kTries; ++i) {
    HeldPort held;
    held.socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (held.socket_ < 0) return absl::ErrnoToStatus(errno, "no socket to hold a port with");
    held.number_ = any(random);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(held.number_));
    const int on = 1;
    // First alone at the port, then open to the server.
    if (bind(held.socket_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
        setsockopt(held.socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0) {
      return held;
    }
    error = errno;
  }
  return absl::ErrnoToStatus(error, "no free port of 127.0.0.1 found");
}

HeldPort::HeldPort(HeldPort&& other) noexcept
    : number_(std::exchange(other.number_, 0)), socket_(std::exchange(other.socket_, -1)) {}

HeldPort& HeldPort::operator=(HeldPort&& other) noexcept {
  std::swap(number_, other.number_);
  std::swap(socket_, other.socket_);
  return *this;
}

HeldPort::~HeldPort() {
  if (socket_ >= 0) close(socket_);
}

}  // namespace internal

absl::StatusOr<int> FreePort() {
  absl::StatusOr<internal::HeldPort> held = internal::HeldPort::Hold();
  if (!held.ok()) return held.status();
  return held->number();
}

}  // namespace servers
