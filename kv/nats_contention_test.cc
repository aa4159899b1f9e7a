// Six clients, each on a connection of its own, write one key of a bucket: whatever they do at the same time, every
// write that succeeds does so over the entry that it expected.

#include <gtest/gtest.h>

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
#include "kv/internal/mutex.h"
#include "kv/nats_store.h"
#include "kv/nats_store_test_util.h"
#include "tests/servers/servers.h"

namespace kv {
namespace {

using internal::CondVar;
using internal::Mutex;
using internal::MutexLock;
using servers::NatsCluster;
using servers::NatsServer;

constexpr int kServers = 3;
constexpr int kClients = 6;
constexpr int kRounds = 2000;

// Lets threads begin a round together.
class Barrier {
 public:
  void Wait() {
    MutexLock lock(mutex_);
    const int round = round_;
    if (++waiting_ == kClients) {
      waiting_ = 0;
      ++round_;
      changed_.NotifyAll();
    }
    while (round == round_) changed_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int waiting_ KV_GUARDED_BY(mutex_) = 0;
  int round_ KV_GUARDED_BY(mutex_) = 0;
};

enum class Shape {
  kOne,
  kCluster,
  // As while a cluster is upgraded: of a fourth server nobody knows which version it has.
  kUpgrade,
};

class NatsContentionTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    if (GetParam() != Shape::kOne) {
      auto cluster = NatsCluster::Run(kServers);
      ASSERT_TRUE(cluster.ok()) << cluster.status();
      cluster_ = *std::move(cluster);
      addresses_ = cluster_->addresses();
      if (GetParam() == Shape::kUpgrade) {
        const auto port = servers::FreePort();
        ASSERT_TRUE(port.ok()) << port.status();
        absl::StrAppend(&addresses_, ",127.0.0.1:", *port);
      }
      std::cout << kServers << " servers, nats-server " << cluster_->server(0).version() << "\n";
    } else {
      auto server = NatsServer::Run();
      ASSERT_TRUE(server.ok()) << server.status();
      server_ = *std::move(server);
      addresses_ = server_->address();
      std::cout << "one server, nats-server " << server_->version() << "\n";
    }
  }

  void Open(const NatsStoreOptions& options) {
    NatsStoreOptions all = options;
    all.replicas = GetParam() == Shape::kOne ? 1 : kServers;
    for (int i = 0; i < kClients; ++i) stores_.push_back(OpenNats(ConnectNats(addresses_, i), all));
  }

  // All clients run `body` at a time.
  void Run(const std::function<void(Store& store, int client)>& body) {
    std::vector<std::thread> threads;
    for (int i = 0; i < kClients; ++i) threads.emplace_back([&, i] { body(*stores_[static_cast<size_t>(i)], i); });
    for (std::thread& thread : threads) thread.join();
  }

  // Of one that lost to another.
  static bool MayBe(const absl::Status& status) {
    return absl::IsAborted(status) || (GetParam() == Shape::kUpgrade && absl::IsDeadlineExceeded(status));
  }

  std::unique_ptr<NatsServer> server_;
  std::unique_ptr<NatsCluster> cluster_;
  std::string addresses_;
  std::vector<std::shared_ptr<Store>> stores_;
};

TEST_P(NatsContentionTest, OfSixUpdatesAtOneRevisionExactlyOneWins) {
  Open({});
  const WriteResult created = stores_[0]->Create("key", "start", Soon());
  ASSERT_TRUE(created.ok()) << created.status;
  Barrier barrier;
  std::vector<WriteResult> results(kClients);
  Revision revision = created.revision;
  std::string value = "start";
  int wrong = 0;
  Run([&](Store& store, int client) {
    for (int round = 0; round < kRounds; ++round) {
      barrier.Wait();
      const std::string own = absl::StrCat("round ", round, " by ", client);
      results[static_cast<size_t>(client)] = store.Update("key", own, revision, Soon());
      barrier.Wait();
      if (client != 0) continue;
      int winners = 0;
      for (int i = 0; i < kClients; ++i) {
        const WriteResult& result = results[static_cast<size_t>(i)];
        if (result.ok()) {
          ++winners;
          revision = result.revision;
          value = absl::StrCat("round ", round, " by ", i);
        } else if (!MayBe(result.status)) {
          ADD_FAILURE() << "the loser of round " << round << ": " << result.status;
        }
      }
      wrong += winners == 1 ? 0 : 1;
    }
  });
  EXPECT_EQ(wrong, 0) << "of " << kRounds << " rounds had more or less than one winner";
  const auto entry = stores_[1]->Get("key", Soon());
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->value, value);
  EXPECT_EQ(entry->revision, revision);
}

