// Decides whether a history of operations on one object is linearizable: whether each operation can be given one moment
// between its invocation and its completion, so that in the order of these moments a sequential model gives exactly the
// results that were seen.
//
// The search is the one of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of
// configurations that were visited ("Testing for Linearizability", 2017): depth first over the operations that may come
// next, never twice into the same (set of placed operations, state). A read that fits is placed at once, with no
// alternative: where it could come later, it can come now. An operation of unknown outcome is placed only where the
// next one shows it.
//
// Linearizability is local (Herlihy and Wing, 1990): check each key by itself, which is also much cheaper.
//
// What to record:
// - Times are any numbers that grow. Equal times count as overlapping, so number the events rather than read a clock.
// - An operation whose outcome nobody knows has no completion: it may take effect at any moment after its invocation,
// or
//   never. One that certainly did nothing is left out.
// - Values that are written should be different from each other: otherwise less can be told.

#ifndef TESTS_SIM_LINEARIZABILITY_H_
#define TESTS_SIM_LINEARIZABILITY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sim {

enum class Verdict { kLinearizable, kNotLinearizable, kGaveUp };

struct Interval {
  int process = 0;  // for the text alone
  int64_t invoked = 0;
  std::optional<int64_t> completed;  // none: the outcome is unknown
};

template <typename Op>
struct Operation {
  Interval interval;
  Op op;
};

struct Linearization {
  Verdict verdict = Verdict::kLinearizable;
  // Indices into the history. Linearizable: an order that explains it. Else: the longest beginning of one that was
  // found, and the operation that completed next and could not be placed after it.
  std::vector<size_t> order;
  std::optional<size_t> stuck;
  size_t steps = 0;  // operations that were tried as the next one
  std::string text;  // for people; empty if linearizable
};

inline constexpr size_t kMaxLinearizationSteps = 5'000'000;

// What the search needs to know of a model and a history; CheckLinearizable makes it.
struct LinearizationProblem {
  std::vector<Interval> intervals;
  // The state (numbered, 0 at the start) after operation `op` in `state`; none if its result does not fit.
  std::function<std::optional<uint32_t>(uint32_t state, size_t op)> apply;
  std::function<bool(size_t op)> read_only;
  std::function<std::string(size_t op)> describe_op;
  std::function<std::string(uint32_t state)> describe_state;
};
Linearization SolveLinearization(const LinearizationProblem& problem, size_t max_steps);

// A Model has
//   using State = ...;  // copyable, with operator<
//   using Op = ...;
//   State Initial() const;
//   // The state after `op`; none if `op` cannot have had its result in `state`. If the outcome is unknown, `op` has no
//   // result to compare.
//   std::optional<State> Apply(const State& state, const Op& op, bool unknown) const;
//   bool ReadOnly(const Op& op) const;  // it leaves every state in which it can have had its result as it was
//   std::string Describe(const State& state) const;
//   std::string Describe(const Op& op) const;
//
// Gives up after `max_steps`, which take a few seconds; memory is in proportion to them. Dead ends cost time in
// proportion to the square of the number of unknown outcomes: some tens in a history are cheap, thousands are not.
template <typename Model>
Linearization CheckLinearizable(const Model& model, const std::vector<Operation<typename Model::Op>>& history,
                                size_t max_steps = kMaxLinearizationSteps) {
  using State = typename Model::State;
  std::map<State, uint32_t> numbers;
  std::vector<const State*> states;
  const auto number = [&](const State& state) {
    const auto [at, added] = numbers.emplace(state, static_cast<uint32_t>(states.size()));
    if (added) states.push_back(&at->first);
    return at->second;
  };
  number(model.Initial());

  LinearizationProblem problem;
  for (const auto& operation : history) problem.intervals.push_back(operation.interval);
  problem.apply = [&](uint32_t state, size_t op) -> std::optional<uint32_t> {
    const auto& [interval, what] = history[op];
    const std::optional<State> after = model.Apply(*states[state], what, !interval.completed.has_value());
    if (!after.has_value()) return std::nullopt;
    return number(*after);
  };
  problem.read_only = [&](size_t op) { return model.ReadOnly(history[op].op); };
  problem.describe_op = [&](size_t op) { return model.Describe(history[op].op); };
  problem.describe_state = [&](uint32_t state) { return model.Describe(*states[state]); };
  return SolveLinearization(problem, max_steps);
}

// One value that may be absent, with compare-and-set.
struct RegisterModel {
  using State = std::optional<std::string>;  // none: absent

  struct Op {
    enum Kind { kRead, kWrite, kCompareAndSet };
    Kind kind = kRead;
    State value;                    // what was read, or is written; none written is a delete
    State expected;                 // of a compare-and-set
    std::optional<bool> succeeded;  // of a compare-and-set whose outcome is known

    static Op Read(State found) { return {kRead, std::move(found), {}, {}}; }
    static Op Write(std::string value) { return {kWrite, std::move(value), {}, {}}; }
    static Op Delete() { return {kWrite, {}, {}, {}}; }
    // A read-modify-write that was applied is one too: `expected` is what it found. One that lost and says what it
    // found instead is a Read.
    static Op CompareAndSet(State expected, State value, std::optional<bool> succeeded) {
      return {kCompareAndSet, std::move(value), std::move(expected), succeeded};
    }
  };

  State initial;

  State Initial() const { return initial; }
  std::optional<State> Apply(const State& state, const Op& op, bool unknown) const;
  bool ReadOnly(const Op& op) const;
  std::string Describe(const State& state) const;
  std::string Describe(const Op& op) const;
};

}  // namespace sim

#endif  // TESTS_SIM_LINEARIZABILITY_H_
