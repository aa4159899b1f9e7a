// A relay, between memcached and a client that speaks its protocol.

#include <arpa/inet.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/servers/servers.h"

namespace servers {
namespace {

// Longer than anything takes that is not stuck.
constexpr int kPatienceMillis = 60'000;
// How long is looked for what must not come.
constexpr int kQuietMillis = 100;

class Client {
 public:
  explicit Client(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    int port = 0;
    EXPECT_TRUE(absl::SimpleAtoi(address.substr(address.find(':') + 1), &port));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(port));
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0) << address;
  }
  ~Client() { close(fd_); }

  void Send(const std::string& text) {
    EXPECT_EQ(send(fd_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }

  // The next `size` bytes, or fewer if it is closed before.
  std::string Receive(size_t size) {
    std::string text(size, '\0');
    size_t done = 0;
    while (done < size && Readable(kPatienceMillis)) {
      const ssize_t got = recv(fd_, text.data() + done, size - done, 0);
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    text.resize(done);
    return text;
  }

  bool IsQuiet() const { return !Readable(kQuietMillis); }

  // What ended the connection: 0 if it was closed in order.
  int AwaitEnd() {
    char buffer[4096];
    ssize_t got = 1;
    while (got > 0) {
      if (!Readable(kPatienceMillis)) return ETIMEDOUT;
      got = recv(fd_, buffer, sizeof(buffer), 0);
    }
    return got == 0 ? 0 : errno;
  }

  void CloseSending() { shutdown(fd_, SHUT_WR); }

 private:
  bool Readable(int millis) const {
    pollfd waited{fd_, POLLIN, 0};
    return poll(&waited, 1, millis) == 1;
  }

  const int fd_;
};

constexpr char kSet[] = "set key 0 0 5\r\nvalue\r\n";
constexpr char kStored[] = "STORED\r\n";

class RelayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = MemcachedServer::Run();
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto relay = Relay::Run(server_->address());
    ASSERT_TRUE(relay.ok()) << relay.status();
    relay_ = *std::move(relay);
  }

  int64_t Sets() const { return server_->Stat("cmd_set").value_or(-1); }

  static bool Eventually(const std::function<bool()>& condition) {
    const absl::Time deadline = absl::Now() + absl::Milliseconds(kPatienceMillis);
    while (!condition()) {
      if (absl::Now() >= deadline) return false;
      absl::SleepFor(absl::Milliseconds(5));
    }
    return true;
  }

  static void Works(Client* client) {
    client->Send(kSet);
    EXPECT_EQ(client->Receive(sizeof(kStored) - 1), kStored);
  }

  std::unique_ptr<MemcachedServer> server_;
  std::unique_ptr<Relay> relay_;
};

TEST_F(RelayTest, PassesOnEveryByte) {
  Client client(relay_->address());
  Works(&client);
  EXPECT_EQ(relay_->connections(), 1);
  const std::string value(500'000, 'v');
  const std::string shown = "VALUE big 0 500000\r\n" + value + "\r\nEND\r\n";
  for (int i = 0; i < 5; ++i) {
    client.Send("set big 0 0 500000\r\n" + value + "\r\n");
    EXPECT_EQ(client.Receive(sizeof(kStored) - 1), kStored);
    client.Send("get big\r\n");
    EXPECT_EQ(client.Receive(shown.size()), shown);
  }
  client.CloseSending();
  EXPECT_EQ(client.AwaitEnd(), 0);
  EXPECT_TRUE(Eventually([&] { return relay_->connections() == 0; }));
}

TEST_F(RelayTest, CutHoldsBothDirections) {
  Client client(relay_->address());
  Works(&client);
  relay_->Cut();
  client.Send(kSet);
  EXPECT_TRUE(client.IsQuiet());
  EXPECT_EQ(Sets(), 1);
  Client late(relay_->address());
  late.Send(kSet);
  EXPECT_TRUE(late.IsQuiet());
  EXPECT_EQ(Sets(), 1);
  relay_->Heal();
  EXPECT_EQ(client.Receive(sizeof(kStored) - 1), kStored);
  EXPECT_EQ(late.Receive(sizeof(kStored) - 1), kStored);
  EXPECT_EQ(Sets(), 3);
}

TEST_F(RelayTest, CutRepliesLetsRequestsPass) {
  Client client(relay_->address());
  Works(&client);
  relay_->CutReplies();
  client.Send(kSet);
  EXPECT_TRUE(Eventually([&] { return Sets() == 2; }));
  EXPECT_TRUE(client.IsQuiet());
  relay_->Heal();
  EXPECT_EQ(client.Receive(sizeof(kStored) - 1), kStored);
}

TEST_F(RelayTest, CutRequestsLetsRepliesPass) {
  Client client(relay_->address());
  relay_->CutReplies();
  client.Send(kSet);
  EXPECT_TRUE(Eventually([&] { return Sets() == 1; }));
  relay_->CutRequests();
  EXPECT_EQ(client.Receive(sizeof(kStored) - 1), kStored);
  client.Send(kSet);
  EXPECT_TRUE(client.IsQuiet());
  EXPECT_EQ(Sets(), 1);
  relay_->Heal();
  EXPECT_EQ(client.Receive(sizeof(kStored) - 1), kStored);
}

TEST_F(RelayTest, ResetClosesWhatIsThereAlsoDuringACut) {
  Client before(relay_->address());
  Works(&before);
  relay_->Reset();
  EXPECT_EQ(before.AwaitEnd(), ECONNRESET);
  Client during(relay_->address());
  relay_->Cut();
  during.Send(kSet);
  relay_->Reset();
  EXPECT_EQ(during.AwaitEnd(), ECONNRESET);
  EXPECT_EQ(relay_->connections(), 0);
  relay_->Heal();
  Client after(relay_->address());
  Works(&after);
  EXPECT_EQ(Sets(), 2) << "what was held back for a connection that is gone does not pass";
}

TEST_F(RelayTest, AServerThatIsGoneClosesItsClients) {
  Client client(relay_->address());
  Works(&client);
  server_->Kill();
  EXPECT_NE(client.AwaitEnd(), ETIMEDOUT);
  Client refused(relay_->address());
  EXPECT_NE(refused.AwaitEnd(), ETIMEDOUT);
  ASSERT_EQ(server_->Start(), absl::OkStatus());
  Client again(relay_->address());
  Works(&again);
}

TEST(Relay, WantsAHostAndAPort) {
  EXPECT_EQ(Relay::Run("nowhere").status(), absl::InvalidArgumentError("nowhere is not HOST:PORT"));
}

}  // namespace
}  // namespace servers
