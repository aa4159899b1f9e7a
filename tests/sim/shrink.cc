#include "tests/sim/shrink.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <list>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/child.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

constexpr int kMostRuns = 200;

bool Shares(const Report& a, const Report& b) {
  return std::any_of(a.violations_by_kind.begin(), a.violations_by_kind.end(),
                     [&](const auto& entry) { return b.violations_by_kind.count(entry.first) != 0; });
}

std::vector<Config> Smaller(const Config& config) {
  std::vector<Config> all;
  const auto add = [&](auto change) {
    Config smaller = config;
    change(smaller);
    if (ToString(smaller) != ToString(config)) all.push_back(std::move(smaller));
  };
  for (size_t i = 0; config.workloads.size() > 1 && i < config.workloads.size(); ++i) {
    add([&](Config& c) { c.workloads.erase(c.workloads.begin() + static_cast<std::ptrdiff_t>(i)); });
  }
  for (int i = 0; i < kFaults; ++i) add([&](Config& c) { c.faults &= ~(1u << i); });
  if (config.copies > 1) add([](Config& c) { --c.copies; });
  if (config.threads > 1) add([](Config& c) { --c.threads; });
  if (config.length > config.ttl * 2) add([](Config& c) { c.length = c.length * 0.7; });
  if (config.drift > 0) add([](Config& c) { c.drift = 0; });
  add([](Config& c) { c.hints = false; });
  return all;
}

}  // namespace

Report RunInChild(const Config& config) {
  std::list<Child> children;
  children.emplace_back([&](const Child::Sink& sink) {
    std::fclose(stderr);
    alarm(20);
    const Report report = RunOnce(config, TimelineMode::kHash).report;
    for (const std::string& what : report.violations) sink('V', what);
    sink('R', Serialize(report));
  });
  Child& child = children.front();
  Report report;
  bool whole = false;
  std::vector<std::string> violations;
  while (!child.ended()) {
    Child::WaitForAny(children);
    for (const auto& [type, text] : child.Take()) {
      if (type == 'V') violations.push_back(text);
      if (type == 'R') whole = Parse(text, &report);
    }
  }
  report.violations = std::move(violations);
  if (!whole) report.Violation("crash", child.HowItEnded());
  return report;
}

Config Shrink(const Config& given) {
  Config best = given;
  const Report first = RunInChild(given);
  int runs = 1;
  for (bool progress = true; progress && runs < kMostRuns;) {
    progress = false;
    for (const Config& smaller : Smaller(best)) {
      if (++runs > kMostRuns) break;
      if (!Shares(RunInChild(smaller), first)) continue;
      best = smaller;
      progress = true;
      break;
    }
  }
  return best;
}

uint64_t PrintRun(const Config& config) {
  const Report report = RunInChild(config);
  const bool crashes = report.violations_by_kind.count("crash") != 0;
  std::list<Child> children;
  children.emplace_back([&](const Child::Sink&) {
    const Outcome outcome = RunOnce(config, crashes ? TimelineMode::kPrint : TimelineMode::kKeep);
    std::fputs(outcome.timeline.c_str(), stdout);
  });
  while (!children.front().ended()) {
    Child::WaitForAny(children);
    (void)children.front().Take();
  }
  std::string text = absl::StrCat("\nhash of the timeline: ", report.hash, "\n");
  for (const std::string& what : report.violations) absl::StrAppend(&text, "  ", what, "\n");
  absl::StrAppend(&text, "to see it again:\n  bazel run //tests/sim -- --replay --first-seed=", config.seed, " --set='",
                  ToString(config), "'\n");
  std::fputs(text.c_str(), stdout);
  return report.violation_count();
}

}  // namespace sim
