// Joining, leaving, and what outlives a Cluster.

#include "coord/cluster.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"
#include "kv/memory_store.h"

namespace coord::testing {
namespace {

using absl::StatusCode;
using kv::Fault;
using kv::FaultyCall;

constexpr absl::Duration kTtl = absl::Seconds(10);

class ClusterTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }
  absl::Time Now() { return world_.runtime().Now(); }

  World world_{51};
};

TEST_F(ClusterTest, EveryBadOptionIsRefusedByASentenceThatNamesIt) {
  const auto refused = [&](void (*spoil)(JoinOptions&), const std::string& sentence) {
    JoinOptions options = world_.Options("a");
    spoil(options);
    EXPECT_TRUE(Is(StatusCode::kInvalidArgument, Cluster::Join(options), sentence));
  };
  refused([](JoinOptions& o) { o.store = nullptr; }, "JoinOptions::store is missing: open one by kv::Open");
  refused([](JoinOptions& o) { o.plugin = ""; }, "plugin");
  refused([](JoinOptions& o) { o.plugin = "a/b"; }, "plugin");
  refused([](JoinOptions& o) { o.plugin = std::string(65, 'x'); }, "64");
  refused([](JoinOptions& o) { o.instance = ""; }, "instance");
  refused([](JoinOptions& o) { o.instance = "a\nb"; }, "instance");
  refused([](JoinOptions& o) { o.ttl = absl::Milliseconds(99); }, "ttl is 99ms; it must be from 100ms to 1m");
  refused([](JoinOptions& o) { o.ttl = absl::Seconds(61); }, "ttl is 1m1s; it must be from 100ms to 1m");
  refused([](JoinOptions& o) { o.max_ttl = absl::Hours(25); }, "max_ttl is 25h");
  refused([](JoinOptions& o) { o.join_timeout = absl::ZeroDuration(); }, "join_timeout is 0");
  refused([](JoinOptions& o) { o.call_timeout = absl::InfiniteDuration(); }, "call_timeout is inf");
  refused([](JoinOptions& o) { o.leave_timeout = absl::Minutes(2); }, "leave_timeout is 2m");
  refused([](JoinOptions& o) { o.idle_record_ttl = absl::ZeroDuration(); }, "idle_record_ttl is 0");
}

TEST_F(ClusterTest, AStoreThatCannotCarryThePromisesIsRefusedUnlessAccepted) {
  struct Case {
    void (*spoil)(kv::Traits&);
    std::string sentence;
  };
  const std::vector<Case> cases = {
      {[](kv::Traits& t) { t.monotonic_revisions = false; }, "its revisions may begin anew"},
      {[](kv::Traits& t) { t.evicting = true; }, "it may drop records by itself"},
      {[](kv::Traits& t) { t.volatile_storage = true; }, "it forgets everything when it restarts"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.sentence);
    World world(5);
    JoinOptions options = world.Options("a");
    test.spoil(Shaped(options)->shape);
    EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, Cluster::Join(options), test.sentence));
    EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, Cluster::Join(options), "or set accept_weaker"));
    EXPECT_EQ(world.log(), "");
    options.accept_weaker = true;
    auto joined = Cluster::Join(options);
    ASSERT_TRUE(IsOk(joined));
    const std::string log = world.log();
    EXPECT_NE(log.find(test.sentence), std::string::npos);
    EXPECT_EQ(log.find(test.sentence), log.rfind(test.sentence)) << "one warning";
  }
}

TEST_F(ClusterTest, AStoreWhoseReadsMayLagIsNotRefused) {
  JoinOptions options = world_.Options("a");
  Shaped(options)->shape.linearizable_reads = false;
  EXPECT_TRUE(IsOk(Cluster::Join(options)));
  EXPECT_EQ(world_.log(), "");
}

TEST_F(ClusterTest, EverythingOfOnePluginIsOutOfReachOfAnother) {
  JoinOptions options = world_.Options("a");
  auto a = world_.Join(options);
  options.plugin = "test2";
  auto other = world_.Join(options);
  auto one = a->Mutex("m").Acquire(Soon());
  auto two = other->Mutex("m").Acquire(Soon());
  EXPECT_TRUE(IsOk(one));
  EXPECT_TRUE(IsOk(two));
  EXPECT_EQ(a->plugin(), "test");
  EXPECT_EQ(other->plugin(), "test2");
  EXPECT_EQ(other->instance(), "a");
  EXPECT_TRUE(Is(StatusCode::kNotFound, other->Break(a->session(), Soon())));
}

