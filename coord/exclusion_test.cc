// Copies that want one lock while everything goes wrong: calls that fail, replies that are lost, writes that arrive
// late, watches that are cut, copies that stand still or are killed, clocks that drift and jump. At no virtual instant
// may more hold than the lock allows; fences grow; every loss is signalled once; and when the faults end everybody gets
// the lock and nothing is left in its record.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/internal/held.h"
#include "coord/internal/session.h"
#include "coord/test_hints.h"
#include "coord/test_lag.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

constexpr absl::Duration kTtl = absl::Seconds(10);
constexpr int kCopies = 4;

// COORD_SEED=17 COORD_SEEDS=1 replays one; more seeds search further.
uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}
uint64_t FirstSeed() { return FromEnvironment("COORD_SEED", 1); }
uint64_t Seeds() { return FromEnvironment("COORD_SEEDS", 3); }
constexpr uint32_t kAll = internal::kUnbounded;

enum class Kind { kMutex, kFenceEach, kRetain, kSemaphore, kSharedMutex, kElection };

struct Plan {
  Kind kind = Kind::kMutex;
  bool watch = true;
  bool hints = false;
  bool lag = false;  // reads are up to half a ttl late
};

// One grant, seen from outside: what its own process would answer when asked whether it holds.
struct Seen {
  int group = 0;
  uint32_t weight = 1;
  std::shared_ptr<internal::Held> held;
};

class Chaos {
 public:
  Chaos(uint64_t seed, Plan plan) : plan_(plan), world_(seed), random_(seed) {
    for (int group = 1; group <= kCopies; ++group) {
      rates_[group] = 0.92 + 0.16 * Share();
      world_.runtime().SetClockRate(group, rates_[group]);
    }
    begin_ = world_.runtime().Now();
    world_.runtime().OnStep([this](const SimStep& step) { Check(step.now); });
  }
  ~Chaos() { world_.runtime().OnStep(nullptr); }

  void Run(int rounds) {
    std::vector<std::unique_ptr<Thread>> copies;
    for (int group = 1; group <= kCopies; ++group) {
      copies.push_back(
          world_.runtime().StartThreadInGroup(group, "copy", [this, group, rounds] { Copy(group, rounds); }));
    }
    world_.runtime().SleepFor(absl::Seconds(1));
    faulty_ = true;
    world_.faults().SetHook([this](const kv::FaultyCall& call) { return Fault(call); });
    for (int i = 0; i < 60; ++i) {
      Disturb();
      world_.runtime().SleepFor(absl::Milliseconds(Pick(3000)));
    }
    Calm();
    const absl::Time calm = world_.runtime().Now();
    while (working_ > 0 && world_.runtime().Now() < calm + absl::Hours(2)) world_.runtime().SleepFor(absl::Seconds(1));
    EXPECT_EQ(working_, 0) << "somebody never got the lock: " << last_error_;
    world_.runtime().SleepFor(kTtl * 4);
    ExpectNothingLeft();
    finish_ = true;
    copies.clear();
    for (const auto& [signals, lost] : losses_) EXPECT_EQ(*signals, lost ? 1 : 0);
    EXPECT_GT(grants_, rounds);
  }

 private:
  int Pick(int below) { return static_cast<int>(random_() % static_cast<uint64_t>(below)); }
  double Share() { return static_cast<double>(random_() >> 11) / 9007199254740992.0; }

  const char* KindName() const {
    return plan_.kind == Kind::kSemaphore     ? "semaphore"
           : plan_.kind == Kind::kSharedMutex ? "shared_mutex"
           : plan_.kind == Kind::kElection    ? "election"
                                              : "mutex";
  }
  uint64_t Capacity() const { return plan_.kind == Kind::kSemaphore ? 3 : plan_.kind == Kind::kSharedMutex ? kAll : 1; }

  // Between any two steps, in no thread: what every process would answer at this moment.
  void Check(absl::Time now) {
    now_ = now;
    uint64_t sum = 0;
    std::string who;
    for (const Seen& seen : seen_) {
      const absl::Time steady = begin_ + (now - begin_) * rates_[seen.group];
      if (seen.held->lost || seen.held->released || !seen.held->session->Valid(steady)) continue;
      const uint32_t weight = seen.held->exclusive
                                  ? seen.weight
                                  : std::min<uint32_t>(seen.weight, plan_.kind == Kind::kSemaphore ? seen.weight : 1);
      sum += weight;
      absl::StrAppend(&who, " copy ", seen.group, " fence ", seen.held->fence, " weight ", weight);
    }
    if (sum > Capacity() && !violated_) {
      violated_ = true;
      ADD_FAILURE() << "at " << absl::FormatTime(now) << " too many hold:" << who;
    }
  }

