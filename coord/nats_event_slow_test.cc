// The event bus over NATS where somebody is slow, stuck, or leaves: bounds, gaps, and ends.

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/nats_event_test_util.h"
#include "coord/nats_events.h"
#include "coord/subscription.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"

namespace coord {
namespace {

using ::testing::MatchesRegex;

class NatsEventSlowTest : public NatsEventsTest {};

TEST_F(NatsEventSlowTest, ASlowConsumerOfBestEffortEventsLearnsHowManyWereDropped) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Box box;
  Tally go;
  Tally begun;
  const Subscription subscription = Subscribe(*b, [&](const Event& event) {
    begun.Add();
    go.Reach(1);
    box.Put(event);
  });
  constexpr size_t kEvents = 20000;
  for (size_t i = 0; i < kEvents; ++i) {
    ASSERT_TRUE(a->events().Publish("t", absl::StrCat(i), Soon()).ok());
    if (i == 0) {
      ASSERT_TRUE(begun.Reach(1));
    }
    if (i % 1000 == 999) {
      ASSERT_TRUE(a->events().Flush(Soon()).ok());
    }
  }
  // Reliable events have room of their own.
  ASSERT_TRUE(Publish(*a, "reliable").ok());
  go.Add();
  box.WaitFor("reliable");
  // What still was on its way when the handler went on came too.
  const auto count = [](const std::vector<Event>& events, size_t* lost) {
    size_t delivered = 0;
    for (const Event& event : events) {
      if (event.gap) *lost += std::stoul(event.payload.substr(event.payload.find(':') + 2));
      if (!event.gap && event.delivery == Delivery::kBestEffort) ++delivered;
    }
    return delivered;
  };
  const std::vector<Event> events = box.WaitUntil([&](const std::vector<Event>& so_far) {
    size_t lost = 0;
    return count(so_far, &lost) + lost == kEvents;
  });
  size_t lost = 0;
  const size_t delivered = count(events, &lost);
  EXPECT_EQ(delivered + lost, kEvents);
  EXPECT_GE(delivered, 4096u + 1);
  EXPECT_GT(lost, 0u);
  for (const std::string& gap : Gaps(events)) {
    EXPECT_THAT(gap, MatchesRegex("the handler was too slow: [0-9]+ best-effort events were dropped"));
  }
}

TEST_F(NatsEventSlowTest, ASlowConsumerOfReliableEventsMissesNothing) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Tally go;
  Tally delivered;
  std::atomic<uint64_t> last{0};
  const Subscription subscription = Subscribe(*b, [&](const Event& event) {
    go.Reach(1);
    EXPECT_FALSE(event.gap) << event.payload;
    EXPECT_EQ(event.number, ++last);
    delivered.Add();
  });
  constexpr uint64_t kEvents = 20000;
  for (uint64_t i = 0; i < kEvents; ++i) a->events().PublishAsync("t", "x", Soon(), nullptr, kReliably);
  ASSERT_TRUE(a->events().Flush(Soon()).ok());
  go.Add();
  EXPECT_TRUE(delivered.Reach(kEvents));
  EXPECT_EQ(delivered.Get(), kEvents);
}

TEST_F(NatsEventSlowTest, CloseIsBoundedWithAStoppedServer) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Tally delivered;
  const Subscription subscription = Subscribe(
      *a, [&](const Event&) { delivered.Add(); }, Cursor("a"));
  ASSERT_TRUE(Publish(*a, "x").ok());
  ASSERT_TRUE(delivered.Reach(1));
  server_->Stop();
  Tally told;
  for (int i = 0; i < 10; ++i) {
    a->events().PublishAsync(
        "t", "y", Soon(),
        [&told](const absl::Status& status) {
          EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
          told.Add();
        },
        kReliably);
  }
  const absl::Time begun = absl::Now();
  a->events().Close(begun + absl::Seconds(1));
  EXPECT_LT(absl::Now() - begun, absl::Milliseconds(1500));
  EXPECT_TRUE(told.Reach(10));
  a.reset();
  EXPECT_LT(absl::Now() - begun, absl::Seconds(10));
  server_->Continue();
}

TEST_F(NatsEventSlowTest, CallsEndAtTheirDeadlinesWithAStoppedServer) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  ASSERT_TRUE(Publish(*a, "x").ok());
  server_->Stop();
  const auto in = [] { return absl::Now() + absl::Milliseconds(300); };
  const auto check = [](const absl::Status& status, absl::Time begun) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_LT(absl::Now() - begun, absl::Seconds(2));
  };
  absl::Time begun = absl::Now();
  check(a->events().Publish("t", "x", in(), kReliably), begun);
  begun = absl::Now();
  check(a->events().Flush(in()), begun);
  begun = absl::Now();
  const auto subscription = a->events().Subscribe(
      "t", [](const Event&) {}, in());
  EXPECT_FALSE(subscription.ok());
  EXPECT_LT(absl::Now() - begun, absl::Seconds(2));
  begun = absl::Now();
  const auto replies = a->events().Ask("t", "x", in());
  EXPECT_LT(absl::Now() - begun, absl::Seconds(2));
  server_->Continue();
}

