// Ports of the loopback that nobody else gets.

#ifndef TESTS_SERVERS_PORTS_H_
#define TESTS_SERVERS_PORTS_H_

#include "absl/status/statusor.h"

namespace servers::internal {

// Holds a port of 127.0.0.1 for a server to listen at, also while that server does not run: by a socket that is bound
// and does not listen, so that no other server, and no client's end of a connection, is given the port, while a server
// that sets SO_REUSEADDR, as nats-server and memcached do, may listen at it. Who connects before that is refused.
class HeldPort {
 public:
  static absl::StatusOr<HeldPort> Hold();

  HeldPort() = default;
  HeldPort(HeldPort&& other) noexcept;
  HeldPort& operator=(HeldPort&& other) noexcept;
  ~HeldPort();

  int number() const { return number_; }

 private:
  int number_ = 0;
  int socket_ = -1;
};

}  // namespace servers::internal

#endif  // TESTS_SERVERS_PORTS_H_
