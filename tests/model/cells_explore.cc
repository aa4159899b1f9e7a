// Depth first, each way from its beginning: simulated threads cannot be copied, so a run is made again up to the move
// where it is to differ.

#include <string>
#include <unordered_set>
#include <vector>

#include "tests/model/cells_run.h"
#include "tests/model/cells_world.h"

namespace model {
namespace {

struct Branch {
  size_t taken = 0;
  size_t count = 0;
};

}  // namespace

CellReport ExploreCells(const CellWorld& world, size_t max_states) {
  CellReport report;
  Stories stories;
  std::unordered_set<std::string> seen;
  std::vector<Branch> branches;
  do {
    ++report.runs;
    CellRun run(world, &stories);
    std::string path;
    for (size_t depth = 0;; ++depth) {
      const std::vector<CellMove> moves = run.Moves();
      if (depth == branches.size()) {
        if (!seen.insert(run.Key()).second) break;
        if (moves.empty()) run.CheckEnd();
        if (!moves.empty()) branches.push_back({0, moves.size()});
      }
      if (run.violation().empty() && !moves.empty()) {
        const CellMove& move = moves[branches[depth].taken];
        path += (path.empty() ? "" : ", ") + std::to_string(move.who) + " " + move.Name();
        report.moves.insert(move.Name());
        run.Do(move);
      }
      if (!run.violation().empty()) {
        report.states = seen.size();
        report.violation = run.violation();
        report.path = path;
        return report;
      }
      if (moves.empty()) break;
    }
    while (!branches.empty() && ++branches.back().taken == branches.back().count) branches.pop_back();
  } while (!branches.empty() && seen.size() <= max_states);
  report.states = seen.size();
  report.complete = branches.empty();
  return report;
}

}  // namespace model
