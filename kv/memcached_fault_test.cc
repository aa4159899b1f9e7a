// The memcached store while its server is killed, restarted, stopped, cut off, or short of memory.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "kv/memcached_store.h"
#include "kv/memcached_test_util.h"

namespace kv {
namespace {

using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

using MemcachedFaultTest = RelayedServerTest;

TEST_F(MemcachedFaultTest, ARestartedServerIsUsedWithoutAnError) {
  ASSERT_TRUE(store_->Create("a", "v", Soon()).ok());
  Restart();
  EXPECT_TRUE(absl::IsNotFound(store_->Get("a", Soon()).status()));
  Restart();
  EXPECT_TRUE(absl::IsNotFound(store_->Update("a", "v", 1, Soon()).status));
  Restart();
  EXPECT_TRUE(store_->Put("a", "v", Soon()).ok());
  EXPECT_EQ(store_->connection(), Connection::kConnected);
}

TEST_F(MemcachedFaultTest, AKilledServerIsUnavailableAtOnceAndBackAtOnce) {
  const WriteResult created = store_->Create("a", "v", Soon());
  ASSERT_TRUE(created.ok());
  // Longer than the time within which a Create trusts a connection.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  server_->Kill();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    for (const absl::Status& status :
         {store_->Create("b", "v", Soon()).status, store_->Get("a", Soon()).status(),
          store_->Update("a", "v", created.revision, Soon()).status,
          store_->Delete("a", created.revision, Soon()).status, store_->Put("a", "v", Soon()).status}) {
      EXPECT_TRUE(absl::IsUnavailable(status)) << status;
      EXPECT_EQ(Message(status), absl::StrCat("memcached: the server at ", server_->address(),
                                              " cannot be reached: Connection refused"));
    }
  }
  EXPECT_EQ(store_->connection(), Connection::kReconnecting);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  ASSERT_TRUE(server_->Start().ok());
  EXPECT_TRUE(store_->Create("a", "v", Soon()).ok());
  EXPECT_EQ(store_->connection(), Connection::kConnected);
}

TEST_F(MemcachedFaultTest, AStoppedServerEndsCallsAtTheirDeadlines) {
  const WriteResult created = store_->Create("a", "one", Soon());
  server_->Stop();
  const auto expect = [&](absl::StatusCode code, const std::string& message,
                          const std::function<absl::Status()>& call) {
    const auto begin = std::chrono::steady_clock::now();
    const absl::Status status = call();
    const auto took = std::chrono::steady_clock::now() - begin;
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(Message(status), HasSubstr(message));
    EXPECT_GE(took, std::chrono::milliseconds(49));
    EXPECT_LT(took, std::chrono::seconds(5));
  };
  const auto soon = [] { return In(absl::Milliseconds(50)); };
  // Over the connection that there is, and over a new one, which the stopped server's kernel still takes.
  expect(absl::StatusCode::kDeadlineExceeded, "did not answer in time",
         [&] { return store_->Get("a", soon()).status(); });
  expect(absl::StatusCode::kUnavailable, "nothing was written", [&] { return store_->Get("a", soon()).status(); });
  EXPECT_EQ(store_->connection(), Connection::kReconnecting);
  for (int i = 0; i < 2; ++i) {
    expect(absl::StatusCode::kUnavailable, "did not answer in time; nothing was written",
           [&] { return store_->Update("a", "two", created.revision, soon()).status; });
    expect(absl::StatusCode::kUnavailable, "did not answer in time; nothing was written",
           [&] { return store_->Create("b", "two", soon()).status; });
  }
  server_->Continue();
  EXPECT_EQ(store_->Get("a", Soon())->value, "one");
  EXPECT_TRUE(absl::IsNotFound(store_->Get("b", Soon()).status()));
}

TEST_F(MemcachedFaultTest, ACutConnectionIsGivenUpAndAHealedOneMadeAnew) {
  ASSERT_TRUE(relayed_->Create("a", "one", Soon()).ok());
  relay_->Cut();
  EXPECT_TRUE(absl::IsDeadlineExceeded(relayed_->Get("a", In(absl::Milliseconds(50))).status()));
  EXPECT_TRUE(absl::IsUnavailable(relayed_->Put("a", "two", In(absl::Milliseconds(50))).status));
  relay_->Heal();
  EXPECT_EQ(relayed_->Get("a", Soon())->value, "one");
  relay_->Reset();
  EXPECT_EQ(relayed_->Get("a", Soon())->value, "one");
}