// ------------------------------------------------------------------------------------------ leaving

TEST_F(ClusterTest, LeaveHandsOverAtOnceAndEndsTheSession) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  std::vector<Grant> grants;
  for (int i = 0; i < 50; ++i) grants.push_back(*a->Mutex(absl::StrCat("m", i)).Acquire(Soon()));
  int lost = 0;
  for (Grant& grant : grants) grant.OnLost([&] { ++lost; });
  auto waiting = InBackground(world_, [&] { return b->Mutex("m7").Acquire(world_.In(absl::Hours(1))); });
  const std::string session = a->session();
  const absl::Time begun = Now();
  EXPECT_TRUE(IsOk(a->Leave(world_.In(absl::Seconds(2)))));
  EXPECT_EQ(Now(), begun);
  world_.runtime().RunUntilIdle();
  EXPECT_TRUE(waiting->ok());
  EXPECT_EQ(waiting->at, begun);
  EXPECT_EQ(lost, 50);
  for (Grant& grant : grants) EXPECT_TRUE(grant.Lost());
  EXPECT_TRUE(IsFree(world_, "mutex", "m3"));
  EXPECT_EQ(SessionOf(world_, session)->mark, internal::SessionMark::kEnded);
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, grants[0].Release(), "was lost before"));
  EXPECT_TRUE(IsOk(a->Leave(Soon()))) << "idempotent";
}

// Rule: Leave releases names with waiters first.
TEST_F(ClusterTest, LeaveHandsOverFirstWhatOthersWaitFor) {
  JoinOptions options = world_.Options("a");
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  slow->hook = [&](std::string_view, bool) { return SlowStore::Delay{absl::Milliseconds(20), {}}; };
  options.store = slow;
  auto a = world_.Join(options);
  auto b = world_.Join("b");
  std::vector<Grant> grants;
  for (int i = 0; i < 100; ++i) grants.push_back(*a->Mutex(absl::StrCat("m", i)).Acquire(Soon()));
  std::vector<std::shared_ptr<Call>> calls;
  for (const char* name : {"m33", "m77", "m99"}) {
    calls.push_back(
        InBackground(world_, [&b, name, this] { return b->Mutex(name).Acquire(world_.In(absl::Hours(1))); }));
  }
  const absl::Time begun = Now();
  EXPECT_TRUE(IsOk(a->Leave(world_.In(absl::Seconds(2)))));
  EXPECT_GE(Now() - begun, absl::Milliseconds(400));
  for (auto& call : calls) {
    ASSERT_TRUE(call->ok());
    EXPECT_LE(call->at - begun, absl::Milliseconds(100));
  }
}

TEST_F(ClusterTest, CallsAfterLeaveReturnCancelled) {
  auto a = world_.Join("a");
  Mutex mutex = a->Mutex("m");
  Election election = a->Election("e");
  auto term = election.Campaign("x", Soon());
  ASSERT_TRUE(IsOk(a->Leave(Soon())));
  EXPECT_TRUE(Is(StatusCode::kCancelled, mutex.Acquire(Soon()), "this copy has left its cluster: join again to go on"));
  EXPECT_TRUE(Is(StatusCode::kCancelled, mutex.TryAcquire(Soon())));
  EXPECT_TRUE(Is(StatusCode::kCancelled, mutex.Inspect(Soon())));
  EXPECT_TRUE(Is(StatusCode::kCancelled, a->Semaphore("s", 2).Acquire(1, Soon())));
  EXPECT_TRUE(Is(StatusCode::kCancelled, a->Semaphore("s", 2).SetPermits(1, Soon())));
  EXPECT_TRUE(Is(StatusCode::kCancelled, a->SharedMutex("s").AcquireShared(Soon())));
  EXPECT_TRUE(Is(StatusCode::kCancelled, election.Campaign("y", Soon())));
  EXPECT_TRUE(Is(StatusCode::kCancelled, election.Leader()));
  EXPECT_TRUE(Is(StatusCode::kCancelled, election.Proclaim(*term, "z", Soon())));
  EXPECT_TRUE(Is(StatusCode::kCancelled, a->Break("0123456789abcdef", Soon())));
  EXPECT_EQ(a->state(), SessionState::kLost);
  EXPECT_EQ(a->session(), "");
  EXPECT_EQ(a->Stats().grants_held, 0u);
  a = nullptr;
  EXPECT_TRUE(Is(StatusCode::kCancelled, mutex.Acquire(Soon()))) << "handles outlive the cluster";
}

