#include "kv/internal/nats_consumer.h"

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
#include "kv/nats_connection_test_util.h"
#include "nlohmann/json.hpp"

namespace kv::internal {
namespace {

struct Came {
  std::string subject;
  std::string data;
  uint64_t sequence;
  uint64_t pending;
  absl::Time stored_at;
};

class NatsConsumerTest : public testing::Test {
 protected:
  void SetUp() override {
    server_ = RunNats();
    ASSERT_NE(server_, nullptr);
    connection_ = ConnectTo(ServerAt(server_->address()));
    ASSERT_NE(connection_, nullptr);
    Api("STREAM.CREATE.S", R"({"name":"S","subjects":["s.>"],"storage":"memory","max_msgs_per_subject":5})");
  }

  nlohmann::json Api(const std::string& call, const std::string& request = "") {
    const auto answer = connection_->Request("$JS.API." + call, request, {}, Soon());
    if (!answer.ok()) {
      ADD_FAILURE() << call << ": " << answer.status();
      return {};
    }
    const auto json = nlohmann::json::parse(answer->data(), nullptr, false);
    EXPECT_FALSE(json.contains("error")) << json;
    return json;
  }

  void Store(const std::string& subject, const std::string& data) {
    ASSERT_TRUE(connection_->Request(subject, data, {}, Soon()).ok());
  }

  static NatsConsumerOptions Options(const std::string& filter = "s.>") {
    NatsConsumerOptions options;
    options.stream = "S";
    options.filter = filter;
    options.heartbeat = absl::Milliseconds(250);
    return options;
  }

  // One that records.
  std::unique_ptr<NatsConsumer> Make(const NatsConsumerOptions& options) {
    auto consumer = NatsConsumer::Create(
        connection_, options,
        [this](StreamMessage message) {
          came_.Set([&](std::vector<Came>& all) {
            all.push_back({std::string(message.message.subject()), std::string(message.message.data()),
                           message.sequence, message.pending, message.stored_at});
          });
        },
        [this](const absl::Status& status) {
          broken_.Set([&](std::vector<absl::Status>& all) { all.push_back(status); });
        },
        Soon());
    if (!consumer.ok()) ADD_FAILURE() << consumer.status();
    return consumer.ok() ? *std::move(consumer) : nullptr;
  }

  bool AwaitCame(size_t count) {
    return came_.Await([count](const std::vector<Came>& all) { return all.size() >= count; });
  }
  bool AwaitBroken() {
    return broken_.Await([](const std::vector<absl::Status>& all) { return !all.empty(); });
  }

  std::string DeliverSubject() {
    return Api("CONSUMER.LIST.S")["consumers"][0]["config"]["deliver_subject"].get<std::string>();
  }
  bool AwaitConsumers(size_t count) {
    return Eventually([&] { return Api("CONSUMER.NAMES.S").value("total", size_t{99}) == count; });
  }

