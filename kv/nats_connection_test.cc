#include "kv/nats_connection.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "kv/nats_connection_test_util.h"

namespace kv {
namespace {

class NatsConnectionTest : public testing::Test {
 protected:
  void SetUp() override {
    server_ = RunNats();
    ASSERT_NE(server_, nullptr);
    connection_ = ConnectTo(ServerAt(server_->address()));
    ASSERT_NE(connection_, nullptr);
  }

  std::unique_ptr<NatsSubscription> Subscribe(const std::string& subject, std::function<void(NatsMessage)> callback,
                                              size_t max_pending = 65536) {
    auto subscription = connection_->Subscribe(subject, std::move(callback), max_pending);
    if (!subscription.ok()) ADD_FAILURE() << subscription.status();
    return subscription.ok() ? *std::move(subscription) : nullptr;
  }

  // Answers every request on `subject` with its own bytes.
  std::unique_ptr<NatsSubscription> Echo(const std::string& subject) {
    NatsConnection* connection = connection_.get();
    return Subscribe(subject, [connection](NatsMessage message) {
      EXPECT_EQ(connection->Publish(std::string(message.reply()), message.data()), absl::OkStatus());
    });
  }

  std::unique_ptr<servers::NatsServer> server_;
  std::shared_ptr<NatsConnection> connection_;
};

TEST_F(NatsConnectionTest, KnowsItsServer) {
  EXPECT_EQ(connection_->state(), NatsState::kConnected);
  EXPECT_EQ(connection_->server(), server_->address());
  EXPECT_EQ(connection_->server_version(), server_->version());
  EXPECT_EQ(connection_->max_payload(), size_t{1} << 20);
}

TEST_F(NatsConnectionTest, CarriesBytesHeadersAndReply) {
  auto subscription = Subscribe("a.*", nullptr);
  const std::string bytes("\0\r\n\xff", 4);
  ASSERT_EQ(connection_->Publish("a.b", bytes, {{"One", "1: x"}, {"Two", "2"}}, "answer.here"), absl::OkStatus());
  const auto message = subscription->Next(absl::Seconds(20));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->subject(), "a.b");
  EXPECT_EQ(message->reply(), "answer.here");
  EXPECT_EQ(message->data(), bytes);
  EXPECT_EQ(message->Header("One"), "1: x");
  EXPECT_EQ(message->Header("Two"), "2");
  EXPECT_EQ(message->Header("one"), std::nullopt);
  EXPECT_FALSE(message->IsNoResponders());

