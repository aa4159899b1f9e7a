// What each path costs, in store calls: counted, not timed.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

constexpr absl::Duration kTtl = absl::Seconds(10);

class BudgetsTest : public ::testing::Test {
 protected:
  kv::CallCounts Locks() { return world_.store().Snapshot("test/mutex/"); }
  kv::CallCounts All() { return world_.store().Snapshot("test/"); }
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }

  World world_{7};
};

TEST_F(BudgetsTest, AcquireIsAReadAndAWriteAtFirstThenOneWriteAndReleaseIsOne) {
  auto a = world_.Join("a");
  Mutex mutex = a->Mutex("m");
  kv::CallCounts before = Locks();
  auto grant = mutex.Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  kv::CallCounts cold = Locks() - before;
  EXPECT_EQ(cold.gets, 1) << ToString(cold);
  EXPECT_EQ(cold.writes(), 1) << ToString(cold);
  EXPECT_EQ(cold.calls(), 2) << ToString(cold);
  for (int i = 0; i < 3; ++i) {
    before = Locks();
    ASSERT_TRUE(IsOk(grant->Release()));
    const kv::CallCounts release = Locks() - before;
    EXPECT_EQ(release.writes(), 1) << ToString(release);
    EXPECT_EQ(release.calls(), 1) << ToString(release);
    before = Locks();
    grant = mutex.Acquire(Soon());
    ASSERT_TRUE(IsOk(grant));
    const kv::CallCounts warm = Locks() - before;
    EXPECT_EQ(warm.writes(), 1) << ToString(warm);
    EXPECT_EQ(warm.calls(), 1) << ToString(warm);
  }
}

TEST_F(BudgetsTest, AReleasedNameIsWarmForEveryCopyThatUsedIt) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  ASSERT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
  ASSERT_TRUE(IsOk(b->Mutex("m").Acquire(Soon())));
  ASSERT_TRUE(IsOk(a->Mutex("m").Acquire(Soon())));
  world_.runtime().RunUntilIdle();
  const kv::CallCounts before = Locks();
  auto grant = b->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  EXPECT_EQ((Locks() - before).calls(), 1) << ToString(Locks() - before);
}

TEST_F(BudgetsTest, HandOverIsOneWriteByTheReleaserAndNoCallByTheSuccessor) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Minutes(1))); });
  ASSERT_FALSE(waiting->done);
  const absl::Time released = world_.runtime().Now();
  const kv::CallCounts before = All();
  ASSERT_TRUE(IsOk(grant->Release()));
  world_.runtime().RunUntilIdle();
  ASSERT_TRUE(waiting->ok()) << waiting->grant.status();
  const kv::CallCounts spent = All() - before;
  EXPECT_EQ(spent.writes(), 1) << ToString(spent);
  EXPECT_EQ(spent.calls(), 1) << ToString(spent);
  EXPECT_EQ(waiting->at, released) << "no time passes: a commit and a push are all";
}

// M09: a release concerns one waiter, however many there are.
TEST_F(BudgetsTest, AReleaseIsOneWriteHoweverManyWait) {
  std::vector<std::unique_ptr<Cluster>> copies;
  for (int i = 0; i < 12; ++i) copies.push_back(world_.Join(absl::StrCat("c", i)));
  auto grant = copies[0]->Mutex("m").Acquire(Soon());
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 1; i < 12; ++i) {
    calls.push_back(InBackground(world_, [&, i] { return copies[i]->Mutex("m").Acquire(world_.In(absl::Hours(1))); }));
  }
  const kv::CallCounts before = All();
  ASSERT_TRUE(IsOk(grant->Release()));
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(calls[0]->ok());
  EXPECT_EQ((All() - before).calls(), 1) << ToString(All() - before);
}