  absl::StatusOr<Grant> Acquire(Cluster& cluster, uint32_t& weight, absl::Time deadline, const CancelToken& token) {
    MutexOptions options;
    options.fence_each = plan_.kind == Kind::kFenceEach;
    options.retain = plan_.kind == Kind::kRetain;
    const bool attempt = Pick(5) == 0;
    weight = 1;
    switch (plan_.kind) {
      case Kind::kSemaphore: {
        weight = 1 + static_cast<uint32_t>(Pick(3));
        Semaphore semaphore = cluster.Semaphore("x", 3);
        return attempt ? semaphore.TryAcquire(weight, deadline) : semaphore.Acquire(weight, deadline, token);
      }
      case Kind::kSharedMutex: {
        SharedMutex mutex = cluster.SharedMutex("x");
        if (Pick(2) == 0) return attempt ? mutex.TryAcquireShared(deadline) : mutex.AcquireShared(deadline, token);
        weight = kAll;
        return attempt ? mutex.TryAcquire(deadline) : mutex.Acquire(deadline, token);
      }
      case Kind::kElection:
        return cluster.Election("x").Campaign(absl::StrCat("v", Pick(9)), deadline, token);
      default: {
        Mutex mutex = cluster.Mutex("x", options);
        return attempt ? mutex.TryAcquire(deadline) : mutex.Acquire(deadline, token);
      }
    }
  }

