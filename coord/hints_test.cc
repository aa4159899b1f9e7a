// On a store without a watch the copies tell each other over the event bus which records have changed. What that saves,
// in calls and in time, and that nothing rests on it.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/test_hints.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"
#include "kv/weak_store.h"

namespace coord::testing {
namespace {

constexpr absl::Duration kTtl = absl::Seconds(10);
// A hint takes up to 0.2 ms, a call none: time enough for the one who is meant, and too short for a poll.
constexpr absl::Duration kAtOnce = absl::Milliseconds(1);

class HintsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    keeper_ = Join("keeper");
    Sleep(kTtl * 2);  // the epoch settles
  }

  JoinOptions Options(const std::string& instance) {
    JoinOptions options = world_.Options(instance);
    options.store = weak_;
    options.events = hints_;
    options.accept_weaker = true;
    options.max_ttl = kTtl;
    return options;
  }
  std::unique_ptr<Cluster> Join(const std::string& instance) { return world_.Join(Options(instance)); }
  std::vector<std::unique_ptr<Cluster>> JoinMany(int count) {
    std::vector<std::unique_ptr<Cluster>> copies;
    for (int i = 0; i < count; ++i) copies.push_back(Join(absl::StrCat("c", i)));
    return copies;
  }
  std::shared_ptr<Call> Wait(Cluster& copy) {
    return InBackground(world_, [this, &copy] { return copy.Mutex("m").Acquire(world_.In(absl::Hours(1))); });
  }

  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }
  kv::CallCounts Counts(const std::string& prefix) { return world_.store().Snapshot(prefix); }
  kv::CallCounts Locks() { return Counts("test/mutex/"); }
  std::string Key() { return KeyOf(world_, "mutex", "m"); }

  World world_{5};
  const std::shared_ptr<kv::WeakStore> weak_ = std::make_shared<kv::WeakStore>(
      std::shared_ptr<kv::Store>(&world_.store(), [](kv::Store*) {}),
      std::shared_ptr<kv::Store>(&world_.data(), [](kv::Store*) {}), [this] { return world_.runtime().WallNow(); });
  const std::shared_ptr<FakeHints> hints_ = std::make_shared<FakeHints>(world_.runtime(), /*seed=*/5);
  std::unique_ptr<Cluster> keeper_;
};

TEST_F(HintsTest, HandOverIsOneWriteAndOneReadByTheSuccessor) {
  auto a = Join("a");
  auto b = Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  auto waiting = Wait(*b);
  Sleep(kTtl * 1.31);
  const absl::Time released = world_.runtime().Now();
  const kv::CallCounts before = Counts("test/");
  ASSERT_TRUE(IsOk(grant->Release()));
  Sleep(kAtOnce);
  ASSERT_TRUE(waiting->ok()) << waiting->grant.status();
  EXPECT_LE(waiting->at - released, absl::Microseconds(200)) << "the successor reads as soon as the hint is there";
  const kv::CallCounts spent = Counts("test/") - before;
  EXPECT_EQ(spent.writes(), 1) << ToString(spent);
  EXPECT_EQ(spent.gets, 1) << ToString(spent);
  EXPECT_EQ(spent.calls(), 2) << ToString(spent);
}

// The hint starts the thread that polls before there is anything to poll.
TEST_F(HintsTest, AHintThatComesWhileAValueIsOpenedDoesNotEndItsPolls) {
  JoinOptions options = Options("a");
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  options.store = slow;
  auto a = world_.Join(options);
  ASSERT_TRUE(IsOk(keeper_->AtomicValue("v").Set("1", Soon())));
  Sleep(absl::Seconds(1));
  slow->hook = [](std::string_view, bool) { return SlowStore::Delay{absl::Milliseconds(100), absl::ZeroDuration()}; };
  auto forger = world_.runtime().StartThread("forger", [this] {
    Sleep(absl::Milliseconds(50));
    hints_->Forge("test", "test/value/v");
  });
  auto value = a->SharedValue("v", Soon());
  ASSERT_TRUE(IsOk(value));
  slow->hook = nullptr;
  Sleep(absl::Seconds(1));
  hints_->SetFaults({.lost = 100});
  ASSERT_TRUE(IsOk(keeper_->AtomicValue("v").Set("2", Soon())));
  Sleep(kTtl);
  EXPECT_EQ((*value)->Get()->value, "2");
}

