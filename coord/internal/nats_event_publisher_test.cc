// The publisher against a stream that fails as a server may, in virtual time.

#include "coord/internal/nats_event_publisher.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/executor.h"
#include "coord/internal/nats_event_stream.h"
#include "coord/internal/nats_event_wire.h"
#include "coord/options.h"
#include "coord/sim_runtime.h"
#include "gtest/gtest.h"
#include "kv/memory_store.h"

namespace coord::internal {
namespace {

using Outcome = NatsEventPublisher::Transport::Outcome;

// One request, as the stream sees it.
struct Request {
  std::string publisher;
  uint64_t number = 0;
  uint64_t low = 0;
  std::string payload;
  bool is_void = false;
  Outcome outcome;

  std::string Name() const { return (is_void ? "void" : payload) + "@" + std::to_string(number); }
};

class NatsEventPublisherTest : public ::testing::Test {
 protected:
  explicit NatsEventPublisherTest(uint64_t seed = 1) : runtime_(Options(seed)), store_thread_(runtime_, "store") {
    kv::MemoryStoreOptions store;
    store.wall_now = [this] { return runtime_.WallNow(); };
    store.uptime = [this] { return runtime_.Now() - absl::UnixEpoch(); };
    store.executor = [this](std::function<void()> task) { store_thread_.Post(std::move(task)); };
    JoinOptions options;
    options.store = kv::NewMemoryStore(std::move(store));
    options.plugin = "p";
    options.instance = "me";
    options.runtime = &runtime_;
    core_ = std::make_shared<Core>(std::move(options));
    worker_ = std::make_shared<EventWorker>(runtime_);
  }

  void TearDown() override {
    if (publisher_ != nullptr) publisher_->Close(runtime_.Now());
    worker_->Stop(absl::InfiniteFuture());
    core_->callbacks->Stop(absl::InfiniteFuture());
    store_thread_.Stop(absl::InfiniteFuture());
  }

  static SimOptions Options(uint64_t seed) {
    SimOptions options;
    options.seed = seed;
    return options;
  }

  void Make(size_t max_in_flight = 4) {
    NatsEventPublisher::Transport transport;
    transport.send = [this](const std::string& subject, std::string_view payload, const kv::NatsHeaders& headers,
                            absl::Time, Outcome outcome) {
      EXPECT_EQ(subject, "coord.s.r.p.t");
      std::map<std::string, std::string> lines(headers.begin(), headers.end());
      const auto parsed = ParseNatsEventHeaders(
          [&lines](const char* name) {
            return lines.count(name) == 0 ? std::nullopt : std::optional<std::string>(lines[name]);
          },
          true);
      EXPECT_TRUE(parsed.ok()) << parsed.status();
      return OnSend(
          {parsed->publisher, parsed->number, parsed->low, std::string(payload), parsed->is_void, std::move(outcome)});
    };
    transport.look_after = [this](absl::Time) { ++looks_; };
    transport.connected = [this] { return connected_; };
    publisher_ = std::make_shared<NatsEventPublisher>(core_, worker_, std::move(transport), NatsEventSubjects("s", "p"),
                                                      "0123456789abcdef", max_in_flight);
  }

  // By default requests wait in `requests_` for the test to answer them.
  virtual absl::Status OnSend(Request request) {
    if (!connected_) return absl::UnavailableError("no connection");
    requests_.push_back(std::move(request));
    return absl::OkStatus();
  }

  // Publishes, and keeps what became of it in `told_`.
  void Publish(const std::string& payload, absl::Duration in = absl::Seconds(10)) {
    publisher_->PublishAsync("t", "", payload, runtime_.Now() + in,
                             [this, payload](const absl::Status& status) { told_[payload].push_back(status); });
  }

  // What has been sent since, by name; the requests wait for Answer.
  std::string Sent() {
    std::string text;
    for (; seen_ < requests_.size(); ++seen_) text += (text.empty() ? "" : " ") + requests_[seen_].Name();
    return text;
  }