TEST_F(BudgetsTest, ReacquiringWhatIsRetainedIsNoCallWhileTheViewIsFresh) {
  auto a = world_.Join("a");
  MutexOptions retain;
  retain.retain = true;
  Mutex mutex = a->Mutex("m", retain);
  ASSERT_TRUE(IsOk(mutex.Acquire(Soon())));
  kv::CallCounts before = Locks();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(IsOk(mutex.Acquire(Soon())));
  EXPECT_EQ((Locks() - before).calls(), 0) << ToString(Locks() - before);

  Sleep(kTtl / 3 + absl::Milliseconds(1));
  before = Locks();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(IsOk(mutex.Acquire(Soon())));
  EXPECT_EQ((Locks() - before).gets, 1) << "a view older than ttl/3 is read again, once";
  EXPECT_EQ((Locks() - before).calls(), 1) << ToString(Locks() - before);
}

TEST_F(BudgetsTest, PassingOnAmongTheThreadsOfOneCopyIsNoCall) {
  auto a = world_.Join("a");
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  const kv::CallCounts before = Locks();
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 5; ++i) {
    calls.push_back(InBackground(world_, [&] { return a->Mutex("m").Acquire(Soon()); }));
  }
  const uint64_t fence = grant->fence();
  ASSERT_TRUE(IsOk(grant->Release()));
  for (auto& call : calls) {
    world_.runtime().RunUntilIdle();
    ASSERT_TRUE(call->ok()) << call->grant.status();
    EXPECT_EQ(call->grant->fence(), fence) << "the fence is the copy's";
    EXPECT_EQ((Locks() - before).calls(), 0) << ToString(Locks() - before);
    ASSERT_TRUE(IsOk(call->grant->Release()));
  }
  EXPECT_EQ((Locks() - before).writes(), 1) << "the last one gives it up";
}

TEST_F(BudgetsTest, WaitingIsAtMostOneReadPerTtl) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(world_.In(absl::Hours(2))); });
  const kv::CallCounts before = Locks();
  const kv::CallCounts all = All();
  const uint64_t beats = a->Stats().beats + b->Stats().beats;
  Sleep(kTtl * 20);
  const kv::CallCounts spent = Locks() - before;
  EXPECT_LE(spent.gets, 20) << ToString(spent);
  EXPECT_GE(spent.gets, 15) << "every waiter also reads the record itself: a push may be lost";
  EXPECT_EQ(spent.writes(), 0) << ToString(spent);
  const int64_t beaten = static_cast<int64_t>(a->Stats().beats + b->Stats().beats - beats);
  EXPECT_EQ((All() - all).writes(), beaten) << "nothing but beats is written";
  EXPECT_EQ((All() - all).gets, spent.gets) << "no session is read: the watch shows them";
  ASSERT_TRUE(IsOk(grant->Release()));
}

TEST_F(BudgetsTest, TryingAHeldNameIsNoCallWithAWatch) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  ASSERT_TRUE(Is(absl::StatusCode::kResourceExhausted, b->Mutex("m").TryAcquire(Soon()), "held by copy \"a\""));
  const kv::CallCounts before = All();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Is(absl::StatusCode::kResourceExhausted, b->Mutex("m").TryAcquire(Soon())));
  }
  EXPECT_EQ((All() - before).calls(), 0) << ToString(All() - before);
}

TEST_F(BudgetsTest, TryingAHeldNameIsOneReadWithoutAWatchAndOneOfTheSession) {
  JoinOptions options = world_.Options("a");
  Shaped(options)->shape.watch = false;
  auto a = world_.Join(options);
  options.instance = "b";
  auto b = world_.Join(options);
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  for (int i = 0; i < 5; ++i) {
    Sleep(absl::Milliseconds(1));
    const kv::CallCounts locks = Locks();
    const kv::CallCounts all = All();
    ASSERT_TRUE(Is(absl::StatusCode::kResourceExhausted, b->Mutex("m").TryAcquire(Soon())));
    EXPECT_EQ((Locks() - locks).gets, 1) << ToString(Locks() - locks);
    EXPECT_EQ((All() - all).gets, i == 0 ? 2 : 1) << "the session is looked at again after ttl/8 only";
    EXPECT_EQ((All() - all).writes(), 0);
  }
  ASSERT_TRUE(IsOk(grant->Release()));
  Sleep(absl::Milliseconds(1));
  EXPECT_TRUE(IsOk(b->Mutex("m").TryAcquire(Soon()))) << "a try must not go by what an earlier one saw";
}