  void Copy(int group, int rounds) {
    JoinOptions options = world_.Options(absl::StrCat("c", group));
    auto shaped = Shaped(options);
    shaped->shape.age = false;  // its clock would be another's
    shaped->shape.watch = plan_.watch;
    auto slow = std::make_shared<SlowStore>(world_.runtime(), options.store);
    slow->hook = [this](std::string_view, bool) {
      SlowStore::Delay delay{absl::Microseconds(Pick(500)), absl::Microseconds(Pick(500))};
      if (faulty_ && Pick(40) == 0) delay.before = absl::Milliseconds(Pick(4000));
      if (faulty_ && Pick(40) == 0) delay.after = absl::Milliseconds(Pick(4000));
      return delay;
    };
    options.store = std::make_shared<LocalWatchStore>(world_.runtime(), plan_.lag ? Lagging(slow) : slow);
    if (plan_.hints) options.events = hints_;
    options.join_timeout = absl::Minutes(5);
    std::unique_ptr<Cluster> cluster = world_.Join(options);
    ++working_;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int i = 0; i < 2; ++i) {
      threads.push_back(world_.runtime().StartThread("user", [this, group, rounds, &cluster] {
        for (int round = 0; round < rounds;) round += Round(group, *cluster) ? 1 : 0;
      }));
    }
    threads.clear();
    --working_;
    while (!finish_) world_.runtime().SleepFor(absl::Seconds(1));
  }

  std::shared_ptr<kv::Store> Lagging(std::shared_ptr<kv::Store> below) {
    history_->now = [this] { return now_; };
    auto data = std::shared_ptr<kv::Store>(&world_.data(), [](kv::Store*) {});
    auto lagging = std::make_shared<LaggingStore>(std::move(below), std::move(data), history_);
    lagging->lag = [this](std::string_view) {
      return faulty_ && Pick(3) == 0 ? absl::Milliseconds(Pick(5000)) : absl::ZeroDuration();
    };
    return lagging;
  }

  // One try to hold the lock for a while. True if it was held.
  bool Round(int group, Cluster& cluster) {
    SimRuntime& runtime = world_.runtime();
    CancelSource cancel;
    std::unique_ptr<Thread> canceller;
    if (Pick(6) == 0) {
      canceller = runtime.StartThread("cancel", [&] {
        runtime.SleepFor(absl::Milliseconds(Pick(3000)));
        cancel.Cancel();
      });
    }
    static constexpr int kPatience[] = {0, 1, 20, 500, 5000, 60000, 600000};
    const absl::Duration patience = absl::Milliseconds(kPatience[Pick(7)]);
    const absl::Time begun = runtime.Now();
    uint32_t weight = 1;
    absl::StatusOr<Grant> grant = Acquire(cluster, weight, world_.In(patience), cancel.token());
    EXPECT_LE(runtime.Now() - begun, patience + absl::Milliseconds(5) + paused_longest_);
    if (!grant.ok()) {
      last_error_ = absl::StrCat("copy ", group, ": ", grant.status().ToString());
      static constexpr absl::StatusCode kExpected[] = {
          absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kCancelled, absl::StatusCode::kResourceExhausted,
          absl::StatusCode::kUnavailable};
      EXPECT_NE(std::find(std::begin(kExpected), std::end(kExpected), grant.status().code()), std::end(kExpected))
          << grant.status();
      runtime.SleepFor(absl::Milliseconds(1 + Pick(200)));
      return false;
    }
    Hold(group, weight, *grant);
    return true;
  }

  void Hold(int group, uint32_t weight, Grant& grant) {
    SimRuntime& runtime = world_.runtime();
    ++grants_;
    auto signals = std::make_shared<int>(0);
    grant.OnLost([signals] { ++*signals; });
    seen_.push_back({group, weight, grant.held()});
    if (!grant.Lost() && weight >= Capacity()) {
      // Threads of one copy share a fence, unless each is to have its own.
      const bool same = grant.fence() == highest_fence_ && group == highest_group_ && plan_.kind != Kind::kFenceEach;
      EXPECT_TRUE(same || grant.fence() > highest_fence_) << grant.fence() << " after " << highest_fence_;
    }
    if (!grant.Lost() && grant.fence() > highest_fence_) {
      highest_fence_ = grant.fence();
      highest_group_ = group;
    }
    runtime.SleepFor(absl::Milliseconds(Pick(Pick(4) == 0 ? 4000 : 50)));
    bool lost = false;
    if (Pick(8) == 0) {
      lost = grant.Lost();
      grant = Grant();
    } else {
      const absl::Status released = grant.Release(absl::Milliseconds(Pick(3) == 0 ? 0 : 2000));
      lost = absl::IsFailedPrecondition(released);
      EXPECT_TRUE(released.ok() || lost || absl::IsUnavailable(released) || absl::IsDeadlineExceeded(released))
          << released;
    }
    losses_.emplace_back(signals, lost);
  }

  kv::Fault Fault(const kv::FaultyCall& call) {
    if (!faulty_) return kv::Fault::kNone;
    const int dice = Pick(100);
    if (dice < severity_) return kv::Fault::kFailBefore;
    if (dice < severity_ * 2) return kv::Fault::kDropReply;
    if (dice < severity_ * 3 && call.write()) return kv::Fault::kApplyLate;
    return kv::Fault::kNone;
  }

  void Disturb() {
    SimRuntime& runtime = world_.runtime();
    static constexpr int kSeverities[] = {0, 1, 3, 10, 30};
    switch (Pick(9)) {
      case 0:
        severity_ = kSeverities[Pick(5)];
        break;
      case 1:
        world_.faults().ReleaseHeld();
        break;
      case 2:
        Pick(2) == 0 ? world_.faults().PauseWatches() : world_.faults().ResumeWatches();
        break;
      case 3:
        world_.faults().Interrupt(Pick(4) == 0 ? kv::WatchKind::kEpochChanged : kv::WatchKind::kResync);
        break;
      case 4:
        dropping_ = !dropping_;
        if (dropping_) {
          world_.faults().SetEventFilter([this](const kv::WatchEvent&) { return Pick(2) == 0; });
        } else {
          world_.faults().SetEventFilter(nullptr);
          world_.faults().Interrupt(kv::WatchKind::kResync);
        }
        break;
      case 5:
      case 6: {
        const int group = 1 + Pick(kCopies);
        const absl::Duration pause = absl::Milliseconds(Pick(20000));
        runtime.Pause(group);
        paused_longest_ = std::max(paused_longest_, pause * 2);
        runtime.SleepFor(pause);
        runtime.Resume(group);
        break;
      }
      case 7:
        runtime.JumpWallClock(1 + Pick(kCopies), absl::Seconds(Pick(20000) - 10000));
        break;
      default:
        break;
    }
  }

  void Calm() {
    faulty_ = false;
    world_.faults().SetHook(nullptr);
    world_.faults().ReleaseHeld();
    world_.faults().SetEventFilter(nullptr);
    world_.faults().ResumeWatches();
    world_.faults().Interrupt(kv::WatchKind::kResync);
  }

  // What dead sessions left may stay until somebody wants the lock. Live ones leave nothing but what they retain.
  void ExpectNothingLeft() {
    const auto record = RecordOf(world_, KindName(), "x");
    if (!record) return;
    for (const auto* entries : {&record->owners, &record->queue}) {
      for (const internal::GrantEntry& entry : *entries) {
        if (plan_.kind == Kind::kRetain && entries == &record->owners) continue;
        EXPECT_EQ(SessionOf(world_, entry.session)->mark, internal::SessionMark::kEnded)
            << world_.data().Get(KeyOf(world_, KindName(), "x"), absl::InfiniteFuture())->value;
      }
    }
    JoinOptions options = world_.Options("last");
    Shaped(options)->shape.age = false;
    auto last = world_.Join(options);
    const absl::Time deadline = world_.In(kTtl * 3);
    if (plan_.kind == Kind::kSemaphore) {
      EXPECT_TRUE(IsOk(last->Semaphore("x", 3).Acquire(3, deadline)));
    } else if (plan_.kind == Kind::kSharedMutex) {
      EXPECT_TRUE(IsOk(last->SharedMutex("x").Acquire(deadline)));
    } else if (plan_.kind == Kind::kElection) {
      EXPECT_TRUE(IsOk(last->Election("x").Campaign("", deadline)));
    } else {
      EXPECT_TRUE(IsOk(last->Mutex("x").Acquire(deadline)));
    }
    world_.runtime().SleepFor(absl::Seconds(1));
    if (plan_.kind != Kind::kRetain) {
      EXPECT_TRUE(IsFree(world_, KindName(), "x"));
    }
  }

  const Plan plan_;
  World world_;
  // Lost, late, repeated and out of order.
  const std::shared_ptr<FakeHints> hints_ =
      std::make_shared<FakeHints>(world_.runtime(), /*seed=*/1, HintFaults{30, 20, absl::Seconds(2)});
  const std::shared_ptr<History> history_ = std::make_shared<History>();
  std::mt19937_64 random_;
  std::map<int, double> rates_;
  absl::Time begin_, now_;
  bool violated_ = false, faulty_ = false, dropping_ = false, finish_ = false;
  int severity_ = 3, working_ = 0, grants_ = 0;
  absl::Duration paused_longest_ = absl::ZeroDuration();
  std::vector<Seen> seen_;
  std::vector<std::pair<std::shared_ptr<int>, bool>> losses_;
  std::string last_error_;
  uint64_t highest_fence_ = 0;
  int highest_group_ = 0;
};

