#include "tests/servers/network.h"

#include <arpa/inet.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/servers/links.h"

namespace servers {
namespace {

using internal::Namespace;

constexpr int kMostHosts = 250;
constexpr char kSwitch[] = "switch";
constexpr char kTc[] = "/usr/sbin/tc";
constexpr char kDevice[] = "link";  // in each namespace but the switch's

std::string PortOf(size_t member) { return absl::StrCat("port", member); }

in_addr AddressOf(size_t member) { return {htonl(0x0a4d0001u + static_cast<uint32_t>(member))}; }

std::string TextOf(in_addr address) {
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &address, text, sizeof(text));
}

// Members are this process, the first, and the hosts. What they send each other passes a switch in a namespace where
// nobody lives; whoever is cut off is no port of it meanwhile, while its own device stays up. All know each other's
// hardware addresses beforehand, so that nobody notices by asking for one.
class SwitchedNetwork final : public Network {
 public:
  SwitchedNetwork(Namespace hub, std::vector<Namespace> members) : hub_(std::move(hub)), members_(std::move(members)) {}

  absl::Status Connect() {
    absl::Status status = hub_.AddSwitch(kSwitch);
    status.Update(hub_.Up(kSwitch));
    std::vector<sockaddr> hardware;
    for (size_t i = 0; i < members_.size() && status.ok(); ++i) {
      status.Update(hub_.AddPair(PortOf(i), members_[i], kDevice));
      status.Update(hub_.Up(PortOf(i)));
      status.Update(hub_.AddPort(kSwitch, PortOf(i)));
      status.Update(members_[i].SetAddress(kDevice, AddressOf(i)));
      status.Update(members_[i].Up(kDevice));
      const absl::StatusOr<sockaddr> address = members_[i].HardwareAddress(kDevice);
      status.Update(address.status());
      if (address.ok()) hardware.push_back(*address);
    }
    for (size_t i = 0; i < members_.size(); ++i) {
      for (size_t j = 0; j < members_.size() && status.ok(); ++j) {
        if (i != j) status.Update(members_[i].AddNeighbour(kDevice, AddressOf(j), hardware[j]));
      }
    }
    return status;
  }

  int hosts() const override { return static_cast<int>(members_.size()) - 1; }

  Place place(int host) const override {
    const size_t member = MemberOf(host);
    return {TextOf(AddressOf(member)), members_.at(member).file()};
  }

  absl::Status Cut(int host) override { return hub_.RemovePort(kSwitch, PortOf(MemberOf(host))); }
  absl::Status Heal(int host) override { return hub_.AddPort(kSwitch, PortOf(MemberOf(host))); }

  absl::Status Slow(int host, int kbit) override {
    const std::string port = PortOf(MemberOf(host));
    if (kbit == 0) return hub_.Run({kTc, "qdisc", "del", "dev", port, "root"});
    return hub_.Run({kTc, "qdisc", "replace", "dev", port, "root", "tbf", "rate", absl::StrCat(kbit, "kbit"), "burst",
                     "8kb", "latency", "400ms"});
  }

 private:
  static size_t MemberOf(int host) { return static_cast<size_t>(host) + 1; }

  const Namespace hub_;
  const std::vector<Namespace> members_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Network>> Network::Make(int hosts) {
  if (hosts < 1 || hosts > kMostHosts) {
    return absl::InvalidArgumentError(absl::StrCat("a network has 1 to ", kMostHosts, " hosts"));
  }
  std::vector<Namespace> members;
  absl::StatusOr<Namespace> own = Namespace::Enter();
  if (!own.ok()) return own.status();
  members.push_back(*std::move(own));
  absl::StatusOr<Namespace> hub = Namespace::New();
  if (!hub.ok()) return hub.status();
  for (int i = 0; i < hosts; ++i) {
    absl::StatusOr<Namespace> host = Namespace::New();
    if (!host.ok()) return host.status();
    members.push_back(*std::move(host));
  }
  auto network = std::make_unique<SwitchedNetwork>(*std::move(hub), std::move(members));
  if (absl::Status status = network->Connect(); !status.ok()) return status;
  return network;
}

}  // namespace servers
