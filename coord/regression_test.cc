// One test for each bug that was found by attacking the lock engine, named for it.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

using absl::StatusCode;

// A store that can fall back to what it held at Keep(): whatever was acknowledged since is forgotten, and its revisions
// go on from there.
class ForgetfulStore : public kv::Store {
 public:
  ForgetfulStore() {
    traits_.name = "forgetful";
    traits_.durable = true;
    traits_.list = false;
  }

  void Keep() { kept_ = {entries_, revision_}; }
  void FallBack() { std::tie(entries_, revision_) = kept_; }

  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Time) override {
    auto found = entries_.find(std::string(key));
    if (found == entries_.end()) return absl::NotFoundError("no such key");
    return found->second;
  }
  kv::WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    if (entries_.count(std::string(key)) != 0) return {absl::AlreadyExistsError("it is there"), 0, std::nullopt};
    return Put(key, value, deadline);
  }
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override {
    auto found = entries_.find(std::string(key));
    if (found == entries_.end()) return {absl::NotFoundError("no such key"), 0, std::nullopt};
    if (found->second.revision != expected) return {absl::AbortedError("it has moved"), 0, found->second};
    return Put(key, value, deadline);
  }
  kv::WriteResult Delete(std::string_view key, kv::Revision, absl::Time) override {
    entries_.erase(std::string(key));
    return {absl::OkStatus(), ++revision_, std::nullopt};
  }
  kv::WriteResult Put(std::string_view key, std::string_view value, absl::Time) override {
    entries_[std::string(key)] = {std::string(value), ++revision_, std::nullopt};
    return {absl::OkStatus(), revision_, std::nullopt};
  }
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(std::string_view, absl::Time) override {
    return absl::UnimplementedError("no list");
  }
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view, kv::WatchCallback) override {
    return absl::UnimplementedError("no watch");
  }
  const kv::Traits& traits() const override { return traits_; }

 private:
  using Entries = std::map<std::string, kv::Entry>;
  kv::Traits traits_;
  Entries entries_;
  kv::Revision revision_ = 0;
  std::pair<Entries, kv::Revision> kept_;
};

class RegressionTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(1)); }

  std::unique_ptr<Cluster> JoinOn(const std::shared_ptr<kv::Store>& store, const std::string& instance,
                                  absl::Duration ttl = absl::Seconds(10), absl::Duration max_ttl = absl::Seconds(60)) {
    JoinOptions options = world_.Options(instance);
    options.store = store;
    options.ttl = ttl;
    options.max_ttl = max_ttl;
    return world_.Join(options);
  }

  void Use(Cluster& copy, int times) {
    for (int i = 0; i < times; ++i) ASSERT_TRUE(IsOk(copy.Mutex("other").Acquire(Soon())));
  }

  World world_{1};
};

TEST_F(RegressionTest, TheWriteThatProvesARollbackIsNotAGrant) {
  auto store = std::make_shared<ForgetfulStore>();
  auto a = JoinOn(store, "a");
  auto b = JoinOn(store, "b");
  store->Keep();
  Use(*b, 5);
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  Use(*b, 3);
  store->FallBack();
  auto second = b->Mutex("m").Acquire(Soon());
  EXPECT_FALSE(second.ok() && !second->Lost() && !held->Lost()) << "two valid holders";
  auto later = b->Mutex("m").Acquire(world_.In(absl::Hours(1)));
  ASSERT_TRUE(IsOk(later));
  EXPECT_TRUE(held->Lost());
  EXPECT_GT(later->fence(), held->fence());
}

// The record of the new epoch, written with a low revision, proves the loss once more.
TEST_F(RegressionTest, WhoMakesTheNewEpochLivesInIt) {
  auto store = std::make_shared<ForgetfulStore>();
  auto a = JoinOn(store, "a");
  auto b = JoinOn(store, "b");
  Use(*a, 5);
  Use(*b, 5);
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  store->FallBack();  // to nothing
  world_.runtime().SleepFor(absl::Minutes(3));
  EXPECT_TRUE(held->Lost());
  EXPECT_EQ(a->Stats().sessions, 2u) << "one epoch replaces the lost one, not several";
  EXPECT_EQ(b->Stats().sessions, 2u);
  for (Cluster* first : {a.get(), b.get()}) {
    Cluster* const second = first == a.get() ? b.get() : a.get();
    auto one = first->Mutex("m").Acquire(Soon());
    ASSERT_TRUE(IsOk(one));
    EXPECT_GT(one->fence(), held->fence());
    EXPECT_TRUE(Is(StatusCode::kResourceExhausted, second->Mutex("m").TryAcquire(Soon()), "is taken"));
    ASSERT_TRUE(IsOk(one->Release()));
    EXPECT_TRUE(IsOk(second->Mutex("m").Acquire(Soon())));
  }
}

