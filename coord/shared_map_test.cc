#include "coord/shared_map.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/test_core.h"
#include "gtest/gtest.h"

namespace coord {
namespace {

using internal::SimWorld;
using internal::TestCopy;
using kv::CallKind;
using kv::Fault;

constexpr char kPrefix[] = "demo/map/words/";

class SharedMapTest : public ::testing::Test {
 protected:
  SharedMapTest()
      : copy_(world_.NewCopy()), other_(world_.NewCopy()), map_(copy_->Map("words")), far_(other_->Map("words")) {}

  absl::Time Soon() { return other_->Soon(); }
  kv::CallCounts Counts() { return copy_->counting->Snapshot(kPrefix); }
  static std::string Text(const SharedMap& map) {
    std::string text;
    for (const auto& [key, now] : *map.Get()) text += key + "=" + now.value + " ";
    return text;
  }
  std::string Now() { return Text(*map_); }
  Subscription Listen() {
    return map_->OnChange([this](const std::string& key, const std::optional<Versioned>& now) {
      heard_.push_back(key + (now ? "=" + now->value : " gone"));
    });
  }

  SimWorld world_;
  std::unique_ptr<TestCopy> copy_;
  std::unique_ptr<TestCopy> other_;
  std::shared_ptr<SharedMap> map_;
  std::shared_ptr<SharedMap> far_;
  std::vector<std::string> heard_;
};

TEST_F(SharedMapTest, FollowsWhatOthersWriteWithoutAsking) {
  const kv::CallCounts before = Counts();
  ASSERT_TRUE(far_->Set("hello", "1", Soon()).ok());
  ASSERT_TRUE(far_->Set("a/b", "2", Soon()).ok());
  ASSERT_TRUE(far_->Set("gr\xc3\xbc\xc3\x9f *>", "3", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "a/b=2 gr\xc3\xbc\xc3\x9f *>=3 hello=1 ");
  ASSERT_TRUE(far_->Remove("a/b", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_FALSE(map_->Contains("a/b"));
  EXPECT_TRUE(map_->Contains("hello"));
  EXPECT_EQ(map_->Find("hello")->value, "1");
  EXPECT_EQ(map_->Find("nothing"), std::nullopt);
  EXPECT_EQ((Counts() - before).calls(), 0);
}

TEST_F(SharedMapTest, ANewCopyReadsAllInOneCall) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(far_->Set(std::to_string(i), "x", Soon()).ok());
  std::unique_ptr<TestCopy> late = world_.NewCopy();
  std::shared_ptr<SharedMap> map = late->Map("words");
  EXPECT_EQ(map->Get()->size(), 100u);
  EXPECT_EQ(late->counting->Snapshot(kPrefix).calls(), 1);
  EXPECT_EQ(map->Find("7")->revision, far_->Find("7")->revision);
}

TEST_F(SharedMapTest, EveryChangeCostsOneWrite) {
  auto cost = [&](auto call) {
    const kv::CallCounts before = Counts();
    call();
    const kv::CallCounts spent = Counts() - before;
    return std::to_string(spent.reads()) + " reads, " + std::to_string(spent.writes()) + " writes";
  };
  EXPECT_EQ(cost([&] { ASSERT_TRUE(map_->Set("a", "1", Soon()).ok()); }), "0 reads, 1 writes") << "a new key";
  EXPECT_EQ(cost([&] { ASSERT_TRUE(map_->Set("a", "2", Soon()).ok()); }), "0 reads, 1 writes");
  EXPECT_EQ(cost([&] { ASSERT_TRUE(map_->CompareAndSet("a", map_->Find("a")->revision, "3", Soon()).ok()); }),
            "0 reads, 1 writes");
  EXPECT_EQ(cost([&] { ASSERT_TRUE(map_->Remove("a", Soon()).ok()); }), "0 reads, 1 writes");
  EXPECT_EQ(cost([&] { ASSERT_TRUE(map_->Remove("a", Soon()).ok()); }), "1 reads, 0 writes") << "is it really absent?";
  EXPECT_EQ(cost([&] { map_->Get(); }), "0 reads, 0 writes");
}

TEST_F(SharedMapTest, OwnWritesAreSeenAtOnce) {
  copy_->faulty->PauseWatches();
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  EXPECT_EQ(Now(), "a=1 ");
  ASSERT_TRUE(map_->Update(
                      "a", [](const auto& now) -> absl::StatusOr<std::string> { return *now + "2"; }, Soon())
                  .ok());
  EXPECT_EQ(Now(), "a=12 ");
  EXPECT_EQ(map_->CompareAndSet("a", {}, "x", Soon()).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(map_->Delete("a", {"e1", 999}, Soon()).code(), absl::StatusCode::kAborted);
  ASSERT_TRUE(map_->Delete("a", map_->Find("a")->revision, Soon()).ok());
  EXPECT_EQ(Now(), "");
  copy_->faulty->ResumeWatches();
}

TEST_F(SharedMapTest, LatePushesNeverBringAnOlderStateBack) {
  copy_->faulty->PauseWatches();
  ASSERT_TRUE(far_->Set("a", "old", Soon()).ok());
  ASSERT_TRUE(far_->Set("gone", "old", Soon()).ok());
  ASSERT_TRUE(map_->Set("a", "mine", Soon()).ok());
  ASSERT_TRUE(map_->Set("gone", "mine", Soon()).ok());
  ASSERT_TRUE(map_->Remove("gone", Soon()).ok());
  EXPECT_EQ(Now(), "a=mine ");
  Subscription subscription = Listen();
  world_.runtime.RunUntilIdle();
  copy_->faulty->ResumeWatches();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "a=mine ");
  EXPECT_EQ(heard_, (std::vector<std::string>{"a=mine"}));
}

TEST_F(SharedMapTest, CopiesThatAddTheSameKeyDoNotLoseEachOther) {
  copy_->faulty->PauseWatches();
  other_->faulty->PauseWatches();
  auto append = [](const std::string& what) {
    return [what](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
      return now.value_or("") + what;
    };
  };
  ASSERT_TRUE(map_->Update("a", append("1"), Soon()).ok());
  ASSERT_TRUE(far_->Update("a", append("2"), Soon()).ok());
  ASSERT_TRUE(map_->Update("a", append("3"), Soon()).ok());
  EXPECT_EQ(map_->Find("a")->value, "123");
  copy_->faulty->ResumeWatches();
  other_->faulty->ResumeWatches();
}

TEST_F(SharedMapTest, RemoveMindsNeitherWhatIsThereNorWhoRemovesIt) {
  ASSERT_TRUE(map_->Remove("never", Soon()).ok());
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  copy_->faulty->PauseWatches();
  ASSERT_TRUE(far_->Set("a", "2", Soon()).ok());
  ASSERT_TRUE(map_->Remove("a", Soon()).ok()) << "over a newer state";
  ASSERT_TRUE(far_->Set("b", "1", Soon()).ok());
  ASSERT_TRUE(map_->Set("b", "2", Soon()).ok());
  ASSERT_TRUE(far_->Remove("b", Soon()).ok());
  ASSERT_TRUE(map_->Remove("b", Soon()).ok()) << "removed by another";
  ASSERT_TRUE(map_->Set("c", "1", Soon()).ok());
  copy_->Fail(CallKind::kDelete, Fault::kDropReply, 1);
  ASSERT_TRUE(map_->Remove("c", Soon()).ok()) << "the reply was lost";
  copy_->faulty->ResumeWatches();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "");
  EXPECT_EQ(Text(*far_), "");
}

TEST_F(SharedMapTest, AResyncBringsWhatWasMissed) {
  ASSERT_TRUE(far_->Set("stays", "1", Soon()).ok());
  ASSERT_TRUE(far_->Set("goes", "1", Soon()).ok());
  world_.runtime.RunUntilIdle();
  Subscription subscription = Listen();
  world_.runtime.RunUntilIdle();
  copy_->faulty->SetEventFilter([](const kv::WatchEvent&) { return false; });
  ASSERT_TRUE(far_->Remove("goes", Soon()).ok());
  ASSERT_TRUE(far_->Set("comes", "1", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "goes=1 stays=1 ");
  copy_->faulty->SetEventFilter(nullptr);
  copy_->faulty->Interrupt(kv::WatchKind::kResync);
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "comes=1 stays=1 ");
  EXPECT_EQ(heard_, (std::vector<std::string>{"goes=1", "stays=1", "comes=1", "goes gone"}));
}

TEST_F(SharedMapTest, AResyncThatConfirmsEverythingReadsNothing) {
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(far_->Set(std::to_string(i), "x", Soon()).ok());
  world_.runtime.RunUntilIdle();
  const kv::CallCounts before = Counts();
  copy_->faulty->Interrupt(kv::WatchKind::kResync);
  world_.runtime.RunUntilIdle();
  EXPECT_EQ((Counts() - before).calls(), 0);
}

TEST_F(SharedMapTest, AnotherEpochIsReadAnew) {
  ASSERT_TRUE(far_->Set("a", "1", Soon()).ok());
  world_.runtime.RunUntilIdle();
  copy_->core->SetEpochId("e2");
  copy_->faulty->Interrupt(kv::WatchKind::kEpochChanged);
  copy_->core->cells->EpochChanged();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(map_->Find("a")->revision.epoch, "e2");
  EXPECT_TRUE(map_->CompareAndSet("a", map_->Find("a")->revision, "2", Soon()).ok());
}

TEST_F(SharedMapTest, WithoutAWatchItIsPolled) {
  auto blind = std::make_shared<internal::NoWatchStore>(world_.store);
  TestCopy poller(world_.runtime, blind);
  std::shared_ptr<SharedMap> map = poller.Map("words");
  ASSERT_TRUE(far_->Set("a", "1", Soon()).ok());
  world_.runtime.SleepFor(poller.core->options.ttl / 8 * 1.6);
  EXPECT_EQ(Text(*map), "a=1 ");
  ASSERT_TRUE(far_->Remove("a", Soon()).ok());
  world_.runtime.SleepFor(poller.core->options.ttl / 8 * 1.6);
  EXPECT_EQ(Text(*map), "");
}

TEST_F(SharedMapTest, ADamagedEntryDoesNotSpoilTheOthers) {
  ASSERT_TRUE(far_->Set("a", "1", Soon()).ok());
  ASSERT_TRUE(far_->Set("b", "1", Soon()).ok());
  world_.runtime.RunUntilIdle();
  ASSERT_TRUE(world_.store->Put(std::string(kPrefix) + "a", "damaged", Soon()).ok());
  ASSERT_TRUE(far_->Set("b", "2", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "a=1 b=2 ");
  EXPECT_EQ(map_->Set("a", "2", Soon()).status().code(), absl::StatusCode::kDataLoss);
  ASSERT_EQ(copy_->log.size(), 1u);
  EXPECT_NE(copy_->log[0].find("key \"a\" of map \"words\""), std::string::npos) << copy_->log[0];
  std::unique_ptr<TestCopy> late = world_.NewCopy();
  EXPECT_EQ(Text(*late->Map("words")), "b=2 ");
}

TEST_F(SharedMapTest, KeysThatNobodyWroteThroughTheLibraryAreLeftAlone) {
  ASSERT_TRUE(world_.store->Put(std::string(kPrefix) + "deep/er", "x", Soon()).ok());
  ASSERT_TRUE(world_.store->Put(std::string(kPrefix) + "bad%zz", "x", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(Now(), "");
  std::unique_ptr<TestCopy> late = world_.NewCopy();
  EXPECT_EQ(Text(*late->Map("words")), "");
}

TEST_F(SharedMapTest, CallbacksHearWhatExistsAndEveryKeyThatChanges) {
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  ASSERT_TRUE(map_->Set("b", "1", Soon()).ok());
  Subscription subscription = Listen();
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"a=1", "b=1"}));
  heard_.clear();
  ASSERT_TRUE(far_->Remove("a", Soon()).ok());
  ASSERT_TRUE(far_->Set("c", "1", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"a gone", "c=1"}));
  subscription = Subscription();
  ASSERT_TRUE(map_->Set("d", "1", Soon()).ok());
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_.back(), "c=1");
}

TEST_F(SharedMapTest, ACallbackMayDestroyItsSubscriptionAndTheMap) {
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  ASSERT_TRUE(map_->Set("b", "1", Soon()).ok());
  auto subscription = std::make_shared<Subscription>();
  *subscription = map_->OnChange([this, subscription](const std::string& key, const std::optional<Versioned>&) {
    heard_.push_back(key);
    *subscription = Subscription();
    map_ = nullptr;
  });
  subscription = nullptr;
  world_.runtime.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"a"}));
}