// A peer that is gone without a word costs one call its deadline, and not one for every connection that there was.
TEST_F(MemcachedFaultTest, ATimeoutGivesUpAllConnectionsThatRest) {
  ASSERT_TRUE(relayed_->Create("a", "v", Soon()).ok());
  relay_->CutReplies();
  std::vector<std::thread> readers;
  readers.reserve(3);
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] { EXPECT_EQ(relayed_->Get("a", Soon())->value, "v"); });
  }
  // Two of them only get as far as to connect.
  EXPECT_TRUE(Eventually([&] { return relay_->connections() == 3; }));
  relay_->Heal();
  for (std::thread& thread : readers) thread.join();
  EXPECT_EQ(relay_->connections(), 3);
  relay_->Cut();
  EXPECT_TRUE(absl::IsDeadlineExceeded(relayed_->Get("a", In(absl::Milliseconds(50))).status()));
  relay_->Heal();
  EXPECT_TRUE(Eventually([&] { return relay_->connections() == 0; }));
}

// Threads append to one value while the server is stopped and goes on: what was called not applied never appears.
TEST_F(MemcachedFaultTest, WhatWasNotAppliedNeverIsOverManyStops) {
  const uint32_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  ASSERT_TRUE(store_->Create("log", "", Soon()).ok());
  const int64_t connections = Stat("curr_connections");
  std::mutex mutex;
  std::map<std::string, absl::StatusCode> outcomes;
  std::atomic<bool> over{false};
  std::vector<std::thread> writers;
  writers.reserve(4);
  for (int writer = 0; writer < 4; ++writer) {
    writers.emplace_back([&, writer] {
      for (int n = 0; !over; ++n) {
        const auto entry = store_->Get("log", In(absl::Milliseconds(20)));
        if (!entry.ok()) continue;
        const std::string id = absl::StrCat(writer, ".", n);
        const absl::Status status =
            store_->Update("log", absl::StrCat(entry->value, id, ","), entry->revision, In(absl::Milliseconds(20)))
                .status;
        const std::lock_guard<std::mutex> lock(mutex);
        outcomes[id] = status.code();
      }
    });
  }
  std::minstd_rand random(seed);
  const auto pause = [&random](int most) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % static_cast<uint32_t>(1000 * most)));
  };
  for (int stop = 0; stop < 60; ++stop) {
    pause(15);
    server_->Stop();
    pause(40);
    server_->Continue();
  }
  over = true;
  for (std::thread& thread : writers) thread.join();
  // Until the server has seen the end of every connection that was given up, and so all that was sent over it.
  EXPECT_TRUE(Eventually([&] { return Stat("curr_connections") <= connections + 8; }));
  const auto log = store_->Get("log", Soon());
  ASSERT_TRUE(log.ok()) << log.status();
  const std::vector<std::string> written = absl::StrSplit(log->value, ',');
  const std::set<std::string> applied(written.begin(), written.end());
  EXPECT_EQ(applied.size(), written.size()) << "something was applied twice";
  std::map<absl::StatusCode, int> counts;
  for (const auto& [id, code] : outcomes) {
    ++counts[code];
    if (code == absl::StatusCode::kDeadlineExceeded) continue;  // either way
    EXPECT_EQ(applied.count(id), code == absl::StatusCode::kOk ? 1u : 0u) << id << " was " << code;
  }
  for (const auto& [code, count] : counts) std::cout << absl::StatusCodeToString(code) << ": " << count << "\n";
  EXPECT_GT(counts[absl::StatusCode::kOk], 0);
  EXPECT_GT(counts[absl::StatusCode::kUnavailable], 0);
}

void Nothing(int) {}