// Then the time of a new epoch follows from the old one's, and each copy has seen a little more than the other.
TEST_F(RegressionTest, CopiesWhoseClocksWereSetBackAgreeOnANewEpoch) {
  auto store = std::make_shared<ForgetfulStore>();
  auto a = JoinOn(store, "a");
  auto b = JoinOn(store, "b");
  store->Keep();
  Use(*a, 50);
  auto held = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  Use(*b, 1);
  world_.runtime().JumpWallClock(-absl::Hours(1));
  store->FallBack();
  EXPECT_FALSE(a->Mutex("proof").TryAcquire(Soon()).ok()) << "who has seen less makes the first";
  world_.runtime().SleepFor(absl::Minutes(3));
  EXPECT_LE(a->Stats().sessions, 4u);
  EXPECT_LE(b->Stats().sessions, 4u);
  auto again = b->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(again));
  EXPECT_GT(again->fence(), held->fence());
}

TEST_F(RegressionTest, CopiesThatProveALossTogetherAgreeOnOneNewEpoch) {
  auto store = std::make_shared<ForgetfulStore>();
  auto slow = std::make_shared<SlowStore>(world_.runtime(), store);
  auto a = JoinOn(store, "a");
  auto b = JoinOn(slow, "b");
  store->Keep();
  Use(*a, 5);
  Use(*b, 5);
  store->FallBack();
  slow->hook = [](std::string_view key, bool write) {
    const bool late = key == "test/epoch" && !write;  // what b reads has been replaced by a when b acts on it
    return SlowStore::Delay{absl::ZeroDuration(), late ? absl::Milliseconds(500) : absl::ZeroDuration()};
  };
  EXPECT_FALSE(b->Mutex("two").TryAcquire(Soon()).ok());
  EXPECT_FALSE(a->Mutex("one").TryAcquire(Soon()).ok());
  world_.runtime().SleepFor(absl::Minutes(3));
  EXPECT_EQ(a->Stats().sessions, 2u) << "who was first had to join once more";
  EXPECT_EQ(b->Stats().sessions, 2u);
}

TEST_F(RegressionTest, ANewEpochSettlesByTheDeploymentsLongestTtl) {
  auto store = std::make_shared<ForgetfulStore>();
  auto first = JoinOn(store, "first");
  auto patient = JoinOn(store, "patient", absl::Seconds(50));
  auto hasty = JoinOn(store, "hasty", absl::Seconds(1), absl::Seconds(2));
  store->Keep();
  Use(*hasty, 5);
  auto held = patient->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(held));
  Use(*hasty, 5);
  store->FallBack();
  EXPECT_FALSE(hasty->Mutex("proof").Acquire(Soon()).ok());
  auto taken = hasty->Mutex("m").Acquire(world_.In(absl::Seconds(8)));
  EXPECT_FALSE(taken.ok() && !taken->Lost() && !held->Lost()) << "two valid holders";
}

TEST_F(RegressionTest, LeavingTellsOfALossBeforeItHandsOver) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  std::vector<Grant> others;
  for (int i = 0; i < 8; ++i) {
    others.push_back(*a->Mutex("z" + std::to_string(i)).Acquire(Soon()));
    others.back().OnLost([&] { world_.runtime().SleepFor(absl::Milliseconds(100)); });
  }
  auto grant = a->Mutex("m").Acquire(Soon());
  absl::Time told = absl::InfiniteFuture();
  grant->OnLost([&] { told = world_.runtime().Now(); });
  auto successor = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Minutes(1))); });
  EXPECT_TRUE(IsOk(a->Leave(world_.In(absl::Seconds(5)))));
  world_.runtime().SleepFor(absl::Seconds(2));
  ASSERT_TRUE(successor->ok());
  EXPECT_LE(told, successor->at);
}

TEST_F(RegressionTest, AReleaseThatTheStoreDidNotTakeIsNotOk) {
  auto a = world_.Join("a");
  auto grant = a->Mutex("m").Acquire(Soon());
  world_.runtime().SleepFor(absl::Milliseconds(100));
  const FaultHook hook(world_.faults(), [](const kv::FaultyCall&) { return kv::Fault::kFailBefore; });
  world_.faults().Interrupt(kv::WatchKind::kResync);
  world_.runtime().SleepFor(absl::Milliseconds(500));
  EXPECT_TRUE(Is(StatusCode::kUnavailable, grant->Release(absl::Milliseconds(100)), "its release is not confirmed"));
  EXPECT_FALSE(RecordOf(world_, "mutex", "m")->owners.empty());
}

