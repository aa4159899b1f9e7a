// The memcached store on a real server that is well: what lies there, what is refused, what each call costs.

#include "kv/memcached_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kv/memcached_test_util.h"

namespace kv {
namespace {

using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class MemcachedStoreTest : public testing::Test {
 protected:
  const std::unique_ptr<MemcachedServer> server_ = RunServer();
  const std::shared_ptr<Store> store_ = OpenAt(server_->address());
  TextClient text_{server_->port()};

  int64_t Stat(const std::string& name) {
    const auto number = server_->Stat(name);
    EXPECT_TRUE(number.ok()) << number.status();
    return number.value_or(-1);
  }
};

TEST_F(MemcachedStoreTest, TraitsPromiseLittle) {
  const Traits& traits = store_->traits();
  EXPECT_EQ(traits.name, "memcached");
  EXPECT_FALSE(traits.durable);
  EXPECT_TRUE(traits.linearizable_reads);
  EXPECT_FALSE(traits.monotonic_revisions);
  EXPECT_FALSE(traits.watch);
  EXPECT_FALSE(traits.list);
  EXPECT_FALSE(traits.age);
  EXPECT_TRUE(traits.evicting);
  EXPECT_TRUE(traits.volatile_storage);
  EXPECT_FALSE(traits.proves_incarnation);
  EXPECT_EQ(traits.max_key_bytes, 512u);
  EXPECT_THAT(Message(store_->List("", Soon()).status()), HasSubstr("cannot list its keys"));
  EXPECT_THAT(Message(store_->WatchPrefix("", nullptr).status()), HasSubstr("does not tell of changes"));
}

TEST_F(MemcachedStoreTest, APersonCanReadTheItems) {
  const WriteResult created = store_->Create("demo/mutex/a b", "value", Soon());
  ASSERT_TRUE(created.ok()) << created.status;
  EXPECT_EQ(text_.Get("coord:demo/mutex/a%20b"), absl::StrCat("coord-kv/1.0 ", created.revision, " 0\nvalue"));
}

TEST_F(MemcachedStoreTest, KeysOfAllKinds) {
  const std::vector<std::string> keys = {"a b",
                                         " ",
                                         "a%20b",
                                         "\xf0\x9f\x94\x92",
                                         std::string(244, 'k'),
                                         std::string(245, 'k'),
                                         std::string(512, 'k'),
                                         std::string(511, 'k') + " ",
                                         [] {
                                           std::string umlauts;
                                           while (umlauts.size() < 512) umlauts += "\xc3\xa4";
                                           return umlauts;
                                         }()};
  for (const std::string& key : keys) ASSERT_TRUE(store_->Create(key, "of " + key, Soon()).ok()) << key;
  for (const std::string& key : keys) {
    const auto entry = store_->Get(key, Soon());
    ASSERT_TRUE(entry.ok()) << entry.status();
    EXPECT_EQ(entry->value, "of " + key);
    ASSERT_TRUE(store_->Update(key, "new", entry->revision, Soon()).ok());
  }
  for (const std::string& key : keys) {
    ASSERT_TRUE(store_->Delete(key, store_->Get(key, Soon())->revision, Soon()).ok());
    EXPECT_TRUE(absl::IsNotFound(store_->Get(key, Soon()).status()));
  }
}

TEST_F(MemcachedStoreTest, ALineEndInAKeyIsRefusedAndReachesNoServer) {
  const absl::Status status = store_->Put("a\r\nflush_all\r\n", "v", Soon()).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Stat("cmd_flush"), 0);
}

TEST_F(MemcachedStoreTest, PrefixesAreApart) {
  MemcachedStoreOptions options;
  options.prefix = "coord:demo";
  const auto other = OpenAt(server_->address(), options);
  ASSERT_TRUE(store_->Create("demo:a", "mine", Soon()).ok());
  EXPECT_TRUE(absl::IsNotFound(other->Get("a", Soon()).status()));
  ASSERT_TRUE(other->Create("a", "theirs", Soon()).ok());
  EXPECT_EQ(store_->Get("demo:a", Soon())->value, "mine");
}

TEST_F(MemcachedStoreTest, AForeignItemIsLeftAlone) {
  ASSERT_EQ(text_.Set("coord:a", "theirs"), "STORED");
  const auto expect_refused = [](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(Message(status), HasSubstr("\"coord:a\" is not one of this store's"));
  };
  expect_refused(store_->Get("a", Soon()).status());
  expect_refused(store_->Update("a", "v", 1, Soon()).status);
  expect_refused(store_->Delete("a", 1, Soon()).status);
  expect_refused(store_->Put("a", "v", Soon()).status);
  EXPECT_TRUE(absl::IsAlreadyExists(store_->Create("a", "v", Soon()).status));
  EXPECT_EQ(text_.Get("coord:a"), "theirs");
}

TEST_F(MemcachedStoreTest, AnItemOfANewerVersionIsLeftAlone) {
  const std::string newer = "coord-kv/2.0 5 0 x\nvalue";
  ASSERT_EQ(text_.Set("coord:a", newer), "STORED");
  EXPECT_EQ(store_->Get("a", Soon()).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->Update("a", "v", 5, Soon()).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->Delete("a", 5, Soon()).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(store_->Put("a", "v", Soon()).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(text_.Get("coord:a"), newer);
}

TEST_F(MemcachedStoreTest, ALostWriteBringsTheEntryThatIsThere) {
  const WriteResult first = store_->Create("a", "one", Soon());
  const WriteResult second = store_->Update("a", "two", first.revision, Soon());
  for (const WriteResult& lost :
       {store_->Update("a", "three", first.revision, Soon()), store_->Delete("a", first.revision, Soon())}) {
    EXPECT_TRUE(absl::IsAborted(lost.status)) << lost.status;
    ASSERT_TRUE(lost.current.has_value());
    EXPECT_EQ(lost.current->value, "two");
    EXPECT_EQ(lost.current->revision, second.revision);
  }
}

TEST_F(MemcachedStoreTest, RevisionsGrowOverDeletesAndRestartsAndFollowTheClock) {
  Revision last = 0;
  const auto expect_above = [&last](const WriteResult& result) {
    ASSERT_TRUE(result.ok()) << result.status;
    EXPECT_GT(result.revision, last);
    last = result.revision;
  };
  for (int i = 0; i < 20; ++i) {
    const auto before = static_cast<Revision>(absl::ToUnixMicros(absl::Now()));
    expect_above(store_->Create("a", "one", Soon()));
    EXPECT_GE(last, before);
    expect_above(store_->Update("a", "two", last, Soon()));
    expect_above(store_->Put("a", "three", Soon()));
    if (i % 10 == 9) {
      server_->Kill();
      ASSERT_TRUE(server_->Start().ok());
      EXPECT_TRUE(absl::IsNotFound(store_->Get("a", Soon()).status()));
    } else {
      ASSERT_TRUE(store_->Delete("a", last, Soon()).ok());
    }
  }
}

// An item whose writer's clock was ahead.
TEST_F(MemcachedStoreTest, ARevisionAheadOfTheClockIsExceeded) {
  const Revision ahead = static_cast<Revision>(absl::ToUnixMicros(absl::Now())) + 3600000000u;
  ASSERT_EQ(text_.Set("coord:a", absl::StrCat("coord-kv/1.0 ", ahead, " 0\nold")), "STORED");
  const WriteResult updated = store_->Update("a", "new", ahead, Soon());
  ASSERT_TRUE(updated.ok()) << updated.status;
  EXPECT_GT(updated.revision, ahead);
  EXPECT_GT(store_->Put("a", "newer", Soon()).revision, updated.revision);
}

TEST_F(MemcachedStoreTest, CallsCostWhatTheHeaderSays) {
  const auto cost = [this](const std::function<void()>& call) {
    const int64_t gets = Stat("cmd_get");
    const int64_t sets = Stat("cmd_set");
    call();
    return std::make_pair(Stat("cmd_get") - gets, Stat("cmd_set") - sets);
  };
  using Cost = std::pair<int64_t, int64_t>;
  WriteResult last;
  // Over a connection that has just answered, as after the Get that usually comes before. The thread may be held up in
  // between, but not every time.
  Cost create;
  for (int tries = 0; create != Cost(1, 1) && tries < 100; ++tries) {
    if (last.ok() && last.revision != 0) {
      ASSERT_TRUE(store_->Delete("a", last.revision, Soon()).ok());
    }
    create = cost([&] {
      EXPECT_TRUE(absl::IsNotFound(store_->Get("a", Soon()).status()));
      last = store_->Create("a", "one", Soon());
    });
    ASSERT_TRUE(create == Cost(1, 1) || create == Cost(2, 1)) << create.first << " gets, " << create.second << " sets";
  }
  EXPECT_EQ(create, Cost(1, 1));
  EXPECT_EQ(cost([&] { last = store_->Update("a", "two", last.revision, Soon()); }), Cost(1, 1));
  EXPECT_EQ(cost([&] { ASSERT_TRUE(store_->Get("a", Soon()).ok()); }), Cost(1, 0));
  EXPECT_EQ(cost([&] { EXPECT_TRUE(absl::IsAborted(store_->Update("a", "v", 1, Soon()).status)); }), Cost(1, 0));
  EXPECT_EQ(cost([&] { last = store_->Put("a", "three", Soon()); }), Cost(1, 1));
  EXPECT_EQ(cost([&] { EXPECT_TRUE(store_->Delete("a", last.revision, Soon()).ok()); }), Cost(1, 1));
  EXPECT_EQ(cost([&] { EXPECT_TRUE(absl::IsNotFound(store_->Delete("a", 1, Soon()).status)); }), Cost(1, 0));
}

TEST_F(MemcachedStoreTest, OneThreadKeepsOneConnection) {
  text_.Get("x");  // its connection is counted
  const int64_t before = Stat("total_connections");
  for (int i = 0; i < 100; ++i) {
    const WriteResult created = store_->Create("a", "v", Soon());
    ASSERT_TRUE(created.ok()) << created.status;
    EXPECT_TRUE(absl::IsAborted(store_->Update("a", "v", 1, Soon()).status));
    EXPECT_TRUE(absl::IsAlreadyExists(store_->Create("a", "v", Soon()).status));
    ASSERT_TRUE(store_->Delete("a", created.revision, Soon()).ok());
    EXPECT_TRUE(absl::IsNotFound(store_->Get("a", Soon()).status()));
  }
  // The store's, and one that asks for the number.
  EXPECT_EQ(Stat("total_connections"), before + 2);
}

TEST_F(MemcachedStoreTest, ManyThreadsOnOneKeyLoseNoUpdateAndShareEightConnections) {
  constexpr int kThreads = 24;
  constexpr int kRounds = 50;
  ASSERT_TRUE(store_->Create("counter", "0", Soon()).ok());
  const int64_t before = Stat("curr_connections");
  std::atomic<int64_t> most{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int done = 0; done < kRounds;) {
        const auto entry = store_->Get("counter", Soon());
        ASSERT_TRUE(entry.ok()) << entry.status();
        const WriteResult result =
            store_->Update("counter", std::to_string(std::stoi(entry->value) + 1), entry->revision, Soon());
        if (result.ok()) {
          ++done;
        } else {
          ASSERT_TRUE(absl::IsAborted(result.status)) << result.status;
        }
      }
      most = std::max(most.load(), Stat("curr_connections"));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->Get("counter", Soon())->value, std::to_string(kThreads * kRounds));
  EXPECT_LE(Stat("curr_connections"), before + 8);
}

TEST_F(MemcachedStoreTest, AfterAForkTheChildIsRefusedAndTheParentGoesOn) {
  ASSERT_TRUE(store_->Create("a", "v", Soon()).ok());
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const absl::Status get = store_->Get("a", Soon()).status();
    const absl::Status put = store_->Put("a", "of the child", Soon()).status;
    const bool refused = get.code() == absl::StatusCode::kFailedPrecondition && put.code() == get.code();
    const_cast<std::shared_ptr<Store>&>(store_).reset();
    _exit(refused ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const int64_t connections = Stat("total_connections");
  EXPECT_EQ(store_->Get("a", Soon())->value, "v");
  EXPECT_EQ(Stat("total_connections"), connections + 1);
}

}  // namespace
}  // namespace kv