TEST_F(ClusterTest, LeaveEndsWaitsWithCancelled) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto held = a->Mutex("m").Acquire(Soon());
  auto waiting = InBackground(world_, [&] { return b->Mutex("m").Acquire(absl::InfiniteFuture()); });
  auto local = InBackground(world_, [&] { return b->Mutex("m").Acquire(absl::InfiniteFuture()); });
  EXPECT_TRUE(IsOk(b->Leave(Soon())));
  world_.runtime().RunUntilIdle();
  for (auto& call : {waiting, local}) EXPECT_TRUE(Is(StatusCode::kCancelled, call->grant, "has left"));
  EXPECT_TRUE(RecordOf(world_, "mutex", "m")->queue.empty());
}

// Every close is bounded even with the backend dead; M25.
TEST_F(ClusterTest, LeaveIsBoundedWhateverTheStoreDoes) {
  for (const Fault fault : {Fault::kFailBefore, Fault::kDropReply, Fault::kApplyLate}) {
    for (const absl::Duration bound : {absl::ZeroDuration(), absl::Milliseconds(300), absl::Seconds(2)}) {
      SCOPED_TRACE(absl::StrCat(static_cast<int>(fault), " ", absl::FormatDuration(bound)));
      World world(7);
      auto a = world.Join("a");
      std::vector<Grant> grants;
      for (int i = 0; i < 10; ++i)
        grants.push_back(*a->Mutex(absl::StrCat("m", i)).Acquire(world.In(absl::Seconds(1))));
      int lost = 0;
      for (Grant& grant : grants) grant.OnLost([&] { ++lost; });
      const FaultHook hook(world.faults(), [&](const FaultyCall&) { return fault; });
      const absl::Time begun = world.runtime().Now();
      const absl::Status left = a->Leave(world.In(bound));
      EXPECT_LE(world.runtime().Now() - begun, bound + absl::Milliseconds(200));
      EXPECT_TRUE(absl::IsUnavailable(left) || absl::IsDeadlineExceeded(left)) << left;
      for (Grant& grant : grants) EXPECT_TRUE(grant.Lost());
      world.runtime().RunUntilIdle();
      EXPECT_EQ(lost, 10);
      world.faults().DropHeld();
      world.faults().SetHook(nullptr);
    }
  }
}

TEST_F(ClusterTest, LeaveIsBoundedWhileACallOfTheStoreHangs) {
  JoinOptions options = world_.Options("a");
  auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
  bool hang = false;
  slow->hook = [&](std::string_view, bool) {
    return SlowStore::Delay{hang ? absl::Hours(1) : absl::ZeroDuration(), {}};
  };
  options.store = slow;
  auto a = world_.Join(options);
  auto grant = a->Mutex("m").Acquire(Soon());
  hang = true;
  auto stuck = InBackground(world_, [&] { return a->Mutex("n").Acquire(absl::InfiniteFuture()); });
  Sleep(absl::Milliseconds(100));
  const absl::Time begun = Now();
  const absl::Status left = a->Leave(world_.In(absl::Seconds(1)));
  EXPECT_LE(Now() - begun, absl::Seconds(1) + absl::Milliseconds(200));
  EXPECT_FALSE(left.ok());
  EXPECT_TRUE(grant->Lost());
  a = nullptr;
  EXPECT_LE(Now() - begun, absl::Seconds(4));
  Sleep(absl::Seconds(10));
  EXPECT_TRUE(Is(StatusCode::kCancelled, stuck->grant));
}

TEST_F(ClusterTest, WhatALeaverCouldNotHandOverIsTakenOutAtOnceSinceItsSessionHasEnded) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  world_.faults().SetHook([](const FaultyCall& call) {
    return call.key.find("/mutex/") != std::string::npos ? Fault::kFailBefore : Fault::kNone;
  });
  EXPECT_TRUE(Is(StatusCode::kUnavailable, a->Leave(world_.In(absl::Seconds(2))), "1 locks could not be handed over"));
  world_.faults().SetHook(nullptr);
  const absl::Time begun = Now();
  EXPECT_TRUE(IsOk(b->Mutex("m").Acquire(Soon())));
  EXPECT_EQ(Now(), begun);
}

TEST_F(ClusterTest, TheDestructorLeavesAndGrantsMayOutliveIt) {
  auto a = world_.Join("a");
  auto b = world_.Join("b");
  auto grant = a->Mutex("m").Acquire(Soon());
  int lost = 0, late = 0;
  grant->OnLost([&] { ++lost; });
  a = nullptr;
  EXPECT_EQ(lost, 1);
  EXPECT_TRUE(grant->Lost());
  EXPECT_GT(grant->fence(), 0u);
  grant->OnLost([&] { ++late; });
  EXPECT_EQ(late, 1);
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, grant->Release()));
  EXPECT_TRUE(IsOk(b->Mutex("m").TryAcquire(Soon())));
}

