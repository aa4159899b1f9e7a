// Servers that are killed, or stand still for a while, under conditional writes: what was reported as not applied is
// never found applied, what was reported as applied is never undone, and no entry is ever replaced twice.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kv/internal/mutex.h"
#include "kv/nats_store.h"
#include "kv/nats_store_test_util.h"
#include "tests/servers/servers.h"

namespace kv {
namespace {

using internal::Mutex;
using internal::MutexLock;
using servers::NatsCluster;
using servers::NatsServer;

constexpr int kWriters = 4;
constexpr int kKeys = 3;
constexpr absl::Duration kCallTime = absl::Milliseconds(400);

// What became of every write, and what was ever read. Every value is written once.
class History {
 public:
  void Wrote(const std::string& key, Revision expected, const std::string& value, const WriteResult& result) {
    MutexLock lock(mutex_);
    if (result.ok()) {
      ++applied_count_;
      Found(key, value, result.revision);
      const auto [it, is_first] = replaced_.emplace(std::make_pair(key, expected), value);
      EXPECT_TRUE(is_first) << "revision " << expected << " of " << key << " was replaced by " << it->second
                            << " and by " << value;
    } else if (absl::IsDeadlineExceeded(result.status)) {
      ++unknown_count_;
    } else {
      const bool says_so =
          absl::IsAborted(result.status) || absl::IsUnavailable(result.status) || absl::IsAlreadyExists(result.status);
      EXPECT_TRUE(says_so) << result.status;
      ++(absl::IsUnavailable(result.status) ? unavailable_count_ : lost_count_);
      denied_.emplace(value, result.status.ToString());
    }
    if (result.current.has_value()) Found(key, result.current->value, result.current->revision);
  }

  void Read(const std::string& key, const Entry& entry) {
    MutexLock lock(mutex_);
    Found(key, entry.value, entry.revision);
  }

  // In the end.
  void Judge() {
    MutexLock lock(mutex_);
    for (const auto& [value, status] : denied_) {
      EXPECT_EQ(found_.count(value), 0u) << value << " is there, although it was reported as: " << status;
    }
    std::cout << applied_count_ << " writes applied, " << lost_count_ << " lost to others, " << unavailable_count_
              << " not sent or refused, " << unknown_count_ << " unknown\n";
    EXPECT_GT(applied_count_, 100);
  }

  int applied() {
    MutexLock lock(mutex_);
    return applied_count_;
  }

 private:
  void Found(const std::string& key, const std::string& value, Revision revision) KV_REQUIRES(mutex_) {
    const auto [it, is_new] = found_.emplace(value, std::make_pair(key, revision));
    EXPECT_TRUE(is_new || it->second == std::make_pair(key, revision))
        << value << " was written at revision " << it->second.second << " and at " << revision;
    const auto [at, is_free] = at_.emplace(revision, value);
    EXPECT_TRUE(is_free || at->second == value)
        << "revision " << revision << " is that of " << at->second << " and of " << value;
  }

