// What watches of the NATS store show when connections, servers and buckets are lost, and that no call reaches a bucket
// that its caller does not know.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
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

using servers::NatsServer;
using servers::Relay;
using testing::ElementsAre;

// Follows a watch as a user does: forgets what it is told to forget. Notes what breaks the contract.
class Follower {
 public:
  WatchCallback Callback() {
    return [this](const WatchEvent& event) { On(event); };
  }

  std::map<std::string, std::string> Shown() {
    internal::MutexLock lock(mutex_);
    return shown_;
  }
  bool synced() {
    internal::MutexLock lock(mutex_);
    return synced_;
  }
  int Count(WatchKind kind) {
    internal::MutexLock lock(mutex_);
    return counts_[kind];
  }

 private:
  void On(const WatchEvent& event) {
    internal::MutexLock lock(mutex_);
    ++counts_[event.kind];
    switch (event.kind) {
      case WatchKind::kPut:
        EXPECT_TRUE(!synced_ || event.entry.revision > newest_) << event.entry.revision << " after " << newest_;
        newest_ = std::max(newest_, event.entry.revision);
        shown_[event.key] = event.entry.value;
        break;
      case WatchKind::kDelete:
        EXPECT_TRUE(synced_) << "a delete in a snapshot";
        EXPECT_TRUE(event.entry.revision > newest_) << event.entry.revision << " after " << newest_;
        newest_ = event.entry.revision;
        shown_.erase(event.key);
        break;
      case WatchKind::kSynced:
        EXPECT_FALSE(synced_);
        synced_ = true;
        break;
      case WatchKind::kResync:
      case WatchKind::kEpochChanged:
        EXPECT_TRUE(synced_) << "it began again before the snapshot was complete";
        synced_ = false;
        newest_ = 0;
        shown_.clear();
        break;
    }
  }

  internal::Mutex mutex_;
  std::map<std::string, std::string> shown_ KV_GUARDED_BY(mutex_);
  std::map<WatchKind, int> counts_ KV_GUARDED_BY(mutex_);
  bool synced_ KV_GUARDED_BY(mutex_) = false;
  Revision newest_ KV_GUARDED_BY(mutex_) = 0;
};

class NatsWatchTest : public testing::Test {
 protected:
  void SetUp() override {
    auto server = NatsServer::Run();
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto relay = Relay::Run(server_->address());
    ASSERT_TRUE(relay.ok()) << relay.status();
    relay_ = *std::move(relay);
    connection_ = ConnectNats(relay_->address());
    admin_ = std::make_unique<NatsAdmin>(ConnectNats(server_->address()));
    ASSERT_NE(connection_, nullptr);
  }

  // The store under test comes through the relay, others directly.
  std::shared_ptr<Store> Open(const NatsStoreOptions& options = {}) { return OpenNats(connection_, options); }
  std::shared_ptr<Store> OpenOther(int number = 1, const NatsStoreOptions& options = {}) {
    return OpenNats(ConnectNats(server_->address(), number), options);
  }

  // As an administrator makes it: what the store would make.
  void MakeBucket() {
    const nlohmann::json made = admin_->Ask("CREATE", R"({"name": "KV_coord", "subjects": ["$KV.coord.>"],
        "storage": "file", "num_replicas": 1, "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": true,
        "allow_direct": true, "duplicate_window": 120000000000})");
    ASSERT_FALSE(made.contains("error")) << made;
  }

  std::unique_ptr<NatsServer> server_;
  std::unique_ptr<Relay> relay_;
  std::shared_ptr<NatsConnection> connection_;
  std::unique_ptr<NatsAdmin> admin_;
};

TEST_F(NatsWatchTest, ALaterWatchGetsItsSnapshotFromMemory) {
  const auto store = Open();
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(store->Create(absl::StrCat("a/", i), "x", Soon()).ok());
  Follower first;
  const auto watch = store->WatchPrefix("", first.Callback());
  ASSERT_TRUE(Eventually([&] { return first.synced(); }));
  ASSERT_TRUE(store->Create("b", "x", Soon()).ok());
  const auto sent = server_->Varz("out_msgs");
  Follower second;
  const auto second_watch = store->WatchPrefix("", second.Callback());
  ASSERT_TRUE(Eventually([&] { return second.synced(); }));
  EXPECT_EQ(second.Shown().size(), 51u) << "what this process has written is in it";
  EXPECT_LT(*server_->Varz("out_msgs") - *sent, 20) << "the server has sent the bucket again";
}