TEST_F(SharedMapTest, RemovedKeysAreForgottenInTime) {
  ASSERT_TRUE(map_->Set("first", "x", Soon()).ok());
  std::weak_ptr<internal::Cell> first =
      copy_->core->cells->FindCell(std::string(kPrefix) + "first", "key \"first\" of map \"words\"");
  ASSERT_TRUE(map_->Remove("first", Soon()).ok());
  EXPECT_FALSE(first.expired()) << "a late push could bring it back";
  // More keys than are remembered; each was removed, and the watch has passed it.
  for (int i = 0; i < 1100; ++i) {
    const std::string key = std::to_string(i);
    ASSERT_TRUE(map_->Set(key, "x", Soon()).ok());
    ASSERT_TRUE(map_->Remove(key, Soon()).ok());
    if (i % 500 == 0) world_.runtime.RunUntilIdle();
  }
  EXPECT_TRUE(first.expired());
  world_.runtime.RunUntilIdle();
  ASSERT_TRUE(map_->Set("first", "y", Soon()).ok());
  EXPECT_EQ(Now(), "first=y ");
}

TEST_F(SharedMapTest, BadNamesAndKeysAreRefused) {
  for (const std::string& key : {std::string(), std::string("a\nb"), std::string("\xff"), std::string(129, 'x')}) {
    EXPECT_EQ(map_->Set(key, "x", Soon()).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(map_->Remove(key, Soon()).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(map_->Remove(key, Soon()).message()).find("map key"), std::string::npos);
    EXPECT_FALSE(map_->Contains(key));
  }
  EXPECT_EQ(internal::CellTestPeer::OpenSharedMap(copy_->core, "../words", Soon()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Counts().writes(), 0);
}

TEST_F(SharedMapTest, ItOutlivesItsClusterAndKeepsTheLastState) {
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  Subscription subscription = Listen();
  copy_->Leave();
  copy_->core = nullptr;
  EXPECT_EQ(Now(), "a=1 ");
  EXPECT_EQ(map_->Set("b", "1", absl::InfiniteFuture()).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(map_->Remove("a", absl::InfiniteFuture()).code(), absl::StatusCode::kCancelled);
}

TEST(SharedMapThreads, WritersOfManyKeysDoNotDisturbEachOther) {
  std::shared_ptr<kv::Store> store = kv::NewMemoryStore();
  TestCopy one(RealRuntime(), store), two(RealRuntime(), store);
  std::shared_ptr<SharedMap> a = one.Map("m"), b = two.Map("m");
  std::atomic<int> callbacks{0};
  Subscription subscription = a->OnChange([&](const std::string&, const auto&) { ++callbacks; });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t, map = t % 2 == 0 ? a : b] {
      const std::string key = std::to_string(t);
      for (int i = 0; i < 100; ++i) {
        ASSERT_TRUE(map->Set(key, std::to_string(i), one.In(absl::Minutes(5))).ok());
        ASSERT_EQ(map->Find(key)->value, std::to_string(i));
        if (i % 10 == 9) {
          ASSERT_TRUE(map->Remove(key, one.In(absl::Minutes(5))).ok());
          ASSERT_FALSE(map->Contains(key));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  subscription = Subscription();
  EXPECT_EQ(one.core->counters.cell_conflicts + two.core->counters.cell_conflicts, 0u);
}

}  // namespace
}  // namespace coord
