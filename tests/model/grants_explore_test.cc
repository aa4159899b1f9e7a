// Small worlds explored to the end, and the mistakes that the exploration must find: a check that cannot fail shows
// nothing.

#include <cstdio>
#include <string>
#include <vector>

#include "coord/internal/records.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/explore.h"

namespace model {
namespace {

using ::testing::HasSubstr;

constexpr size_t kMaxStates = 2000000;
constexpr uint32_t kWriter = coord::internal::kUnbounded;

World Base(int copies, int rounds) {
  World world;
  world.copies = copies;
  world.rounds = rounds;
  return world;
}

template <typename Edit>
World With(World world, const Edit& edit) {
  edit(world);
  return world;
}

struct Holds {
  const char* name;
  World world;
  std::vector<std::string> moves;  // that must have been made, lest the world be empty
};

class HoldsTest : public ::testing::TestWithParam<Holds> {};

TEST_P(HoldsTest, EveryCheckInEveryState) {
  const Report report = Explore(GetParam().world, kMaxStates);
  std::printf("%s: %zu states\n", GetParam().name, report.states);
  EXPECT_EQ(report.violation, "") << report.path;
  EXPECT_TRUE(report.complete);
  for (const char* move : {"write", "told granted", "told lost", "evict", "take out"}) {
    if (GetParam().world.try_only > 0) break;
    EXPECT_EQ(report.moves.count(move), 1u) << move;
  }
  for (const std::string& move : GetParam().moves) EXPECT_EQ(report.moves.count(move), 1u) << move;
}

INSTANTIATE_TEST_SUITE_P(
    Worlds, HoldsTest,
    ::testing::Values(
        Holds{"TwoCopiesTwoRounds", Base(2, 2), {}}, Holds{"ThreeCopiesOneRound", Base(3, 1), {}},
        Holds{"UnknownOutcome",
              With(Base(2, 2), [](World& w) { w.lost_replies = 1; }),
              {"write, reply lost", "write delayed", "late write arrives", "settled: applied", "write again", "abandon",
               "settled: another revision", "remove stray"}},
        Holds{"TwoUnknownOutcomes", With(Base(2, 1), [](World& w) { w.lost_replies = 2; }), {"late write arrives"}},
        Holds{"RecordsDeletedAndMadeAgain",
              With(Base(2, 2),
                   [](World& w) {
                     w.deletes = 1;
                     w.lost_replies = 1;
                   }),
              {"delete", "late write arrives"}},
        Holds{"LatePushes", With(Base(2, 2), [](World& w) { w.late_pushes = 1; }), {"push arrives"}},
        Holds{"SessionVanishes", With(Base(2, 2), [](World& w) { w.vanishings = 1; }), {"create as broken"}},
        Holds{"SessionVanishesWithAnUnknownOutcome",
              With(Base(2, 2),
                   [](World& w) {
                     w.vanishings = 1;
                     w.lost_replies = 1;
                   }),
              {"create as broken", "late write arrives"}},
        Holds{"ForcedBreak", With(Base(2, 2), [](World& w) { w.breaks = 1; }), {"beat refused"}},
        Holds{"Beats", With(Base(2, 2), [](World& w) { w.beats = 1; }), {"beat"}},
        Holds{"LocalWaiters",
              With(Base(2, 3), [](World& w) { w.local_waiters = true; }),
              {"pass on", "release and queue again"}},
        Holds{"LocalWaitersAndAnUnknownOutcome",
              With(Base(2, 2),
                   [](World& w) {
                     w.local_waiters = true;
                     w.lost_replies = 1;
                   }),
              {"release and queue again", "late write arrives"}},
        Holds{"Retention",
              With(Base(2, 2),
                   [](World& w) {
                     w.retain = true;
                     w.lost_replies = 1;
                   }),
              {"retain", "take again", "let go"}},
        Holds{"TryOnly",
              With(Base(2, 2),
                   [](World& w) {
                     w.try_only = 1;
                     w.lost_replies = 1;
                   }),
              {"busy", "evict"}},
        Holds{"NobodyQueues", With(Base(2, 2), [](World& w) { w.try_only = 2; }), {"busy", "evict"}},
        Holds{"Semaphore",
              With(Base(3, 1),
                   [](World& w) {
                     w.capacity = 3;
                     w.weights = {2, 2, 1};
                   }),
              {}},
        Holds{"ReadersAndAWriter",
              With(Base(3, 1),
                   [](World& w) {
                     w.capacity = kWriter;
                     w.weights = {1, kWriter, 1};
                   }),
              {}},
        Holds{"Downgrade",
              With(Base(2, 2),
                   [](World& w) {
                     w.capacity = kWriter;
                     w.weights = {kWriter, 1};
                     w.downgrade = true;
                     w.lost_replies = 1;
                   }),
              {"downgrade", "late write arrives"}},
        // A second line of defence each: one mistake alone does no harm here.
        Holds{"OldViewsAreHarmlessWithTickets",
              With(Base(2, 2),
                   [](World& w) {
                     w.late_pushes = 1;
                     w.bugs.old_view = true;
                   }),
              {"push arrives"}},
        Holds{"ReusedTicketsAreHarmlessOnNewViewsIfWritesAreSettled",
              With(Base(2, 2),
                   [](World& w) {
                     w.lost_replies = 1;
                     w.bugs.reuse_tickets = true;
                   }),
              {"late write arrives"}}),
    [](const ::testing::TestParamInfo<Holds>& holds) { return holds.param.name; });

// The numbers of states that an independent model of the same protocol, without tickets and with a waiter that acts on
// the one before it, has.
TEST(Parity, WithTheModelWithoutTickets) {
  World world = Base(2, 2);
  world.bugs.reuse_tickets = true;
  world.bugs.any_waiter_acts = true;
  EXPECT_EQ(Explore(world, kMaxStates).states, 8318u);
  world.copies = 3;
  world.rounds = 1;
  EXPECT_EQ(Explore(world, kMaxStates).states, 179879u);
  world.bugs.head_only = true;
  world.bugs.any_waiter_acts = false;
  EXPECT_EQ(Explore(world, kMaxStates).stuck, 1632u);
}

struct Fails {
  const char* name;
  World world;
  std::string violation;
  std::string last_move;
};

class FailsTest : public ::testing::TestWithParam<Fails> {};

TEST_P(FailsTest, IsFound) {
  const Report report = Explore(GetParam().world, kMaxStates);
  std::printf("%s: %s: %s\n", GetParam().name, report.violation.c_str(), report.path.c_str());
  EXPECT_EQ(report.violation, GetParam().violation);
  EXPECT_THAT(report.path, HasSubstr(GetParam().last_move));
}

INSTANTIATE_TEST_SUITE_P(
    Bugs, FailsTest,
    ::testing::Values(Fails{"OnlyTheHeadActs", With(Base(3, 1), [](World& w) { w.bugs.head_only = true; }),
                            "cannot finish", "crash"},
                      Fails{"EntersOnAnOldView",
                            With(Base(2, 2),
                                 [](World& w) {
                                   w.late_pushes = 1;
                                   w.bugs.old_view = true;
                                   w.bugs.reuse_tickets = true;
                                 }),
                            "too many valid holders", "push arrives"},
                      Fails{"GivesUpAfterSending",
                            With(Base(2, 2),
                                 [](World& w) {
                                   w.lost_replies = 1;
                                   w.bugs.late_give_up = true;
                                 }),
                            "too many valid holders", "write, reply lost"},
                      Fails{"ReusesTicketsAndForgetsWrites",
                            With(Base(2, 2),
                                 [](World& w) {
                                   w.lost_replies = 1;
                                   w.bugs.reuse_tickets = true;
                                   w.bugs.no_settling = true;
                                 }),
                            "too many valid holders", "resume"},
                      Fails{"KeepsTicketsThatNobodyHolds",
                            With(Base(2, 2),
                                 [](World& w) {
                                   w.lost_replies = 1;
                                   w.bugs.keep_strays = true;
                                 }),
                            "cannot finish", "abandon"},
                      Fails{"TakesAMissingSessionForDead",
                            With(Base(2, 1),
                                 [](World& w) {
                                   w.vanishings = 1;
                                   w.bugs.missing_is_dead = true;
                                 }),
                            "too many valid holders", "session vanishes"},
                      Fails{"TakesABrokenSessionForEnded",
                            With(Base(2, 1),
                                 [](World& w) {
                                   w.breaks = 1;
                                   w.bugs.broken_is_ended = true;
                                 }),
                            "too many valid holders", "session is broken"},
                      Fails{"EndsASessionThatHasBeaten",
                            With(Base(2, 1),
                                 [](World& w) {
                                   w.beats = 1;
                                   w.bugs.blind_eviction = true;
                                 }),
                            "too many valid holders", "evict"},
                      Fails{"JumpsTheQueue", With(Base(3, 1), [](World& w) { w.bugs.jump_queue = true; }),
                            "somebody was overtaken", "write"},
                      Fails{"GrantsWithAnOldFence", With(Base(2, 1), [](World& w) { w.bugs.old_fence = true; }),
                            "a grant's fence is not above all earlier ones", "write"}),
    [](const ::testing::TestParamInfo<Fails>& fails) { return fails.param.name; });

}  // namespace
}  // namespace model
