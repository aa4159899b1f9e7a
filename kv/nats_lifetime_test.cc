// Who owns a NATS connection, and who may let go of it and of its subscriptions, when and where.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "kv/nats_connection.h"
#include "kv/nats_connection_test_util.h"

namespace kv {
namespace {

class NatsLifetimeTest : public testing::Test {
 protected:
  void SetUp() override {
    server_ = RunNats();
    ASSERT_NE(server_, nullptr);
    options_ = ServerAt(server_->address());
    connection_ = ConnectTo(options_);
    ASSERT_NE(connection_, nullptr);
  }

  // How many clients the server has. One that looks at the server's greeting counts too, for a moment.
  bool AwaitClients(int64_t count) {
    return Eventually([&] {
      const auto connections = server_->Varz("connections");
      return connections.ok() && *connections == count;
    });
  }

  std::unique_ptr<servers::NatsServer> server_;
  NatsOptions options_;
  std::shared_ptr<NatsConnection> connection_;
};

TEST_F(NatsLifetimeTest, EqualOptionsShareOneConnection) {
  EXPECT_EQ(ConnectTo(options_), connection_);
  NatsOptions others = options_;
  others.servers.push_back(server_->address());
  const auto other = ConnectTo(others);
  EXPECT_NE(other, connection_);
  EXPECT_TRUE(AwaitClients(2));
}

TEST_F(NatsLifetimeTest, ManyThreadsThatConnectAtOnceGetOne) {
  connection_.reset();
  EXPECT_TRUE(AwaitClients(0));
  std::vector<std::shared_ptr<NatsConnection>> connections(8);
  std::vector<std::thread> threads;
  for (auto& connection : connections) threads.emplace_back([&, this] { connection = ConnectTo(options_); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& connection : connections) EXPECT_EQ(connection, connections[0]);
  EXPECT_TRUE(AwaitClients(1));
}

TEST_F(NatsLifetimeTest, TheLastOwnerClosesIt) {
  std::weak_ptr<NatsConnection> weak = connection_;
  connection_.reset();
  EXPECT_TRUE(weak.expired());
  EXPECT_TRUE(AwaitClients(0));
  EXPECT_NE(ConnectTo(options_), nullptr);
}

TEST_F(NatsLifetimeTest, WhatWasPublishedLastArrives) {
  NatsOptions others = options_;
  others.servers.push_back(server_->address());
  auto listening = ConnectTo(others);
  auto subscription = listening->Subscribe("a", nullptr);
  ASSERT_TRUE(subscription.ok());
  ASSERT_EQ(listening->Flush(Soon()), absl::OkStatus());
  ASSERT_EQ(connection_->Publish("a", std::string(200'000, 'x')), absl::OkStatus());
  connection_.reset();
  const auto message = (*subscription)->Next(absl::Seconds(20));
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->data().size(), 200'000u);
}

TEST_F(NatsLifetimeTest, RequestsThatWaitAreToldWhenItCloses) {
  auto silent = connection_->Subscribe("silent", [](NatsMessage) {});
  ASSERT_TRUE(silent.ok());
  std::promise<absl::Status> told;
  ASSERT_EQ(connection_->RequestAsync("silent", "", {}, In(absl::Hours(1)),
                                      [&](absl::StatusOr<NatsMessage> answer) { told.set_value(answer.status()); }),
            absl::OkStatus());
  silent->reset();
  connection_.reset();
  EXPECT_EQ(told.get_future().get(),
            absl::DeadlineExceededError("the NATS connection was closed before the answer came"));
}

TEST_F(NatsLifetimeTest, LastOwnerGoesInsideTheCallbackOfASubscription) {
  auto owner = std::make_shared<std::shared_ptr<NatsConnection>>(std::move(connection_));
  NatsConnection* connection = owner->get();
  std::promise<std::unique_ptr<NatsSubscription>> given;
  auto taken = std::make_shared<std::future<std::unique_ptr<NatsSubscription>>>(given.get_future());
  std::promise<void> done;
  auto subscription = connection->Subscribe("a", [owner, taken, &done](NatsMessage) {
    taken->get().reset();
    owner->reset();
    done.set_value();
  });
  ASSERT_TRUE(subscription.ok());
  ASSERT_EQ(connection->Publish("a", ""), absl::OkStatus());
  given.set_value(*std::move(subscription));
  done.get_future().get();
  EXPECT_TRUE(AwaitClients(0));
}

TEST_F(NatsLifetimeTest, LastOwnerGoesInsideTheCallbackOfARequest) {
  for (const std::string subject : {"$JS.API.INFO", "nobody"}) {
    auto owner = std::make_shared<std::shared_ptr<NatsConnection>>(ConnectTo(options_));
    connection_.reset();
    NatsConnection* connection = owner->get();
    std::promise<void> go_on;
    std::promise<void> done;
    ASSERT_EQ(connection->RequestAsync(subject, "", {}, Soon(),
                                       [owner, &go_on, &done](const absl::StatusOr<NatsMessage>&) {
                                         go_on.get_future().get();
                                         owner->reset();
                                         done.set_value();
                                       }),
              absl::OkStatus());
    go_on.set_value();
    done.get_future().get();
    EXPECT_TRUE(AwaitClients(0));
  }
}

TEST_F(NatsLifetimeTest, LastOwnerGoesInsideTheCallbackOfALateRequest) {
  auto owner = std::make_shared<std::shared_ptr<NatsConnection>>(std::move(connection_));
  auto silent = (*owner)->Subscribe("silent", [](NatsMessage) {});
  ASSERT_TRUE(silent.ok());
  std::promise<absl::Status> done;
  ASSERT_EQ((*owner)->RequestAsync("silent", "", {}, In(absl::Milliseconds(100)),
                                   [&, owner](const absl::StatusOr<NatsMessage>& answer) {
                                     silent->reset();
                                     owner->reset();
                                     done.set_value(answer.status());
                                   }),
            absl::OkStatus());
  EXPECT_EQ(done.get_future().get().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(AwaitClients(0));
}

TEST_F(NatsLifetimeTest, LastOwnerGoesInsideTheCallbackOfTheState) {
  auto owner = std::make_shared<std::shared_ptr<NatsConnection>>(std::move(connection_));
  std::promise<std::shared_ptr<void>> given;
  auto taken = std::make_shared<std::future<std::shared_ptr<void>>>(given.get_future());
  std::promise<void> done;
  given.set_value((*owner)->OnState([owner, taken, &done](NatsState state) {
    EXPECT_EQ(state, NatsState::kReconnecting);
    taken->get().reset();
    owner->reset();
    done.set_value();
  }));
  server_->Kill();
  done.get_future().get();
  ASSERT_EQ(server_->Start(), absl::OkStatus());
  EXPECT_TRUE(AwaitClients(0));
}

TEST_F(NatsLifetimeTest, ARequestInsideTheCallbackOfAnotherIsRefused) {
  std::promise<absl::Status> told;
  NatsConnection* connection = connection_.get();
  ASSERT_EQ(connection->RequestAsync("nobody", "", {}, Soon(),
                                     [&, connection](const absl::StatusOr<NatsMessage>&) {
                                       told.set_value(connection->Request("nobody", "", {}, Soon()).status());
                                     }),
            absl::OkStatus());
  EXPECT_EQ(told.get_future().get(),
            absl::FailedPreconditionError(
                "a request cannot be waited for inside of the callback of another one: it would wait for itself"));
}

// nats.c 3.4.1 by itself crashes here within seconds: nats-io/nats.c, fixed in 3.6.1.
TEST_F(NatsLifetimeTest, SubscriptionsGoWhileMessagesArrive) {
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::atomic<bool> stop{false};
  std::atomic<int> late{0};
  std::atomic<int> came{0};
  std::thread publisher([&] {
    NatsOptions others = options_;
    others.servers.push_back(server_->address());
    const auto publishing = ConnectTo(others);
    const std::string text(200, 'x');
    for (int i = 0; !stop; ++i) {
      (void)publishing->Publish("a." + std::to_string(i % 4), text);
      if (i % 50 == 0) (void)publishing->Flush(Soon());
    }
  });
  std::vector<std::thread> threads;
  for (int k = 0; k < 2; ++k) {
    threads.emplace_back([&, k] {
      std::mt19937 random(seed + k);
      while (!stop) {
        auto gone = std::make_shared<std::atomic<bool>>(false);
        auto own = std::make_shared<std::atomic<unsigned>>(0);
        auto subscription = connection_->Subscribe("a.*", [&, gone, own](const NatsMessage& message) {
          if (*gone) ++late;
          if (message.data().size() == 200) ++came;
          ++*own;
        });
        ASSERT_TRUE(subscription.ok()) << subscription.status();
        // While messages arrive, at once or after some have come.
        const unsigned enough = random() % 20;
        EXPECT_TRUE(Eventually([&] { return stop || *own >= enough; }));
        subscription->reset();
        *gone = true;
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::seconds(5));
  EXPECT_TRUE(Eventually([&] { return came > 100; })) << came;
  stop = true;
  for (std::thread& thread : threads) thread.join();
  publisher.join();
  EXPECT_EQ(late, 0);
  // They are taken down there as well.
  EXPECT_TRUE(Eventually([&] {
    const auto subscriptions = server_->Varz("subscriptions");
    return subscriptions.ok() && *subscriptions < 100;  // what is left is the server's own
  })) << *server_->Varz("subscriptions");
}

}  // namespace
}  // namespace kv