class ExclusionTest : public ::testing::TestWithParam<Plan> {};

TEST_P(ExclusionTest, HoldsUnderFaults) {
  for (uint64_t seed = FirstSeed(); seed < FirstSeed() + Seeds() && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Chaos(seed, GetParam()).Run(15);
  }
}

std::string PlanName(const ::testing::TestParamInfo<Plan>& info) {
  static constexpr const char* kNames[] = {"Mutex", "FenceEach", "Retain", "Semaphore", "SharedMutex", "Election"};
  return absl::StrCat(kNames[static_cast<int>(info.param.kind)], info.param.watch ? "" : "WithoutWatch",
                      info.param.hints ? "ButHints" : "", info.param.lag ? "Lagging" : "");
}

INSTANTIATE_TEST_SUITE_P(Locks, ExclusionTest,
                         ::testing::Values(Plan{Kind::kMutex, true}, Plan{Kind::kMutex, false},
                                           Plan{Kind::kMutex, false, true}, Plan{Kind::kRetain, false, true},
                                           Plan{Kind::kMutex, true, false, true},
                                           Plan{Kind::kMutex, false, false, true},
                                           Plan{Kind::kRetain, true, false, true}, Plan{Kind::kFenceEach, true},
                                           Plan{Kind::kRetain, true}, Plan{Kind::kSemaphore, true},
                                           Plan{Kind::kSemaphore, false}, Plan{Kind::kSharedMutex, true},
                                           Plan{Kind::kSharedMutex, false}, Plan{Kind::kElection, true}),
                         PlanName);

}  // namespace
}  // namespace coord::testing
