// Reliable events over a cluster of three servers with three replicas, whose leader dies, stops and comes back while
// copies publish: whatever was acknowledged comes, once, and in the order of its publisher.

#include <atomic>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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

constexpr char kStream[] = "COORD_coord";

class NatsEventClusterTest : public NatsEventsTest {
 protected:
  void SetUp() override {
    auto cluster = servers::NatsCluster::Run();
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    store_ = kv::NewMemoryStore();
  }

  // `number` makes connections different, so that each is one of its own.
  std::unique_ptr<Cluster> JoinCluster(const std::string& instance, int number) {
    kv::NatsOptions options;
    options.servers = absl::StrSplit(cluster_->addresses(), ',');
    for (int i = 0; i < number; ++i) options.servers.push_back(options.servers[static_cast<size_t>(i)]);
    auto connection = kv::NatsConnection::Connect(options, Soon());
    EXPECT_TRUE(connection.ok()) << connection.status();
    if (!connection.ok()) return nullptr;
    NatsEventOptions events;
    events.replicas = 3;
    return Join(instance, events, *std::move(connection));
  }

  std::unique_ptr<servers::NatsCluster> cluster_;
};

// What the subscriber got, and what the publishers were told.
struct Ledger {
  void Take(const Event& event) {
    if (event.gap) {
      if (event.delivery == Delivery::kReliable) ADD_FAILURE() << event.payload;
      return;
    }
    MutexLock lock(mu);
    uint64_t& last = numbers[event.publisher];
    if (last != 0 && event.number != last + 1) ADD_FAILURE() << event.number << " after " << last;
    last = event.number;
    if (!delivered.insert(event.payload).second) ADD_FAILURE() << event.payload << " came twice";
    arrived.Add();
  }

  kv::internal::Mutex mu;
  std::map<std::string, uint64_t> numbers KV_GUARDED_BY(mu);
  std::set<std::string> delivered KV_GUARDED_BY(mu);
  std::set<std::string> acknowledged KV_GUARDED_BY(mu);
  Tally arrived;
  Tally told;
};

TEST_F(NatsEventClusterTest, LeadersComeAndGoAndNothingIsLost) {
  auto a = JoinCluster("a", 0);
  auto b = JoinCluster("b", 1);
  auto c = JoinCluster("c", 2);
  ASSERT_TRUE(a != nullptr && b != nullptr && c != nullptr);
  ASSERT_TRUE(cluster_->WaitForStream(kStream, Soon()).ok());
  Ledger ledger;
  const Subscription subscription = Subscribe(
      *c, [&](const Event& event) { ledger.Take(event); }, Cursor("c"));
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> published{0};
  std::vector<std::thread> threads;
  for (Cluster* const cluster : {a.get(), b.get()}) {
    threads.emplace_back([&, cluster] {
      for (int i = 1; !stop; ++i) {
        const std::string payload = absl::StrCat(cluster->instance(), "/", i);
        ++published;
        cluster->events().PublishAsync(
            "t", payload, absl::Now() + absl::Minutes(1),
            [&, payload](const absl::Status& status) {
              if (status.ok()) {
                MutexLock lock(ledger.mu);
                ledger.acknowledged.insert(payload);
              }
              EXPECT_TRUE(status.ok()) << status;
              ledger.told.Add();
            },
            kReliably);
      }
    });
  }
  for (const bool stopped : {false, true}) {
    ASSERT_TRUE(ledger.arrived.Reach(ledger.arrived.Get() + 1000));
    const auto leader = cluster_->StreamLeader(kStream);
    ASSERT_TRUE(leader.ok()) << leader.status();
    servers::NatsServer& server = cluster_->server(*leader);
    stopped ? server.Stop() : server.Kill();
    // The others go on without it.
    EXPECT_TRUE(ledger.arrived.Reach(ledger.arrived.Get() + 1000, absl::Minutes(1)));
    if (stopped) {
      server.Continue();
    } else {
      ASSERT_TRUE(server.Start().ok());
    }
    const absl::Time healed = absl::Now();
    EXPECT_TRUE(ledger.arrived.Reach(ledger.arrived.Get() + 1000));
    std::cout << (stopped ? "stopped" : "killed") << " leader: a thousand events more " << absl::Now() - healed
              << " after it was back" << std::endl;
    ASSERT_TRUE(cluster_->WaitForStream(kStream, absl::Now() + absl::Minutes(1)).ok());
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  for (Cluster* const cluster : {a.get(), b.get()}) EXPECT_TRUE(cluster->events().Flush(Soon()).ok());
  EXPECT_TRUE(ledger.told.Reach(published));
  EXPECT_TRUE(ledger.arrived.Reach(published));
  MutexLock lock(ledger.mu);
  for (const std::string& payload : ledger.acknowledged) {
    if (ledger.delivered.count(payload) == 0) ADD_FAILURE() << payload << " was acknowledged and did not come";
  }
  EXPECT_EQ(ledger.delivered.size(), ledger.acknowledged.size());
}

}  // namespace
}  // namespace coord