TEST_F(HintsTest, WithoutHintsTheSuccessorPolls) {
  hints_->SetFaults({.lost = 100});
  auto a = Join("a");
  auto b = Join("b");
  for (int i = 0; i < 5; ++i) {
    auto grant = a->Mutex("m").Acquire(Soon());
    ASSERT_TRUE(IsOk(grant));
    auto waiting = Wait(*b);
    Sleep(kTtl + absl::Milliseconds(i * 77));
    const absl::Time released = world_.runtime().Now();
    ASSERT_TRUE(IsOk(grant->Release()));
    Sleep(kTtl / 8);
    ASSERT_TRUE(waiting->ok()) << waiting->grant.status();
    EXPECT_LE(waiting->at - released, kTtl / 8);
  }
}

TEST_F(HintsTest, AReleaseMakesNobodyWriteHoweverManyWait) {
  constexpr int kWaiters = 64;
  auto holder = Join("holder");
  auto copies = JoinMany(kWaiters);
  auto grant = holder->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  std::vector<std::shared_ptr<Call>> calls;
  const int sent = hints_->sent();
  for (auto& copy : copies) calls.push_back(Wait(*copy));
  EXPECT_EQ(hints_->sent() - sent, 1) << "whoever queues behind others concerns nobody";
  Sleep(kTtl / 4);
  const kv::CallCounts before = Locks();
  ASSERT_TRUE(IsOk(grant->Release()));
  Sleep(kAtOnce);
  EXPECT_TRUE(calls[0]->ok());
  EXPECT_LE((Locks() - before).gets, 8) << "those far behind take their time";
  Sleep(absl::Milliseconds(kWaiters));
  // The holder learns by its first try who has queued since it looked last; nobody else writes.
  EXPECT_EQ((Locks() - before).writes(), 2) << ToString(Locks() - before);
  EXPECT_EQ((Locks() - before).failed, 1) << ToString(Locks() - before);
  EXPECT_LE((Locks() - before).gets, kWaiters * 5 / 4) << "each reads once, but for a poll or two";
  EXPECT_GE((Locks() - before).gets, kWaiters - 4);
}

TEST_F(HintsTest, AChainOfHandOversCostsEachAFewReads) {
  constexpr int kWaiters = 64;
  auto holder = Join("holder");
  auto copies = JoinMany(kWaiters);
  auto grant = holder->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<int> order;
  for (int i = 0; i < kWaiters; ++i) {
    threads.push_back(world_.runtime().StartThread("user", [&, i] {
      auto mine = copies[i]->Mutex("m").Acquire(world_.In(absl::Hours(1)));
      ASSERT_TRUE(IsOk(mine));
      order.push_back(i);
      world_.runtime().SleepFor(absl::Milliseconds(1));
    }));
    world_.runtime().RunUntilIdle();
  }
  const kv::CallCounts before = Locks();
  const absl::Time begun = world_.runtime().Now();
  ASSERT_TRUE(IsOk(grant->Release()));
  threads.clear();
  std::vector<int> expected(kWaiters);
  for (int i = 0; i < kWaiters; ++i) expected[i] = i;
  EXPECT_EQ(order, expected);
  const kv::CallCounts spent = Locks() - before;
  RecordProperty("reads", static_cast<int>(spent.gets));
  EXPECT_LE(spent.gets, kWaiters * 8) << ToString(spent);
  EXPECT_EQ(spent.writes() - spent.failed, kWaiters + 1) << ToString(spent);
  EXPECT_LE(spent.failed, 2) << ToString(spent);
  EXPECT_LE(world_.runtime().Now() - begun, absl::Milliseconds(2) * kWaiters);
}

TEST_F(HintsTest, ARetainedLockIsGivenUpAsSoonAsSomebodyWaits) {
  auto a = Join("a");
  auto b = Join("b");
  MutexOptions retain;
  retain.retain = true;
  ASSERT_TRUE(IsOk(a->Mutex("m", retain).Acquire(Soon())));
  Sleep(kAtOnce);
  const absl::Time begun = world_.runtime().Now();
  auto waiting = Wait(*b);
  Sleep(absl::Milliseconds(10));
  ASSERT_TRUE(waiting->ok());
  EXPECT_LE(waiting->at - begun, absl::Milliseconds(10));
}

