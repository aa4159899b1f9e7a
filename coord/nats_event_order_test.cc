// Reliable events over NATS: order, repeats, pipelining, and servers that go away in the middle.

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/nats_event_test_util.h"
#include "coord/nats_events.h"
#include "coord/subscription.h"
#include "gtest/gtest.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"
#include "tests/servers/servers.h"

namespace coord {
namespace {

using kv::internal::MutexLock;

// Checks the order of what a handler gets: numbers of a publisher without a hole, and "<thread>/<i>" of a thread
// without going back.
class Checker {
 public:
  EventHandler Handler() {
    return [this](const Event& event) {
      Check(event);
      (event.gap ? gaps : events).Add();
    };
  }

  void Check(const Event& event) {
    MutexLock lock(mu_);
    if (event.gap) {
      if (event.delivery == Delivery::kReliable) reasons_.push_back(event.payload);
      return;
    }
    uint64_t& last = numbers_[event.publisher];
    if (last != 0) {
      EXPECT_EQ(event.number, last + 1) << event.payload;
    }
    last = event.number;
    const size_t slash = event.payload.find('/');
    int index = 0;
    ASSERT_TRUE(absl::SimpleAtoi(event.payload.substr(slash + 1), &index));
    int& before = indices_[event.payload.substr(0, slash)];
    EXPECT_GT(index, before) << event.payload << " came too late";
    before = index;
    EXPECT_TRUE(seen_.insert(event.payload).second) << event.payload << " came twice";
  }

  std::set<std::string> seen() {
    MutexLock lock(mu_);
    return seen_;
  }
  std::vector<std::string> reasons() {
    MutexLock lock(mu_);
    return reasons_;
  }

  Tally events;
  Tally gaps;