// Each interruption would take from the time that is left, in the end to "for ever".
TEST_F(MemcachedFaultTest, SignalsDoNotProlongACall) {
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = Nothing;
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  ASSERT_TRUE(store_->Create("a", "v", Soon()).ok());
  server_->Stop();
  std::atomic<bool> done{false};
  absl::Status status;
  std::thread caller([&] {
    status = store_->Get("a", In(absl::Milliseconds(400))).status();
    done = true;
  });
  for (int i = 0; i < 60; ++i) {
    pthread_kill(caller.native_handle(), SIGUSR1);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(Eventually([&] { return done.load(); }));
  server_->Continue();
  caller.join();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  sigaction(SIGUSR1, &before, nullptr);
}

// More calls than connections, on a server that does not answer.
TEST_F(MemcachedFaultTest, CallsThatWaitForAConnectionEndAtTheirDeadlines) {
  ASSERT_TRUE(store_->Create("a", "v", Soon()).ok());
  server_->Stop();
  std::atomic<int> waiting{0};
  std::vector<std::thread> holders;
  holders.reserve(8);
  for (int i = 0; i < 8; ++i) {
    holders.emplace_back([&] {
      ++waiting;
      EXPECT_FALSE(store_->Get("a", In(absl::Seconds(3))).ok());
    });
  }
  ASSERT_TRUE(Eventually([&] { return waiting == 8; }));
  // Until all eight have one, the ninth may have it.
  absl::Status status;
  EXPECT_TRUE(Eventually([&] {
    status = store_->Put("a", "w", In(absl::Milliseconds(20))).status;
    return absl::StrContains(Message(status), "all connections");
  }));
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  for (std::thread& thread : holders) thread.join();
  server_->Continue();
  EXPECT_EQ(store_->Get("a", Soon())->value, "v");
}

TEST(MemcachedMemoryTest, AnEvictedEntryIsNotFound) {
  servers::MemcachedOptions options;
  options.megabytes = 2;
  const auto server = RunServer(options);
  const auto store = OpenAt(server->address());
  const WriteResult victim = store->Create("victim", std::string(200, 'v'), Soon());
  ASSERT_TRUE(victim.ok()) << victim.status;
  TextClient filler(server->port());
  const std::string value(200, 'f');
  for (int i = 0; i < 40000; ++i) {
    filler.Send(absl::StrCat("set f", i, " 0 0 ", value.size(), " noreply\r\n", value, "\r\n"));
  }
  filler.Get("f0");  // the server has done all of it
  ASSERT_GT(*server->Stat("evictions"), 0);
  EXPECT_TRUE(absl::IsNotFound(store->Get("victim", Soon()).status()));
  EXPECT_TRUE(absl::IsNotFound(store->Update("victim", "v", victim.revision, Soon()).status));
  EXPECT_TRUE(absl::IsNotFound(store->Delete("victim", victim.revision, Soon()).status));
  EXPECT_GT(store->Create("victim", "again", Soon()).revision, victim.revision);
}

// memcached removes the old item when a `set` does not fit.
TEST(MemcachedMemoryTest, AFullServerRefusesWritesAndKeepsWhatItHas) {
  servers::MemcachedOptions options;
  options.megabytes = 2;
  options.no_eviction = true;
  const auto server = RunServer(options);
  const auto store = OpenAt(server->address());
  const WriteResult kept = store->Create("kept", "small", Soon());
  const std::string large(100000, 'l');
  WriteResult result;
  for (int i = 0; i < 1000 && (i == 0 || result.ok()); ++i) {
    result = store->Create(absl::StrCat("large", i), large, Soon());
  }
  const auto expect_full = [&](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_EQ(Message(status), absl::StrCat("memcached: the server at ", server->address(), " has no memory left for ",
                                            "the write: give it more (-m), or let it evict (without -M)"));
    EXPECT_EQ(store->Get("kept", Soon())->value, "small");
  };
  expect_full(result.status);
  expect_full(store->Put("kept", large, Soon()).status);
  expect_full(store->Update("kept", large, kept.revision, Soon()).status);
  EXPECT_EQ(store->Get("large0", Soon())->value, large);
  EXPECT_EQ(store->connection(), Connection::kConnected);
}

}  // namespace
}  // namespace kv
