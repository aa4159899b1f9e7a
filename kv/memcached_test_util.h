// Shared by the tests of the memcached store.

#ifndef KV_MEMCACHED_TEST_UTIL_H_
#define KV_MEMCACHED_TEST_UTIL_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kv/memcached_store.h"
#include "kv/test_util.h"
#include "tests/servers/servers.h"

namespace kv {

using servers::MemcachedServer;
using servers::Relay;

// Fails the test's process with the reason, for nothing can be tested without a server.
inline std::unique_ptr<MemcachedServer> RunServer(const servers::MemcachedOptions& options = {}) {
  auto server = MemcachedServer::Run(options);
  if (!server.ok()) {
    ADD_FAILURE() << server.status();
    std::abort();
  }
  return *std::move(server);
}

inline std::unique_ptr<Relay> RunRelay(const std::string& target) {
  auto relay = Relay::Run(target);
  if (!relay.ok()) {
    ADD_FAILURE() << relay.status();
    std::abort();
  }
  return *std::move(relay);
}

inline std::shared_ptr<Store> OpenAt(const std::string& address, const MemcachedStoreOptions& options = {}) {
  auto store = OpenMemcachedStore(address, Soon(), options);
  if (!store.ok()) {
    ADD_FAILURE() << store.status();
    std::abort();
  }
  return *std::move(store);
}

// Waits for a condition that another process brings about; false after a long time.
inline bool Eventually(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Another program's connection, in memcached's text protocol.
class TextClient {
 public:
  explicit TextClient(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  TextClient(const TextClient&) = delete;
  TextClient& operator=(const TextClient&) = delete;
  ~TextClient() { close(socket_); }

  void Send(const std::string& text) {
    EXPECT_EQ(send(socket_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }

  // The next line, without its end; empty when the server has closed.
  std::string Line() {
    std::string line;
    for (char c; recv(socket_, &c, 1, 0) == 1;) {
      if (c == '\n') {
        if (!line.empty()) line.pop_back();
        return line;
      }
      line += c;
    }
    return "";
  }

  std::string Set(const std::string& name, const std::string& value) {
    Send(absl::StrCat("set ", name, " 0 0 ", value.size(), "\r\n", value, "\r\n"));
    return Line();
  }

  // The value; "(absent)" where there is none. For values without line ends but the header's.
  std::string Get(const std::string& name, uint64_t* id = nullptr) {
    Send(absl::StrCat("gets ", name, "\r\n"));
    const std::string head = Line();
    if (head == "END") return "(absent)";
    const size_t last = head.rfind(' ');
    const size_t size_at = head.rfind(' ', last - 1) + 1;
    if (id != nullptr) *id = std::stoull(head.substr(last + 1));
    std::string value(std::stoul(head.substr(size_at, last - size_at)), '\0');
    size_t got = 0;
    while (got < value.size()) {
      const ssize_t count = recv(socket_, &value[got], value.size() - got, 0);
      if (count <= 0) break;
      got += static_cast<size_t>(count);
    }
    EXPECT_EQ(Line(), "");
    EXPECT_EQ(Line(), "END");
    return value;
  }

 private:
  const int socket_;
};

// A server, and two stores on it, one of them through a relay.
class RelayedServerTest : public testing::Test {
 protected:
  const std::unique_ptr<MemcachedServer> server_ = RunServer();
  const std::unique_ptr<Relay> relay_ = RunRelay(server_->address());
  const std::shared_ptr<Store> store_ = OpenAt(server_->address());
  const std::shared_ptr<Store> relayed_ = OpenAt(relay_->address());

  int64_t Stat(const std::string& name) {
    const auto number = server_->Stat(name);
    EXPECT_TRUE(number.ok()) << number.status();
    return number.value_or(-1);
  }
  void Restart() {
    server_->Kill();
    ASSERT_TRUE(server_->Start().ok());
  }
};

}  // namespace kv

#endif  // KV_MEMCACHED_TEST_UTIL_H_