TEST_F(ClusterTest, LeaveAndDestructionFromInsideEveryKindOfCallback) {
  enum Kind { kLoss, kState, kAsync, kElected, kElectionLost, kObserve, kEnd };
  for (int kind = kLoss; kind < kEnd; ++kind) {
    for (const bool destroy : {false, true}) {
      SCOPED_TRACE(absl::StrCat("callback ", kind, destroy ? " destroys" : " leaves"));
      World world(61);
      std::unique_ptr<Cluster> a;
      auto b = world.Join("b");
      int calls = 0;
      absl::Duration took = absl::InfiniteDuration();
      const auto go = [&] {
        if (++calls > 1 || a == nullptr) return;
        const absl::Time begun = world.runtime().Now();
        if (destroy) {
          a = nullptr;
        } else {
          EXPECT_TRUE(IsOk(a->Leave(world.In(absl::Seconds(2)))));
        }
        took = world.runtime().Now() - begun;
      };
      JoinOptions options = world.Options("a");
      bool armed = false;
      options.on_state = [&](SessionState) {
        if (kind == kState && armed) go();
      };
      a = world.Join(options);
      world.runtime().RunUntilIdle();
      armed = true;
      auto grant = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
      std::unique_ptr<Candidate> candidate;
      Subscription subscription;
      CandidateOptions candidacy;
      if (kind == kLoss) grant->OnLost(go);
      if (kind == kElected) candidacy.on_elected = [&](const std::shared_ptr<const Grant>&) { go(); };
      if (kind == kElectionLost) candidacy.on_lost = go;
      if (kind == kElected || kind == kElectionLost) candidate = a->Election("e").Stand(std::move(candidacy));
      if (kind == kObserve) subscription = a->Election("e").Observe([&](const LeaderInfo&) { go(); });
      if (kind == kAsync) a->Mutex("n").AcquireAsync(world.In(absl::Seconds(1)), [&](absl::StatusOr<Grant>) { go(); });
      auto term = b->Election(kind == kObserve ? "e" : "f").Campaign("x", world.In(absl::Seconds(1)));
      world.runtime().SleepFor(absl::Seconds(1));
      if (kind == kLoss || kind == kElectionLost || kind == kState) {
        ASSERT_TRUE(IsOk(b->Break(a->session(), world.In(absl::Seconds(5)))));
      }
      world.runtime().SleepFor(kTtl * 3);
      EXPECT_GE(calls, 1);
      EXPECT_LE(took, absl::Seconds(3));
      EXPECT_TRUE(grant->Lost());
      EXPECT_TRUE(IsFree(world, "mutex", "m") || b->Mutex("m").TryAcquire(world.In(absl::Seconds(1))).ok());
      a = nullptr;
      EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, grant->Release()));
    }
  }
}

TEST_F(ClusterTest, TheDestructorWaitsForALeaveThatIsAtWorkInACallback) {
  for (const bool loss : {false, true}) {
    SCOPED_TRACE(loss);
    World world(67);
    auto a = world.Join("a");
    auto b = world.Join("b");
    auto grant = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    bool inside = false, finished = false;
    Cluster* raw = a.get();
    const auto leave = [&] {
      inside = true;
      static_cast<void>(raw->Leave(world.In(absl::Seconds(1))));
      finished = true;
    };
    if (loss) {
      grant->OnLost(leave);
      ASSERT_TRUE(IsOk(b->Break(a->session(), world.In(absl::Seconds(5)))));
    }
    const FaultHook hook(world.faults(), [&](const FaultyCall& call) {
      return inside && call.write() ? Fault::kFailBefore : Fault::kNone;  // so that it takes its time
    });
    if (!loss) a->Mutex("n").AcquireAsync(world.In(absl::Seconds(1)), [&](absl::StatusOr<Grant>) { leave(); });
    while (!inside) world.runtime().SleepFor(absl::Milliseconds(1));
    EXPECT_FALSE(finished);
    a = nullptr;
    world.faults().SetHook(nullptr);
    EXPECT_TRUE(finished);
  }
}