TEST_F(BudgetsTest, TenThousandGrantsCostOneWriteABeat) {
  auto a = world_.Join("a");
  std::vector<Grant> grants;
  for (int i = 0; i < 10000; ++i) {
    auto grant = a->Mutex(absl::StrCat("m", i)).Acquire(Soon());
    ASSERT_TRUE(IsOk(grant));
    grants.push_back(*std::move(grant));
  }
  Sleep(kTtl * 4);  // past the janitor's first look
  const kv::CallCounts before = All();
  const uint64_t beats = a->Stats().beats;
  Sleep(kTtl * 10);
  const int64_t beaten = static_cast<int64_t>(a->Stats().beats - beats);
  EXPECT_GE(beaten, 25);
  EXPECT_LE(beaten, 60);
  EXPECT_EQ((All() - before).writes(), beaten);
  EXPECT_EQ((All() - before).calls(), beaten) << ToString(All() - before);
  EXPECT_EQ(a->Stats().grants_held, 10000u);
}

TEST_F(BudgetsTest, WhereTheStoreDoesNotProveItsIncarnationABeatAlsoReadsTheEpoch) {
  JoinOptions options = world_.Options("a");
  Shaped(options)->shape.proves_incarnation = false;
  auto a = world_.Join(options);
  auto grant = a->Mutex("m").Acquire(Soon());
  ASSERT_TRUE(IsOk(grant));
  Sleep(kTtl * 4);
  const kv::CallCounts before = All();
  const kv::CallCounts epoch = world_.store().Snapshot("test/epoch");
  const uint64_t beats = a->Stats().beats;
  Sleep(kTtl * 10);
  const int64_t beaten = static_cast<int64_t>(a->Stats().beats - beats);
  EXPECT_GE(beaten, 25);
  EXPECT_EQ((All() - before).writes(), beaten);
  EXPECT_EQ((All() - before).reads(), beaten) << ToString(All() - before);
  EXPECT_EQ((world_.store().Snapshot("test/epoch") - epoch).gets, beaten);
}

TEST_F(BudgetsTest, OnAStoreThatEvictsEveryGrantIsReadOncePerBeat) {
  JoinOptions options = world_.Options("a");
  Shaped(options)->shape.evicting = true;
  options.accept_weaker = true;
  auto a = world_.Join(options);
  constexpr int kGrants = 200;
  std::vector<Grant> grants;
  for (int i = 0; i < kGrants; ++i) {
    auto grant = a->Mutex(absl::StrCat("m", i)).Acquire(Soon());
    ASSERT_TRUE(IsOk(grant));
    grants.push_back(*std::move(grant));
  }
  Sleep(kTtl * 2);
  const kv::CallCounts before = Locks();
  Sleep(kTtl * 10);
  EXPECT_GE((Locks() - before).gets, kGrants * 29);
  EXPECT_LE((Locks() - before).gets, kGrants * 31);
  EXPECT_EQ((Locks() - before).writes(), 0);
}

TEST_F(BudgetsTest, LeaderIsNoCall) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto term = a->Election("e").Campaign("here", Soon());
  ASSERT_TRUE(IsOk(term));
  Election election = b->Election("e");
  ASSERT_TRUE(IsOk(election.Leader()));
  const kv::CallCounts before = All();
  for (int i = 0; i < 100; ++i) {
    auto leader = election.Leader();
    ASSERT_TRUE(IsOk(leader));
    ASSERT_NE(*leader, nullptr);
    EXPECT_EQ((*leader)->value, "here");
  }
  EXPECT_EQ((All() - before).calls(), 0) << ToString(All() - before);
}