TEST_F(NatsEventSlowTest, AfterCloseNoHandlerBegins) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  std::atomic<bool> closed{false};
  std::atomic<int> late{0};
  Tally delivered;
  const Subscription subscription = Subscribe(*b, [&](const Event&) {
    if (closed) ++late;
    delivered.Add();
  });
  std::atomic<bool> stop{false};
  std::thread publisher([&] {
    while (!stop) {
      a->events().PublishAsync("t", "x", Soon(), nullptr, kReliably);
      (void)a->events().Publish("t", "x", Soon());
    }
  });
  EXPECT_TRUE(delivered.Reach(500));
  b->events().Close(Soon());
  closed = true;
  EXPECT_TRUE(a->events().Flush(Soon()).ok());
  const uint64_t at_close = delivered.Get();
  b->events().Close(Soon());
  stop = true;
  publisher.join();
  ASSERT_TRUE(b->Leave(Soon()).ok());
  // At most the one that had begun when it was closed.
  EXPECT_LE(late, 1);
  EXPECT_LE(delivered.Get(), at_close + 1);
}

TEST_F(NatsEventSlowTest, HandlersMayCallAnything) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  Subscription own;
  Subscription inner;
  Tally done;
  own = Subscribe(*a, [&](const Event& event) {
    box.Put(event);
    if (event.payload == "publish") {
      EXPECT_TRUE(Publish(*a, "from inside").ok());
      EXPECT_TRUE(a->events().Publish("t", "best effort", Soon()).ok());
      a->events().PublishAsync(
          "t", "async", Soon(), [&done](const absl::Status&) { done.Add(); }, kReliably);
      inner = Subscribe(
          *a, [&box](const Event& e) { box.Put(e); }, {}, "other");
      EXPECT_TRUE(a->events().Flush(Soon()).ok());
    }
    if (event.payload == "unsubscribe") own = Subscription();
  });
  ASSERT_TRUE(Publish(*a, "publish").ok());
  box.WaitFor("async");
  EXPECT_TRUE(done.Reach(1));
  ASSERT_TRUE(Publish(*a, "inner", kReliably, "other").ok());
  box.WaitFor("inner");
  ASSERT_TRUE(Publish(*a, "unsubscribe").ok());
  box.WaitFor("unsubscribe");
  own = Subscribe(*a, [&](const Event& event) {
    if (event.payload != "leave") return;
    EXPECT_TRUE(a->Leave(Soon()).ok());
    done.Add();
  });
  ASSERT_TRUE(Publish(*a, "leave").ok());
  EXPECT_TRUE(done.Reach(2));
  own = Subscription();
}

// The last owner of the Cluster may be a handler.
TEST_F(NatsEventSlowTest, AHandlerMayDestroyItsCluster) {
  std::shared_ptr<Cluster> a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Tally done;
  auto keep = std::make_shared<Subscription>();
  *keep = Subscribe(*a, [&a, &done](const Event&) {
    std::thread([gone = std::move(a)]() mutable { gone.reset(); }).detach();
    done.Add();
  });
  ASSERT_TRUE(a->events().Publish("t", "x", Soon()).ok());
  EXPECT_TRUE(done.Reach(1));
  keep.reset();
}

// Subscriptions come and go while events flow, the server restarts and copies leave: nothing may race or hang.
TEST_F(NatsEventSlowTest, EverythingAtOnce) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  std::atomic<bool> stop{false};
  Tally delivered;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!stop) a->events().PublishAsync("t", "x", absl::Now() + absl::Seconds(1), nullptr, kReliably);
  });
  threads.emplace_back([&] {
    while (!stop) {
      (void)a->events().Publish("t", "x", absl::Now() + absl::Milliseconds(100));
      std::this_thread::yield();
    }
  });
  threads.emplace_back([&] {
    while (!stop) (void)a->events().Ask("q", "x", absl::Now() + absl::Milliseconds(20), 1);
  });
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        SubscribeOptions options;
        if (t == 1) options.cursor = "c";
        const auto answers = b->events().Answer(
            "q", [](const Event&) { return "yes"; }, Soon());
        const auto made = b->events().Subscribe(
            "t", [&](const Event&) { delivered.Add(); }, Soon(), options);
        if (!made.ok() && absl::IsCancelled(made.status())) return;
        if (made.ok()) delivered.Reach(delivered.Get() + 20, absl::Milliseconds(200));
      }
    });
  }
  EXPECT_TRUE(delivered.Reach(500));
  server_->Kill();
  ASSERT_TRUE(server_->Start().ok());
  EXPECT_TRUE(delivered.Reach(delivered.Get() + 500));
  server_->Stop();
  server_->Continue();
  EXPECT_TRUE(delivered.Reach(delivered.Get() + 200));
  EXPECT_TRUE(b->Leave(Soon()).ok());
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace coord