  Mutex mutex_;
  int applied_count_ KV_GUARDED_BY(mutex_) = 0;
  int lost_count_ KV_GUARDED_BY(mutex_) = 0;
  int unavailable_count_ KV_GUARDED_BY(mutex_) = 0;
  int unknown_count_ KV_GUARDED_BY(mutex_) = 0;
  std::map<std::string, std::string> denied_ KV_GUARDED_BY(mutex_);
  std::map<std::string, std::pair<std::string, Revision>> found_ KV_GUARDED_BY(mutex_);
  std::map<Revision, std::string> at_ KV_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, Revision>, std::string> replaced_ KV_GUARDED_BY(mutex_);
};

void Write(Store& store, int writer, unsigned seed, History& history, const std::atomic<bool>& stop) {
  std::mt19937 random(seed + static_cast<unsigned>(writer));
  for (int n = 0; !stop; ++n) {
    const std::string key = absl::StrCat("key-", random() % kKeys);
    const auto entry = store.Get(key, In(kCallTime));
    if (!entry.ok() && !absl::IsNotFound(entry.status())) {
      const bool passes = absl::IsUnavailable(entry.status()) || absl::IsDeadlineExceeded(entry.status());
      EXPECT_TRUE(passes) << entry.status();
      absl::SleepFor(absl::Milliseconds(5));
      continue;
    }
    if (entry.ok()) history.Read(key, *entry);
    const std::string value = absl::StrCat(writer, "-", n);
    const Revision expected = entry.ok() ? entry->revision : 0;
    const WriteResult result =
        entry.ok() ? store.Update(key, value, expected, In(kCallTime)) : store.Create(key, value, In(kCallTime));
    history.Wrote(key, expected, value, result);
  }
}

// Writers on two connections, and a watch, while `disturb` does its worst once in each round.
void WriteDuring(const std::string& addresses, const NatsStoreOptions& options, int rounds,
                 const std::function<void(std::mt19937&)>& disturb) {
  const std::vector<std::shared_ptr<Store>> stores = {OpenNats(ConnectNats(addresses), options),
                                                      OpenNats(ConnectNats(addresses, 1), options)};
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  History history;
  std::atomic<bool> stop{false};
  std::atomic<int> epochs{0};
  const auto watch = stores[0]->WatchPrefix("", [&](const WatchEvent& event) {
    if (event.kind == WatchKind::kPut) history.Read(event.key, event.entry);
    if (event.kind == WatchKind::kEpochChanged) ++epochs;
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < kWriters; ++i) {
    threads.emplace_back([&, i] { Write(*stores[static_cast<size_t>(i % 2)], i, seed, history, stop); });
  }
  for (int round = 0; round < rounds; ++round) {
    const int before = history.applied();
    EXPECT_TRUE(Eventually([&] { return history.applied() > before + 20; })) << "nothing goes on";
    absl::SleepFor(absl::Milliseconds(random() % 100));
    disturb(random);
  }
  const int before = history.applied();
  EXPECT_TRUE(Eventually([&] { return history.applied() > before + 20; })) << "nothing goes on";
  stop = true;
  for (std::thread& thread : threads) thread.join();
  // The other connection may still be coming back.
  auto listed = stores[1]->List("", Soon());
  EXPECT_TRUE(Eventually([&] {
    if (!listed.ok()) listed = stores[1]->List("", Soon());
    return listed.ok();
  })) << listed.status();
  if (!listed.ok()) return;
  for (const KeyedEntry& each : *listed) history.Read(each.key, each.entry);
  history.Judge();
  EXPECT_EQ(epochs, 0) << "the bucket is still the same";
}

TEST(NatsOutageTest, OneServerThatIsKilled) {
  const auto server = NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  WriteDuring((*server)->address(), {}, 6, [&](std::mt19937& random) {
    (*server)->Kill();
    absl::SleepFor(absl::Milliseconds(random() % 300));
    ASSERT_TRUE((*server)->Start().ok());
  });
}

TEST(NatsOutageTest, OneServerThatStandsStill) {
  const auto server = NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  WriteDuring((*server)->address(), {}, 5, [&](std::mt19937& random) {
    (*server)->Stop();
    // Shorter and longer than it takes to notice.
    absl::SleepFor(absl::Milliseconds(500 + random() % 4000));
    (*server)->Continue();
  });
}

class NatsClusterOutageTest : public testing::Test {
 protected:
  void SetUp() override {
    auto cluster = NatsCluster::Run();
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    options_.replicas = 3;
    std::cout << "nats-server " << cluster_->server(0).version() << "\n";
  }

  NatsServer& Leader() {
    const auto leader = cluster_->StreamLeader("KV_coord");
    EXPECT_TRUE(leader.ok()) << leader.status();
    return cluster_->server(leader.value_or(0));
  }
  void AwaitAll() {
    const absl::Status status = cluster_->WaitForStream("KV_coord", In(absl::Seconds(60)));
    EXPECT_TRUE(status.ok()) << status;
  }

  std::unique_ptr<NatsCluster> cluster_;
  NatsStoreOptions options_;
};

// The servers then state different times of its creation, each its own.
TEST_F(NatsClusterOutageTest, ABucketThatManyMakeAtATimeHasOneIncarnation) {
  constexpr int kClients = 6;
  std::vector<std::shared_ptr<NatsConnection>> connections;
  for (int i = 0; i < kClients; ++i) connections.push_back(ConnectNats(cluster_->addresses(), i));
  for (int round = 0; round < 4; ++round) {
    options_.bucket = absl::StrCat("bucket-", round);
    options_.delete_linger = absl::Milliseconds(1);
    std::vector<std::shared_ptr<Store>> stores(kClients);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < kClients; ++i) {
      threads.emplace_back([&, i] {
        auto store = OpenNatsStore(connections[i], options_, Soon());
        ASSERT_TRUE(store.ok()) << store.status();
        stores[i] = *std::move(store);
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::atomic<int> changes{0};
    std::vector<std::unique_ptr<Watch>> watches;
    for (const auto& store : stores) {
      auto watch = store->WatchPrefix("", [&](const WatchEvent& event) {
        if (event.kind == WatchKind::kEpochChanged) ++changes;
      });
      ASSERT_TRUE(watch.ok()) << watch.status();
      watches.push_back(*std::move(watch));
    }
    const std::string stream = absl::StrCat("KV_", options_.bucket);
    for (int change = 0; change < 3; ++change) {
      ASSERT_TRUE(cluster_->WaitForStream(stream, Soon()).ok());
      const int leader = cluster_->StreamLeader(stream).value_or(-1);
      const auto asked = connections[0]->Request("$JS.API.STREAM.LEADER.STEPDOWN." + stream, "", {}, Soon());
      ASSERT_TRUE(asked.ok()) << asked.status();
      ASSERT_TRUE(Eventually([&] { return cluster_->StreamLeader(stream).value_or(leader) != leader; }));
      // Each looks at the stream before it removes what a delete left.
      for (size_t i = 0; i < stores.size(); ++i) {
        const WriteResult created = stores[i]->Create(absl::StrCat("key-", i), "", Soon());
        ASSERT_TRUE(created.ok()) << created.status;
        ASSERT_TRUE(stores[i]->Delete(absl::StrCat("key-", i), created.revision, Soon()).ok());
      }
      absl::StatusOr<NatsMessage> info = absl::UnknownError("not asked");
      do {
        info = connections[0]->Request("$JS.API.STREAM.INFO." + stream, "", {}, Soon());
        ASSERT_TRUE(info.ok()) << info.status();
      } while (info->data().find("\"messages\":0") == std::string_view::npos);
    }
    EXPECT_EQ(changes, 0) << "in the round " << round;
  }
}

TEST_F(NatsClusterOutageTest, ALeaderThatIsKilled) {
  WriteDuring(cluster_->addresses(), options_, 3, [&](std::mt19937& random) {
    NatsServer& leader = Leader();
    leader.Kill();
    absl::SleepFor(absl::Milliseconds(random() % 1000));
    ASSERT_TRUE(leader.Start().ok());
    AwaitAll();
  });
}

TEST_F(NatsClusterOutageTest, ALeaderThatStandsStill) {
  WriteDuring(cluster_->addresses(), options_, 2, [&](std::mt19937& random) {
    NatsServer& leader = Leader();
    leader.Stop();
    absl::SleepFor(absl::Milliseconds(2000 + random() % 6000));
    leader.Continue();
    AwaitAll();
  });
}

}  // namespace
}  // namespace kv
