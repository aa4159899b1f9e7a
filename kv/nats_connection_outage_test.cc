// What a NATS connection says and does while its server is away.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "kv/nats_connection.h"
#include "kv/nats_connection_test_util.h"

namespace kv {
namespace {

using States = std::vector<NatsState>;

bool AwaitState(const NatsConnection& connection, NatsState state) {
  return Eventually([&] { return connection.state() == state; });
}

// What comes on a subject, on a connection to `server` of its own.
class Listener {
 public:
  Listener(const servers::NatsServer& server, const std::string& subject) {
    static int count = 0;
    ++count;
    NatsOptions options;  // unlike those of any other connection
    for (int i = 0; i <= count; ++i) options.servers.push_back(server.address());
    connection_ = ConnectTo(options);
    subscription_ = *connection_->Subscribe(subject, [this](const NatsMessage& message) {
      came_.Set([&](Strings& all) { all.emplace_back(message.data()); });
    });
    EXPECT_EQ(connection_->Flush(Soon()), absl::OkStatus());
  }
  Watched<Strings>& came() { return came_; }
  bool AwaitReady() {
    return Eventually([this] { return connection_->Flush(Soon()).ok(); });
  }

 private:
  Watched<Strings> came_;
  std::shared_ptr<NatsConnection> connection_;
  std::unique_ptr<NatsSubscription> subscription_;
};

TEST(NatsConnectionOutageTest, RestartIsToldAndSubscriptionsOutliveIt) {
  auto server = RunNats();
  auto connection = ConnectTo(ServerAt(server->address()));
  Watched<States> states;
  const auto handle =
      connection->OnState([&](NatsState state) { states.Set([&](States& all) { all.push_back(state); }); });
  Watched<Strings> came;
  auto subscription = connection->Subscribe(
      "a", [&](const NatsMessage& message) { came.Set([&](Strings& all) { all.emplace_back(message.data()); }); });
  ASSERT_TRUE(subscription.ok());
  EXPECT_EQ(connection->generation(), 1u);

  server->Kill();
  ASSERT_TRUE(states.Await([](const States& all) { return !all.empty(); }));
  EXPECT_EQ(connection->state(), NatsState::kReconnecting);
  const uint64_t lost = connection->generation();
  EXPECT_GT(lost, 1u);
  const absl::Status unavailable = absl::UnavailableError("a: there is no connection to a NATS server; not sent");
  EXPECT_EQ(connection->Publish("a", "x"), unavailable);
  EXPECT_EQ(connection->Request("a", "x", {}, Soon()).status(), unavailable);
  EXPECT_EQ(connection->RequestAsync("a", "x", {}, Soon(), [](const auto&) { ADD_FAILURE(); }), unavailable);
  EXPECT_EQ(connection->Flush(Soon()).code(), absl::StatusCode::kUnavailable);

  ASSERT_EQ(server->Start(), absl::OkStatus());
  ASSERT_TRUE(states.Await([](const States& all) { return all.size() == 2; }));
  EXPECT_EQ(connection->state(), NatsState::kConnected);
  EXPECT_GT(connection->generation(), lost);
  ASSERT_EQ(connection->Publish("a", "after"), absl::OkStatus());
  ASSERT_TRUE(came.Await([](const Strings& all) { return !all.empty(); }));
  // Nothing of what failed came later.
  EXPECT_EQ(came.Get(), Strings{"after"});
  EXPECT_EQ(states.Get(), (States{NatsState::kReconnecting, NatsState::kConnected}));
}

TEST(NatsConnectionOutageTest, RequestsUnderWayAreToldAtOnce) {
  auto server = RunNats();
  auto connection = ConnectTo(ServerAt(server->address()));
  Listener silent(*server, "silent");
  constexpr int kRequests = 100;
  Watched<Strings> told;
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_EQ(connection->RequestAsync("silent", "", {}, In(absl::Hours(1)),
                                       [&](absl::StatusOr<NatsMessage> answer) {
                                         told.Set([&](Strings& all) { all.push_back(answer.status().ToString()); });
                                       }),
              absl::OkStatus());
  }
  server->Kill();
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(told.Await([](const Strings& all) { return all.size() == kRequests; })) << told.Get().size();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(5));  // about a millisecond on an idle machine
  for (const std::string& status : told.Get()) {
    EXPECT_EQ(status,
              "DEADLINE_EXCEEDED: the connection to the NATS server was lost before the answer came; the request may "
              "have been carried out");
  }
}