  // The same as low/number.
  std::string Lows() {
    std::string text;
    for (; seen_ < requests_.size(); ++seen_) {
      text += (text.empty() ? "" : " ") + std::to_string(requests_[seen_].low) + "/" +
              std::to_string(requests_[seen_].number);
    }
    return text;
  }

  void Answer(size_t request, const absl::Status& status) {
    requests_.at(request).outcome(status);
    runtime_.RunUntilIdle();
  }

  void Pass(absl::Duration duration) { runtime_.SleepFor(duration); }

  // What `payload`'s caller was told; "" if nothing yet.
  std::string Told(const std::string& payload) {
    runtime_.RunUntilIdle();
    const auto found = told_.find(payload);
    if (found == told_.end()) return "";
    EXPECT_EQ(found->second.size(), 1u) << payload;
    return found->second[0].ok() ? "OK" : found->second[0].ToString();
  }

  SimRuntime runtime_;
  Executor store_thread_;
  std::shared_ptr<Core> core_;
  std::shared_ptr<EventWorker> worker_;
  std::shared_ptr<NatsEventPublisher> publisher_;
  bool connected_ = true;
  int looks_ = 0;
  std::vector<Request> requests_;
  size_t seen_ = 0;
  std::map<std::string, std::vector<absl::Status>> told_;
};

const absl::Status kStored = absl::OkStatus();
const absl::Status kNotStored = absl::UnavailableError("no leader");
const absl::Status kUnknown = absl::DeadlineExceededError("no answer");
const absl::Status kRefused = absl::FailedPreconditionError("too big");

TEST_F(NatsEventPublisherTest, ManyAreUnderWayAndEachIsTold) {
  Make();
  for (const char* payload : {"a", "b", "c"}) Publish(payload);
  EXPECT_EQ(Sent(), "a@1 b@2 c@3");
  Answer(1, kStored);
  EXPECT_EQ(Told("b"), "OK");
  EXPECT_EQ(Told("a"), "");
  Answer(0, kStored);
  Answer(2, kStored);
  EXPECT_EQ(Told("a"), "OK");
  EXPECT_EQ(Told("c"), "OK");
}

TEST_F(NatsEventPublisherTest, AFullWindowHoldsTheCallerBackUntilTheOldestIsSettled) {
  Make(2);
  Publish("a");
  Publish("b");
  Publish("c", absl::Seconds(1));
  EXPECT_EQ(
      Told("c"),
      "DEADLINE_EXCEEDED: the event was not published: the deadline came while 2 earlier events of this copy were "
      "still being stored");
  Answer(1, kStored);
  bool done = false;
  auto thread = runtime_.StartThread("publisher", [&] {
    Publish("d");
    done = true;
  });
  runtime_.RunUntilIdle();
  EXPECT_FALSE(done) << "the window counts from the oldest that is not stored";
  Answer(0, kStored);
  EXPECT_TRUE(done);
  thread.reset();
  EXPECT_EQ(Sent(), "a@1 b@2 d@3");
}

TEST_F(NatsEventPublisherTest, WhatFailedIsSentAgainInOrderBeforeAnythingNew) {
  Make(8);
  for (const char* payload : {"a", "b", "c"}) Publish(payload);
  EXPECT_EQ(Sent(), "a@1 b@2 c@3");
  Answer(0, kNotStored);
  Publish("d");
  Pass(absl::Seconds(1));
  EXPECT_EQ(Sent(), "") << "sent while others were under way";
  Answer(1, kStored);
  Answer(2, kUnknown);
  Pass(absl::Seconds(1));
  EXPECT_EQ(Sent(), "a@1 c@3");
  EXPECT_EQ(looks_, 1);
  Answer(3, kStored);
  Answer(4, kUnknown);
  Pass(absl::Seconds(1));
  EXPECT_EQ(Sent(), "c@3");
  Answer(5, kStored);
  EXPECT_EQ(Sent(), "d@4");
  Answer(6, kStored);
  for (const char* payload : {"a", "b", "c", "d"}) EXPECT_EQ(Told(payload), "OK") << payload;
}

TEST_F(NatsEventPublisherTest, AnUnknownOutcomeIsSettledAfterTheCallerHasLeft) {
  Make();
  Publish("a", absl::Seconds(1));
  EXPECT_EQ(Sent(), "a@1");
  Pass(absl::Seconds(2));
  EXPECT_EQ(Told("a"),
            "DEADLINE_EXCEEDED: the server did not say in time whether the event of topic \"t\" was stored (no answer "
            "yet): it may yet be delivered");
  Answer(0, kUnknown);
  Publish("b");
  Pass(absl::Seconds(1));
  EXPECT_EQ(Sent(), "a@1") << "the next number is of use only after this one";
  Answer(1, kStored);
  EXPECT_EQ(Sent(), "b@2");
}

TEST_F(NatsEventPublisherTest, TheNumberOfWhatWasCertainlyNotStoredIsUsedAgain) {
  Make();
  Publish("a", absl::Milliseconds(200));
  Answer(0, kNotStored);
  for (size_t next = 1; Told("a").empty(); ++next) {
    Pass(absl::Milliseconds(20));
    if (next < requests_.size()) {
      Answer(next, kNotStored);
    } else {
      --next;
    }
  }
  EXPECT_EQ(Told("a"), "UNAVAILABLE: the event was not stored, and it will not be: no leader");
  seen_ = requests_.size();
  Publish("b");
  Pass(absl::Seconds(2));
  EXPECT_EQ(Sent(), "b@1");
}

TEST_F(NatsEventPublisherTest, EachSendTellsTheOldestNumberThatIsNotStored) {
  Make();
  for (const char* payload : {"a", "b", "c"}) Publish(payload);
  EXPECT_EQ(Lows(), "1/1 1/2 1/3");
  Answer(2, kStored);
  Publish("d");
  EXPECT_EQ(Lows(), "1/4");
  Answer(0, kStored);
  Answer(3, kUnknown);
  Answer(1, kNotStored);
  Pass(absl::Seconds(1));
  EXPECT_EQ(Lows(), "2/2 2/4") << "what is sent again tells what is so now";
  Answer(5, kStored);
  Answer(4, kStored);
  Publish("e");
  EXPECT_EQ(Lows(), "5/5");
}

// A leader may tell of a failure after it has handed the event to its replicas.
TEST_F(NatsEventPublisherTest, AFailureThatTheServerTellsKeepsTheNumber) {
  Make();
  const absl::Status failed = ParseNatsAck(R"({"error":{"code":503,"err_code":10077,"description":"store failed"}})");
  Publish("a", absl::Milliseconds(200));
  EXPECT_EQ(Sent(), "a@1");
  Answer(0, failed);
  Pass(absl::Milliseconds(50));
  EXPECT_EQ(Sent(), "a@1");
  Pass(absl::Seconds(1));
  Answer(1, failed);
  EXPECT_EQ(Told("a"),
            "DEADLINE_EXCEEDED: the server did not say in time whether the event of topic \"t\" was stored (JetStream "
            "says: store failed (503/10077)): it may yet be delivered");
  Publish("b");
  Pass(absl::Seconds(1));
  EXPECT_EQ(Sent(), "a@1") << "its number is its own";
  Answer(2, kStored);
  EXPECT_EQ(Sent(), "b@2");
}

TEST_F(NatsEventPublisherTest, WhatIsRefusedForGoodLeavesNoHole) {
  Make();
  for (const char* payload : {"a", "b"}) Publish(payload);
  Sent();
  Answer(1, kStored);
  Answer(0, kRefused);
  EXPECT_EQ(Told("a"), "FAILED_PRECONDITION: the event was refused: too big");
  Pass(absl::Seconds(1));
  EXPECT_EQ(Sent(), "void@1");
  Answer(2, kStored);
  Publish("c");
  EXPECT_EQ(Sent(), "c@3");
  Answer(3, kRefused);
  Publish("d");
  Pass(absl::Seconds(1));
  EXPECT_EQ(Sent(), "d@3") << "nothing was sent after it: its number is free";
}

TEST_F(NatsEventPublisherTest, WithoutAConnectionNothingIsTriedAndEverythingIsSentLater) {
  Make();
  Publish("a");
  connected_ = false;
  Answer(0, kUnknown);
  Publish("b");
  Pass(absl::Seconds(5));
  EXPECT_EQ(Sent(), "a@1");
  connected_ = true;
  Pass(absl::Seconds(2));
  EXPECT_EQ(Sent(), "a@1");
  Answer(1, kStored);
  EXPECT_EQ(Sent(), "b@2");
}

TEST_F(NatsEventPublisherTest, FlushWaitsForWhatWasPublishedBefore) {
  Make();
  EXPECT_TRUE(publisher_->Flush(runtime_.Now()).ok());
  Publish("a");
  EXPECT_EQ(publisher_->Flush(runtime_.Now() + absl::Seconds(1)).code(), absl::StatusCode::kDeadlineExceeded);
  absl::Status flushed = absl::UnknownError("not yet");
  auto thread = runtime_.StartThread("flusher", [&] { flushed = publisher_->Flush(absl::InfiniteFuture()); });
  runtime_.RunUntilIdle();
  Publish("b");
  EXPECT_FALSE(flushed.ok());
  Answer(0, kStored);
  EXPECT_TRUE(flushed.ok()) << "it need not wait for what came after it";
  thread.reset();
}

TEST_F(NatsEventPublisherTest, CloseWaitsForAcknowledgementsAndTellsTheRest) {
  Make();
  Publish("a");
  Publish("b");
  auto thread = runtime_.StartThread("closer", [&] { publisher_->Close(runtime_.Now() + absl::Seconds(1)); });
  runtime_.RunUntilIdle();
  Publish("c");
  EXPECT_EQ(Told("c"), "CANCELLED: this copy has left its cluster: join again to go on");
  Answer(0, kStored);
  EXPECT_EQ(Told("a"), "OK");
  thread.reset();
  EXPECT_EQ(Told("b"), "CANCELLED: this copy has left its cluster: join again to go on");
  Answer(1, kStored);
}

class PromptStreamTest : public NatsEventPublisherTest {
 protected:
  absl::Status OnSend(Request request) override {
    request.outcome(kStored);
    return absl::OkStatus();
  }
};

// Whoever is told waits for the callback thread; a handler there cannot wait for itself.
TEST_F(PromptStreamTest, CallsThatAreDueAreBounded) {
  Make();
  size_t told = 0;
  absl::Status refused;
  const auto publish = [&](absl::Status* result) {
    publisher_->PublishAsync("t", "", "x", runtime_.Now() + absl::Seconds(1), [&told, result](const absl::Status& s) {
      ++told;
      if (result != nullptr) *result = s;
    });
  };
  core_->callbacks->Post([&] {
    for (size_t i = 0; i < NatsEventPublisher::kMaxDue; ++i) publish(nullptr);
    EXPECT_EQ(told, 0u);
    publish(&refused);
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
    EXPECT_EQ(told, 1u);
    runtime_.SleepFor(absl::Seconds(10));
  });
  runtime_.RunUntilIdle();
  absl::Status late;
  publish(&late);
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded) << late;
  Pass(absl::Seconds(20));
  EXPECT_EQ(told, NatsEventPublisher::kMaxDue + 2);
  absl::Status good = absl::UnknownError("not told");
  publish(&good);
  runtime_.RunUntilIdle();
  EXPECT_TRUE(good.ok()) << good;
}

// Outcomes are drawn at random, and all promises are checked on what the stream got.
class RandomFaultsTest : public NatsEventPublisherTest, public testing::WithParamInterface<uint64_t> {
 protected:
  RandomFaultsTest() : NatsEventPublisherTest(GetParam()) {}