TEST_F(RegressionTest, SlowReadsDoNotKeepAWaiterFromTakingOver) {
  for (const int milliseconds : {60, 100, 150, 200}) {
    SCOPED_TRACE(milliseconds);
    World world(1);
    JoinOptions options = world.Options("a");
    options.ttl = absl::Seconds(1);
    JoinOptions slow_options = options;
    slow_options.instance = "b";
    auto shaped = Shaped(slow_options);
    shaped->shape.watch = shaped->shape.age = false;
    auto slow = std::make_shared<SlowStore>(world.runtime(), slow_options.store);
    slow_options.store = slow;
    Process a(world, 1, options);
    auto* held = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
    a.Run([&] { *held = a->Mutex("m").Acquire(world.In(absl::Seconds(1))); });
    ASSERT_TRUE(IsOk(*held));
    auto b = world.Join(slow_options);
    slow->hook = [milliseconds](std::string_view, bool write) {
      return write ? SlowStore::Delay{} : SlowStore::Delay{absl::ZeroDuration(), absl::Milliseconds(milliseconds)};
    };
    a.Kill();
    EXPECT_TRUE(IsOk(b->Mutex("m").Acquire(world.In(absl::Seconds(30)))));
    slow->hook = nullptr;
  }
}

TEST_F(RegressionTest, ALogFunctionMayAskTheCluster) {
  JoinOptions options = world_.Options("a");
  Cluster* self = nullptr;
  int lines = 0;
  options.log = [&](LogLevel, std::string_view) {
    ++lines;
    if (self != nullptr) {
      EXPECT_EQ(self->Stats().grants_held, 0u);
    }
  };
  auto a = world_.Join(options);
  self = a.get();
  ASSERT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
  ASSERT_TRUE(world_.data().Put(KeyOf(world_, "mutex", "m"), "rubbish", absl::InfiniteFuture()).ok());
  world_.runtime().SleepFor(absl::Seconds(1));
  EXPECT_TRUE(Is(StatusCode::kDataLoss, a->Mutex("m").Acquire(Soon()), "is damaged"));
  world_.runtime().RunUntilIdle();
  EXPECT_GE(lines, 1);
  self = nullptr;
}

TEST_F(RegressionTest, AnIdleRetainedLockComesBackForThoseWhoOnlyTry) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  MutexOptions retain;
  retain.retain = true;
  ASSERT_TRUE(IsOk(a->Mutex("m", retain).Acquire(Soon())));
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, b->Mutex("m").TryAcquire(Soon()), "is taken"));
  world_.runtime().SleepFor(absl::Seconds(11));
  EXPECT_TRUE(IsOk(b->Mutex("m").TryAcquire(Soon())));
}

TEST_F(RegressionTest, AHandleWithTheRightNumberIsNotRefusedOnAnOldView) {
  auto a = world_.Join("a");
  JoinOptions options = world_.Options("b");
  options.idle_record_ttl = absl::Hours(48);
  Shaped(options)->shape.watch = false;
  auto b = world_.Join(options);
  ASSERT_TRUE(IsOk(b->Semaphore("s", 2).Acquire(1, Soon())));
  for (const absl::Duration pause : {absl::Seconds(1), absl::Duration(absl::Hours(2))}) {
    world_.runtime().SleepFor(pause);
    const uint32_t permits = pause == absl::Seconds(1) ? 3 : 4;
    ASSERT_TRUE(IsOk(a->Semaphore("s", permits - 1).SetPermits(permits, Soon())));
    EXPECT_TRUE(IsOk(b->Semaphore("s", permits).Acquire(1, Soon())));
  }
}

TEST_F(RegressionTest, AnObserverEndsWithThePresentLeader) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto term = a->Election("e").Campaign("first", Soon());
  std::string last;
  Subscription observer = b->Election("e").Observe([&](const LeaderInfo& leader) { last = leader.value; });
  ASSERT_TRUE(IsOk(a->Election("e").Proclaim(*term, "second", Soon())));
  world_.runtime().SleepFor(absl::Seconds(1));
  EXPECT_EQ(last, "second");
}

}  // namespace
}  // namespace coord::testing