TEST_F(NatsWatchTest, WhatHappensWhileTheConnectionIsLostIsNoticed) {
  const auto store = Open();
  const auto other = OpenOther();
  const WriteResult gone = store->Create("gone", "x", Soon());
  const WriteResult changed = store->Create("changed", "old", Soon());
  Follower follower;
  const auto watch = store->WatchPrefix("", follower.Callback());
  ASSERT_TRUE(Eventually([&] { return follower.Shown().size() == 2 && follower.synced(); }));
  relay_->Cut();
  ASSERT_TRUE(other->Delete("gone", gone.revision, Soon()).ok());
  ASSERT_TRUE(other->Update("changed", "new", changed.revision, Soon()).ok());
  ASSERT_TRUE(other->Create("fresh", "x", Soon()).ok());
  relay_->Reset();
  relay_->Heal();
  EXPECT_TRUE(Eventually([&] {
    return follower.synced() &&
           follower.Shown() == std::map<std::string, std::string>{{"changed", "new"}, {"fresh", "x"}};
  })) << testing::PrintToString(follower.Shown());
  EXPECT_EQ(follower.Count(WatchKind::kEpochChanged), 0);
}

// Also where the marker of a delete has gone before the watch is back.
TEST_F(NatsWatchTest, ADeleteOfWhichNothingIsLeftIsNoticed) {
  NatsStoreOptions options;
  options.delete_linger = absl::Milliseconds(1);
  const auto store = Open(options);
  const auto other = OpenOther(1, options);
  const WriteResult gone = other->Create("gone", "x", Soon());
  Follower follower;
  const auto watch = store->WatchPrefix("", follower.Callback());
  ASSERT_TRUE(Eventually([&] { return follower.Shown().size() == 1 && follower.synced(); }));
  relay_->Cut();
  ASSERT_TRUE(other->Delete("gone", gone.revision, Soon()).ok());
  ASSERT_TRUE(Eventually([&] { return admin_->Messages() == 0; }));
  relay_->Reset();
  relay_->Heal();
  EXPECT_TRUE(Eventually([&] { return follower.Count(WatchKind::kResync) == 1 && follower.synced(); }));
  EXPECT_TRUE(follower.Shown().empty());
}

TEST_F(NatsWatchTest, NothingIsMissedWhileConnectionsBreakUnderLoad) {
  const auto store = Open();
  const auto other = OpenOther();
  Follower follower;
  const auto watch = store->WatchPrefix("", follower.Callback());
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    std::mt19937 random(seed);
    while (!stop) {
      const std::string key = absl::StrCat("key-", random() % 20);
      const WriteResult put = other->Put(key, absl::StrCat(random()), Soon());
      ASSERT_TRUE(put.ok()) << put.status;
      if (random() % 4 == 0) {
        ASSERT_TRUE(other->Delete(key, put.revision, Soon()).ok());
      }
    }
  });
  for (int i = 1; i <= 10; ++i) {
    EXPECT_TRUE(Eventually([&] { return follower.Count(WatchKind::kSynced) >= i && follower.synced(); }));
    const int puts = follower.Count(WatchKind::kPut);
    EXPECT_TRUE(Eventually([&] { return follower.Count(WatchKind::kPut) > puts + 50; }));
    relay_->Reset();
  }
  stop = true;
  writer.join();
  const auto listed = other->List("", Soon());
  ASSERT_TRUE(listed.ok()) << listed.status();
  std::map<std::string, std::string> there;
  for (const KeyedEntry& each : *listed) there[each.key] = each.entry.value;
  EXPECT_TRUE(Eventually([&] { return follower.Shown() == there; })) << testing::PrintToString(follower.Shown()) << "\n"
                                                                     << testing::PrintToString(there);
}

TEST_F(NatsWatchTest, ABucketInFilesIsTheSameAfterARestart) {
  const auto store = Open();
  const WriteResult created = store->Create("a", "x", Soon());
  Follower follower;
  const auto watch = store->WatchPrefix("", follower.Callback());
  ASSERT_TRUE(Eventually([&] { return follower.synced(); }));
  for (const bool kill : {true, false}) {
    kill ? server_->Kill() : server_->Terminate();
    ASSERT_TRUE(server_->Start().ok());
    const int resyncs = kill ? 1 : 2;
    EXPECT_TRUE(Eventually([&] { return follower.Count(WatchKind::kResync) == resyncs && follower.synced(); }));
  }
  EXPECT_EQ(follower.Count(WatchKind::kEpochChanged), 0);
  const WriteResult updated = store->Update("a", "y", created.revision, Soon());
  EXPECT_TRUE(updated.ok()) << updated.status;
  EXPECT_TRUE(Eventually([&] { return follower.Shown()["a"] == "y"; }));
}

