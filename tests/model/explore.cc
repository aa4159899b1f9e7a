#include "tests/model/explore.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace model {
namespace {

struct HashState {
  size_t operator()(const State& state) const {
    return std::hash<std::string_view>()(std::string_view(reinterpret_cast<const char*>(&state), sizeof state));
  }
};

struct SameState {
  bool operator()(const State& a, const State& b) const { return std::memcmp(&a, &b, sizeof a) == 0; }
};

class Exploration {
 public:
  Exploration(const World& world, size_t max_states) : model_(world), max_states_(max_states) {}

  Report Run() {
    Add(model_.Start(), 0, {"start", -1});
    for (uint32_t at = 0; at < states_.size() && report_.violation.empty() && states_.size() <= max_states_; ++at) {
      const State state = *states_[at];
      model_.Moves(state, [&](const Move& move, const State& after, const std::string& violation) {
        const uint32_t to = Add(after, at, move);
        moves_.insert(move.name);
        if (!move.fault) edges_.emplace_back(to, at);
        if (report_.violation.empty() && !violation.empty()) Blame(at, move, violation);
      });
    }
    report_.states = states_.size();
    for (const char* name : moves_) report_.moves.insert(name);
    report_.complete = report_.violation.empty() && states_.size() <= max_states_;
    if (report_.complete) FindStuck();
    return report_;
  }

 private:
  uint32_t Add(const State& state, uint32_t parent, const Move& move) {
    const auto [found, added] = index_.emplace(state, static_cast<uint32_t>(states_.size()));
    if (!added) return found->second;
    states_.push_back(&found->first);
    parents_.emplace_back(parent, move);
    const std::string holders = model_.CheckHolders(state);
    if (report_.violation.empty() && !holders.empty()) Blame(parent, move, holders);
    return found->second;
  }

  static std::string Name(const Move& move) {
    std::string name = std::string(1, static_cast<char>('a' + move.copy)) + " " + move.name;
    if (move.other >= 0) name += std::string(" ") + static_cast<char>('a' + move.other);
    return name;
  }

  void Blame(uint32_t at, const Move& last, const std::string& violation) {
    report_.violation = violation;
    report_.path = Path(at) + Name(last);
  }

  std::string Path(uint32_t at) const {
    std::string path;
    for (; at != 0; at = parents_[at].first) path = Name(parents_[at].second) + ", " + path;
    return path;
  }

  // Backwards from the finished states, over the moves that are no faults.
  void FindStuck() {
    std::vector<uint32_t> begin(states_.size() + 1, 0), from(edges_.size());
    for (const auto& edge : edges_) ++begin[edge.first + 1];
    for (size_t i = 1; i < begin.size(); ++i) begin[i] += begin[i - 1];
    std::vector<uint32_t> next(begin.begin(), begin.end() - 1), todo;
    for (const auto& edge : edges_) from[next[edge.first]++] = edge.second;
    std::vector<bool> can_finish(states_.size(), false);
    for (uint32_t at = 0; at < states_.size(); ++at) {
      if (!model_.Finished(*states_[at])) continue;
      can_finish[at] = true;
      todo.push_back(at);
    }
    while (!todo.empty()) {
      const uint32_t at = todo.back();
      todo.pop_back();
      for (uint32_t i = begin[at]; i < begin[at + 1]; ++i) {
        if (can_finish[from[i]]) continue;
        can_finish[from[i]] = true;
        todo.push_back(from[i]);
      }
    }
    for (uint32_t at = 0; at < states_.size(); ++at) {
      if (can_finish[at]) continue;
      if (report_.stuck++ > 0) continue;
      report_.violation = "cannot finish";
      report_.path = Path(at) + "and nothing more";
    }
  }

  Model model_;
  const size_t max_states_;
  std::unordered_map<State, uint32_t, HashState, SameState> index_;
  std::vector<const State*> states_;
  std::vector<std::pair<uint32_t, Move>> parents_;    // how each state was first reached
  std::vector<std::pair<uint32_t, uint32_t>> edges_;  // to, from
  std::set<const char*> moves_;
  Report report_;
};

}  // namespace

Report Explore(const World& world, size_t max_states) { return Exploration(world, max_states).Run(); }

}  // namespace model
