// What a run, or many, came to.

#ifndef TESTS_SIM_REPORT_H_
#define TESTS_SIM_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/sim/config.h"

namespace sim {

struct Report {
  static constexpr size_t kMaxViolations = 20;  // of which the words are kept

  uint64_t seeds = 0;
  absl::Duration simulated;
  uint64_t operations = 0;
  uint64_t store_calls = 0;
  uint64_t excused = 0;  // moments with more holders than allowed, where the store's row says that there may be
  uint64_t gave_up = 0;  // histories that were too long to decide
  uint64_t faults[kFaults] = {};
  absl::Duration slowest_healing;
  // From the moment at which the store would have let another take over to the moment at which the holder was told, in
  // milliseconds, by the fault that came last. Negative: it was told before.
  std::map<std::string, std::vector<float>> stale_windows;
  std::map<std::string, uint64_t> violations_by_kind;
  std::vector<std::string> violations;
  uint64_t hash = 0;  // of one run's timeline

  uint64_t violation_count() const {
    uint64_t count = 0;
    for (const auto& [kind, number] : violations_by_kind) count += number;
    return count;
  }
  // Called with every violation.
  std::function<void(const std::string& what)> on_violation;

  // `kind` is one word.
  void Violation(const std::string& kind, const std::string& what) {
    ++violations_by_kind[kind];
    if (violations.size() < kMaxViolations) violations.push_back(kind + ": " + what);
    if (on_violation) on_violation(kind + ": " + what);
  }
  void Add(const Report& other);
};

// For a person, without the violations.
std::string ToString(const Report& report, absl::Duration wall);

// From one process to another.
std::string Serialize(const Report& report);
bool Parse(const std::string& text, Report* report);

}  // namespace sim

#endif  // TESTS_SIM_REPORT_H_