TEST_F(NatsWatchTest, ABucketInMemoryIsAnotherOneAfterARestart) {
  NatsStoreOptions options;
  options.file_storage = false;
  const auto store = Open(options);
  const WriteResult created = store->Create("a", "x", Soon());
  Follower follower;
  const auto watch = store->WatchPrefix("", follower.Callback());
  ASSERT_TRUE(Eventually([&] { return follower.synced(); }));
  server_->Terminate();
  ASSERT_TRUE(server_->Start().ok());
  const absl::Time back = absl::Now();
  EXPECT_TRUE(Eventually([&] { return follower.Count(WatchKind::kEpochChanged) == 1 && follower.synced(); }));
  std::cout << "noticed " << absl::Now() - back << " after the server was back\n";
  EXPECT_TRUE(follower.Shown().empty());
  EXPECT_EQ(store->Update("a", "y", created.revision, Soon()).status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(store->Create("a", "new", Soon()).ok());
  EXPECT_TRUE(Eventually([&] { return follower.Shown()["a"] == "new"; }));
}

// Without a watch the first call looks.
TEST_F(NatsWatchTest, ABucketThatWasLostIsMadeAgainByTheFirstCall) {
  NatsStoreOptions options;
  options.file_storage = false;
  const auto store = Open(options);
  const WriteResult created = store->Create("a", "x", Soon());
  ASSERT_TRUE(created.ok());
  server_->Terminate();
  ASSERT_TRUE(server_->Start().ok());
  ASSERT_TRUE(Eventually([&] { return store->connection() == Connection::kConnected; }));
  EXPECT_EQ(store->Get("a", Soon()).status().code(), absl::StatusCode::kNotFound);
  admin_->Delete();
  // While it is connected, it is noticed by the answer.
  EXPECT_EQ(store->Get("a", Soon()).status().code(), absl::StatusCode::kNotFound);
  admin_->Delete();
  const WriteResult lost = store->Create("a", "y", Soon());
  EXPECT_EQ(lost.status.code(), absl::StatusCode::kUnavailable) << lost.status;
  const WriteResult again = store->Create("a", "y", Soon());
  EXPECT_TRUE(again.ok()) << again.status;
}

TEST_F(NatsWatchTest, ABucketThatIsDeletedUnderALiveStoreIsAnotherOne) {
  const auto store = Open();
  const WriteResult created = store->Create("a", "x", Soon());
  ASSERT_TRUE(created.ok());
  Follower follower;
  const auto watch = store->WatchPrefix("", follower.Callback());
  ASSERT_TRUE(Eventually([&] { return follower.synced(); }));
  admin_->Delete();
  const absl::Time gone = absl::Now();
  // No call is made: the consumer's silence tells it.
  EXPECT_TRUE(Eventually([&] { return follower.Count(WatchKind::kEpochChanged) == 1 && follower.synced(); }));
  std::cout << "noticed " << absl::Now() - gone << " after the bucket was gone\n";
  EXPECT_TRUE(follower.Shown().empty());
  EXPECT_TRUE(store->Create("a", "new", Soon()).ok());
  EXPECT_TRUE(Eventually([&] { return follower.Shown()["a"] == "new"; }));
}

TEST_F(NatsWatchTest, ABucketThatSomebodyElseMadeAgainIsAnotherOne) {
  const auto store = Open();
  ASSERT_TRUE(store->Create("a", "x", Soon()).ok());
  Follower follower;
  const auto watch = store->WatchPrefix("", follower.Callback());
  ASSERT_TRUE(Eventually([&] { return follower.synced(); }));
  admin_->Delete();
  MakeBucket();
  ASSERT_TRUE(admin_->Publish("b", "theirs").contains("seq"));
  EXPECT_TRUE(Eventually([&] { return follower.Count(WatchKind::kEpochChanged) == 1 && follower.synced(); }));
  EXPECT_EQ(follower.Shown(), (std::map<std::string, std::string>{{"b", "theirs"}}));
}

// The answer itself gives it away: its sequence is not above what was there before.
TEST_F(NatsWatchTest, AWriteInABucketThatWasMadeAgainUnseenIsNoSuccess) {
  const auto store = Open();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(store->Put("a", "x", Soon()).ok());
  admin_->Delete();
  MakeBucket();
  const WriteResult put = store->Put("b", "x", Soon());
  EXPECT_EQ(put.status.code(), absl::StatusCode::kDeadlineExceeded) << put.status;
  EXPECT_THAT(std::string(put.status.message()), testing::HasSubstr("made anew meanwhile"));
  const auto entry = store->Get("b", Soon());
  ASSERT_TRUE(entry.ok()) << "it was applied there; " << entry.status();
  EXPECT_TRUE(store->Put("c", "x", Soon()).ok()) << "the new one is known now";
}

TEST_F(NatsWatchTest, ManyClientsThatMakeALostBucketAgainGetTheSame) {
  constexpr int kClients = 6;
  std::vector<std::shared_ptr<Store>> stores;
  for (int i = 0; i < kClients; ++i) stores.push_back(OpenOther(i + 1));
  for (int round = 0; round < 20; ++round) {
    admin_->Delete();
    std::vector<WriteResult> results(kClients);
    std::vector<std::thread> threads;
    for (int i = 0; i < kClients; ++i) {
      threads.emplace_back([&, i] {
        const auto n = static_cast<size_t>(i);
        do {
          results[n] = stores[n]->Create("a", absl::StrCat("by ", i), Soon());
        } while (absl::IsUnavailable(results[n].status));
      });
    }
    for (std::thread& thread : threads) thread.join();
    int winners = 0;
    std::string value;
    for (int i = 0; i < kClients; ++i) {
      const WriteResult& result = results[static_cast<size_t>(i)];
      // The one that finds a bucket that another has just made anew does not know whether it was applied there.
      const bool known = result.ok() || absl::IsAlreadyExists(result.status);
      EXPECT_TRUE(known || absl::IsDeadlineExceeded(result.status)) << result.status;
      winners += result.ok() ? 1 : 0;
      if (result.ok()) value = absl::StrCat("by ", i);
    }
    EXPECT_LE(winners, 1) << "round " << round;
    const auto entry = stores[0]->Get("a", Soon());
    ASSERT_TRUE(entry.ok()) << entry.status();
    if (winners == 1) {
      EXPECT_EQ(entry->value, value) << "round " << round;
    }
  }
}

// A bucket made again with other settings serves nobody.
TEST_F(NatsWatchTest, ABucketThatCameBackWithOtherSettingsIsRefused) {
  const auto store = Open();
  ASSERT_TRUE(store->Create("a", "x", Soon()).ok());
  admin_->Delete();
  const nlohmann::json made = admin_->Ask("CREATE", R"({"name": "KV_coord", "subjects": ["$KV.coord.>"],
      "storage": "file", "num_replicas": 1, "max_msgs_per_subject": 3, "duplicate_window": 120000000000,
      "discard": "new"})");
  ASSERT_FALSE(made.contains("error")) << made;
  server_->Terminate();
  ASSERT_TRUE(server_->Start().ok());
  ASSERT_TRUE(Eventually([&] { return store->connection() == Connection::kConnected; }));
  const WriteResult refused = store->Create("b", "x", Soon());
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kFailedPrecondition) << refused.status;
  EXPECT_THAT(std::string(refused.status.message()), testing::HasSubstr("max_msgs_per_subject: is 3, wanted 1"));
}

TEST_F(NatsWatchTest, ASlowCallbackGetsAResyncAndNothingGrowsWithoutBound) {
  const auto store = Open();
  std::atomic<bool> go{false};
  Follower follower;
  const auto follow = follower.Callback();
  const auto watch = store->WatchPrefix("", [&](const WatchEvent& event) {
    while (event.kind == WatchKind::kPut && !go) std::this_thread::yield();
    follow(event);
  });
  ASSERT_TRUE(Eventually([&] { return follower.synced(); }));
  for (int i = 0; i < 6000; ++i) ASSERT_TRUE(store->Put(absl::StrCat("key-", i % 3), absl::StrCat(i), Soon()).ok());
  go = true;
  EXPECT_TRUE(Eventually([&] { return follower.Shown()["key-2"] == "5999"; }));
  EXPECT_GE(follower.Count(WatchKind::kResync), 1);
  EXPECT_LT(follower.Count(WatchKind::kPut), 5000);
}

}  // namespace
}  // namespace kv
