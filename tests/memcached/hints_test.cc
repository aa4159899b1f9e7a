// Copies whose store is a real memcached and whose events are on a real NATS: hints wake those who wait. And without
// NATS they come to the same, by polling.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/nats_events.h"
#include "kv/memcached_test_util.h"
#include "kv/nats_connection.h"

namespace coord {
namespace {

using kv::Eventually;
using kv::Soon;

constexpr absl::Duration kTtl = absl::Seconds(4);
const absl::Duration kPoll = kTtl / 8;

class MemcachedHintsTest : public testing::Test {
 protected:
  MemcachedHintsTest() : server_(kv::RunServer()), nats_(RunNats()), one_(Join("one")), two_(Join("two")) {
    // Once grants are given at all.
    for (Cluster* copy : {one_.get(), two_.get()}) Acquire(*copy, "warm");
  }

  static std::unique_ptr<servers::NatsServer> RunNats() {
    auto nats = servers::NatsServer::Run();
    EXPECT_TRUE(nats.ok()) << nats.status();
    return nats.ok() ? *std::move(nats) : nullptr;
  }
  std::unique_ptr<Cluster> Join(const std::string& instance) {
    kv::NatsOptions connect;
    connect.servers = {nats_->address()};
    auto connection = kv::NatsConnection::Connect(connect, Soon());
    EXPECT_TRUE(connection.ok()) << connection.status();
    if (!connection.ok()) return nullptr;
    JoinOptions options;
    options.store = kv::OpenAt(server_->address());
    options.events = NatsEvents(*connection);
    options.plugin = "demo";
    options.instance = instance;
    options.ttl = options.max_ttl = kTtl;
    options.accept_weaker = true;
    options.log = [](LogLevel, std::string_view) {};
    auto cluster = Cluster::Join(options);
    EXPECT_TRUE(cluster.ok()) << cluster.status();
    return cluster.ok() ? *std::move(cluster) : nullptr;
  }
  static Grant Acquire(Cluster& cluster, const std::string& name) {
    absl::StatusOr<Grant> grant = cluster.Mutex(name).Acquire(Soon());
    EXPECT_TRUE(grant.ok()) << grant.status();
    return grant.ok() ? *std::move(grant) : Grant();
  }

  // From the release to the successor's entry, each time.
  std::vector<absl::Duration> HandOvers(int count) {
    std::vector<absl::Duration> took;
    Grant held = Acquire(*one_, "m");
    for (int i = 0; i < count; ++i) {
      Cluster& next = i % 2 == 0 ? *two_ : *one_;
      Grant successor;
      absl::Time entered;
      std::thread waiter([&] {
        successor = Acquire(next, "m");
        entered = absl::Now();
      });
      EXPECT_TRUE(Eventually([&] {
        const auto info = next.Mutex("m").Inspect(Soon());
        return info.ok() && !info->waiters.empty();
      }));
      const absl::Time released = absl::Now();
      EXPECT_TRUE(held.Release().ok());
      waiter.join();
      took.push_back(entered - released);
      EXPECT_GT(successor.fence(), held.fence());
      held = std::move(successor);
    }
    return took;
  }
  static absl::Duration Median(std::vector<absl::Duration> all) {
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
  }

  const std::unique_ptr<servers::MemcachedServer> server_;
  const std::unique_ptr<servers::NatsServer> nats_;
  const std::unique_ptr<Cluster> one_;
  const std::unique_ptr<Cluster> two_;
};

TEST_F(MemcachedHintsTest, AHandOverDoesNotWaitForAPoll) {
  const absl::Duration median = Median(HandOvers(30));
  std::cout << "hand-over by a hint, median of 30: " << median << " (a poll comes every " << kPoll << ")" << std::endl;
  EXPECT_LT(median, kPoll / 5);
}

TEST_F(MemcachedHintsTest, AMapIsFollowedWithoutWaitingForAPoll) {
  const auto writer = one_->SharedMap("words", Soon());
  const auto reader = two_->SharedMap("words", Soon());
  ASSERT_TRUE(writer.ok() && reader.ok()) << writer.status() << reader.status();
  std::vector<absl::Duration> took;
  for (int i = 0; i < 30; ++i) {
    const std::string key = absl::StrCat("k", i % 10);
    const absl::Time begun = absl::Now();
    ASSERT_TRUE((*writer)->Set(key, absl::StrCat(i), Soon()).ok());
    ASSERT_TRUE(Eventually([&] {
      const auto now = (*reader)->Find(key);
      return now.has_value() && now->value == absl::StrCat(i);
    }));
    took.push_back(absl::Now() - begun);
  }
  std::cout << "a change of a map by a hint, median of 30: " << Median(took) << std::endl;
  EXPECT_LT(Median(took), kPoll / 5);
  EXPECT_EQ((*reader)->Get()->size(), 10u);
}

TEST_F(MemcachedHintsTest, WithoutTheBusItOnlyTakesLonger) {
  nats_->Kill();
  for (const absl::Duration took : HandOvers(4)) EXPECT_LT(took, kTtl);
  ASSERT_TRUE(nats_->Start().ok());
  EXPECT_TRUE(Eventually([&] { return Median(HandOvers(5)) < kPoll / 5; })) << "and is as before when it is back";
}

}  // namespace
}  // namespace coord
