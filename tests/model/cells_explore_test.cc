// Small worlds of one cell explored to the end, and the mistakes that the exploration must find.

#include <cstdio>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/cells_world.h"

namespace model {
namespace {

constexpr size_t kMaxStates = 60000;

constexpr CellStep kUpdate{CellStep::kUpdate, 0};
constexpr CellStep kCompareAndSet{CellStep::kCompareAndSet, 0};
constexpr CellStep kDelete{CellStep::kDelete, 0};
constexpr CellStep Fenced(uint64_t fence) { return {CellStep::kFenced, fence}; }

// One thread a copy.
CellWorld Copies(const std::vector<std::vector<CellStep>>& programs) {
  CellWorld world;
  world.copies = static_cast<int>(programs.size());
  for (int i = 0; i < world.copies; ++i) world.threads.push_back({i, programs[static_cast<size_t>(i)]});
  return world;
}

template <typename Edit>
CellWorld With(CellWorld world, const Edit& edit) {
  edit(world);
  return world;
}

struct CellsHold {
  const char* name;
  CellWorld world;
  std::vector<std::string> moves;  // that must have been made, lest the world be empty
};

class CellsHoldTest : public ::testing::TestWithParam<CellsHold> {};

TEST_P(CellsHoldTest, EveryCheckInEveryState) {
  const CellReport report = ExploreCells(GetParam().world, kMaxStates);
  std::printf("%s: %zu states, %zu runs\n", GetParam().name, report.states, report.runs);
  EXPECT_EQ(report.violation, "") << report.path;
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.moves.count("answered"), 1u);
  for (const std::string& move : GetParam().moves) EXPECT_EQ(report.moves.count(move), 1u) << move;
}

const auto kLostReply = [](CellWorld& w) { w.lost_replies = 1; };
const auto kWipe = [](CellWorld& w) { w.wipes = 1; };

INSTANTIATE_TEST_SUITE_P(
    Worlds, CellsHoldTest,
    ::testing::Values(
        CellsHold{"ThreeCopiesUpdate", Copies({{kUpdate}, {kUpdate}, {kUpdate}}), {}},
        CellsHold{"ThreeCopiesCompareAndSet", Copies({{kCompareAndSet}, {kCompareAndSet}, {kCompareAndSet}}), {}},
        CellsHold{"ThreeCopiesMixed", Copies({{kUpdate, kDelete}, {kUpdate}, {kCompareAndSet, kUpdate}}), {}},
        CellsHold{"ThreeCopiesAndALostReply",
                  With(Copies({{kUpdate}, {kUpdate, kDelete}, {kCompareAndSet}}), kLostReply),
                  {"reply lost", "write delayed", "write dropped", "late write arrives"}},
        CellsHold{"TwoLostReplies",
                  With(Copies({{kUpdate, kUpdate}, {kUpdate}}), [](CellWorld& w) { w.lost_replies = 2; }),
                  {"late write arrives"}},
        CellsHold{"TwoThreadsOfOneCopy",
                  With(Copies({{kUpdate, kUpdate}, {kUpdate}}),
                       [](CellWorld& w) {
                         w.threads.push_back({0, {kUpdate}});
                         w.lost_replies = 1;
                       }),
                  {"late write arrives"}},
        CellsHold{"NoWinnerIsShown",
                  With(Copies({{kUpdate}, {kUpdate, kDelete}, {kCompareAndSet}}),
                       [](CellWorld& w) {
                         w.shows_winner = false;
                         w.lost_replies = 1;
                       }),
                  {"late write arrives"}},
        CellsHold{"AReader",
                  With(Copies({{}, {kUpdate, kDelete}, {kUpdate, kUpdate}}), [](CellWorld& w) { w.watching = 1; }),
                  {"push arrives"}},
        CellsHold{"LatePushes",
                  With(Copies({{}, {kUpdate, kDelete, kUpdate}, {kUpdate}}),
                       [](CellWorld& w) {
                         w.watching = 1;
                         w.late_pushes = 2;
                       }),
                  {"push set aside", "old push arrives"}},
        CellsHold{"AReaderThatWrites",
                  With(Copies({{kUpdate}, {kUpdate, kDelete}}),
                       [](CellWorld& w) {
                         w.watching = 1;
                         w.late_pushes = 1;
                       }),
                  {"old push arrives"}},
        CellsHold{"AReaderThatWritesAndALostReply",
                  With(Copies({{kUpdate}, {kUpdate}}),
                       [](CellWorld& w) {
                         w.watching = 1;
                         w.lost_replies = 1;
                       }),
                  {"late write arrives"}},
        CellsHold{"TheStoreBeginsAnew",
                  With(Copies({{kCompareAndSet}, {kCompareAndSet}, {kUpdate}}), kWipe),
                  {"store wiped", "push arrives"}},
        CellsHold{"TheStoreBeginsAnewWithALostReply",
                  With(Copies({{kCompareAndSet}, {kUpdate}}),
                       [](CellWorld& w) {
                         w.wipes = 1;
                         w.lost_replies = 1;
                       }),
                  {"store wiped", "late write arrives"}},
        CellsHold{"AReaderOfAStoreThatBeginsAnew",
                  With(Copies({{}, {kUpdate, kUpdate}}),
                       [](CellWorld& w) {
                         w.watching = 1;
                         w.wipes = 1;
                         w.late_pushes = 1;
                       }),
                  {"store wiped", "old push arrives"}},
        CellsHold{"Fences", With(Copies({{Fenced(5)}, {Fenced(7)}, {Fenced(6)}}), kLostReply), {"late write arrives"}}),
    [](const ::testing::TestParamInfo<CellsHold>& holds) { return holds.param.name; });

struct CellsFail {
  const char* name;
  CellWorld world;
  std::string violation;
};

class CellsFailTest : public ::testing::TestWithParam<CellsFail> {};

TEST_P(CellsFailTest, IsFound) {
  const CellReport report = ExploreCells(GetParam().world, kMaxStates);
  std::printf("%s: %s: %s\n", GetParam().name, report.violation.c_str(), report.path.c_str());
  EXPECT_EQ(report.violation, GetParam().violation);
}

INSTANTIATE_TEST_SUITE_P(Bugs, CellsFailTest,
                         ::testing::Values(CellsFail{"IgnoresRevisions",
                                                     With(Copies({{kUpdate}, {kUpdate, kUpdate}}),
                                                          [](CellWorld& w) { w.bugs.ignore_revisions = true; }),
                                                     "an update was lost"},
                                           CellsFail{"RepeatsBlindly",
                                                     With(Copies({{kUpdate}, {kUpdate}}),
                                                          [](CellWorld& w) {
                                                            w.lost_replies = 1;
                                                            w.bugs.blind_repeat = true;
                                                          }),
                                                     "applied twice"},
                                           CellsFail{"TakesAnothersWriteForItsOwn",
                                                     With(Copies({{kUpdate}, {kUpdate}}),
                                                          [](CellWorld& w) {
                                                            w.lost_replies = 1;
                                                            w.bugs.same_nonces = true;
                                                          }),
                                                     "acknowledged and not applied"},
                                           CellsFail{"IsDeafToEpochs",
                                                     With(Copies({{kCompareAndSet}, {kCompareAndSet, kCompareAndSet}}),
                                                          [](CellWorld& w) {
                                                            w.wipes = 1;
                                                            w.bugs.deaf_to_epochs = true;
                                                          }),
                                                     "a revision of another incarnation matched"},
                                           CellsFail{"BelievesOldPushes",
                                                     With(Copies({{}, {kUpdate, kUpdate}}),
                                                          [](CellWorld& w) {
                                                            w.watching = 1;
                                                            w.late_pushes = 1;
                                                            w.bugs.old_pushes_win = true;
                                                          }),
                                                     "a reader went back"},
                                           CellsFail{"IgnoresFences",
                                                     With(Copies({{Fenced(5)}, {Fenced(7)}}),
                                                          [](CellWorld& w) { w.bugs.ignore_fences = true; }),
                                                     "a lower fence was accepted"}),
                         [](const ::testing::TestParamInfo<CellsFail>& fails) { return fails.param.name; });

}  // namespace
}  // namespace model