TEST_F(ClusterTest, ACallbackThatNeverReturnsDoesNotHoldUpLeave) {
  auto a = world_.Join("a");
  bool stop = false;
  a->Mutex("m").AcquireAsync(Soon(), [&](absl::StatusOr<Grant>) {
    while (!stop) Sleep(absl::Seconds(1));
  });
  Sleep(absl::Seconds(1));
  const absl::Time begun = Now();
  static_cast<void>(a->Leave(world_.In(absl::Seconds(1))));
  EXPECT_LE(Now() - begun, absl::Seconds(1) + absl::Milliseconds(200));
  a = nullptr;
  EXPECT_LE(Now() - begun, absl::Seconds(4));
  stop = true;
  Sleep(absl::Seconds(5));
}

TEST_F(ClusterTest, StatsCountAndTheirTextNamesThem) {
  auto a = world_.Join("a");
  auto grant = a->Mutex("m").Acquire(Soon());
  Sleep(kTtl);
  Stats stats = a->Stats();
  EXPECT_EQ(stats.state, SessionState::kAttached);
  EXPECT_EQ(stats.connection, kv::Connection::kConnected);
  EXPECT_EQ(stats.session, a->session());
  EXPECT_EQ(stats.grants, 1u);
  EXPECT_EQ(stats.grants_held, 1u);
  EXPECT_GE(stats.beats, 2u);
  const std::string text = StatsText(stats, a->plugin(), "a\"b");
  EXPECT_NE(text.find("# TYPE coord_grants_held gauge\ncoord_grants_held{plugin=\"test\",instance=\"a\\\"b\"} 1\n"),
            std::string::npos)
      << text;
}

// ------------------------------------------------------------------------------------------ real threads

// For the sanitizers: real threads, real time, no simulation.
TEST(ClusterStressTest, FourCopiesOfFourThreadsOnThreeLocks) {
  constexpr int kCopies = 4, kThreads = 4, kRounds = 25;
  auto store = std::shared_ptr<kv::Store>(kv::NewMemoryStore());
  const auto deadline = [] { return absl::Now() + absl::Minutes(2); };
  std::vector<std::unique_ptr<Cluster>> copies;
  for (int i = 0; i < kCopies; ++i) {
    JoinOptions options;
    options.store = store;
    options.plugin = "stress";
    options.instance = absl::StrCat("c", i);
    options.ttl = absl::Seconds(30);
    options.log = [](LogLevel, std::string_view) {};
    auto joined = Cluster::Join(options);
    ASSERT_TRUE(IsOk(joined));
    copies.push_back(*std::move(joined));
  }
  int64_t plain = 0, written = 0;  // guarded by the locks alone
  std::atomic<int> inside{0}, readers{0}, async{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kCopies * kThreads; ++i) {
    threads.emplace_back([&, i] {
      Cluster& copy = *copies[i % kCopies];
      for (int round = 0; round < kRounds; ++round) {
        {
          auto grant = copy.Mutex("m").Acquire(deadline());
          ASSERT_TRUE(IsOk(grant));
          ++plain;
        }
        {
          auto grant = copy.Semaphore("s", 3).Acquire(1 + static_cast<uint32_t>(round % 3), deadline());
          ASSERT_TRUE(IsOk(grant));
          EXPECT_LE(inside.fetch_add(1 + round % 3) + 1 + round % 3, 3);
          inside.fetch_sub(1 + round % 3);
        }
        if (round % 4 == 0) {
          auto grant = copy.SharedMutex("r").Acquire(deadline());
          ASSERT_TRUE(IsOk(grant));
          EXPECT_EQ(readers.load(), 0);
          ++written;
        } else {
          auto grant = copy.SharedMutex("r").AcquireShared(deadline());
          ASSERT_TRUE(IsOk(grant));
          readers.fetch_add(1);
          EXPECT_GE(written, 0);
          readers.fetch_sub(1);
        }
        if (round % 5 == 0) {
          CancelSource cancel;
          copy.Mutex("a").AcquireAsync(
              deadline(), [&](absl::StatusOr<Grant>) { async.fetch_add(1); }, cancel.token());
          if (round % 10 == 0) cancel.Cancel();
          static_cast<void>(copy.Mutex("t").TryAcquire(deadline()));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(plain, kCopies * kThreads * kRounds);
  EXPECT_EQ(written, kCopies * kThreads * ((kRounds + 3) / 4));
  for (auto& copy : copies) {
    EXPECT_EQ(copy->Stats().sessions_lost, 0u);
    EXPECT_TRUE(IsOk(copy->Leave(absl::Now() + absl::Seconds(20))));
  }
  copies.clear();
  EXPECT_EQ(async.load(), kCopies * kThreads * (kRounds / 5));
}

}  // namespace
}  // namespace coord::testing