TEST_F(HintsTest, ObserversOfAnElectionHearOfTheNextLeaderAtOnce) {
  auto a = Join("a");
  auto b = Join("b");
  auto c = Join("c");
  auto term = a->Election("e").Campaign("one", Soon());
  ASSERT_TRUE(IsOk(term));
  std::string heard;
  auto observing = c->Election("e").Observe([&](const LeaderInfo& info) { heard += info.value + " "; });
  auto next = InBackground(world_, [&] { return b->Election("e").Campaign("two", world_.In(absl::Hours(1))); });
  Sleep(kTtl / 5);
  const kv::CallCounts before = Counts("test/election/");
  ASSERT_TRUE(IsOk(term->Release()));
  Sleep(absl::Milliseconds(10));
  EXPECT_EQ(heard, "one two ");
  EXPECT_TRUE(next->ok());
  EXPECT_EQ((Counts("test/election/") - before).gets, 2) << "the successor and the observer";
}

TEST_F(HintsTest, AValueIsReadOnceByEachCopyThatFollowsIt) {
  auto a = Join("a");
  auto copies = JoinMany(5);
  std::vector<std::shared_ptr<SharedValue>> values;
  for (auto& copy : copies) values.push_back(*copy->SharedValue("settings", Soon()));
  auto mine = *a->SharedValue("settings", Soon());
  Sleep(kTtl / 5);
  const kv::CallCounts before = Counts("test/value/");
  ASSERT_TRUE(IsOk(mine->Set("new", Soon())));
  Sleep(absl::Milliseconds(11));
  for (auto& value : values) {
    ASSERT_NE(value->Get(), nullptr);
    EXPECT_EQ(value->Get()->value, "new");
  }
  EXPECT_EQ((Counts("test/value/") - before).gets, 5) << ToString(Counts("test/value/") - before);
  EXPECT_EQ((Counts("test/value/") - before).writes(), 1);
}

TEST_F(HintsTest, OfAMapOnlyWhatHasChangedIsRead) {
  auto a = Join("a");
  auto b = Join("b");
  auto mine = *a->SharedMap("words", Soon());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(IsOk(mine->Set(absl::StrCat("k", i), "1", Soon())));
  auto far = *b->SharedMap("words", Soon());
  Sleep(kTtl / 40);
  ASSERT_EQ(far->Get()->size(), 100u);
  const kv::CallCounts before = Counts("test/map");
  ASSERT_TRUE(IsOk(mine->Set("k7", "2", Soon())));
  Sleep(absl::Milliseconds(11));
  EXPECT_EQ(far->Find("k7")->value, "2");
  EXPECT_EQ((Counts("test/map") - before).gets, 1) << ToString(Counts("test/map") - before);
  ASSERT_TRUE(IsOk(mine->Set("new", "3", Soon())));
  Sleep(absl::Milliseconds(11));
  EXPECT_EQ(far->Find("new")->value, "3");
  ASSERT_TRUE(IsOk(mine->Remove("k8", Soon())));
  Sleep(absl::Milliseconds(11));
  EXPECT_FALSE(far->Contains("k8"));
  EXPECT_LE((Counts("test/map") - before).gets, 5) << "a new key is one of the index, too";
}

// A hint is a reason to read, and no more: what it says is not believed, and what it costs is bounded.
TEST_F(HintsTest, MadeUpHintsChangeNothingAndCostLittle) {
  auto a = Join("a");
  auto b = Join("b");
  auto map = *b->SharedMap("words", Soon());
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  auto waiting = Wait(*b);
  Sleep(kTtl);
  const kv::CallCounts before = Locks();
  const kv::CallCounts maps = Counts("test/map");
  for (int i = 0; i < 3000; ++i) {
    hints_->Forge("test", Key());
    hints_->Forge("test", absl::StrCat("test/mutex/", i, "/m"));
    hints_->Forge("test", absl::StrCat("test/map/words/k", i));
    for (const char* key : {"", "/", "test", "test/", "test/mutex", "test/mutex/", "test/mutex//m", "test/map/words/",
                            "test/map/words/%zz", "test/epoch", "other/mutex/x/m", "test/value/v"}) {
      hints_->Forge("test", key);
    }
    Sleep(absl::Microseconds(100));
  }
  EXPECT_LE((Locks() - before).gets, 30) << "reads that bring nothing new become rare";
  EXPECT_LE((Counts("test/map") - maps).gets, 100) << "0.3 s, and a read of the index in 3 to 10 ms";
  EXPECT_FALSE(waiting->done);
  EXPECT_FALSE(grant->Lost());
  ASSERT_TRUE(IsOk(grant->Release()));
  Sleep(kTtl / 8);
  EXPECT_TRUE(waiting->ok());
  EXPECT_EQ(map->Get()->size(), 0u);
}