  uint64_t Draw(uint64_t n) { return runtime_.Random() % n; }

  absl::Status OnSend(Request request) override {
    EXPECT_FALSE(request.publisher.empty());
    // Numbers of events that were dropped are used again.
    std::string& before = sent_[request.number];
    const bool first = before != request.payload && !request.is_void;
    if (first) failed_.erase(failed_.lower_bound(request.number), failed_.end());
    if (!request.is_void) before = request.payload;
    EXPECT_TRUE(!first || failed_.empty())
        << "number " << request.number << " is new, and " << *failed_.begin() << " is not settled";
    for (uint64_t number = 1; number < request.low; ++number) {
      EXPECT_EQ(stored_.count(number), 1u) << "low " << request.low << " of number " << request.number;
    }
    const uint64_t lot = healthy_ ? 0 : Draw(20);
    if (lot == 1) {
      failed_.insert(request.number);
      return absl::UnavailableError("not sent");
    }
    if (lot != 2 && lot != 3 && lot != 4) Store(request);
    absl::Status status;
    if (lot == 2) status = kNotStored;
    if (lot == 3 || lot == 5) status = kUnknown;
    if (lot == 4) status = kRefused;
    const absl::Duration delay = absl::Microseconds(Draw(2000));
    answers_.emplace_back(runtime_.StartThread("answer", [this, delay, request = std::move(request), status] {
      runtime_.SleepFor(delay);
      if (status.ok()) {
        failed_.erase(request.number);
      } else {
        failed_.insert(request.number);
      }
      request.outcome(status);
    }));
    return absl::OkStatus();
  }

