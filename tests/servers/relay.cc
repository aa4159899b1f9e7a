#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <list>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/internal/mutex.h"
#include "tests/servers/ports.h"
#include "tests/servers/relayed.h"
#include "tests/servers/servers.h"

namespace servers {
namespace {

using kv::internal::Mutex;
using kv::internal::MutexLock;

absl::StatusOr<sockaddr_in> Resolve(const std::string& target) {
  const size_t colon = target.rfind(':');
  if (colon == std::string::npos) return absl::InvalidArgumentError(absl::StrCat(target, " is not HOST:PORT"));
  addrinfo hints = {};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(target.substr(0, colon).c_str(), target.substr(colon + 1).c_str(), &hints, &found);
  if (error != 0) return absl::InvalidArgumentError(absl::StrCat(target, ": ", gai_strerror(error)));
  const sockaddr_in address = *reinterpret_cast<const sockaddr_in*>(found->ai_addr);
  freeaddrinfo(found);
  return address;
}

absl::StatusOr<int> Listen(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 && listen(fd, 128) == 0) {
    return fd;
  }
  const int error = errno;
  close(fd);
  return absl::ErrnoToStatus(error, absl::StrCat("a relay cannot listen at 127.0.0.1:", port));
}

// One thread does all the work. It takes the lock for each round of reads and writes, none of which waits, so that a
// cut holds from the moment it returns.
class PollingRelay final : public Relay {
 public:
  PollingRelay(internal::HeldPort port, int listener, int waker, const sockaddr_in& target)
      : port_(std::move(port)), listener_(listener), waker_(waker), target_(target), thread_([this] { Run(); }) {}

  ~PollingRelay() override {
    {
      MutexLock lock(mutex_);
      ended_ = true;
    }
    Wake();
    thread_.join();
    close(listener_);
    close(waker_);
  }

  std::string address() const override { return absl::StrCat("127.0.0.1:", port_.number()); }
  int connections() const override {
    MutexLock lock(mutex_);
    return static_cast<int>(relayed_.size());
  }

  void Cut() override { Hold({true, true}); }
  void CutReplies() override { Hold({false, true}); }
  void CutRequests() override { Hold({true, false}); }
  void Heal() override { Hold({false, false}); }
  void Reset() override {
    MutexLock lock(mutex_);
    TakeClients();  // those that wait to be accepted have a connection too
    relayed_.clear();
    Wake();
  }

 private:
  void Hold(const internal::Held& held) {
    MutexLock lock(mutex_);
    held_ = held;
    Wake();
  }

  void Wake() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(waker_, &one, sizeof(one));
  }

  void Run() {
    MutexLock lock(mutex_);
    while (!ended_) {
      std::vector<pollfd> waited = {{listener_, POLLIN, 0}, {waker_, POLLIN, 0}};
      for (const internal::Relayed& one : relayed_) one.AddWaited(held_, &waited);
      lock.Unlock();
      poll(waited.data(), waited.size(), -1);
      uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = read(waker_, &count, sizeof(count));
      lock.Lock();
      TakeClients();
      for (auto one = relayed_.begin(); one != relayed_.end();) {
        one = one->Pass(held_, target_) ? std::next(one) : relayed_.erase(one);
      }
    }
  }

  void TakeClients() KV_REQUIRES(mutex_) {
    int client = -1;
    while ((client = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
      relayed_.emplace_back(client);
    }
  }

  const internal::HeldPort port_;
  const int listener_;
  const int waker_;
  const sockaddr_in target_;
  mutable Mutex mutex_;
  std::list<internal::Relayed> relayed_ KV_GUARDED_BY(mutex_);
  internal::Held held_ KV_GUARDED_BY(mutex_);
  bool ended_ KV_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Relay>> Relay::Run(const std::string& target) {
  const absl::StatusOr<sockaddr_in> address = Resolve(target);
  if (!address.ok()) return address.status();
  absl::StatusOr<internal::HeldPort> port = internal::HeldPort::Hold();
  if (!port.ok()) return port.status();
  const int waker = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (waker < 0) return absl::ErrnoToStatus(errno, "no eventfd for a relay");
  const absl::StatusOr<int> listener = Listen(port->number());
  if (!listener.ok()) {
    close(waker);
    return listener.status();
  }
  return std::make_unique<PollingRelay>(*std::move(port), *listener, waker, *address);
}

}  // namespace servers
