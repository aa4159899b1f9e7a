// The simulator itself: that it repeats itself, that its checks find what is broken on purpose, that a few hundred
// seeds hold, and that it shows what the guarantees leave open.

#include <cstdint>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/sim/config.h"
#include "tests/sim/record_checks.h"
#include "tests/sim/shrink.h"
#include "tests/sim/workload.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

Config Drawn(uint64_t seed, const std::string& settings) {
  Config config = DrawConfig(seed, WorkloadNames());
  const absl::Status status = Override(settings, WorkloadNames(), &config);
  EXPECT_TRUE(status.ok()) << status;
  return config;
}

// The seeds' reports together, each run in a process of its own.
Report RunSeeds(uint64_t first, uint64_t count, const std::string& settings) {
  Report all;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    Report report = RunInChild(Drawn(seed, settings));
    for (std::string& what : report.violations) {
      what = absl::StrCat("seed ", seed, ": ", what, "\n  bazel run //tests/sim -- --replay --first-seed=", seed,
                          " --set='", settings, "'");
    }
    all.Add(report);
  }
  return all;
}

std::string Text(const Report& report) {
  std::string text;
  for (const std::string& what : report.violations) absl::StrAppend(&text, what, "\n");
  return text;
}

class ModelTest : public ::testing::TestWithParam<Model> {};

TEST_P(ModelTest, SeedsHold) {
  const Report report = RunSeeds(1, 25, absl::StrCat("model=", ModelName(GetParam())));
  EXPECT_EQ(report.violation_count(), 0u) << Text(report);
  EXPECT_GT(report.operations, 1000u);
}

INSTANTIATE_TEST_SUITE_P(Models, ModelTest, ::testing::ValuesIn(kModels),
                         [](const auto& tested) { return std::string(ModelName(tested.param)); });

TEST(SimTest, TheSameSeedGivesTheSameHistory) {
  std::set<uint64_t> hashes;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const Config config = Drawn(seed, "");
    const Report first = RunInChild(config);
    // Another mode, and memory in another state.
    const Outcome second = RunOnce(config, TimelineMode::kKeep);
    EXPECT_EQ(first.hash, second.report.hash) << "seed " << seed;
    hashes.insert(first.hash);
  }
  EXPECT_EQ(hashes.size(), 12u) << "and each its own";
}

// ------------------------------------------------------------------------------------------ the checks can fail

// Searches until each of `kinds` has been reported.
void ExpectFound(const std::string& settings, std::set<std::string> kinds) {
  std::string seen;
  for (uint64_t seed = 1; seed <= 60 && !kinds.empty(); ++seed) {
    for (const auto& [kind, count] : RunInChild(Drawn(seed, settings)).violations_by_kind) {
      kinds.erase(kind);
      absl::StrAppend(&seen, " ", kind);
    }
  }
  EXPECT_TRUE(kinds.empty()) << "never found: " << *kinds.begin() << "; found:" << seen;
}

TEST(ChecksTest, FindClocksBeyondTheMargin) {
  ExpectFound("model=linearizable drift=0.35 age=0 faults=cut,loss,slow workloads=mutex copies=4 think=40ms",
              {"exclusion", "ended-early", "told-late"});
}

TEST(ChecksTest, FindAStoreWhoseConditionalWritesAreNone) {
  ExpectFound("model=linearizable sabotage=writes workloads=mutex,value,fenced copies=4 think=40ms",
              {"exclusion", "linearizability"});
}

TEST(ChecksTest, FindAWatchThatLosesEvents) {
  ExpectFound("model=linearizable sabotage=pushes faults=none workloads=shared_value copies=4", {"stale"});
}

TEST(ChecksTest, FindAStoreThatForgetsAgainstItsPromise) {
  ExpectFound("model=linearizable sabotage=forgets faults=crash_store workloads=value,fenced copies=4 think=40ms",
              {"linearizability"});
}

TEST(ChecksTest, FindACopyThatDoesNotRecover) {
  ExpectFound("model=linearizable sabotage=deaf faults=loss workloads=mutex", {"progress", "leave"});
}