  std::unique_ptr<servers::NatsServer> server_;
  std::shared_ptr<NatsConnection> connection_;
  Watched<std::vector<Came>> came_;
  Watched<std::vector<absl::Status>> broken_;
};

TEST_F(NatsConsumerTest, BeginsWithTheLastOfEachSubject) {
  for (const std::string data : {"1", "2"}) {
    Store("s.a", data);
    Store("s.b", data);
  }
  auto consumer = Make(Options());
  EXPECT_EQ(consumer->initial_pending(), 2u);
  ASSERT_TRUE(AwaitCame(2));
  Store("s.a", "3");
  ASSERT_TRUE(AwaitCame(3));
  const std::vector<Came> came = came_.Get();
  EXPECT_EQ(came[0].subject + came[0].data, "s.a2");
  EXPECT_EQ(came[0].sequence, 3u);
  EXPECT_EQ(came[0].pending, 1u);
  EXPECT_EQ(came[1].subject + came[1].data, "s.b2");
  EXPECT_EQ(came[1].pending, 0u);
  EXPECT_EQ(came[2].sequence, 5u);
  EXPECT_LT(absl::AbsDuration(absl::Now() - came[2].stored_at), absl::Minutes(1));
}

TEST_F(NatsConsumerTest, AnEmptyStreamHasNothingPending) {
  auto consumer = Make(Options());
  EXPECT_EQ(consumer->initial_pending(), 0u);
  Store("s.a", "1");
  ASSERT_TRUE(AwaitCame(1));
}

TEST_F(NatsConsumerTest, BeginsAtASequence) {
  for (int i = 1; i <= 4; ++i) Store("s.a", std::to_string(i));
  NatsConsumerOptions options = Options();
  for (const uint64_t start : {uint64_t{0}, uint64_t{1}, uint64_t{3}}) {
    came_.Set([](auto& all) { all.clear(); });
    options.start = start;
    auto consumer = Make(options);
    const uint64_t first = std::max<uint64_t>(start, 1);
    EXPECT_EQ(consumer->initial_pending(), 5 - first);
    ASSERT_TRUE(AwaitCame(5 - first));
    EXPECT_EQ(came_.Get()[0].sequence, first);
    EXPECT_EQ(came_.Get()[0].pending, 4 - first);
  }
  came_.Set([](auto& all) { all.clear(); });
  options.start = 5;  // the next one
  auto consumer = Make(options);
  Store("s.a", "5");
  ASSERT_TRUE(AwaitCame(1));
  EXPECT_EQ(came_.Get()[0].sequence, 5u);
  EXPECT_TRUE(broken_.Get().empty());
}

// Servers differ in what they make of it: early ones begin at the end of the stream, late ones wait for the sequence.
TEST_F(NatsConsumerTest, NothingBeforeAStartBeyondTheEndComes) {
  Store("s.a", "1");
  NatsConsumerOptions options = Options();
  options.start = 4;
  auto consumer = Make(options);
  Store("s.a", "2");
  Store("s.a", "3");
  Store("s.a", "4");
  ASSERT_TRUE(Eventually([&] { return !broken_.Get().empty() || !came_.Get().empty(); }));
  if (broken_.Get().empty()) {
    EXPECT_EQ(came_.Get()[0].sequence, 4u);
  } else {
    EXPECT_EQ(broken_.Get()[0], absl::DataLossError("the stream S has gone back: it ended before the message 4"));
    EXPECT_TRUE(came_.Get().empty());
  }
}

TEST_F(NatsConsumerTest, Filters) {
  Store("s.a", "1");
  Store("s.b", "2");
  Store("s.b.c", "3");
  auto consumer = Make(Options("s.*"));
  EXPECT_EQ(consumer->initial_pending(), 2u);
  ASSERT_TRUE(AwaitCame(2));
  Store("s.b.c", "4");
  Store("s.b", "5");
  ASSERT_TRUE(AwaitCame(3));
  EXPECT_EQ(came_.Get()[2].data, "5");
}

TEST_F(NatsConsumerTest, NoStreamIsNotFound) {
  NatsConsumerOptions options = Options();
  options.stream = "T";
  const auto consumer = NatsConsumer::Create(
      connection_, options, [](StreamMessage) {}, [](const absl::Status&) {}, Soon());
  EXPECT_EQ(consumer.status(), absl::NotFoundError("nats: consumer of the stream T: stream not found (10059)"));
}

TEST_F(NatsConsumerTest, NoJetStreamIsUnavailable) {
  auto server = RunNats({false, "", "", ""});
  auto connection = ConnectTo(ServerAt(server->address()));
  const auto consumer = NatsConsumer::Create(
      connection, Options(), [](StreamMessage) {}, [](const absl::Status&) {}, Soon());
  EXPECT_EQ(consumer.status().code(), absl::StatusCode::kUnavailable) << consumer.status();
}

// A callback that is slow holds up the server, not the memory; the server's heartbeats have to wait with the rest.
TEST_F(NatsConsumerTest, ASlowCallbackLosesNothing) {
  constexpr int kMessages = 40'000;
  std::atomic<int> stored{0};
  for (int i = 0; i < kMessages; ++i) {
    ASSERT_TRUE(Eventually([&] { return i - stored < 1000; }));
    ASSERT_EQ(connection_->RequestAsync("s." + std::to_string(i), std::string(200, 'x'), {}, Soon(),
                                        [&](const auto& answer) { stored += answer.ok() ? 1 : 0; }),
              absl::OkStatus());
  }
  ASSERT_TRUE(Eventually([&] { return stored == kMessages; }));
  std::atomic<int> came{0};
  std::atomic<uint64_t> last{0};
  std::atomic<int> wrong{0};
  std::promise<void> go_on;
  auto may_go_on = go_on.get_future().share();
  auto consumer = NatsConsumer::Create(
      connection_, Options(),
      [&, may_go_on](const StreamMessage& message) {
        if (came == 10) may_go_on.wait();
        if (message.sequence != last + 1) ++wrong;
        last = message.sequence;
        ++came;
      },
      [this](const absl::Status& status) {
        broken_.Set([&](std::vector<absl::Status>& all) { all.push_back(status); });
      },
      Soon());
  ASSERT_TRUE(consumer.ok()) << consumer.status();
  EXPECT_EQ((*consumer)->initial_pending(), uint64_t{kMessages});
  ASSERT_TRUE(Eventually([&] { return came == 10; }));
  // Twice as long as it may be without a sign of life.
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  go_on.set_value();
  EXPECT_TRUE(Eventually([&] { return came == kMessages; })) << came;
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(broken_.Get().empty()) << broken_.Get()[0];
}

TEST_F(NatsConsumerTest, StaysWholeWhileNothingHappens) {
  auto consumer = Make(Options());
  const absl::Time end = absl::Now() + absl::Milliseconds(2500);  // ten heartbeats
  EXPECT_FALSE(broken_.Await([](const auto& all) { return !all.empty(); }, std::chrono::seconds(2)));
  while (absl::Now() < end) std::this_thread::yield();
  Store("s.a", "1");
  EXPECT_TRUE(AwaitCame(1));
  EXPECT_TRUE(broken_.Get().empty());
}

TEST_F(NatsConsumerTest, ALostConnectionBreaksIt) {
  auto consumer = Make(Options());
  server_->Kill();
  ASSERT_TRUE(AwaitBroken());
  EXPECT_EQ(broken_.Get()[0], absl::UnavailableError("the connection to NATS was lost"));
  ASSERT_EQ(server_->Start(), absl::OkStatus());
  ASSERT_TRUE(Eventually([&] { return connection_->state() == NatsState::kConnected; }));
  consumer.reset();
  EXPECT_EQ(broken_.Get().size(), 1u);
}

TEST_F(NatsConsumerTest, ADeletedStreamBreaksIt) {
  auto consumer = Make(Options());
  Api("STREAM.DELETE.S");
  ASSERT_TRUE(AwaitBroken());
  EXPECT_EQ(broken_.Get()[0].code(), absl::StatusCode::kUnavailable) << broken_.Get()[0];
  // A new stream of the name is another one.
  Api("STREAM.CREATE.S", R"({"name":"S","subjects":["s.>"],"storage":"memory"})");
  Store("s.a", "1");
  consumer.reset();
  EXPECT_TRUE(came_.Get().empty());
  EXPECT_EQ(broken_.Get().size(), 1u);
}

TEST_F(NatsConsumerTest, MissingHeartbeatsBreakIt) {
  auto consumer = Make(Options());
  const std::string name = Api("CONSUMER.NAMES.S")["consumers"][0].get<std::string>();
  const absl::Time begin = absl::Now();
  Api("CONSUMER.DELETE.S." + name);
  ASSERT_TRUE(AwaitBroken());
  EXPECT_LT(absl::Now() - begin, absl::Seconds(3));
  EXPECT_EQ(broken_.Get()[0].code(), absl::StatusCode::kUnavailable) << broken_.Get()[0];
}

TEST_F(NatsConsumerTest, ALostTailBreaksItWithTheNextHeartbeat) {
  Store("s.a", "1");
  auto consumer = Make(Options());
  ASSERT_TRUE(AwaitCame(1));
  ASSERT_EQ(connection_->Publish(DeliverSubject(), "", {{"Status", "100"}, {"Nats-Last-Consumer", "2"}}),
            absl::OkStatus());
  ASSERT_TRUE(AwaitBroken());
  EXPECT_EQ(broken_.Get()[0],
            absl::DataLossError("messages of the stream S were lost on the way: 2 were sent, 1 came"));
}

TEST_F(NatsConsumerTest, AnswersFlowControlAfterWhatCameBefore) {
  auto answers = connection_->Subscribe("answers.*", nullptr);
  ASSERT_TRUE(answers.ok());
  Store("s.a", "1");
  auto consumer = Make(Options());
  ASSERT_TRUE(AwaitCame(1));
  const std::string subject = DeliverSubject();
  ASSERT_EQ(connection_->Publish(subject, "", {{"Status", "100"}}, "answers.1"), absl::OkStatus());
  ASSERT_EQ(connection_->Publish(
                subject, "", {{"Status", "100"}, {"Nats-Last-Consumer", "1"}, {"Nats-Consumer-Stalled", "answers.2"}}),
            absl::OkStatus());
  for (const std::string expected : {"answers.1", "answers.2"}) {
    const auto answer = (*answers)->Next(absl::Seconds(20));
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->subject(), expected);
    EXPECT_EQ(answer->data(), "");
  }
  EXPECT_TRUE(broken_.Get().empty());
}

TEST_F(NatsConsumerTest, TheServersEndOfItBreaksIt) {
  auto consumer = Make(Options());
  ASSERT_EQ(connection_->Publish(DeliverSubject(), "", {{"Status", "409"}, {"Description", "Consumer Deleted"}}),
            absl::OkStatus());
  ASSERT_TRUE(AwaitBroken());
  EXPECT_EQ(broken_.Get()[0],
            absl::UnavailableError("the NATS server ended the consumer of the stream S: Consumer Deleted"));
}

// What is dropped because too much waits is a hole, as whatever is lost.
TEST_F(NatsConsumerTest, AHoleBreaksItAndNothingFollows) {
  std::promise<void> go_on;
  auto may_go_on = go_on.get_future().share();
  NatsConsumerOptions options = Options();
  options.max_pending = 10;
  std::atomic<uint64_t> last{0};
  auto consumer = NatsConsumer::Create(
      connection_, options,
      [&, may_go_on](const StreamMessage& message) {
        EXPECT_EQ(message.sequence, last + 1);
        last = message.sequence;
        may_go_on.wait();
      },
      [this](const absl::Status& status) {
        broken_.Set([&](std::vector<absl::Status>& all) { all.push_back(status); });
      },
      Soon());
  ASSERT_TRUE(consumer.ok()) << consumer.status();
  for (int i = 0; i < 100; ++i) Store("s.a", "x");
  ASSERT_EQ(connection_->Flush(Soon()), absl::OkStatus());
  go_on.set_value();
  ASSERT_TRUE(Eventually([&] { return last >= 10; }));
  Store("s.a", "y");  // shows the hole, if nothing has yet
  ASSERT_TRUE(AwaitBroken());
  const absl::Status status = broken_.Get()[0];
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_EQ(status.message().find("messages of the stream S were lost on the way: "), 0u) << status;
  Store("s.a", "z");
  ASSERT_EQ(connection_->Flush(Soon()), absl::OkStatus());
  consumer->reset();
  EXPECT_LE(last, 12u) << "a message followed";
  EXPECT_EQ(broken_.Get().size(), 1u);
}

TEST_F(NatsConsumerTest, GoesFromTheServerWithItsOwner) {
  auto consumer = Make(Options());
  EXPECT_TRUE(AwaitConsumers(1));
  consumer.reset();
  EXPECT_TRUE(AwaitConsumers(0));
}

TEST_F(NatsConsumerTest, MayGoInsideItsCallbacks) {
  for (const bool broken : {false, true}) {
    std::promise<std::unique_ptr<NatsConsumer>> given;
    auto taken = std::make_shared<std::future<std::unique_ptr<NatsConsumer>>>(given.get_future());
    std::promise<void> gone;
    auto consumer = NatsConsumer::Create(
        connection_, Options(),
        [&, broken](const StreamMessage&) {
          if (broken) return;
          taken->get().reset();
          gone.set_value();
        },
        [&, broken](const absl::Status&) {
          if (!broken) return;
          taken->get().reset();
          gone.set_value();
        },
        Soon());
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    given.set_value(*std::move(consumer));
    Store("s.a", "1");
    if (broken) {
      server_->Kill();
      ASSERT_EQ(server_->Start(), absl::OkStatus());
    }
    gone.get_future().get();
  }
}

TEST_F(NatsConsumerTest, ManyComeAndGoWhileMessagesArrive) {
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  std::atomic<bool> stop{false};
  std::thread publisher([&] {
    for (int i = 0; !stop; ++i) {
      (void)connection_->Request("s." + std::to_string(i % 50), std::string(100, 'x'), {}, Soon());
    }
  });
  std::atomic<int> came{0};
  for (int i = 0; i < 150; ++i) {
    auto gone = std::make_shared<std::atomic<bool>>(false);
    auto consumer = NatsConsumer::Create(
        connection_, Options(),
        [&, gone](const StreamMessage&) {
          EXPECT_FALSE(*gone);
          ++came;
        },
        [](const absl::Status& status) { ADD_FAILURE() << status; }, Soon());
    ASSERT_TRUE(consumer.ok()) << consumer.status();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
    consumer->reset();
    *gone = true;
  }
  stop = true;
  publisher.join();
  EXPECT_GT(came, 0);
  EXPECT_TRUE(AwaitConsumers(0));
}

}  // namespace
}  // namespace kv::internal