TEST_F(HintsTest, TheChannelIsMadeLaterIfItCannotBeMadeAtFirst) {
  hints_->SetUp(false);
  auto a = Join("a");
  auto b = Join("b");
  hints_->SetUp(true);
  Sleep(kTtl / 3 + absl::Milliseconds(1));
  auto grant = a->Mutex("m").Acquire(Soon());
  auto waiting = Wait(*b);
  ASSERT_TRUE(IsOk(grant->Release()));
  Sleep(kAtOnce);
  EXPECT_TRUE(waiting->ok());
}

TEST_F(HintsTest, OnAStoreWithAWatchNothingIsSent) {
  JoinOptions options = world_.Options("a");
  options.plugin = "watched";
  options.events = hints_;
  auto a = world_.Join(options);
  const int sent = hints_->sent();
  EXPECT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
  EXPECT_TRUE(IsOk(a->AtomicValue("v").Set("1", Soon())));
  EXPECT_EQ(hints_->sent(), sent);
}

TEST_F(HintsTest, NoPluginHearsOfAnother) {
  JoinOptions options = Options("a");
  options.plugin = "test2";
  auto other = world_.Join(options);
  auto b = Join("b");
  auto value = *b->SharedValue("v", Soon());
  Sleep(kTtl / 5);
  const kv::CallCounts before = Counts("test/value/");
  ASSERT_TRUE(IsOk(other->AtomicValue("v").Set("x", Soon())));
  Sleep(absl::Milliseconds(11));
  EXPECT_EQ((Counts("test/value/") - before).calls(), 0);
}

// Everything under hints that are lost, late, repeated and out of order.
TEST_F(HintsTest, AQueueMovesOnWhateverBecomesOfTheHints) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    World world(seed);
    auto weak = std::make_shared<kv::WeakStore>(std::shared_ptr<kv::Store>(&world.store(), [](kv::Store*) {}),
                                                std::shared_ptr<kv::Store>(&world.data(), [](kv::Store*) {}),
                                                [&world] { return world.runtime().WallNow(); });
    auto hints = std::make_shared<FakeHints>(world.runtime(), seed,
                                             HintFaults{.lost = 30, .twice = 30, .latest = absl::Seconds(3)});
    std::vector<std::unique_ptr<Cluster>> copies;
    for (int i = 0; i < 5; ++i) {
      JoinOptions options = Options(absl::StrCat("c", i));
      options.runtime = &world.runtime();
      options.store = weak;
      options.events = hints;
      options.log = [](LogLevel, std::string_view) {};
      copies.push_back(world.Join(options));
    }
    world.runtime().SleepFor(kTtl * 2);
    int inside = 0, entries = 0;
    uint64_t fence = 0;
    std::vector<std::unique_ptr<Thread>> threads;
    for (auto& copy : copies) {
      threads.push_back(world.runtime().StartThread("user", [&, cluster = copy.get()] {
        for (int round = 0; round < 20; ++round) {
          auto grant = cluster->Mutex("m").Acquire(world.In(absl::Hours(1)));
          ASSERT_TRUE(IsOk(grant));
          EXPECT_EQ(++inside, 1);
          EXPECT_GT(grant->fence(), fence);
          fence = grant->fence();
          ++entries;
          world.runtime().SleepFor(absl::Milliseconds(round * 10));
          --inside;
          ASSERT_TRUE(IsOk(grant->Release()));
        }
      }));
    }
    const absl::Time begun = world.runtime().Now();
    threads.clear();
    EXPECT_EQ(entries, 100);
    EXPECT_LE(world.runtime().Now() - begun, kTtl / 8 * 100 + absl::Seconds(10)) << "at worst each is a poll";
  }
}

}  // namespace
}  // namespace coord::testing