// ------------------------------------------------------------------------------------------ what is left open

TEST(OpenTest, AnEvictedLockIsHeldTwiceForAWhile) {
  const Report report = RunSeeds(1, 30, "model=evicting faults=crash_store workloads=mutex copies=4 think=40ms");
  EXPECT_EQ(report.violation_count(), 0u) << Text(report);
  EXPECT_GT(report.excused, 0u) << "docs/guarantees.md says that there may be two";
}

// ------------------------------------------------------------------------------------------ parts

std::string Record(const std::string& owners, const std::string& queue, int fence = 7, int capacity = 1) {
  return absl::StrCat(R"({"v":"1.0","capacity":)", capacity, R"(,"fence":)", fence, R"(,"w":"n","owners":[)", owners,
                      R"(],"queue":[)", queue, "]}");
}

std::string Entry(const std::string& session, int ticket, int fence = 0) {
  return absl::StrCat(R"({"session":")", session,
                      R"(","instance":"i","ttl_ms":1000,"since":"2100-01-01T00:00:00.000Z",)",
                      fence > 0 ? absl::StrCat(R"("fence":)", fence, ",") : "", R"("tickets":[[)", ticket, ",1]]}");
}

TEST(RecordChecksTest, NameWhatIsWrong) {
  const std::string waiting = Record(Entry("a", 1, 7), Entry("b", 1) + "," + Entry("c", 1));
  EXPECT_EQ(CheckTransition("", waiting), "");
  EXPECT_EQ(CheckTransition(waiting, Record(Entry("b", 1, 8), Entry("c", 1), 8)), "");
  EXPECT_EQ(CheckTransition(waiting, Record(Entry("c", 1, 8), Entry("b", 1), 8)),
            "session c ticket 1 overtakes session b ticket 1");
  EXPECT_EQ(CheckTransition(waiting, Record(Entry("d", 4, 8), Entry("b", 1) + "," + Entry("c", 1), 8)),
            "session d ticket 4 overtakes session b ticket 1");
  EXPECT_EQ(CheckTransition(waiting, Record(Entry("c", 1, 8), "", 8)), "") << "b gave up";
  EXPECT_EQ(CheckTransition(waiting, Record(Entry("b", 1, 6), "", 6)), "the fence falls from 7 to 6");
  EXPECT_EQ(CheckTransition(waiting, Record(Entry("a", 1, 7) + "," + Entry("b", 1, 8), "", 8)), "owners weigh 2 of 1");
  EXPECT_EQ(CheckLeftover(waiting, {"x"}), "");
  EXPECT_EQ(CheckLeftover(waiting, {"c"}), "session c has left, and is still in it");
}

TEST(ConfigTest, ItsLineMakesItAgain) {
  for (uint64_t seed = 1; seed < 200; ++seed) {
    const Config config = Drawn(seed, "");
    EXPECT_EQ(ToString(Drawn(seed + 1000, ToString(config))), ToString(config));
  }
  Config config = Drawn(1, "");
  const std::string line = ToString(config);
  EXPECT_EQ(Override("model=perfect", WorkloadNames(), &config).message(),
            "the setting \"model=perfect\" makes no sense: the models are linearizable, follower_reads, no_watch, "
            "forgetting, volatile, evicting");
  EXPECT_FALSE(Override("copies=0", WorkloadNames(), &config).ok());
  EXPECT_FALSE(Override("faults=rain", WorkloadNames(), &config).ok());
  EXPECT_EQ(ToString(config), line);
}

TEST(ShrinkTest, WhatDoesNotMatterIsTakenAway) {
  const Config large = Drawn(3, "model=linearizable sabotage=deaf faults=loss,jump,twice workloads=mutex,semaphore");
  ASSERT_GT(RunInChild(large).violations_by_kind.count("progress"), 0u);
  const Config small = Shrink(large);
  EXPECT_GT(RunInChild(small).violations_by_kind.count("progress"), 0u);
  EXPECT_EQ(small.faults, 0u);
  EXPECT_EQ(small.workloads.size(), 1u);
  EXPECT_EQ(small.copies, 1);
}

}  // namespace
}  // namespace sim