  EXPECT_EQ(subscription->Next(absl::Milliseconds(10)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(NatsConnectionTest, EmptyMessage) {
  auto subscription = Subscribe("a", nullptr);
  ASSERT_EQ(connection_->Publish("a", std::string_view()), absl::OkStatus());
  const auto message = subscription->Next(absl::Seconds(20));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->data(), "");
  EXPECT_EQ(message->reply(), "");
}

TEST_F(NatsConnectionTest, RequestIsAnswered) {
  auto echo = Echo("echo");
  const auto answer = connection_->Request("echo", "hello", {}, Soon());
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->data(), "hello");
}

TEST_F(NatsConnectionTest, NobodyListensIsUnavailable) {
  const absl::Status status = connection_->Request("nobody", "hello", {}, Soon()).status();
  EXPECT_EQ(status, absl::UnavailableError("nobody listens on the subject of the request"));
}

TEST_F(NatsConnectionTest, NoAnswerIsDeadlineExceeded) {
  auto silent = Subscribe("silent", [](NatsMessage) {});
  const absl::Time begin = absl::Now();
  const absl::Status status = connection_->Request("silent", "", {}, In(absl::Milliseconds(150))).status();
  const absl::Duration took = absl::Now() - begin;
  EXPECT_EQ(status, absl::DeadlineExceededError(
                        "no answer came from the NATS server in time; the request may have been carried out"));
  EXPECT_GE(took, absl::Milliseconds(140));
  EXPECT_LT(took, absl::Seconds(2));
}

TEST_F(NatsConnectionTest, PassedDeadlineSendsNothing) {
  auto listener = Subscribe("a", nullptr);
  EXPECT_EQ(connection_->Request("a", "", {}, absl::Now() - absl::Seconds(1)).status(),
            absl::DeadlineExceededError("the deadline has passed; nothing was sent"));
  ASSERT_EQ(connection_->Publish("a", "last"), absl::OkStatus());
  const auto message = listener->Next(absl::Seconds(20));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->data(), "last");
}

TEST_F(NatsConnectionTest, ManyRequestsAtOnceAreToldOnceEach) {
  auto echo = Echo("echo");
  constexpr int kRequests = 5000;
  std::vector<std::atomic<int>> told(kRequests);
  std::atomic<int> wrong{0};
  std::atomic<int> done{0};
  for (int i = 0; i < kRequests; ++i) {
    const std::string text = std::to_string(i);
    ASSERT_EQ(connection_->RequestAsync("echo", text, {}, Soon(),
                                        [&, i, text](absl::StatusOr<NatsMessage> answer) {
                                          if (!answer.ok() || answer->data() != text) ++wrong;
                                          ++told[i];
                                          ++done;
                                        }),
              absl::OkStatus());
  }
  EXPECT_TRUE(Eventually([&] { return done == kRequests; })) << done;
  EXPECT_EQ(wrong, 0);
  for (int i = 0; i < kRequests; ++i) EXPECT_EQ(told[i], 1) << i;
}

TEST_F(NatsConnectionTest, RefusesWhatWouldBreakTheProtocol) {
  const auto code = [&](const std::string& subject, const NatsHeaders& headers = {}, const std::string& reply = "") {
    return connection_->Publish(subject, "x", headers, reply).code();
  };
  for (const std::string subject : {"", "a b", "a\r\nPUB b 0", "a..b", ".a", "a.", "a.*", "a.>", ">", "a\tb"}) {
    EXPECT_EQ(code(subject), absl::StatusCode::kInvalidArgument) << subject;
    EXPECT_EQ(connection_->Request(subject, "", {}, Soon()).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(code(std::string(2049, 'a')), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("a", {{"", "v"}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("a", {{"a:b", "v"}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code("a", {{"a", "v\r\nB: c"}}), absl::StatusCode::kInvalidArgument);
  for (const std::string value : {"", " ", " x", "x\t"}) {
    EXPECT_EQ(code("a", {{"a", value}}), absl::StatusCode::kInvalidArgument) << value;
  }
  EXPECT_EQ(code("a", {}, "b c"), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(connection_->Subscribe("a b", nullptr).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(connection_->Publish("a b", "").message(), "the NATS subject 'a b' has a blank or a control character");

  // Stars inside a part are no wildcards, and bytes beyond ASCII are allowed.
  EXPECT_EQ(code("a*b.\xc3\xa4"), absl::StatusCode::kOk);
  EXPECT_EQ(code(std::string(2048, 'a')), absl::StatusCode::kOk);
  EXPECT_EQ(connection_->Flush(Soon()), absl::OkStatus());
  EXPECT_EQ(connection_->generation(), 1u) << "the server hung up";
}

TEST_F(NatsConnectionTest, TheLargestMessageFitsWithItsHeaders) {
  auto subscription = Subscribe("a", nullptr);
  const NatsHeaders headers = {{"Name", "value"}};
  const size_t overhead = std::string("NATS/1.0\r\nName: value\r\n\r\n").size();
  const std::string data(connection_->max_payload() - overhead + 1, 'x');
  EXPECT_EQ(
      connection_->Publish("a", data, headers),
      absl::InvalidArgumentError("the message to a has 1048577 bytes with its headers; the NATS server takes 1048576"));
  ASSERT_EQ(connection_->Publish("a", data.substr(1), headers), absl::OkStatus());
  const auto message = subscription->Next(absl::Seconds(20));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->data().size(), data.size() - 1);
  EXPECT_EQ(connection_->generation(), 1u) << "the server hung up";
}

TEST_F(NatsConnectionTest, TooManyWaitingAreDroppedAndCounted) {
  std::promise<void> go_on;
  std::shared_future<void> may_go_on = go_on.get_future().share();
  std::atomic<int> came{0};
  auto subscription = Subscribe(
      "a",
      [&, may_go_on](NatsMessage) {
        may_go_on.wait();
        ++came;
      },
      10);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(connection_->Publish("a", "x"), absl::OkStatus());
  ASSERT_EQ(connection_->Flush(Soon()), absl::OkStatus());
  const uint64_t dropped = subscription->dropped();
  EXPECT_GE(dropped, 89u);  // one may be with the callback
  go_on.set_value();
  EXPECT_TRUE(Eventually([&] { return came + dropped == 100; })) << came;

  auto waiting = Subscribe("b", nullptr, 10);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(connection_->Publish("b", std::to_string(i)), absl::OkStatus());
  ASSERT_EQ(connection_->Flush(Soon()), absl::OkStatus());
  EXPECT_EQ(waiting->dropped(), 90u);
  for (int i = 0; i < 10; ++i) {
    const auto message = waiting->Next(absl::Seconds(20));
    ASSERT_TRUE(message.ok()) << message.status();
    EXPECT_EQ(message->data(), std::to_string(i));
  }
}

TEST_F(NatsConnectionTest, RefusalOfTheServerIsToldWithTheMissingAnswer) {
  auto server = RunNats(
      {true, "authorization { users: [ { user: u, password: p, permissions: { publish: [\"ok\"] } } ] }", "", ""});
  NatsOptions options = ServerAt(server->address());
  options.user = "u";
  options.password = "p";
  auto connection = ConnectTo(options);
  ASSERT_NE(connection, nullptr);
  const absl::Status status = connection->Request("forbidden", "", {}, In(absl::Milliseconds(300))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(status.message().find("the server had said: "), std::string::npos) << status;
  EXPECT_NE(status.message().find("forbidden"), std::string::npos) << status;
}

TEST_F(NatsConnectionTest, InboxesAreUnlikeOneAnother) {
  const std::string a = connection_->NewInbox();
  EXPECT_NE(a, connection_->NewInbox());
  auto subscription = Subscribe(a + ".*", nullptr);
  ASSERT_EQ(connection_->Publish(a + ".7", "x"), absl::OkStatus());
  EXPECT_TRUE(subscription->Next(absl::Seconds(20)).ok());
}

}  // namespace
}  // namespace kv