 private:
  kv::internal::Mutex mu_;
  std::map<std::string, uint64_t> numbers_ KV_GUARDED_BY(mu_);
  std::map<std::string, int> indices_ KV_GUARDED_BY(mu_);
  std::set<std::string> seen_ KV_GUARDED_BY(mu_);
  std::vector<std::string> reasons_ KV_GUARDED_BY(mu_);
};

class NatsEventOrderTest : public NatsEventsTest {
 protected:
  // Stores an event as a publisher of another copy would, without the id by which the server drops repeats.
  void Store(kv::NatsConnection& connection, int number, const std::string& payload, int low = 0) {
    kv::NatsHeaders headers = {{"Coord-V", "1.0"},
                               {"Coord-Bus", "0123456789abcdef"},
                               {"Coord-From", "x"},
                               {"Coord-Pub", "0123456789abcdef00000001"},
                               {"Coord-N", absl::StrCat(number)}};
    if (low != 0) headers.emplace_back("Coord-Low", absl::StrCat(low));
    EXPECT_TRUE(connection.Request("coord.coord.r.test=2Eplugin.t", payload, headers, Soon()).ok());
  }
};

TEST_F(NatsEventOrderTest, PipelinedEventsOfSeveralPublishersKeepTheirOrders) {
  auto a = Join("a");
  auto b = Join("b");
  auto c = Join("c");
  ASSERT_TRUE(a != nullptr && b != nullptr && c != nullptr);
  Checker checkers[2];
  const Subscription at_b = Subscribe(*b, checkers[0].Handler());
  const Subscription at_c = Subscribe(*c, checkers[1].Handler());
  constexpr int kThreads = 4;
  constexpr int kEach = 2000;
  Tally told;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Cluster& cluster = t % 2 == 0 ? *a : *b;
      for (int i = 1; i <= kEach; ++i) {
        cluster.events().PublishAsync(
            "t", absl::StrCat(t, "/", i), Soon(),
            [&told](const absl::Status& status) {
              EXPECT_TRUE(status.ok()) << status;
              told.Add();
            },
            kReliably);
      }
      EXPECT_TRUE(cluster.events().Flush(Soon()).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(told.Reach(kThreads * kEach));
  for (Checker& checker : checkers) {
    EXPECT_TRUE(checker.events.Reach(kThreads * kEach));
    EXPECT_EQ(checker.seen().size(), static_cast<size_t>(kThreads * kEach));
    EXPECT_EQ(checker.gaps.Get(), 0u);
  }
}

// Every event is stored a second time under its number, as a publisher does whose acknowledgement was lost, and late,
// so that the server's own window of message ids is of no help: the id is left out.
TEST_F(NatsEventOrderTest, RepeatsAreDropped) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  const auto connection = Connect();
  for (const int number : {1, 2, 1, 2, 4, 3, 4, 3, 1, 5, 6}) Store(*connection, number, absl::StrCat(number));
  EXPECT_EQ(Payloads(box.WaitFor("6")), "1 2 3 4 5 6");
}

TEST_F(NatsEventOrderTest, AMissingNumberIsWaitedForAndThenAGap) {
  NatsEventOptions options;
  options.reorder_wait = absl::Milliseconds(300);
  auto a = Join("a", options);
  ASSERT_TRUE(a != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  const auto connection = Connect();
  for (const int number : {1, 3, 4}) Store(*connection, number, absl::StrCat(number));
  const std::vector<Event> events = box.Wait(4);
  EXPECT_EQ(Payloads(events), "1 GAP 3 4");
  EXPECT_EQ(events[1].payload, "events of one publisher are missing (numbers 2 to 2)");
}

// The stream's leader changed under the first events of a publisher, and so the third was stored first.
TEST_F(NatsEventOrderTest, TheFirstEventsOfAPublisherComeInOrderToo) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  Box replayed;
  const Subscription live = Subscribe(*a, box.Handler());
  { const Subscription away = Subscribe(*a, replayed.Handler(), Cursor("c")); }
  const auto connection = Connect();
  Store(*connection, 3, "3", 1);
  Store(*connection, 1, "1");
  Store(*connection, 2, "2", 1);
  Store(*connection, 4, "4");
  EXPECT_EQ(Payloads(box.WaitFor("4")), "1 2 3 4");
  const Subscription back = Subscribe(*a, replayed.Handler(), Cursor("c"));
  EXPECT_EQ(Payloads(replayed.WaitFor("4")), "1 2 3 4");
}

// What was under way when a subscription begins, and stored before, is neither waited for nor missing.
TEST_F(NatsEventOrderTest, ASubscriptionThatBeginsAmongEventsUnderWayNeitherWaitsNorHasAGap) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  const auto connection = Connect();
  for (int number = 1; number <= 5; ++number) Store(*connection, number, absl::StrCat(number), 1);
  Store(*connection, 7, "7", 1);
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  Store(*connection, 8, "8", 1);
  Store(*connection, 6, "6", 1);
  EXPECT_EQ(Payloads(box.WaitFor("8")), "6 8") << "7 was stored before it began";
  Store(*connection, 9, "9", 4);
  EXPECT_EQ(Payloads(box.WaitFor("9")), "6 8 9");
}

// Beyond what is looked back on, a later event tells.
TEST_F(NatsEventOrderTest, WhatIsStoredSinceLongIsNotWaitedFor) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  const auto connection = Connect();
  for (int number = 1; number <= 3; ++number) Store(*connection, number, absl::StrCat(number), 1);
  for (int i = 0; i < 1100; ++i) a->events().PublishAsync("else", "x", Soon(), nullptr, kReliably);
  ASSERT_TRUE(a->events().Flush(Soon()).ok());
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  Store(*connection, 4, "4", 2);
  Store(*connection, 5, "5", 3);
  Store(*connection, 6, "6", 4);
  EXPECT_EQ(Payloads(box.WaitFor("6")), "4 5 6");
}

// As many bytes as a publisher may have under way wait for the oldest of them, and that of several.
TEST_F(NatsEventOrderTest, AWholeWindowOfLargeEventsWaitsForTheMissingOne) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*a, [&box](Event event) {
    event.payload.resize(std::min<size_t>(event.payload.size(), 2));
    box.Put(event);
  });
  const auto connection = Connect();
  const std::string large(1000 * 1000, 'x');
  for (int number = 11; number <= 50; ++number) Store(*connection, number, absl::StrCat(number) + large, 10);
  Store(*connection, 10, "10");
  std::string expected = "10";
  for (int number = 11; number <= 50; ++number) absl::StrAppend(&expected, " ", number);
  EXPECT_EQ(Payloads(box.WaitFor("50")), expected);
}

