#include "coord/open_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coord/cluster.h"
#include "kv/internal/mutex.h"
#include "tests/servers/servers.h"

namespace coord {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(20);

std::string Refusal(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(OpenEventsTest, RefusalsAreSentences) {
  EXPECT_EQ(Refusal(OpenEvents("amqp://u:hunter2@h").status()),
            "the URL of events \"amqp://u:***@h\" has an unknown scheme; known are nats:, store:");
  EXPECT_EQ(Refusal(OpenEvents("").status()), "the URL is empty; a simple one is sqlite:");
  EXPECT_EQ(Refusal(OpenEvents("store:x").status()), "events of the store's own take no path: write store:");
  EXPECT_EQ(Refusal(OpenEvents("store:?a=b").status()),
            "the URL has the unknown parameter \"a\"; known for store: none");
  EXPECT_EQ(Refusal(OpenEvents("nats://h?storage=disk").status()),
            "the nats URL: the parameter storage is \"file\" (the default) or \"memory\"");
  // The store is not opened for nothing.
  EXPECT_THAT(Refusal(OpenBackends("nats://127.0.0.1:1", "x:").status()), HasSubstr("the URL of events \"x:\""));
}

TEST(OpenEventsTest, OtherStoresKeepTheirOwn) {
  EXPECT_EQ(OpenBackends("memory:")->events, nullptr);
  EXPECT_NE(OpenBackends("memory:", "store:")->events, nullptr);
  EXPECT_EQ(OpenBackends("etcd:").status().code(), absl::StatusCode::kInvalidArgument);
}

// Two copies, and what the second one hears.
class OpenBackendsTest : public ::testing::Test {
 protected:
  std::unique_ptr<Cluster> Join(const Backends& backends, const std::string& instance) {
    JoinOptions options;
    options.store = backends.store;
    options.events = backends.events;
    options.plugin = "com.example.test";
    options.instance = instance;
    options.max_ttl = options.ttl = absl::Seconds(5);
    options.accept_weaker = true;
    auto cluster = Cluster::Join(options);
    EXPECT_TRUE(cluster.ok()) << cluster.status();
    return cluster.ok() ? *std::move(cluster) : nullptr;
  }

  void ExpectEventsArrive(const Backends& backends) {
    const auto a = Join(backends, "a");
    const auto b = Join(backends, "b");
    ASSERT_TRUE(a != nullptr && b != nullptr);
    const absl::Time deadline = absl::Now() + kPatience;
    const auto subscription = b->events().Subscribe(
        "topic",
        [this](const Event& event) {
          kv::internal::MutexLock lock(mu_);
          heard_.push_back(event.from + ": " + event.payload);
          changed_.NotifyAll();
        },
        deadline);
    ASSERT_TRUE(subscription.ok()) << subscription.status();
    ASSERT_TRUE(a->events().Publish("topic", "best effort", deadline).ok());
    PublishOptions reliable;
    reliable.delivery = Delivery::kReliable;
    const absl::Status published = a->events().Publish("topic", "reliable", deadline, reliable);
    ASSERT_TRUE(published.ok()) << published;
    kv::internal::MutexLock lock(mu_);
    while (heard_.size() < 2 && absl::Now() < deadline) {
      changed_.WaitUntil(mu_, std::chrono::steady_clock::now() + std::chrono::milliseconds(100));
    }
    EXPECT_THAT(heard_, ::testing::UnorderedElementsAre("a: best effort", "a: reliable"));
  }

  kv::internal::Mutex mu_;
  kv::internal::CondVar changed_;
  std::vector<std::string> heard_ KV_GUARDED_BY(mu_);
};

TEST_F(OpenBackendsTest, ANatsStoreAndItsEventsShareOneConnection) {
  const auto server = servers::NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  const auto backends = OpenBackends(absl::StrCat("nats://", (*server)->address(), "?bucket=b"), "", kPatience);
  ASSERT_TRUE(backends.ok()) << backends.status();
  ASSERT_NE(backends->events, nullptr);
  ExpectEventsArrive(*backends);
  EXPECT_EQ((*server)->Varz("connections").value(), 1);
  EXPECT_THAT((*server)->Monitor("/jsz?streams=1").value(), HasSubstr("COORD_b"));
}

TEST_F(OpenBackendsTest, MemcachedHasEventsOverNatsIfTheyAreGiven) {
  const auto memcached = servers::MemcachedServer::Run();
  const auto nats = servers::NatsServer::Run();
  ASSERT_TRUE(memcached.ok() && nats.ok()) << memcached.status() << nats.status();
  const std::string store = absl::StrCat("memcached://", (*memcached)->address());
  EXPECT_EQ(OpenBackends(store, "", kPatience)->events, nullptr);
  const auto backends = OpenBackends(store, absl::StrCat("nats://", (*nats)->address()), kPatience);
  ASSERT_TRUE(backends.ok()) << backends.status();
  ExpectEventsArrive(*backends);
}

}  // namespace
}  // namespace coord
