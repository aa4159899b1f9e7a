#include "tests/sim/linearizability.h"

#include <algorithm>
#include <unordered_set>

namespace sim {
namespace {

// How much of the order the text shows.
constexpr size_t kShown = 10;

// A set of operations, with a short key for sets that are full at the beginning and empty at the end.
class Placed {
 public:
  explicit Placed(size_t size) : words_((size + 63) / 64) {}
  void Flip(size_t op) { words_[op / 64] ^= uint64_t{1} << (op % 64); }

  std::string Key(uint32_t state) const {
    size_t begin = 0, end = words_.size();
    while (begin < end && words_[begin] == ~uint64_t{0}) ++begin;
    while (end > begin && words_[end - 1] == 0) --end;
    std::string key(reinterpret_cast<const char*>(words_.data() + begin), (end - begin) * sizeof(uint64_t));
    const uint64_t tail[] = {begin, state};
    return key.append(reinterpret_cast<const char*>(tail), sizeof(tail));
  }

 private:
  std::vector<uint64_t> words_;
};

class Search {
 public:
  Search(const LinearizationProblem& problem, size_t max_steps)
      : problem_(problem), max_steps_(max_steps), placed_(problem.intervals.size()) {
    Link();
  }

  Linearization Run() {
    size_t at = Choose();
    while (missing_ > 0) {
      at = OnFromReturn(at);
      if (at == kNone) {  // an operation that has completed would have to be placed before all that is left to try
        Remember(events_[FirstReturn()].op);
        if (!Backtrack(at)) return Finish(Verdict::kNotLinearizable);
        continue;
      }
      if (result_.steps == max_steps_) {
        Remember(events_[FirstReturn()].op);
        return Finish(Verdict::kGaveUp);
      }
      ++result_.steps;
      const std::optional<uint32_t> after = Fits(events_[at].op);
      if (!after.has_value()) {
        at = events_[at].next;
      } else if (Enter(events_[at].op, *after)) {
        at = Choose();
      } else if (!only_) {
        at = events_[at].next;
      } else if (!Backtrack(at)) {
        return Finish(Verdict::kNotLinearizable);
      }
    }
    result_.stuck.reset();
    result_.order.clear();
    for (const Frame& frame : stack_) result_.order.push_back(frame.op);
    return std::move(result_);
  }

 private:
  // The calls and returns of what is not placed yet, in the order of time, which is also that of their indices. Two
  // rings that things are taken out of and put back into: one of the operations that completed, and one of the others,
  // which are tried after them.
  struct Event {
    size_t op = 0;
    bool call = false;
    size_t previous = 0, next = 0;
  };
  static constexpr size_t kCompleted = 0, kUnknown = 1;  // the heads of the rings
  static constexpr size_t kNone = 1;                     // the end of the second: nothing is left to try
  struct Frame {
    size_t op;
    uint32_t before;
    bool only;  // nothing else has to be tried in its place
  };

  bool Known(size_t op) const { return problem_.intervals[op].completed.has_value(); }

  void Link() {
    struct Point {
      int64_t time;
      bool is_return;
      size_t op;
    };
    std::vector<Point> points;
    for (size_t op = 0; op < problem_.intervals.size(); ++op) {
      const Interval& interval = problem_.intervals[op];
      points.push_back({interval.invoked, false, op});
      if (interval.completed.has_value()) points.push_back({*interval.completed, true, op}), ++missing_;
    }
    std::stable_sort(points.begin(), points.end(), [](const Point& a, const Point& b) {
      return std::pair(a.time, a.is_return) < std::pair(b.time, b.is_return);
    });
    events_ = {{0, false, kCompleted, kCompleted}, {0, false, kUnknown, kUnknown}};
    calls_.resize(problem_.intervals.size());
    returns_.resize(problem_.intervals.size());
    for (const Point& point : points) {
      const size_t at = events_.size(), head = Known(point.op) ? kCompleted : kUnknown;
      events_.push_back({point.op, !point.is_return, events_[head].previous, head});
      PutBack(at);
      (point.is_return ? returns_ : calls_)[point.op] = at;
    }
  }

  void TakeOut(size_t event) {
    events_[events_[event].previous].next = events_[event].next;
    events_[events_[event].next].previous = events_[event].previous;
  }
  void PutBack(size_t event) {
    events_[events_[event].previous].next = event;
    events_[events_[event].next].previous = event;
  }

  size_t FirstReturn() const {
    size_t at = events_[kCompleted].next;
    while (events_[at].call) at = events_[at].next;
    return at;
  }

  // `at`, if it may come next. Past the last of the completed operations that may, the first of the others.
  size_t OnFromReturn(size_t at) const {
    if (at != kUnknown && !events_[at].call) at = events_[kUnknown].next;
    return !Known(events_[at].op) && at > FirstReturn() ? kNone : at;
  }

  // The state after `op`, if it is worth placing now. One of unknown outcome is not if it might as well never have
  // happened: if it changes nothing, or if what comes right after it would do the same without it.
  std::optional<uint32_t> Fits(size_t op) const {
    const std::optional<uint32_t> after = problem_.apply(state_, op);
    if (!after.has_value() || (after == state_ && !Known(op))) return std::nullopt;
    if (!stack_.empty() && !Known(stack_.back().op) && problem_.apply(stack_.back().before, op) == after) {
      return std::nullopt;
    }
    return after;
  }