// The server is killed and started again while events are under way, again and again: whatever was acknowledged
// comes, once and in order, and so may what was not.
TEST_F(NatsEventOrderTest, ServerRestartsInTheMiddleOfPublishingLoseNothing) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Checker checker;
  const Subscription subscription = Subscribe(*b, checker.Handler());
  kv::internal::Mutex mu;
  std::set<std::string> acknowledged;
  Tally told;
  std::atomic<bool> stop{false};
  std::atomic<int> published{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 1; !stop; ++i) {
        const std::string payload = absl::StrCat(t, "/", i);
        ++published;
        a->events().PublishAsync(
            "t", payload, Soon(),
            [&, payload](const absl::Status& status) {
              EXPECT_TRUE(status.ok()) << status;
              if (status.ok()) {
                MutexLock lock(mu);
                acknowledged.insert(payload);
              }
              told.Add();
            },
            kReliably);
      }
    });
  }
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(told.Reach(told.Get() + 2000));
    if (round == 1) {
      server_->Terminate();
    } else {
      server_->Kill();
    }
    ASSERT_TRUE(server_->Start().ok());
  }
  ASSERT_TRUE(told.Reach(told.Get() + 2000));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(a->events().Flush(Soon()).ok());
  EXPECT_TRUE(told.Reach(published));
  EXPECT_TRUE(checker.events.Reach(published));
  MutexLock lock(mu);
  EXPECT_EQ(checker.seen(), acknowledged);
  EXPECT_EQ(checker.reasons(), std::vector<std::string>());
  EXPECT_GE(checker.gaps.Get(), 1u) << "best-effort events may have been missed, and that is told";
}

// Replies are held back, so that every outcome is unknown; then the connection is cut off and comes back.
TEST_F(NatsEventOrderTest, EventsOfUnknownOutcomeAreSettledInOrder) {
  auto relay = servers::Relay::Run(server_->address());
  ASSERT_TRUE(relay.ok()) << relay.status();
  auto a = Join("a", {}, Connect((*relay)->address()));
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Checker checker;
  const Subscription subscription = Subscribe(*b, checker.Handler());
  for (int i = 1; i <= 10; ++i) ASSERT_TRUE(Publish(*a, absl::StrCat("x/", i)).ok());
  (*relay)->CutReplies();
  const absl::Status unknown = a->events().Publish("t", "x/11", absl::Now() + absl::Milliseconds(300), kReliably);
  EXPECT_EQ(unknown.code(), absl::StatusCode::kDeadlineExceeded) << unknown;
  EXPECT_NE(unknown.message().find("it may yet be delivered"), std::string::npos) << unknown;
  EXPECT_TRUE(checker.events.Reach(11)) << "it was stored";
  (*relay)->Cut();
  Tally told;
  for (int i = 12; i <= 20; ++i) {
    a->events().PublishAsync(
        "t", absl::StrCat("x/", i), Soon(),
        [&told](const absl::Status& status) {
          EXPECT_TRUE(status.ok()) << status;
          told.Add();
        },
        kReliably);
  }
  (*relay)->Reset();
  (*relay)->Heal();
  EXPECT_TRUE(told.Reach(9));
  EXPECT_TRUE(checker.events.Reach(20));
  EXPECT_EQ(checker.seen().size(), 20u);
  EXPECT_EQ(checker.gaps.Get(), 0u);
}

TEST_F(NatsEventOrderTest, AFullWindowHoldsThePublisherBack) {
  NatsEventOptions options;
  options.max_in_flight = 8;
  auto a = Join("a", options);
  ASSERT_TRUE(a != nullptr);
  ASSERT_TRUE(Publish(*a, "warm").ok());
  server_->Stop();
  Tally told;
  kv::internal::Mutex mu;
  std::map<int, absl::Status> statuses;
  const auto publish = [&](int i, absl::Duration in) {
    const absl::Time begun = absl::Now();
    a->events().PublishAsync(
        "t", absl::StrCat(i), absl::Now() + in,
        [&, i](const absl::Status& status) {
          MutexLock lock(mu);
          statuses[i] = status;
          told.Add();
        },
        kReliably);
    return absl::Now() - begun;
  };
  for (int i = 0; i < 8; ++i) EXPECT_LT(publish(i, absl::Seconds(30)), absl::Seconds(1));
  const absl::Duration blocked = publish(8, absl::Milliseconds(500));
  EXPECT_GE(blocked, absl::Milliseconds(490));
  EXPECT_LT(blocked, absl::Seconds(2));
  EXPECT_TRUE(told.Reach(1));
  {
    MutexLock lock(mu);
    EXPECT_EQ(statuses[8].message(),
              "the event was not published: the deadline came while 8 earlier events of this copy were still being "
              "stored");
  }
  server_->Continue();
  EXPECT_TRUE(told.Reach(9));
  MutexLock lock(mu);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(statuses[i].ok()) << statuses[i];
}

}  // namespace
}  // namespace coord
