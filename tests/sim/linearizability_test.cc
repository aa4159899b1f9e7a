#include "tests/sim/linearizability.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace sim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Op = RegisterModel::Op;
using History = std::vector<Operation<Op>>;

constexpr std::optional<int64_t> kUnknown;

Linearization Check(const History& history, size_t max_steps = kMaxLinearizationSteps) {
  return CheckLinearizable(RegisterModel(), history, max_steps);
}

TEST(Linearizability, AnEmptyHistory) { EXPECT_EQ(Check({}).verdict, Verdict::kLinearizable); }

TEST(Linearizability, OneAfterTheOther) {
  const Linearization found = Check({
      {{0, 1, 2}, Op::Read({})},
      {{0, 3, 4}, Op::Write("a")},
      {{1, 5, 6}, Op::Read("a")},
      {{1, 7, 8}, Op::Delete()},
      {{0, 9, 10}, Op::Read({})},
  });
  EXPECT_EQ(found.verdict, Verdict::kLinearizable) << found.text;
  EXPECT_THAT(found.order, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(found.text, "");
}

TEST(Linearizability, AReadDuringAWriteMayFindEither) {
  EXPECT_EQ(Check({{{0, 1, 4}, Op::Write("a")}, {{1, 2, 3}, Op::Read({})}}).verdict, Verdict::kLinearizable);
  EXPECT_EQ(Check({{{0, 1, 4}, Op::Write("a")}, {{1, 2, 3}, Op::Read("a")}}).verdict, Verdict::kLinearizable);
}

TEST(Linearizability, EqualTimesOverlap) {
  EXPECT_EQ(Check({{{0, 1, 2}, Op::Write("a")}, {{1, 2, 3}, Op::Read({})}}).verdict, Verdict::kLinearizable);
}

TEST(Linearizability, AStaleRead) {
  const Linearization found = Check({
      {{0, 1, 2}, Op::Write("a")},
      {{0, 3, 4}, Op::Write("b")},
      {{7, 5, 6}, Op::Read("a")},
  });
  EXPECT_EQ(found.verdict, Verdict::kNotLinearizable);
  EXPECT_THAT(found.order, ElementsAre(0, 1));
  EXPECT_EQ(found.stuck, 2u);
  EXPECT_EQ(found.text,
            "not linearizable; the longest beginning of an order has 2 of 3 operations:\n"
            "  process 0 [1, 2] write \"a\"\n"
            "  process 0 [3, 4] write \"b\"\n"
            "the state is then \"b\", and this could not be placed:\n"
            "  process 7 [5, 6] read \"a\"\n");
}

TEST(Linearizability, ReadsThatGoBackDuringOneWrite) {
  EXPECT_EQ(Check({{{0, 1, 9}, Op::Write("a")}, {{1, 2, 3}, Op::Read("a")}, {{2, 4, 5}, Op::Read({})}}).verdict,
            Verdict::kNotLinearizable);
}

TEST(Linearizability, AValueFromNowhere) {
  const Linearization found = Check({{{0, 1, 2}, Op::Write("a")}, {{1, 1, 3}, Op::Read("b")}});
  EXPECT_EQ(found.verdict, Verdict::kNotLinearizable);
  EXPECT_EQ(found.stuck, 1u);
}

TEST(Linearizability, ALostUpdate) {
  // Both have read "a" and replaced it.
  const Linearization found = Check({
      {{0, 1, 2}, Op::Write("a")},
      {{1, 3, 5}, Op::CompareAndSet("a", "b", true)},
      {{2, 4, 6}, Op::CompareAndSet("a", "c", true)},
  });
  EXPECT_EQ(found.verdict, Verdict::kNotLinearizable);
  EXPECT_THAT(found.text, HasSubstr("change \"a\" to \"c\": done"));
}

TEST(Linearizability, OneCompareAndSetOfTwoIsRefused) {
  EXPECT_EQ(Check({
                      {{1, 3, 5}, Op::CompareAndSet({}, "b", false)},
                      {{2, 4, 6}, Op::CompareAndSet({}, "c", true)},
                  })
                .verdict,
            Verdict::kLinearizable);
  EXPECT_EQ(Check({
                      {{1, 3, 5}, Op::CompareAndSet({}, "b", false)},
                      {{2, 4, 6}, Op::CompareAndSet({}, "c", false)},
                  })
                .verdict,
            Verdict::kNotLinearizable);
}

TEST(Linearizability, AnUnknownWriteAppearsLateOrNever) {
  const History before = {{{0, 1, kUnknown}, Op::Write("x")}, {{1, 2, 3}, Op::Write("a")}, {{1, 4, 5}, Op::Read("a")}};
  EXPECT_EQ(Check(before).verdict, Verdict::kLinearizable);
  History late = before;
  late.push_back({{1, 6, 7}, Op::Read("x")});
  EXPECT_EQ(Check(late).verdict, Verdict::kLinearizable);
  late.push_back({{1, 8, 9}, Op::Read("a")});
  EXPECT_EQ(Check(late).verdict, Verdict::kNotLinearizable) << "it appears once";
}

TEST(Linearizability, AnUnknownWriteDoesNotAppearBeforeItWasInvoked) {
  EXPECT_EQ(Check({{{0, 5, kUnknown}, Op::Write("x")}, {{1, 1, 2}, Op::Read("x")}}).verdict, Verdict::kNotLinearizable);
}

TEST(Linearizability, AnUnknownCompareAndSet) {
  const Op unknown = Op::CompareAndSet("a", "b", {});
  EXPECT_EQ(Check({{{0, 1, 2}, Op::Write("a")}, {{1, 3, kUnknown}, unknown}, {{0, 4, 5}, Op::Read("b")}}).verdict,
            Verdict::kLinearizable);
  EXPECT_EQ(Check({{{0, 1, 2}, Op::Write("c")}, {{1, 3, kUnknown}, unknown}, {{0, 4, 5}, Op::Read("b")}}).verdict,
            Verdict::kNotLinearizable);
}

// Everybody writes at the same time, so that all orders have to be tried for a value that was never written.
TEST(Linearizability, GivesUp) {
  History history;
  for (int i = 0; i < 30; ++i) history.push_back({{i, 1, 100}, Op::Write(std::to_string(i))});
  history.push_back({{99, 50, 60}, Op::Read("none")});
  const Linearization found = Check(history, 10'000);
  EXPECT_EQ(found.verdict, Verdict::kGaveUp);
  EXPECT_EQ(found.steps, 10'000u);
  EXPECT_THAT(found.text, HasSubstr("gave up after 10000 steps"));
}

// The moments at which they took effect are drawn first, so that the history is linearizable.
TEST(Linearizability, ALongHistoryIsQuick) {
  std::mt19937_64 random(1);
  RegisterModel::State state;
  History history;
  for (int64_t i = 0; i < 2000; ++i) {
    const auto early = static_cast<int64_t>(random() % 60), late = static_cast<int64_t>(random() % 60);
    const Interval interval{static_cast<int>(i % 8), 10 * i - early, 10 * i + late};
    const RegisterModel::State value = std::to_string(i);
    if (i % 50 == 0) {
      history.push_back({{interval.process, interval.invoked, kUnknown}, Op::Write(*value)});
      if (random() % 2 == 0) state = value;
      continue;
    }
    switch (random() % 3) {
      case 0:
        history.push_back({interval, Op::Write(*value)});
        state = value;
        break;
      case 1:
        history.push_back({interval, Op::CompareAndSet(state, value, true)});
        state = value;
        break;
      default:
        history.push_back({interval, Op::Read(state)});
    }
  }
  const Linearization found = Check(history);
  std::printf("%zu operations, %zu steps\n", history.size(), found.steps);
  EXPECT_EQ(found.verdict, Verdict::kLinearizable) << found.text;
}

// Any model goes: a counter that says what it was.
struct CounterModel {
  using State = int;
  using Op = int;  // what it was before one was added
  State Initial() const { return 0; }
  std::optional<State> Apply(const State& state, const Op& op, bool unknown) const {
    return unknown || op == state ? std::optional(state + 1) : std::nullopt;
  }
  bool ReadOnly(Op) const { return false; }
  std::string Describe(int number) const { return std::to_string(number); }  // states and operations alike
};

TEST(Linearizability, AnotherModel) {
  std::vector<Operation<int>> history = {{{0, 1, 5}, 1}, {{1, 2, 6}, 0}, {{2, 3, kUnknown}, 0}, {{0, 7, 8}, 3}};
  EXPECT_EQ(CheckLinearizable(CounterModel(), history).verdict, Verdict::kLinearizable);
  history.push_back({{0, 9, 10}, 3});
  EXPECT_EQ(CheckLinearizable(CounterModel(), history).verdict, Verdict::kNotLinearizable);
}

// Tries all orders of all subsets that hold what has completed.
bool BruteForce(const History& history) {
  const RegisterModel model;
  for (unsigned chosen = 0; chosen < 1u << history.size(); ++chosen) {
    std::vector<size_t> order;
    bool all = true;
    for (size_t i = 0; i < history.size(); ++i) {
      if (chosen >> i & 1)
        order.push_back(i);
      else if (history[i].interval.completed.has_value())
        all = false;
    }
    if (!all) continue;
    do {
      RegisterModel::State state;
      bool fits = true;
      for (size_t i = 0; i < order.size() && fits; ++i) {
        const auto& [interval, op] = history[order[i]];
        for (size_t j = i + 1; j < order.size(); ++j) {
          const auto& completed = history[order[j]].interval.completed;
          if (completed.has_value() && *completed < interval.invoked) fits = false;
        }
        const auto after = model.Apply(state, op, !interval.completed.has_value());
        if (after.has_value())
          state = *after;
        else
          fits = false;
      }
      if (fits) return true;
    } while (std::next_permutation(order.begin(), order.end()));
  }
  return false;
}

History RandomHistory(std::mt19937_64& random) {
  const auto value = [&]() -> RegisterModel::State {
    const uint64_t drawn = random() % 3;
    return drawn == 0 ? RegisterModel::State() : std::string(1, static_cast<char>('a' + drawn));
  };
  History history;
  const size_t size = 1 + random() % 6;
  for (size_t i = 0; i < size; ++i) {
    Interval interval{static_cast<int>(i), static_cast<int64_t>(random() % 10), {}};
    if (random() % 4 != 0) interval.completed = interval.invoked + static_cast<int64_t>(random() % 5);
    Op op = Op::Read(value());
    if (const uint64_t kind = random() % 3; kind == 1) {
      op = Op::Delete();
      op.value = value();
    } else if (kind == 2) {
      op = Op::CompareAndSet(value(), value(), random() % 2 == 0);
    }
    history.push_back({interval, op});
  }
  return history;
}

TEST(Linearizability, AgreesWithBruteForce) {
  const uint64_t seed = std::random_device()();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  int linearizable = 0;
  constexpr int kHistories = 20'000;
  for (int i = 0; i < kHistories; ++i) {
    const History history = RandomHistory(random);
    const Linearization found = Check(history);
    const bool expected = BruteForce(history);
    linearizable += expected;
    ASSERT_EQ(found.verdict == Verdict::kLinearizable, expected) << "history " << i << ": " << found.text;
    ASSERT_EQ(found.stuck.has_value(), !expected);
  }
  std::printf("%d of %d linearizable\n", linearizable, kHistories);
  EXPECT_GT(linearizable, kHistories / 10);
  EXPECT_LT(linearizable, kHistories * 9 / 10);
}

}  // namespace
}  // namespace sim