  void Store(const Request& request) {
    const std::string content = request.is_void ? "void" : request.payload;
    const auto [found, is_new] = stored_.emplace(request.number, content);
    // What was stored after all, and then refused, is there first.
    EXPECT_TRUE(found->second == content || request.is_void) << "number " << request.number;
    if (is_new && !request.is_void) stored_payloads_.insert(content);
  }

  bool healthy_ = false;
  std::map<uint64_t, std::string> sent_;  // payloads
  std::set<uint64_t> failed_;
  std::map<uint64_t, std::string> stored_;
  std::set<std::string> stored_payloads_;
  std::deque<std::unique_ptr<Thread>> answers_;
};

TEST_P(RandomFaultsTest, NoHoleNoRepeatNoLoss) {
  std::cout << "seed " << GetParam() << "; again by --test_filter='*/" << GetParam() << "'" << std::endl;
  Make(1 + Draw(16));
  constexpr int kEach = 60;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int t = 0; t < 3; ++t) {
    threads.push_back(runtime_.StartThread("publisher", [this, t] {
      for (int i = 0; i < kEach; ++i) {
        Publish(std::to_string(t) + "/" + std::to_string(i), absl::Seconds(20));
        if (Draw(4) == 0) runtime_.SleepFor(absl::Microseconds(Draw(3000)));
      }
    }));
  }
  threads.clear();
  healthy_ = true;
  EXPECT_TRUE(publisher_->Flush(runtime_.Now() + absl::Minutes(1)).ok());
  Pass(absl::Seconds(30));
  ASSERT_EQ(told_.size(), static_cast<size_t>(3 * kEach));
  for (const auto& [payload, statuses] : told_) {
    ASSERT_EQ(statuses.size(), 1u) << payload;
    const bool stored = stored_payloads_.count(payload) != 0;
    EXPECT_TRUE(stored || !statuses[0].ok()) << payload << " is lost";
    if (absl::IsUnavailable(statuses[0]) || absl::IsFailedPrecondition(statuses[0])) {
      EXPECT_FALSE(stored) << payload << ": " << statuses[0];
    }
  }
  uint64_t expected = 1;
  std::map<char, int> last;
  for (const auto& [number, content] : stored_) {
    EXPECT_EQ(number, expected++);
    if (content == "void") continue;
    int index = 0;
    ASSERT_TRUE(absl::SimpleAtoi(content.substr(2), &index));
    const auto before = last.find(content[0]);
    if (before != last.end()) {
      EXPECT_GT(index, before->second) << "out of order: " << content;
    }
    last[content[0]] = index;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomFaultsTest, testing::Range<uint64_t>(1, 41));

}  // namespace
}  // namespace coord::internal
