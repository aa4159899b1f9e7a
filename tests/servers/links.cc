#include "tests/servers/links.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <sched.h>
#include <spawn.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

extern char** environ;

namespace servers::internal {
namespace {

// Names of devices are short: IFNAMSIZ.
ifreq Request(const std::string& device) {
  ifreq request = {};
  device.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

sockaddr ToSockaddr(in_addr address) {
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  in.sin_addr = address;
  sockaddr any = {};
  memcpy(&any, &in, sizeof(any));
  return any;
}

// A message to the kernel that asks for a new device.
class NewLink {
 public:
  NewLink() {
    header_.nlmsg_type = RTM_NEWLINK;
    header_.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    text_.resize(NLMSG_HDRLEN);
    AddInfo();
  }

  void AddInfo() {
    const ifinfomsg info = {};
    Add(&info, sizeof(info));
  }
  void AddText(uint16_t type, const std::string& text) { AddAttribute(type, text.c_str(), text.size() + 1); }
  void AddAttribute(uint16_t type, const void* data, size_t size) {
    const size_t begin = Begin(type);
    Add(data, size);
    End(begin);
  }
  size_t Begin(uint16_t type) {
    const size_t begin = text_.size();
    const rtattr attribute = {0, type};
    Add(&attribute, sizeof(attribute));
    return begin;
  }
  void End(size_t begin) {
    const uint16_t size = static_cast<uint16_t>(text_.size() - begin);
    memcpy(text_.data() + begin, &size, sizeof(size));
    text_.resize(NLMSG_ALIGN(text_.size()));
  }

  absl::Status Send(int netlink) {
    header_.nlmsg_len = static_cast<uint32_t>(text_.size());
    memcpy(text_.data(), &header_, sizeof(header_));
    if (send(netlink, text_.data(), text_.size(), 0) < 0) return absl::ErrnoToStatus(errno, "netlink");
    struct {
      nlmsghdr header;
      nlmsgerr error;
      char request[512];
    } answer = {};
    if (recv(netlink, &answer, sizeof(answer), 0) < 0) return absl::ErrnoToStatus(errno, "netlink");
    if (answer.error.error == 0) return absl::OkStatus();
    return absl::ErrnoToStatus(-answer.error.error, "netlink");
  }

 private:
  void Add(const void* data, size_t size) {
    text_.append(static_cast<const char*>(data), size);
    text_.resize(NLMSG_ALIGN(text_.size()));
  }

  nlmsghdr header_ = {};
  std::string text_;
};

}  // namespace

absl::StatusOr<Namespace> Namespace::Enter() {
  // Who is not root may do it in a user namespace of its own.
  if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
    return absl::ErrnoToStatus(errno, "no network namespace of our own");
  }
  Namespace made;
  if (absl::Status status = made.Open(); !status.ok()) return status;
  return made;
}

absl::StatusOr<Namespace> Namespace::New() {
  absl::StatusOr<Namespace> made = absl::UnknownError("");
  std::thread([&] { made = Enter(); }).join();
  return made;
}

absl::Status Namespace::Open() {
  file_ = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  control_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  netlink_ = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (file_ < 0 || control_ < 0 || netlink_ < 0) return absl::ErrnoToStatus(errno, "no sockets in a namespace");
  return Up("lo");
}

Namespace::Namespace(Namespace&& other) noexcept
    : file_(std::exchange(other.file_, -1)),
      control_(std::exchange(other.control_, -1)),
      netlink_(std::exchange(other.netlink_, -1)) {}

Namespace& Namespace::operator=(Namespace&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(control_, other.control_);
  std::swap(netlink_, other.netlink_);
  return *this;
}

Namespace::~Namespace() {
  for (int fd : {file_, control_, netlink_}) {
    if (fd >= 0) close(fd);
  }
}

template <typename Argument>
absl::Status Namespace::Control(unsigned long request, Argument* argument, const std::string& what) const {
  if (ioctl(control_, request, argument) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, what);
}

absl::Status Namespace::AddPair(const std::string& name, const Namespace& other, const std::string& peer) const {
  NewLink link;
  link.AddText(IFLA_IFNAME, name);
  const size_t info = link.Begin(IFLA_LINKINFO);
  link.AddText(IFLA_INFO_KIND, "veth");
  const size_t data = link.Begin(IFLA_INFO_DATA);
  const size_t end = link.Begin(VETH_INFO_PEER);
  link.AddInfo();
  link.AddText(IFLA_IFNAME, peer);
  link.AddAttribute(IFLA_NET_NS_FD, &other.file_, sizeof(other.file_));
  link.End(end);
  link.End(data);
  link.End(info);
  return link.Send(netlink_);
}

absl::Status Namespace::AddSwitch(const std::string& name) const {
  ifreq request = Request(name);
  return Control(SIOCBRADDBR, request.ifr_name, "no bridge");
}

absl::Status Namespace::SetPort(unsigned long what, const std::string& bridge, const std::string& device) const {
  ifreq port = Request(device);
  if (absl::Status status = Control(SIOCGIFINDEX, &port, absl::StrCat("no device ", device)); !status.ok()) {
    return status;
  }
  ifreq request = Request(bridge);
  request.ifr_ifindex = port.ifr_ifindex;
  return Control(what, &request, absl::StrCat("port ", device, " of ", bridge));
}

absl::Status Namespace::AddPort(const std::string& to, const std::string& device) const {
  return SetPort(SIOCBRADDIF, to, device);
}

absl::Status Namespace::RemovePort(const std::string& from, const std::string& device) const {
  return SetPort(SIOCBRDELIF, from, device);
}

absl::Status Namespace::SetAddress(const std::string& device, in_addr address) const {
  ifreq request = Request(device);
  request.ifr_addr = ToSockaddr(address);
  absl::Status status = Control(SIOCSIFADDR, &request, absl::StrCat("the address of ", device));
  if (!status.ok()) return status;
  request.ifr_netmask = ToSockaddr({htonl(0xffffff00)});
  return Control(SIOCSIFNETMASK, &request, absl::StrCat("the network of ", device));
}

absl::Status Namespace::Up(const std::string& device) const {
  ifreq request = Request(device);
  if (absl::Status status = Control(SIOCGIFFLAGS, &request, absl::StrCat("no device ", device)); !status.ok()) {
    return status;
  }
  request.ifr_flags |= IFF_UP;
  return Control(SIOCSIFFLAGS, &request, absl::StrCat(device, " cannot be put up"));
}

absl::StatusOr<sockaddr> Namespace::HardwareAddress(const std::string& device) const {
  ifreq request = Request(device);
  if (absl::Status status = Control(SIOCGIFHWADDR, &request, absl::StrCat("no device ", device)); !status.ok()) {
    return status;
  }
  return request.ifr_hwaddr;
}

absl::Status Namespace::AddNeighbour(const std::string& device, in_addr address, const sockaddr& hardware) const {
  arpreq request = {};
  request.arp_pa = ToSockaddr(address);
  request.arp_ha = hardware;
  request.arp_flags = ATF_PERM | ATF_COM;
  device.copy(request.arp_dev, sizeof(request.arp_dev) - 1);
  return Control(SIOCSARP, &request, absl::StrCat("a neighbour at ", device));
}

absl::Status Namespace::Run(const std::vector<std::string>& words) const {
  int status = -1;
  int error = 0;
  // A program is in the namespace of the thread that starts it.
  std::thread([&] {
    std::vector<char*> pointers;
    for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    pid_t pid = -1;
    if (setns(file_, CLONE_NEWNET) != 0) {
      error = errno;
    } else if (error = posix_spawn(&pid, pointers[0], nullptr, nullptr, pointers.data(), environ); error == 0) {
      while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
      }
    }
  }).join();
  if (error != 0) return absl::ErrnoToStatus(error, words[0]);
  if (status != 0) return absl::InternalError(absl::StrCat(words[0], " ended with status ", status));
  return absl::OkStatus();
}

}  // namespace servers::internal
