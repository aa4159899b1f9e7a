// Two copies of a plugin on one real memcached: that the primitives work there, what they cost at the server, and what
// the copies say when the server forgets.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "kv/memcached_test_util.h"

namespace coord {
namespace {

using kv::Eventually;
using kv::Soon;
using testing::HasSubstr;

constexpr absl::Duration kTtl = absl::Seconds(1);

// Commands at the server: reads and writes.
using Cost = std::pair<int64_t, int64_t>;

class MemcachedPrimitivesTest : public testing::Test {
 protected:
  MemcachedPrimitivesTest() : server_(kv::RunServer()), one_(Join("one")), two_(Join("two")) {}

  JoinOptions Options(const std::string& instance) {
    JoinOptions options;
    options.store = kv::OpenAt(server_->address());
    options.plugin = "demo";
    options.instance = instance;
    options.ttl = kTtl;
    options.max_ttl = kTtl;
    options.accept_weaker = true;
    options.log = [this](LogLevel, std::string_view line) {
      const std::lock_guard<std::mutex> lock(mutex_);
      log_.emplace_back(line);
    };
    return options;
  }
  std::unique_ptr<Cluster> Join(const std::string& instance) {
    auto cluster = Cluster::Join(Options(instance));
    EXPECT_TRUE(cluster.ok()) << cluster.status();
    return cluster.ok() ? *std::move(cluster) : nullptr;
  }

  int64_t Stat(const std::string& name) {
    const auto number = server_->Stat(name);
    EXPECT_TRUE(number.ok()) << number.status();
    return number.value_or(-1);
  }
  Cost CostOf(const std::function<void()>& call) {
    const Cost before = {Stat("cmd_get"), Stat("cmd_set")};
    call();
    return {Stat("cmd_get") - before.first, Stat("cmd_set") - before.second};
  }
  Grant Acquire(Cluster& cluster, const std::string& name) {
    absl::StatusOr<Grant> grant = cluster.Mutex(name).Acquire(Soon());
    EXPECT_TRUE(grant.ok()) << grant.status();
    return grant.ok() ? *std::move(grant) : Grant();
  }