TEST(NatsConnectionOutageTest, NothingIsSentLater) {
  auto server = RunNats();
  auto connection = ConnectTo(ServerAt(server->address()));
  std::vector<absl::Status> statuses;
  std::atomic<bool> stop{false};
  std::thread publisher([&] {
    for (int i = 0; !stop; ++i) {
      statuses.push_back(connection->Publish("a", std::to_string(i)));
      if (!statuses.back().ok()) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  std::vector<std::unique_ptr<Listener>> listeners;
  for (int round = 0; round < 3; ++round) {
    server->Kill();
    ASSERT_TRUE(AwaitState(*connection, NatsState::kReconnecting));
    ASSERT_EQ(server->Start(), absl::OkStatus());
    listeners.push_back(std::make_unique<Listener>(*server, "a"));
    ASSERT_TRUE(AwaitState(*connection, NatsState::kConnected));
    ASSERT_TRUE(listeners.back()->came().Await([](const Strings& all) { return !all.empty(); }));
  }
  stop = true;
  publisher.join();
  for (const auto& listener : listeners) ASSERT_TRUE(listener->AwaitReady());
  ASSERT_EQ(connection->Publish("a", "end"), absl::OkStatus());
  for (const auto& listener : listeners) {
    ASSERT_TRUE(listener->came().Await([](const Strings& all) { return !all.empty() && all.back() == "end"; }));
    int last = -1;
    for (const std::string& text : listener->came().Get()) {
      if (text == "end") continue;
      const int number = std::stoi(text);
      EXPECT_GT(number, last) << "twice, or out of order";
      EXPECT_FALSE(absl::IsUnavailable(statuses[number])) << text << " came although it was not sent";
      last = number;
    }
  }
  int unavailable = 0;
  for (const absl::Status& status : statuses) unavailable += absl::IsUnavailable(status) ? 1 : 0;
  EXPECT_GT(unavailable, 0);
}

TEST(NatsConnectionOutageTest, AServerThatFallsSilentIsNoticed) {
  auto server = RunNats();
  auto connection = ConnectTo(ServerAt(server->address()));
  Listener silent(*server, "silent");
  std::promise<absl::Status> told;
  ASSERT_EQ(connection->RequestAsync("silent", "", {}, In(absl::Hours(1)),
                                     [&](absl::StatusOr<NatsMessage> answer) { told.set_value(answer.status()); }),
            absl::OkStatus());
  ASSERT_EQ(connection->Flush(Soon()), absl::OkStatus());
  const absl::Time begin = absl::Now();
  server->Stop();
  EXPECT_EQ(told.get_future().get().code(), absl::StatusCode::kDeadlineExceeded);
  const absl::Duration took = absl::Now() - begin;
  EXPECT_GT(took, absl::Milliseconds(1500)) << "three pings";
  EXPECT_LT(took, absl::Seconds(5)) << "three are to be expected";
  // Another connection is tried meanwhile, and the server does not answer that either: no call may hang on it.
  const absl::Time end = absl::Now() + absl::Seconds(3);
  while (absl::Now() < end) {
    const absl::Time call = absl::Now();
    EXPECT_EQ(connection->Publish("a", "").code(), absl::StatusCode::kUnavailable);
    EXPECT_LT(absl::Now() - call, absl::Milliseconds(500));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  server->Continue();
  EXPECT_TRUE(AwaitState(*connection, NatsState::kConnected));
  EXPECT_EQ(connection->Publish("a", ""), absl::OkStatus());
}

TEST(NatsConnectionOutageTest, ASilentServerDoesNotHoldUpTheEnd) {
  auto server = RunNats();
  auto connection = ConnectTo(ServerAt(server->address()));
  server->Stop();
  const absl::Time begin = absl::Now();
  connection.reset();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2));
  server->Continue();
}

// The network takes a part of a message and no more.
TEST(NatsConnectionOutageTest, AMessageSentByHalfIsNotSentAgain) {
  FakeServer server(FakeServer::Info(), 2);  // the look at the greeting, and the first connection
  auto connection = ConnectTo(ServerAt(server.address()));
  ASSERT_NE(connection, nullptr);
  const std::string text(32 << 20, 'x');
  const absl::Time begin = absl::Now();
  const absl::Status status = connection->Publish("half", text);
  const absl::Duration took = absl::Now() - begin;
  EXPECT_EQ(status, absl::DeadlineExceededError("half: the NATS server did not take it in time"));
  EXPECT_GT(took, absl::Milliseconds(400));
  EXPECT_LT(took, absl::Seconds(3));
  ASSERT_TRUE(server.received().Await([](const Strings& all) { return all.size() >= 3; })) << "no new connection";
  ASSERT_TRUE(AwaitState(*connection, NatsState::kConnected));
  ASSERT_EQ(connection->Publish("whole", "y"), absl::OkStatus());
  ASSERT_TRUE(Eventually([&] {
    for (const std::string& said : server.received().Get()) {
      if (said.find("PUB whole 1\r\ny\r\n") != std::string::npos) return true;
    }
    return false;
  }));
  const Strings received = server.received().Get();
  for (size_t i = 2; i < received.size(); ++i) {
    EXPECT_EQ(received[i].find("half"), std::string::npos);
    EXPECT_EQ(received[i].find("xx"), std::string::npos);
  }
}

TEST(NatsConnectionOutageTest, AnotherServerTakesOver) {
  auto first = RunNats();
  auto second = RunNats();
  NatsOptions options;
  options.servers = {first->address(), second->address()};
  auto connection = ConnectTo(options);
  servers::NatsServer& used = connection->server() == first->address() ? *first : *second;
  servers::NatsServer& other = &used == first.get() ? *second : *first;
  EXPECT_EQ(connection->server(), used.address());
  used.Kill();
  EXPECT_TRUE(Eventually([&] { return connection->server() == other.address(); })) << connection->server();
  EXPECT_TRUE(Eventually([&] { return connection->server_version() == other.version(); }));
  EXPECT_EQ(connection->Flush(Soon()), absl::OkStatus());
}

// What leads a stream now or in a moment may be any of them.
TEST(NatsConnectionOutageTest, TheVersionsOfAllServersAreAskedFor) {
  auto real = RunNats();
  auto absent = RunNats();
  absent->Kill();
  NatsOptions options;
  options.servers = {real->address(), absent->address()};
  const auto connection = ConnectTo(options);
  ASSERT_NE(connection, nullptr);
  const auto versions = [&] {
    Strings all = connection->server_versions();
    std::sort(all.begin(), all.end());
    return all;
  };
  EXPECT_EQ(versions(), (Strings{"", real->version()}));
  ASSERT_TRUE(absent->Start().ok());
  EXPECT_TRUE(Eventually([&] { return versions() == Strings(2, real->version()); }));
  // Nothing of before is believed once it was connected anew.
  const uint64_t generation = connection->generation();
  (connection->server() == real->address() ? real : absent)->Kill();
  EXPECT_TRUE(Eventually([&] { return connection->generation() > generation + 1; }));
  ASSERT_TRUE(AwaitState(*connection, NatsState::kConnected));
  EXPECT_TRUE(Eventually([&] { return versions() == (Strings{"", real->version()}); }));
}

TEST(NatsConnectionOutageTest, CredentialsRefusedAtAReconnectCloseIt) {
  setenv("KV_TEST_PASSWORD", "my-secret-1", 1);
  auto server = RunNats({false, "authorization { user: u, password: $KV_TEST_PASSWORD }", "", ""});
  NatsOptions options = ServerAt(server->address());
  options.user = "u";
  options.password = "my-secret-1";
  auto connection = ConnectTo(options);
  ASSERT_NE(connection, nullptr);
  setenv("KV_TEST_PASSWORD", "other", 1);
  server->Kill();
  ASSERT_EQ(server->Start(), absl::OkStatus());
  ASSERT_TRUE(AwaitState(*connection, NatsState::kClosed));
  EXPECT_EQ(
      connection->Publish("a", ""),
      absl::UnavailableError("a: the NATS connection is closed; not sent: the server refused the credentials when "
                             "it was to be connected again"));
  EXPECT_FALSE(connection->Subscribe("a", nullptr).ok());
  // The next call of Connect makes a new one, for nobody could use the old one.
  EXPECT_EQ(NatsConnection::Connect(options, Soon()).status().code(), absl::StatusCode::kPermissionDenied);
  options.password = "other";
  EXPECT_NE(ConnectTo(options), nullptr);
}

}  // namespace
}  // namespace kv
