// The event bus with real threads: two copies on one memory store, and on two stores over one SQLite file.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/options.h"
#include "coord/subscription.h"
#include "gtest/gtest.h"
#include "kv/internal/mutex.h"
#include "kv/memory_store.h"
#include "kv/sqlite_store.h"
#include "kv/store.h"

namespace coord {
namespace {

using kv::internal::MutexLock;

absl::Time Soon() { return absl::Now() + absl::Seconds(30); }

const PublishOptions kReliably = {Delivery::kReliable, ""};

// What a handler got, to be waited for.
class Box {
 public:
  void Put(const Event& event) {
    MutexLock lock(mu_);
    events_.push_back(event);
    changed_.NotifyAll();
  }
  // The events, once there are `count` of them; fewer if they do not come in half a minute.
  std::vector<Event> Wait(size_t count) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    MutexLock lock(mu_);
    while (events_.size() < count && changed_.WaitUntil(mu_, until)) {
    }
    return events_;
  }
  EventHandler Handler() {
    return [this](const Event& event) { Put(event); };
  }

 private:
  kv::internal::Mutex mu_;
  kv::internal::CondVar changed_;
  std::vector<Event> events_ KV_GUARDED_BY(mu_);
};

class EventThreadsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "memory") memory_ = kv::NewMemoryStore();
    static std::atomic<int> files{0};
    path_ = testing::TempDir() + "/events" + std::to_string(files++) + ".db";
    ASSERT_TRUE(Open().ok());
  }

  // Each copy has a store of its own where that is possible.
  absl::StatusOr<std::shared_ptr<kv::Store>> Open() {
    if (memory_ != nullptr) return memory_;
    return kv::OpenSqliteStore(path_, Soon());
  }

  std::unique_ptr<Cluster> Join(const std::string& instance) {
    JoinOptions options;
    absl::StatusOr<std::shared_ptr<kv::Store>> store = Open();
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) return nullptr;
    options.store = *std::move(store);
    options.plugin = "test";
    options.instance = instance;
    options.log = [](LogLevel, std::string_view) {};
    absl::StatusOr<std::unique_ptr<Cluster>> cluster = Cluster::Join(std::move(options));
    EXPECT_TRUE(cluster.ok()) << cluster.status();
    return cluster.ok() ? *std::move(cluster) : nullptr;
  }

  std::shared_ptr<kv::Store> memory_;
  std::string path_;
};

TEST_P(EventThreadsTest, ManyThreadsOnTwoCopies) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Box at_a;
  Box at_b;
  const auto subscribed_a = a->events().Subscribe("t", at_a.Handler(), Soon());
  const auto subscribed_b = b->events().Subscribe("t", at_b.Handler(), Soon());
  ASSERT_TRUE(subscribed_a.ok() && subscribed_b.ok());
  constexpr int kThreads = 4;
  constexpr int kEach = 100;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Cluster& cluster = t % 2 == 0 ? *a : *b;
      for (int i = 0; i < kEach; ++i) {
        const absl::Status status =
            cluster.events().Publish("t", std::to_string(t) + "/" + std::to_string(i), Soon(), kReliably);
        EXPECT_TRUE(status.ok()) << status;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (Box* box : {&at_a, &at_b}) {
    const std::vector<Event> events = box->Wait(kThreads * kEach);
    ASSERT_EQ(events.size(), static_cast<size_t>(kThreads * kEach));
    std::map<std::string, uint64_t> last;
    std::map<char, int> by_thread;
    for (const Event& event : events) {
      ASSERT_FALSE(event.gap) << event.payload;
      EXPECT_EQ(event.number, ++last[event.publisher]);
      EXPECT_EQ(std::stoi(event.payload.substr(2)), by_thread[event.payload[0]]++);
    }
    EXPECT_EQ(last.size(), 2u);
  }
}

TEST_P(EventThreadsTest, ASubscriberThatWasAwayIsCaughtUp) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  SubscribeOptions options;
  options.cursor = "b";
  for (int round = 0; round < 3; ++round) {
    auto b = Join("b");
    ASSERT_TRUE(b != nullptr);
    Box box;
    const auto subscribed = b->events().Subscribe("t", box.Handler(), Soon(), options);
    ASSERT_TRUE(subscribed.ok()) << subscribed.status();
    const size_t missed = round == 0 ? 0 : 50;
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(a->events().Publish("t", "here", Soon(), kReliably).ok());
    const std::vector<Event> events = box.Wait(missed + 50);
    ASSERT_EQ(events.size(), missed + 50);
    for (size_t i = 0; i < events.size(); ++i) {
      EXPECT_EQ(events[i].payload, i < missed ? "away" : "here");
      EXPECT_EQ(events[i].number, static_cast<uint64_t>(round) * 100 - missed + i + 1);
    }
    // The last handler may not have been counted as returned; Leave stores what was.
    ASSERT_TRUE(a->events().Publish("t", "last", Soon(), {Delivery::kBestEffort, ""}).ok());
    box.Wait(missed + 51);
    ASSERT_TRUE(b->Leave(Soon()).ok());
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(a->events().Publish("t", "away", Soon(), kReliably).ok());
  }
}

TEST_P(EventThreadsTest, QuestionsFromManyThreads) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  const auto answer = [](const Event& event) -> std::optional<std::string> { return event.payload + "!"; };
  const auto at_a = a->events().Answer("q", answer, Soon());
  const auto at_b = b->events().Answer("q", answer, Soon());
  ASSERT_TRUE(at_a.ok() && at_b.ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const std::string question = std::to_string(t) + "/" + std::to_string(i);
        const auto replies = (t % 2 == 0 ? *a : *b).events().Ask("q", question, Soon(), 2);
        ASSERT_TRUE(replies.ok()) << replies.status();
        ASSERT_EQ(replies->size(), 2u);
        EXPECT_NE((*replies)[0].from, (*replies)[1].from);
        EXPECT_EQ((*replies)[0].payload, question + "!");
        EXPECT_EQ((*replies)[1].payload, question + "!");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Subscriptions come and go while events flow and the copy leaves: nothing may race or hang.
TEST_P(EventThreadsTest, SubscribingUnsubscribingAndLeavingAtOnce) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  std::atomic<bool> stop{false};
  std::atomic<int> delivered{0};
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!stop) (void)a->events().Publish("t", "x", Soon(), kReliably);
  });
  threads.emplace_back([&] {
    while (!stop) (void)a->events().Publish("t", "x", Soon());
  });
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      SubscribeOptions options;
      if (t == 1) options.cursor = "c";
      for (int i = 0; i < 50; ++i) {
        const auto made = b->events().Subscribe(
            "t", [&](const Event&) { ++delivered; }, Soon(), options);
        if (!made.ok()) {
          EXPECT_EQ(made.status().code(), absl::StatusCode::kCancelled) << made.status();
          return;
        }
        const int before = delivered;
        const absl::Time until = Soon();
        while (delivered == before && !stop && absl::Now() < until) std::this_thread::yield();
        if (i == 30 && t == 0) {
          const absl::Status left = b->Leave(Soon());
          EXPECT_TRUE(left.ok()) << left;
          stop = true;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(delivered, 0);
}

INSTANTIATE_TEST_SUITE_P(Stores, EventThreadsTest, testing::Values("memory", "sqlite"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace coord