  std::mutex mutex_;
  std::vector<std::string> log_;
  const std::unique_ptr<servers::MemcachedServer> server_;
  std::unique_ptr<Cluster> one_;
  std::unique_ptr<Cluster> two_;
};

TEST_F(MemcachedPrimitivesTest, JoiningIsRefusedWithTheReasonsUnlessItIsAccepted) {
  JoinOptions options = Options("three");
  options.accept_weaker = false;
  const absl::Status refused = Cluster::Join(options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  for (const char* reason : {"the memcached store cannot carry what locks promise", "revisions may begin anew",
                             "it may drop records by itself", "it forgets everything when it restarts"}) {
    EXPECT_THAT(std::string(refused.message()), HasSubstr(reason));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  EXPECT_THAT(log_, testing::Contains(HasSubstr("the memcached store cannot carry what locks promise")));
}

TEST_F(MemcachedPrimitivesTest, AMutexGoesFromCopyToCopyWithGrowingFences) {
  Acquire(*two_, "other");  // it too knows that grants are given by now
  Grant held = Acquire(*one_, "orders");
  uint64_t fence = held.fence();
  for (int i = 0; i < 6; ++i) {
    Cluster& next = i % 2 == 0 ? *two_ : *one_;
    EXPECT_TRUE(absl::IsResourceExhausted(next.Mutex("orders").TryAcquire(Soon()).status()));
    Grant successor;
    std::thread waiter([&] { successor = Acquire(next, "orders"); });
    EXPECT_TRUE(Eventually([&] {
      const auto info = next.Mutex("orders").Inspect(Soon());
      return info.ok() && !info->waiters.empty();
    }));
    EXPECT_TRUE(held.Release().ok());
    waiter.join();
    EXPECT_GT(successor.fence(), fence);
    fence = successor.fence();
    held = std::move(successor);
  }
}

TEST_F(MemcachedPrimitivesTest, ASharedValueReachesTheOtherCopy) {
  const auto writer = one_->SharedValue("settings", Soon());
  const auto reader = two_->SharedValue("settings", Soon());
  ASSERT_TRUE(writer.ok() && reader.ok()) << writer.status() << reader.status();
  for (const std::string value : {"hello", "goodbye"}) {
    ASSERT_TRUE((*writer)->Set(value, Soon()).ok());
    EXPECT_TRUE(Eventually([&] {
      const auto now = (*reader)->Get();
      return now != nullptr && now->value == value;
    }));
  }
}

TEST_F(MemcachedPrimitivesTest, AnAtomicValueLosesNoUpdate) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 25;
  std::vector<std::thread> threads;
  for (Cluster* cluster : {one_.get(), two_.get()}) {
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([cluster] {
        AtomicValue counter = cluster->AtomicValue("counter");
        for (int round = 0; round < kRounds; ++round) {
          const auto written = counter.Update(
              [](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
                return std::to_string(now ? std::stoi(*now) + 1 : 1);
              },
              Soon());
          EXPECT_TRUE(written.ok()) << written.status();
        }
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(one_->AtomicValue("counter").Get(Soon())->value, std::to_string(2 * kThreads * kRounds));
}

// A conditional write is a read and a write at the server. Beats come in between now and then, so the least counts.
TEST_F(MemcachedPrimitivesTest, AWarmAcquireIsTwoRoundTripsAndARelease) {
  Acquire(*one_, "orders");  // warm: the record is there, and free
  Cost acquire = {1000, 1000};
  Cost release = {1000, 1000};
  for (const absl::Time end = Soon(); absl::Now() < end && std::max(acquire, release) != Cost(1, 1);) {
    Grant grant;
    acquire = std::min(acquire, CostOf([&] { grant = Acquire(*one_, "orders"); }));
    release = std::min(release, CostOf([&] { EXPECT_TRUE(grant.Release().ok()); }));
  }
  EXPECT_EQ(acquire, Cost(1, 1));
  EXPECT_EQ(release, Cost(1, 1));
}

TEST_F(MemcachedPrimitivesTest, ARestartIsToldAndNothingIsGrantedBeforeMaxTtl) {
  Grant grant = Acquire(*one_, "orders");
  const uint64_t fence = grant.fence();
  const std::string session = one_->session();
  std::atomic<int> told{0};
  grant.OnLost([&told] { ++told; });
  server_->Kill();
  const auto restarted = std::chrono::steady_clock::now();
  ASSERT_TRUE(server_->Start().ok());
  const Grant next = Acquire(*two_, "orders");
  EXPECT_TRUE(grant.Lost());
  EXPECT_GE(std::chrono::steady_clock::now() - restarted, absl::ToChronoNanoseconds(kTtl));
  EXPECT_GT(next.fence(), fence);
  EXPECT_EQ(grant.Release().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(
      Eventually([&] { return told == 1 && one_->state() == SessionState::kAttached && one_->session() != session; }));
  EXPECT_EQ(one_->Stats().sessions_lost, 1u);
  EXPECT_FALSE(next.Lost());
}

TEST_F(MemcachedPrimitivesTest, AFlushIsToldAsARestartIs) {
  Grant grant = Acquire(*one_, "orders");
  const uint64_t fence = grant.fence();
  kv::TextClient operator_(server_->port());
  operator_.Send("flush_all\r\n");
  ASSERT_EQ(operator_.Line(), "OK");
  EXPECT_TRUE(Eventually([&] { return grant.Lost(); }));
  EXPECT_GT(Acquire(*two_, "orders").fence(), fence);
}

// What an eviction of one record does.
TEST_F(MemcachedPrimitivesTest, ALockWhoseRecordVanishesIsLost) {
  Grant grant = Acquire(*one_, "orders");
  const uint64_t fence = grant.fence();
  const std::string session = one_->session();
  kv::TextClient operator_(server_->port());
  std::string name;
  operator_.Send("lru_crawler metadump all\r\n");
  for (std::string line; (line = operator_.Line()) != "END";) {
    if (absl::StrContains(line, "orders")) name = line.substr(4, line.find(' ') - 4);
  }
  absl::StrReplaceAll({{"%25", "%"}, {"%3A", ":"}, {"%2F", "/"}}, &name);
  operator_.Send(absl::StrCat("delete ", name, "\r\n"));
  ASSERT_EQ(operator_.Line(), "DELETED") << name;
  EXPECT_TRUE(Eventually([&] { return grant.Lost(); }));
  EXPECT_EQ(one_->session(), session);
  EXPECT_GT(Acquire(*two_, "orders").fence(), fence);
}

TEST_F(MemcachedPrimitivesTest, AKilledServerIsSaidToBeUnreachableAndComesBack) {
  Grant grant = Acquire(*one_, "orders");
  Acquire(*two_, "other");
  server_->Kill();
  const absl::Status tried = two_->Mutex("orders").TryAcquire(Soon()).status();
  EXPECT_TRUE(absl::IsUnavailable(tried)) << tried;
  EXPECT_THAT(std::string(tried.message()), HasSubstr(absl::StrCat(server_->address(), " cannot be reached")));
  EXPECT_EQ(two_->Stats().connection, kv::Connection::kReconnecting);
  EXPECT_TRUE(Eventually([&] { return grant.Lost() && one_->state() == SessionState::kLost; }));
  ASSERT_TRUE(server_->Start().ok());
  EXPECT_TRUE(Acquire(*two_, "orders"));
  EXPECT_EQ(two_->Stats().connection, kv::Connection::kConnected);
}

}  // namespace
}  // namespace coord