// When the newest beat of `session` was written.
absl::Time LastBeat(World& world, const std::string& session) {
  auto entry = world.data().Get(KeyOf(world, "session", session), absl::InfiniteFuture());
  EXPECT_TRUE(IsOk(entry));
  return world.runtime().Now() - *entry->age;
}

TEST_F(BudgetsTest, TakeoverIsATtlAfterTheLastBeatInTwoCallsAndOnePerFurtherDeadSession) {
  for (const int further : {0, 1, 3}) {
    SCOPED_TRACE(further);
    World world(11 + static_cast<uint64_t>(further));
    auto a = world.Join("a");
    std::vector<std::unique_ptr<Process>> dead;
    std::vector<std::unique_ptr<Thread>> waits;
    std::vector<std::string> sessions;
    for (int i = 0; i <= further; ++i) {
      dead.push_back(std::make_unique<Process>(world, i + 1, absl::StrCat("dead", i)));
      sessions.push_back((*dead.back())->session());
      Process* process = dead.back().get();
      waits.push_back(process->Start([process, &world] {
        auto grant = (*process)->Mutex("m").Acquire(world.In(absl::Hours(1)));
        world.runtime().SleepFor(absl::Hours(1));
      }));
      world.runtime().SleepFor(absl::Milliseconds(10));
    }
    auto waiting = InBackground(world, [&] { return a->Mutex("m").Acquire(world.In(absl::Hours(1))); });
    world.runtime().SleepFor(kTtl);
    ASSERT_FALSE(waiting->done);
    absl::Time last = absl::InfinitePast();
    for (const std::string& session : sessions) last = std::max(last, LastBeat(world, session));
    for (auto& process : dead) process->Kill();
    const kv::CallCounts locks = world.store().Snapshot("test/mutex/");
    int64_t session_calls = 0;
    for (const std::string& s : sessions) session_calls -= world.store().Snapshot(KeyOf(world, "session", s)).calls();
    world.runtime().SleepFor(kTtl * 2);
    ASSERT_TRUE(waiting->ok()) << waiting->grant.status();
    EXPECT_GE(waiting->at, last + kTtl);
    EXPECT_LE(waiting->at, last + kTtl + absl::Milliseconds(1));
    for (const std::string& s : sessions) session_calls += world.store().Snapshot(KeyOf(world, "session", s)).calls();
    EXPECT_EQ(session_calls, 1 + further) << "each is ended by one write, and read by none";
    // Dead waiters are taken out as soon as they are all gone, which may be before the owner is.
    EXPECT_LE((world.store().Snapshot("test/mutex/") - locks).writes(), further == 0 ? 1 : 2);
  }
}

TEST_F(BudgetsTest, WithoutWatchAndAgeTakeoverIsWithinATtlAndAnEighth) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    JoinOptions options = world.Options("a");
    auto shaped = Shaped(options);
    shaped->shape.watch = shaped->shape.age = false;
    auto a = world.Join(options);
    options.instance = "b";
    Process b(world, 1, options);
    const std::string session = b->session();
    auto* held = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
    b.Run([&] { *held = b->Mutex("m").Acquire(world.In(absl::Seconds(1))); });
    ASSERT_TRUE(IsOk(*held));
    auto waiting = InBackground(world, [&] { return a->Mutex("m").Acquire(world.In(absl::Hours(1))); });
    world.runtime().SleepFor(kTtl * 2 + absl::Milliseconds(777));
    const absl::Time last = LastBeat(world, session);
    b.Kill();
    world.runtime().SleepFor(kTtl * 3);
    ASSERT_TRUE(waiting->ok()) << waiting->grant.status();
    EXPECT_GE(waiting->at, last + kTtl);
    EXPECT_LE(waiting->at, last + kTtl + kTtl / 8 + kTtl / 8) << "seen within ttl/8, and acted on within ttl/8";
    EXPECT_LT((*held)->fence(), waiting->grant->fence());
  }
}

}  // namespace
}  // namespace coord::testing