  // Where to begin with what may come next: at a read that fits, if there is one.
  size_t Choose() {
    only_ = false;
    for (size_t at = events_[kCompleted].next; events_[at].call; at = events_[at].next) {
      if (problem_.read_only(events_[at].op) && Fits(events_[at].op).has_value()) {
        only_ = true;
        return at;
      }
    }
    return events_[kCompleted].next;
  }

  // False: this was tried before.
  bool Enter(size_t op, uint32_t after) {
    placed_.Flip(op);
    if (!visited_.insert(placed_.Key(after)).second) {
      placed_.Flip(op);
      return false;
    }
    stack_.push_back({op, state_, only_});
    state_ = after;
    TakeOut(calls_[op]);
    if (Known(op)) TakeOut(returns_[op]), --missing_;
    return true;
  }

  // Undoes what was placed last; `at` is then what to try in its place. False: nothing is left to try.
  bool Backtrack(size_t& at) {
    while (!stack_.empty()) {
      const Frame frame = stack_.back();
      stack_.pop_back();
      if (Known(frame.op)) PutBack(returns_[frame.op]), ++missing_;
      PutBack(calls_[frame.op]);
      placed_.Flip(frame.op);
      state_ = frame.before;
      only_ = false;
      at = events_[calls_[frame.op]].next;
      if (!frame.only) return true;
    }
    return false;
  }

  void Remember(size_t stuck) {
    if (result_.stuck.has_value() && missing_ >= fewest_missing_) return;
    fewest_missing_ = missing_;
    result_.stuck = stuck;
    stuck_state_ = state_;
    result_.order.clear();
    for (const Frame& frame : stack_) result_.order.push_back(frame.op);
  }

  std::string Line(size_t op) const {
    const Interval& interval = problem_.intervals[op];
    const std::string end = interval.completed.has_value() ? std::to_string(*interval.completed) : "unknown";
    return "  process " + std::to_string(interval.process) + " [" + std::to_string(interval.invoked) + ", " + end +
           "] " + problem_.describe_op(op) + "\n";
  }

  Linearization Finish(Verdict verdict) {
    result_.verdict = verdict;
    std::string& text = result_.text;
    text =
        verdict == Verdict::kGaveUp ? "gave up after " + std::to_string(result_.steps) + " steps" : "not linearizable";
    const size_t count = result_.order.size();
    text += "; the longest beginning of an order has " + std::to_string(count) + " of " +
            std::to_string(problem_.intervals.size()) + " operations";
    text += count > kShown ? ", the last of them:\n" : count > 0 ? ":\n" : "\n";
    for (size_t i = count - std::min(count, kShown); i < count; ++i) text += Line(result_.order[i]);
    text += "the state is then " + problem_.describe_state(stuck_state_) + ", and this could not be placed:\n" +
            Line(*result_.stuck);
    return std::move(result_);
  }

  const LinearizationProblem& problem_;
  const size_t max_steps_;
  std::vector<Event> events_;
  std::vector<size_t> calls_, returns_;  // of each operation, in events_
  std::unordered_set<std::string> visited_;
  std::vector<Frame> stack_;
  Placed placed_;
  uint32_t state_ = 0;
  bool only_ = false;
  size_t missing_ = 0;  // completed operations that are not placed
  size_t fewest_missing_ = 0;
  uint32_t stuck_state_ = 0;
  Linearization result_;
};

}  // namespace

Linearization SolveLinearization(const LinearizationProblem& problem, size_t max_steps) {
  return Search(problem, max_steps).Run();
}

std::optional<RegisterModel::State> RegisterModel::Apply(const State& state, const Op& op, bool unknown) const {
  switch (op.kind) {
    case Op::kRead:
      if (!unknown && op.value != state) return std::nullopt;
      return state;
    case Op::kWrite:
      return op.value;
    case Op::kCompareAndSet: {
      const bool matches = state == op.expected;
      if (!unknown && op.succeeded.has_value() && *op.succeeded != matches) return std::nullopt;
      return matches ? op.value : state;
    }
  }
  return std::nullopt;
}

bool RegisterModel::ReadOnly(const Op& op) const {
  return op.kind == Op::kRead || (op.kind == Op::kCompareAndSet && op.succeeded == false);
}

std::string RegisterModel::Describe(const State& state) const {
  return state.has_value() ? '"' + *state + '"' : "absent";
}

std::string RegisterModel::Describe(const Op& op) const {
  switch (op.kind) {
    case Op::kRead:
      return "read " + Describe(op.value);
    case Op::kWrite:
      return op.value.has_value() ? "write " + Describe(op.value) : "delete";
    case Op::kCompareAndSet:
      return "change " + Describe(op.expected) + " to " + Describe(op.value) +
             (!op.succeeded.has_value() ? ""
              : *op.succeeded           ? ": done"
                                        : ": refused");
  }
  return "?";
}

}  // namespace sim
