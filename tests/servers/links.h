// The pieces that a network is made of: namespaces, and what joins them.

#ifndef TESTS_SERVERS_LINKS_H_
#define TESTS_SERVERS_LINKS_H_

#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace servers::internal {

// A network namespace, kept by an open file. Calls act inside it, from whatever thread.
class Namespace {
 public:
  // Moves this thread into a new one, with a loopback that is up.
  static absl::StatusOr<Namespace> Enter();
  // Makes one that no thread is in.
  static absl::StatusOr<Namespace> New();

  Namespace(Namespace&& other) noexcept;
  Namespace& operator=(Namespace&& other) noexcept;
  ~Namespace();

  int file() const { return file_; }

  // A pair of linked devices: `name` here, `peer` in the other. Both are down.
  absl::Status AddPair(const std::string& name, const Namespace& other, const std::string& peer) const;
  // A device that passes on what comes from one of its ports to the others.
  absl::Status AddSwitch(const std::string& name) const;
  absl::Status AddPort(const std::string& to, const std::string& device) const;
  absl::Status RemovePort(const std::string& from, const std::string& device) const;

  // Gives a device an address in a network of 24 bits.
  absl::Status SetAddress(const std::string& device, in_addr address) const;
  absl::Status Up(const std::string& device) const;
  absl::StatusOr<sockaddr> HardwareAddress(const std::string& device) const;
  // Runs a program inside, and waits for its end; not OK unless that is 0.
  absl::Status Run(const std::vector<std::string>& words) const;

  // Who has `address`, for good: that it does not answer is not noticed any more.
  absl::Status AddNeighbour(const std::string& device, in_addr address, const sockaddr& hardware) const;

 private:
  Namespace() = default;
  absl::Status Open();
  template <typename Argument>
  absl::Status Control(unsigned long request, Argument* argument, const std::string& what) const;
  absl::Status SetPort(unsigned long request, const std::string& bridge, const std::string& device) const;

  int file_ = -1;
  int control_ = -1;  // a socket made inside, for ioctl
  int netlink_ = -1;  // the same, for what has no ioctl
};

}  // namespace servers::internal

#endif  // TESTS_SERVERS_LINKS_H_
