// A network of this process's own, whose hosts can be cut off from each other: every packet from and to a host that is
// cut off is lost, and nobody is told, neither its clients nor the other servers. The machine's own network is not
// touched: all of it is made in new network namespaces, and gone with this process.

#ifndef TESTS_SERVERS_NETWORK_H_
#define TESTS_SERVERS_NETWORK_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/servers/servers.h"

namespace servers {

// Not thread-safe.
class Network {
 public:
  // Moves this thread, and with it what it starts from now on, threads and processes, into a new network with a
  // loopback of its own and `hosts` hosts around it (250 at most). To be called once, and before anything else that
  // starts threads or servers. An error says what the kernel did not allow; root may do it, and in most systems any
  // user.
  static absl::StatusOr<std::unique_ptr<Network>> Make(int hosts);

  // The namespaces of its hosts are closed: what runs there goes on, and nothing more can be started there.
  virtual ~Network() = default;

  virtual int hosts() const = 0;
  // Where a server lives that is this host.
  virtual Place place(int host) const = 0;

  // Each holds from its return on.
  virtual absl::Status Cut(int host) = 0;
  virtual absl::Status Heal(int host) = 0;

  // What is sent to this host passes at so many kbit/s from now on, and what does not within 400 ms is lost; 0: at full
  // speed. Needs the program tc.
  virtual absl::Status Slow(int host, int kbit) = 0;
};

}  // namespace servers

#endif  // TESTS_SERVERS_NETWORK_H_
