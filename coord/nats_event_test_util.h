// What the tests of the event bus over NATS share: a real server, copies on one memory store, and boxes for events.

#ifndef COORD_NATS_EVENT_TEST_UTIL_H_
#define COORD_NATS_EVENT_TEST_UTIL_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/nats_events.h"
#include "coord/options.h"
#include "coord/subscription.h"
#include "gtest/gtest.h"
#include "kv/internal/mutex.h"
#include "kv/memory_store.h"
#include "kv/nats_connection.h"
#include "kv/store.h"
#include "tests/servers/servers.h"

namespace coord {

inline const PublishOptions kReliably = {Delivery::kReliable, ""};

inline absl::Time Soon() { return absl::Now() + absl::Seconds(30); }

// What a handler got, to be waited for.
class Box {
 public:
  void Put(const Event& event) {
    kv::internal::MutexLock lock(mu_);
    events_.push_back(event);
    changed_.NotifyAll();
  }

  EventHandler Handler() {
    return [this](const Event& event) { Put(event); };
  }

  // All events, once `enough` says so of them, or half a minute has passed.
  std::vector<Event> WaitUntil(const std::function<bool(const std::vector<Event>&)>& enough) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    kv::internal::MutexLock lock(mu_);
    while (!enough(events_) && changed_.WaitUntil(mu_, until)) {
    }
    return events_;
  }
  std::vector<Event> Wait(size_t count) {
    return WaitUntil([count](const std::vector<Event>& events) { return events.size() >= count; });
  }
  // Until one with this payload has come.
  std::vector<Event> WaitFor(const std::string& payload) {
    return WaitUntil([&payload](const std::vector<Event>& events) {
      return std::any_of(events.begin(), events.end(),
                         [&payload](const Event& event) { return !event.gap && event.payload == payload; });
    });
  }
  std::vector<Event> WaitForGap(Delivery delivery = Delivery::kReliable) {
    return WaitUntil([delivery](const std::vector<Event>& events) {
      return std::any_of(events.begin(), events.end(),
                         [delivery](const Event& event) { return event.gap && event.delivery == delivery; });
    });
  }

  void Clear() {
    kv::internal::MutexLock lock(mu_);
    events_.clear();
  }

 private:
  kv::internal::Mutex mu_;
  kv::internal::CondVar changed_;
  std::vector<Event> events_ KV_GUARDED_BY(mu_);
};

// A counter that can be waited for.
class Tally {
 public:
  void Add(uint64_t more = 1) {
    kv::internal::MutexLock lock(mu_);
    count_ += more;
    changed_.NotifyAll();
  }
  uint64_t Get() {
    kv::internal::MutexLock lock(mu_);
    return count_;
  }
  // True once there are `count`; false if that takes longer than `limit`.
  bool Reach(uint64_t count, absl::Duration limit = absl::Seconds(30)) {
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(limit);
    kv::internal::MutexLock lock(mu_);
    while (count_ < count && changed_.WaitUntil(mu_, until)) {
    }
    return count_ >= count;
  }

 private:
  kv::internal::Mutex mu_;
  kv::internal::CondVar changed_;
  uint64_t count_ KV_GUARDED_BY(mu_) = 0;
};

// Payloads in order, "GAP" for gaps, "gap" for those of best-effort events, separated by blanks.
inline std::string Payloads(const std::vector<Event>& events) {
  std::string text;
  for (const Event& event : events) {
    if (!text.empty()) text += " ";
    text += !event.gap ? event.payload : event.delivery == Delivery::kReliable ? "GAP" : "gap";
  }
  return text;
}

// The texts of the gaps.
inline std::vector<std::string> Gaps(const std::vector<Event>& events) {
  std::vector<std::string> gaps;
  for (const Event& event : events) {
    if (event.gap) gaps.push_back(event.payload);
  }
  return gaps;
}

class NatsEventsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<servers::NatsServer>> server = servers::NatsServer::Run();
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    store_ = kv::NewMemoryStore();
  }

  std::shared_ptr<kv::NatsConnection> Connect(const std::string& address) {
    kv::NatsOptions options;
    options.servers = {address};
    auto connection = kv::NatsConnection::Connect(options, Soon());
    EXPECT_TRUE(connection.ok()) << connection.status();
    return connection.ok() ? *std::move(connection) : nullptr;
  }
  std::shared_ptr<kv::NatsConnection> Connect() { return Connect(server_->address()); }

  absl::StatusOr<std::unique_ptr<Cluster>> TryJoin(const std::string& instance, std::shared_ptr<EventDriver> events) {
    JoinOptions join;
    join.store = store_;
    join.plugin = "test.plugin";
    join.instance = instance;
    join.ttl = absl::Seconds(60);
    join.events = std::move(events);
    join.log = [this](LogLevel, std::string_view line) {
      kv::internal::MutexLock lock(mu_);
      log_.emplace_back(line);
    };
    return Cluster::Join(std::move(join));
  }

  std::unique_ptr<Cluster> Join(const std::string& instance, const NatsEventOptions& options = {},
                                std::shared_ptr<kv::NatsConnection> connection = nullptr) {
    if (connection == nullptr) connection = Connect();
    auto cluster = TryJoin(instance, NatsEvents(std::move(connection), options));
    EXPECT_TRUE(cluster.ok()) << cluster.status();
    return cluster.ok() ? *std::move(cluster) : nullptr;
  }

  static absl::Status Publish(Cluster& cluster, const std::string& payload, const PublishOptions& options = kReliably,
                              const std::string& topic = "t") {
    return cluster.events().Publish(topic, payload, Soon(), options);
  }

  static Subscription Subscribe(Cluster& cluster, EventHandler handler, const SubscribeOptions& options = {},
                                const std::string& topic = "t") {
    auto subscription = cluster.events().Subscribe(topic, std::move(handler), Soon(), options);
    EXPECT_TRUE(subscription.ok()) << subscription.status();
    return subscription.ok() ? *std::move(subscription) : Subscription();
  }

  static SubscribeOptions Cursor(const std::string& name) {
    SubscribeOptions options;
    options.cursor = name;
    return options;
  }

  // A request to the server, with an answer in JSON.
  std::string Api(const std::string& subject, const std::string& request = "") {
    auto answer = Connect()->Request(subject, request, {}, Soon());
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? std::string(answer->data()) : "";
  }

  std::vector<std::string> Log() {
    kv::internal::MutexLock lock(mu_);
    return log_;
  }

  std::unique_ptr<servers::NatsServer> server_;
  std::shared_ptr<kv::Store> store_;
  kv::internal::Mutex mu_;
  std::vector<std::string> log_ KV_GUARDED_BY(mu_);
};

}  // namespace coord

#endif  // COORD_NATS_EVENT_TEST_UTIL_H_
