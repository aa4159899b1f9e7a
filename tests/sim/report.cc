#include "tests/sim/report.h"

#include <algorithm>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sim {

void Report::Add(const Report& other) {
  seeds += other.seeds;
  simulated += other.simulated;
  operations += other.operations;
  store_calls += other.store_calls;
  excused += other.excused;
  gave_up += other.gave_up;
  for (int i = 0; i < kFaults; ++i) faults[i] += other.faults[i];
  slowest_healing = std::max(slowest_healing, other.slowest_healing);
  for (const auto& [kind, windows] : other.stale_windows) {
    auto& all = stale_windows[kind];
    all.insert(all.end(), windows.begin(), windows.end());
  }
  for (const auto& [kind, number] : other.violations_by_kind) violations_by_kind[kind] += number;
  for (const std::string& what : other.violations) {
    if (violations.size() < kMaxViolations) violations.push_back(what);
  }
}

std::string ToString(const Report& report, absl::Duration wall) {
  const double seconds = std::max(absl::ToDoubleSeconds(wall), 1e-9);
  std::string text =
      absl::StrFormat("seeds: %d (%.1f per second)\nsimulated time: %.1f days\n", report.seeds,
                      static_cast<double>(report.seeds) / seconds, absl::ToDoubleHours(report.simulated) / 24);
  absl::StrAppend(&text, "operations: ", report.operations, "\nstore calls: ", report.store_calls, "\nfaults:");
  for (int i = 0; i < kFaults; ++i) {
    if (report.faults[i] > 0) absl::StrAppend(&text, " ", FaultName(static_cast<Fault>(i)), " ", report.faults[i]);
  }
  absl::StrAppend(&text, "\nslowest healing: ", absl::FormatDuration(report.slowest_healing),
                  "\nmore holders than allowed, where the store may forget: ", report.excused,
                  "\nhistories too long to decide: ", report.gave_up,
                  "\nstale-holder window in ms (negative: told before another could take over):\n");
  for (const auto& [kind, windows] : report.stale_windows) {
    std::vector<float> sorted = windows;
    std::sort(sorted.begin(), sorted.end());
    const auto at = [&](double share) {
      return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
    };
    absl::StrAppendFormat(&text, "  %-12s n %7d  p50 %9.1f  p99 %9.1f  max %9.1f\n", kind, sorted.size(), at(0.5),
                          at(0.99), sorted.back());
  }
  for (const auto& [kind, number] : report.violations_by_kind) {
    absl::StrAppend(&text, "violations of ", kind, ": ", number, "\n");
  }
  return text;
}

std::string Serialize(const Report& report) {
  std::ostringstream out;
  out << report.seeds << ' ' << absl::ToInt64Nanoseconds(report.simulated) << ' ' << report.operations << ' '
      << report.store_calls << ' ' << report.excused << ' ' << report.gave_up << ' '
      << absl::ToInt64Nanoseconds(report.slowest_healing) << ' ' << report.hash << '\n';
  for (const uint64_t count : report.faults) out << count << ' ';
  out << '\n' << report.stale_windows.size() << '\n';
  for (const auto& [kind, windows] : report.stale_windows) {
    out << kind << ' ' << windows.size();
    for (const float window : windows) out << ' ' << window;
    out << '\n';
  }
  out << report.violations_by_kind.size() << '\n';
  for (const auto& [kind, number] : report.violations_by_kind) out << kind << ' ' << number << '\n';
  return out.str();
}

bool Parse(const std::string& text, Report* report) {
  std::istringstream in(text);
  int64_t simulated = 0, healing = 0;
  in >> report->seeds >> simulated >> report->operations >> report->store_calls >> report->excused >> report->gave_up >>
      healing >> report->hash;
  report->simulated = absl::Nanoseconds(simulated);
  report->slowest_healing = absl::Nanoseconds(healing);
  for (uint64_t& count : report->faults) in >> count;
  size_t kinds = 0;
  in >> kinds;
  for (size_t i = 0; i < kinds && in; ++i) {
    std::string kind;
    size_t count = 0;
    in >> kind >> count;
    auto& windows = report->stale_windows[kind];
    for (size_t j = 0; j < count && in; ++j) in >> windows.emplace_back();
  }
  in >> kinds;
  for (size_t i = 0; i < kinds && in; ++i) {
    std::string kind;
    uint64_t number = 0;
    in >> kind >> number;
    report->violations_by_kind[kind] = number;
  }
  return !in.fail();
}

}  // namespace sim
