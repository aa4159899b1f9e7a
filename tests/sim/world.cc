#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/records.h"
#include "coord/test_hints.h"
#include "tests/sim/faults.h"
#include "tests/sim/record_checks.h"

namespace sim {
namespace {

coord::SimOptions Options(uint64_t seed) {
  coord::SimOptions options;
  options.seed = seed;
  options.stack_bytes = 128 * 1024;
  return options;
}

std::vector<CopyState> DrawStates(const Config& config) {
  Dice dice(config.seed, "clocks");
  std::vector<CopyState> states(static_cast<size_t>(config.copies) + 1);
  for (size_t i = 1; i < states.size(); ++i) {
    // The extremes matter most.
    const double share = dice.Chance(60) ? (dice.Chance(50) ? -1.0 : 1.0) : dice.Share() * 2 - 1;
    states[i].rate = 1 + config.drift * share;
  }
  return states;
}

}  // namespace

World::World(const Config& given, TimelineMode mode)
    : config(given),
      runtime(Options(given.seed)),
      network(runtime),
      timeline(network, mode),
      server(config, network),
      states(DrawStates(config)) {
  runtime.OnStep([this](const coord::SimStep& step) {
    network.Advance(step.now);
    if (observer != nullptr) observer->Step(step.now);
  });
  report.on_violation = [this](const std::string& what) {
    timeline.Tell(kStore, "violation", 0, [&] { return "VIOLATION " + what; });
    timeline.Mark();
  };
  observer = std::make_unique<Observer>(config, network, timeline, report, states);
  server.OnCommit([this](const Commit& commit) {
    timeline.Tell(kStore, commit.key, commit.revision, [&] {
      return absl::StrCat("from copy ", commit.copy, ": ", commit.key, " @", commit.revision, " = ",
                          commit.deleted ? "(deleted)" : commit.value);
    });
    observer->Committed(commit);
    if (config.check_records) CheckRecords(commit);
  });
  if (config.hints) {
    hints = std::make_shared<coord::testing::FakeHints>(runtime, config.seed,
                                                        coord::testing::HintFaults{20, 10, config.ttl / 4});
  }
  for (const WorkloadKind& kind : WorkloadKinds()) {
    const bool wanted =
        std::find(config.workloads.begin(), config.workloads.end(), kind.name) != config.workloads.end();
    if (wanted && kind.fits(config)) workloads.push_back(kind.make(*this));
  }
  for (int i = 1; i <= config.copies; ++i) copies.push_back(std::make_unique<Copy>(*this, i, states[i]));
  faults_ = std::make_unique<Faults>(*this);
}

World::~World() {
  for (int i = 1; i <= config.copies; ++i) {
    if (copies[i - 1]->running()) copies[i - 1]->Kill();
  }
  hints = nullptr;
  workloads.clear();
  copies.clear();
  network.Clear();
  runtime.OnStep(nullptr);
}

void World::Run() {
  const absl::Time begin = network.now();
  for (auto& copy : copies) copy->Start();
  network.RunUntil(begin + config.ttl);
  faults_->Start();
  network.RunUntil(begin + config.length);
  Heal();
  Rest();
  Stop();
  observer->Finish();
  for (auto& workload : workloads) workload->Finish();
  CheckLeftovers();
  report.seeds = 1;
  report.simulated = network.now() - begin;
  for (auto& copy : copies) report.store_calls += copy->port().calls();
  report.hash = timeline.hash();
}

void World::Heal() {
  faults_->End();
  phase = Phase::kHealing;
  const absl::Time healed = network.now();
  const auto progressed = [&] {
    return std::all_of(copies.begin(), copies.end(), [&](const auto& copy) { return copy->progress() > healed; });
  };
  network.RunUntil(healed + config.ttl * 10 + config.max_ttl * 5 + absl::Seconds(30), progressed);
  report.slowest_healing = network.now() - healed;
  for (const auto& copy : copies) {
    if (copy->progress() > healed || observer->ForgotUnnoticed()) continue;
    report.Violation("progress", absl::StrCat("copy ", copy->number(), " has done nothing in ",
                                              absl::FormatDuration(network.now() - healed), " without faults"));
  }
}

void World::Rest() {
  phase = Phase::kQuiet;
  network.RunUntil(network.now() + config.ttl * 3 + absl::Seconds(2));
  phase = Phase::kRest;
  network.RunUntil(network.now() + absl::Seconds(30), [&] {
    return std::all_of(copies.begin(), copies.end(), [](const auto& copy) { return copy->rested(); });
  });
}

void World::Stop() {
  phase = Phase::kStop;
  for (auto& copy : copies) copy->AskToLeave(false);
  network.RunUntil(network.now() + absl::Seconds(30) + config.ttl * 2, [&] {
    return std::none_of(copies.begin(), copies.end(), [](const auto& copy) { return copy->running(); });
  });
  for (auto& copy : copies) {
    if (!copy->running()) continue;
    report.Violation("leave", absl::StrCat("copy ", copy->number(), " has not left"));
    copy->Kill();
  }
  // Calls that were left behind come to their end.
  network.RunUntil(network.now() + absl::Seconds(5));
}

void World::CheckRecords(const Commit& commit) {
  const std::string kind = LockKind(commit.key);
  if (kind.empty()) return;
  std::string& before = lock_records_[commit.key];
  if (commit.deleted) {
    before.clear();
    return;
  }
  if (const std::string problem = CheckTransition(before, commit.value); !problem.empty()) {
    if (config.keeps()) report.Violation("record", absl::StrCat(commit.key, ": ", problem, ", after ", before));
  }
  before = commit.value;
}

void World::CheckLeftovers() {
  for (const auto& copy : copies) {
    if (copy->port().watches() != 0) {
      report.Violation("leftover", absl::StrCat("copy ", copy->number(), " has left watches behind"));
    }
  }
  for (const kv::KeyedEntry& entry : server.List("")) {
    if (LockKind(entry.key).empty() || !config.keeps()) continue;
    const std::string problem = CheckLeftover(entry.entry.value, left_sessions);
    if (!problem.empty()) report.Violation("leftover", absl::StrCat(entry.key, ": ", problem));
  }
}

Outcome RunOnce(const Config& config, TimelineMode mode) {
  World world(config, mode);
  world.Run();
  Outcome outcome{world.report, ""};
  outcome.report.on_violation = nullptr;
  if (mode == TimelineMode::kKeep) outcome.timeline = world.timeline.Text(3000);
  return outcome;
}

}  // namespace sim
