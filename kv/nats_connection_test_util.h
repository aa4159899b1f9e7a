// Shared by the tests of the NATS connection and of what is built on it.

#ifndef KV_NATS_CONNECTION_TEST_UTIL_H_
#define KV_NATS_CONNECTION_TEST_UTIL_H_

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kv/nats_connection.h"
#include "kv/test_util.h"
#include "tests/servers/servers.h"

namespace kv {

inline std::unique_ptr<servers::NatsServer> RunNats(const servers::NatsServerOptions& options = {}) {
  auto server = servers::NatsServer::Run(options);
  if (!server.ok()) ADD_FAILURE() << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

inline std::shared_ptr<NatsConnection> ConnectTo(const NatsOptions& options) {
  auto connection = NatsConnection::Connect(options, Soon());
  if (!connection.ok()) ADD_FAILURE() << connection.status();
  return connection.ok() ? *std::move(connection) : nullptr;
}

inline NatsOptions ServerAt(const std::string& address) {
  NatsOptions options;
  options.servers = {address};
  return options;
}

// Something that other threads change and a test waits for.
template <typename T>
class Watched {
 public:
  template <typename Change>
  void Set(const Change& change) {
    std::lock_guard<std::mutex> lock(mutex_);
    change(value_);
    changed_.notify_all();
  }
  T Get() {
    std::lock_guard<std::mutex> lock(mutex_);
    return value_;
  }
  // False after a long time.
  bool Await(const std::function<bool(const T&)>& holds, std::chrono::seconds patience = std::chrono::seconds(20)) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return holds(value_); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  T value_{};
};

using Strings = std::vector<std::string>;

// Polls a condition that nothing announces; false after a long time.
inline bool Eventually(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// Listens on a port of the loopback, greets, and keeps what it is told, connection by connection.
class FakeServer {
 public:
  // `stalled`: the first so many connections are greeted, and answered until the first PONG is sent, and then not read
  // until Drain.
  explicit FakeServer(std::string greeting, int stalled = 0) : greeting_(std::move(greeting)), stalled_(stalled) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 16) != 0) abort();
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    accepting_ = std::thread([this] { Accept(); });
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;
  ~FakeServer() {
    stop_ = true;
    shutdown(listener_, SHUT_RDWR);
    accepting_.join();
    close(listener_);
    for (const int fd : sockets_) shutdown(fd, SHUT_RDWR);
    for (std::thread& thread : threads_) thread.join();
    for (const int fd : sockets_) close(fd);
  }

  static std::string Info(const std::string& more = "") {
    return "INFO {\"server_id\":\"X\",\"version\":\"2.9.10\",\"host\":\"127.0.0.1\",\"port\":4222,\"proto\":1,"
           "\"headers\":true,\"max_payload\":67108864" +
           more + "}\r\n";
  }

  const std::string& address() const { return address_; }
  void Drain() { drain_ = true; }

  // What each connection has said so far.
  Watched<Strings>& received() { return received_; }
  Watched<Strings>& ended() { return ended_; }  // what was said by those that have ended

 private:
  void Accept() {
    while (!stop_) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      sockets_.push_back(fd);
      const int number = static_cast<int>(threads_.size());
      received_.Set([](Strings& all) { all.emplace_back(); });
      threads_.emplace_back([this, fd, number] { Serve(fd, number); });
    }
  }

  void Serve(int fd, int number) {
    Send(fd, greeting_);
    std::string text;
    bool answered = false;
    while (!stop_) {
      if (answered && number < stalled_) {
        while (!stop_ && !drain_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      char buffer[65536];
      const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
      if (n <= 0) break;
      text.append(buffer, n);
      received_.Set([&](Strings& all) { all[number] = text; });
      if (std::string_view(buffer, n).find("PING\r\n") != std::string_view::npos) {
        Send(fd, "PONG\r\n");
        // The greeting is read again by the client library itself; only its CONNECT counts.
        answered = true;
      }
    }
    ended_.Set([&](Strings& all) { all.push_back(text); });
  }

  static void Send(int fd, const std::string& text) {
    if (send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0) return;
  }

  const std::string greeting_;
  const int stalled_;
  std::string address_;
  int listener_ = -1;
  std::atomic<bool> stop_{false};
  std::atomic<bool> drain_{false};
  std::thread accepting_;
  std::vector<std::thread> threads_;
  std::vector<int> sockets_;
  Watched<Strings> received_;
  Watched<Strings> ended_;
};

}  // namespace kv

#endif  // KV_NATS_CONNECTION_TEST_UTIL_H_