// The marker of the delete before is removed at about the time at which it is written over.
TEST_P(NatsContentionTest, OfSixCreatesOverAMarkerThatIsBeingRemovedExactlyOneWins) {
  NatsStoreOptions options;
  options.delete_linger = absl::Milliseconds(1);
  Open(options);
  Barrier barrier;
  std::vector<WriteResult> results(kClients);
  int wrong = 0;
  Run([&](Store& store, int client) {
    std::mt19937 random(static_cast<unsigned>(client));
    for (int round = 0; round < kRounds / 4; ++round) {
      barrier.Wait();
      absl::SleepFor(absl::Microseconds(random() % 1500));
      results[static_cast<size_t>(client)] = store.Create("key", absl::StrCat(round, " by ", client), Soon());
      barrier.Wait();
      if (client != 0) continue;
      int winners = 0;
      Revision revision = 0;
      for (const WriteResult& result : results) {
        winners += result.ok() ? 1 : 0;
        if (result.ok()) revision = result.revision;
        if (!result.ok() && !absl::IsAlreadyExists(result.status) && !MayBe(result.status)) {
          ADD_FAILURE() << "the loser of round " << round << ": " << result.status;
        }
      }
      wrong += winners == 1 ? 0 : 1;
      const WriteResult deleted = store.Delete("key", revision, Soon());
      if (!deleted.ok()) ADD_FAILURE() << "round " << round << ": " << deleted.status;
    }
  });
  EXPECT_EQ(wrong, 0) << "rounds had more or less than one winner";
}

struct Applied {
  enum class Kind { kCreate, kUpdate, kPut, kDelete } kind = Kind::kPut;
  Revision expected = 0;
};

// Every success names its revision. In their order each must have found what it expected.
void Judge(const std::map<Revision, Applied>& history) {
  Revision before = 0;
  bool exists = false;
  int wrong = 0;
  for (const auto& [revision, applied] : history) {
    const bool right = applied.kind == Applied::Kind::kPut || (applied.kind == Applied::Kind::kCreate && !exists) ||
                       (applied.kind != Applied::Kind::kCreate && exists && applied.expected == before);
    if (!right && ++wrong < 5) {
      ADD_FAILURE() << "the write of kind " << static_cast<int>(applied.kind) << " at revision " << revision
                    << " expected " << applied.expected << ", but " << (exists ? "" : "a delete ") << before
                    << " was there";
    }
    before = revision;
    exists = applied.kind != Applied::Kind::kDelete;
  }
  EXPECT_EQ(wrong, 0) << "of " << history.size() << " writes";
}

TEST_P(NatsContentionTest, WritesOfAllKindsFindWhatTheyExpected) {
  NatsStoreOptions options;
  options.delete_linger = absl::Milliseconds(2);
  Open(options);
  const unsigned seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  Mutex mutex;
  std::map<Revision, Applied> history;
  Run([&](Store& store, int client) {
    std::mt19937 random(seed + static_cast<unsigned>(client));
    // Some follow the key by a watch, so that they also act on what they know from there.
    std::unique_ptr<Watch> watch;
    if (client % 2 == 0) watch = *store.WatchPrefix("", [](const WatchEvent&) {});
    for (int i = 0; i < 400; ++i) {
      const auto entry = store.Get("key", Soon());
      Applied applied;
      applied.expected = entry.ok() ? entry->revision : 0;
      WriteResult result;
      if (random() % 5 == 0) {
        result = store.Put("key", "p", Soon());
      } else if (!entry.ok()) {
        ASSERT_TRUE(absl::IsNotFound(entry.status())) << entry.status();
        applied.kind = Applied::Kind::kCreate;
        result = store.Create("key", "c", Soon());
      } else if (random() % 3 == 0) {
        applied.kind = Applied::Kind::kDelete;
        result = store.Delete("key", entry->revision, Soon());
      } else {
        applied.kind = Applied::Kind::kUpdate;
        result = store.Update("key", "u", entry->revision, Soon());
      }
      if (!result.ok()) {
        const bool conflict =
            MayBe(result.status) || absl::IsNotFound(result.status) || absl::IsAlreadyExists(result.status);
        ASSERT_TRUE(conflict) << result.status;
        continue;
      }
      MutexLock lock(mutex);
      ASSERT_TRUE(history.emplace(result.revision, applied).second) << "two writes have one revision";
    }
  });
  Judge(history);
}

INSTANTIATE_TEST_SUITE_P(All, NatsContentionTest, testing::Values(Shape::kOne, Shape::kCluster, Shape::kUpgrade),
                         [](const auto& test) {
                           return test.param == Shape::kOne       ? "One"
                                  : test.param == Shape::kCluster ? "Cluster"
                                                                  : "Upgrade";
                         });

}  // namespace
}  // namespace kv
