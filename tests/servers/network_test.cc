// A network that can be cut: silently, in both directions, and whole again afterwards.

#include "tests/servers/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "absl/status/status.h"

namespace servers {
namespace {

// Longer than anything takes that is not stuck.
constexpr int kPatienceMs = 60000;
// How long a network that loses everything is watched.
constexpr int kSilenceMs = 300;

constexpr int kPort = 4000;

sockaddr_in AddressAt(const std::string& host) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  EXPECT_EQ(inet_pton(AF_INET, host.c_str(), &address.sin_addr), 1);
  return address;
}

// A socket made in the network of `place`.
int SocketAt(const Place& place) {
  int fd = -1;
  std::thread([&] {
    ASSERT_EQ(setns(place.network, CLONE_NEWNET), 0) << strerror(errno);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  }).join();
  return fd;
}

bool Ready(int fd, short events, int timeout_ms) {
  pollfd waited{fd, events, 0};
  return poll(&waited, 1, timeout_ms) == 1;
}

TEST(NetworkTest, ACutLosesEverythingAndTellsNobody) {
  const auto network = Network::Make(2);
  if (absl::IsPermissionDenied(network.status())) {
    GTEST_SKIP() << "left out: only root can make a network here (" << network.status() << ")";
  }
  ASSERT_TRUE(network.ok()) << network.status();
  const Place server = (*network)->place(0);
  const Place client = (*network)->place(1);
  const sockaddr_in address = AddressAt(server.host);
  const auto* at = reinterpret_cast<const sockaddr*>(&address);

  const int listener = SocketAt(server);
  ASSERT_EQ(bind(listener, at, sizeof(address)), 0) << strerror(errno);
  ASSERT_EQ(listen(listener, 8), 0);
  const int near = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int other = SocketAt(client);
  for (int fd : {near, other}) {
    EXPECT_EQ(connect(fd, at, sizeof(address)), -1);
    EXPECT_EQ(errno, EINPROGRESS);
    ASSERT_TRUE(Ready(fd, POLLOUT, kPatienceMs));
  }
  ASSERT_TRUE(Ready(listener, POLLIN, kPatienceMs));
  const int accepted = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  ASSERT_GE(accepted, 0);

  ASSERT_EQ((*network)->Cut(0), absl::OkStatus());
  EXPECT_EQ(send(near, "a", 1, MSG_NOSIGNAL), 1) << strerror(errno);
  EXPECT_EQ(send(accepted, "b", 1, MSG_NOSIGNAL), 1) << strerror(errno);
  const int late = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(late, at, sizeof(address)), -1);
  EXPECT_EQ(errno, EINPROGRESS);
  EXPECT_FALSE(Ready(late, POLLOUT, kSilenceMs)) << "somebody answered";
  EXPECT_FALSE(Ready(near, POLLIN, 0)) << "somebody told the client";
  EXPECT_FALSE(Ready(accepted, POLLIN, 0)) << "somebody told the server";

  ASSERT_EQ((*network)->Heal(0), absl::OkStatus());
  EXPECT_TRUE(Ready(late, POLLOUT, kPatienceMs));
  char got = 0;
  EXPECT_TRUE(Ready(accepted, POLLIN, kPatienceMs));
  EXPECT_EQ(recv(accepted, &got, 1, 0), 1);
  EXPECT_EQ(got, 'a');
  EXPECT_TRUE(Ready(near, POLLIN, kPatienceMs));
  EXPECT_EQ(recv(near, &got, 1, 0), 1);
  EXPECT_EQ(got, 'b');

  // Two seconds' worth.
  ASSERT_EQ((*network)->Slow(0, 256), absl::OkStatus());
  const std::string much(64 << 10, 'x');
  size_t sent = 0, received = 0;
  const auto begun = std::chrono::steady_clock::now();
  std::string buffer(much.size(), ' ');
  while (received < much.size()) {
    const ssize_t put = send(near, much.data(), much.size() - sent, MSG_NOSIGNAL);
    if (put > 0) sent += static_cast<size_t>(put);
    ASSERT_TRUE(Ready(accepted, POLLIN, kPatienceMs));
    const ssize_t took = recv(accepted, buffer.data(), buffer.size(), 0);
    ASSERT_GT(took, 0) << strerror(errno);
    received += static_cast<size_t>(took);
  }
  EXPECT_GT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(1));
  EXPECT_EQ((*network)->Slow(0, 0), absl::OkStatus());
  for (int fd : {listener, near, other, accepted, late}) close(fd);
}

}  // namespace
}  // namespace servers
