#include "tests/sim/campaign.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <map>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tests/sim/child.h"
#include "tests/sim/shrink.h"
#include "tests/sim/workload.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

constexpr uint64_t kSeedsPerChild = 100;
// Of real time, for one seed: what takes longer goes round in circles.
constexpr unsigned kPatienceSeconds = 60;

absl::StatusOr<Config> ConfigOf(const CampaignOptions& options, uint64_t seed) {
  Config config = DrawConfig(seed, WorkloadNames());
  if (absl::Status status = Override(options.settings, WorkloadNames(), &config); !status.ok()) return status;
  return config;
}

std::string Commit() {
  const char* const workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace == nullptr) return "";
  const std::string command = absl::StrCat("git -C '", workspace, "' rev-parse HEAD 2>/dev/null");
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  char line[64] = "";
  const char* const got = std::fgets(line, sizeof line, pipe);
  pclose(pipe);
  return got == nullptr ? "" : absl::StrCat("commit: ", line);
}

void Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

class Campaign {
 public:
  explicit Campaign(const CampaignOptions& options) : options_(options), begun_(absl::Now()), told_(begun_) {}

  int Run() {
    const size_t jobs = options_.jobs > 0 ? static_cast<size_t>(options_.jobs) : std::thread::hardware_concurrency();
    uint64_t next = options_.first_seed;
    const uint64_t end = options_.first_seed + options_.seeds;
    std::list<Child> children;
    while (!children.empty() || (next < end && !Enough())) {
      while (children.size() < std::max<size_t>(jobs, 1) && next < end && !Enough()) {
        const uint64_t last = std::min(end, next + kSeedsPerChild);
        children.emplace_back([this, first = next, last](const Child::Sink& sink) { RunSeeds(first, last, sink); });
        next = last;
      }
      Child::WaitForAny(children);
      for (auto child = children.begin(); child != children.end();) child = Read(children, child, &next);
      Progress(false);
    }
    Progress(true);
    return Finish();
  }

 private:
  bool Enough() const { return failed_.size() >= static_cast<size_t>(options_.stop_after); }

  // In the child.
  void RunSeeds(uint64_t first, uint64_t last, const Child::Sink& sink) const {
    for (uint64_t seed = first; seed < last; ++seed) {
      sink('B', std::to_string(seed));
      alarm(kPatienceSeconds);
      const Report report = RunOnce(*ConfigOf(options_, seed), TimelineMode::kHash).report;
      for (const std::string& what : report.violations) sink('V', what);
      sink('R', Serialize(report));
    }
  }

  std::list<Child>::iterator Read(std::list<Child>& children, std::list<Child>::iterator child, uint64_t* next) {
    for (const auto& [type, text] : child->Take()) {
      if (type == 'B') child->seed = std::strtoull(text.c_str(), nullptr, 10);
      if (type == 'V') child->violations.push_back(text);
      if (type != 'R') continue;
      Report report;
      if (!Parse(text, &report)) report.Violation("crash", "its report cannot be read");
      report.violations.swap(child->violations);
      Took(child->seed, report);
      child->seed = 0;
    }
    if (!child->ended()) return ++child;
    if (child->seed != 0) {
      Report report;
      report.seeds = 1;
      report.Violation("crash", child->HowItEnded());
      Took(child->seed, report);
      // The rest of its share.
      const uint64_t end = options_.first_seed + options_.seeds;
      const uint64_t share = (child->seed - options_.first_seed) / kSeedsPerChild + 1;
      const uint64_t last = std::min(end, options_.first_seed + share * kSeedsPerChild);
      const uint64_t first = child->seed + 1;
      (void)next;
      if (first < last && !Enough()) {
        children.emplace_back([this, first, last](const Child::Sink& sink) { RunSeeds(first, last, sink); });
      }
    }
    return children.erase(child);
  }

  void Took(uint64_t seed, const Report& report) {
    total_.Add(report);
    if (report.violation_count() == 0) return;
    failed_.emplace(seed, report);
    std::string text = absl::StrCat("\nseed ", seed, " FAILS\n");
    for (const std::string& what : report.violations) absl::StrAppend(&text, "  ", what, "\n");
    Print(text);
  }

  void Progress(bool last) {
    const absl::Time now = absl::Now();
    const bool terminal = isatty(STDERR_FILENO) != 0;
    if (!last && now - told_ < (terminal ? absl::Milliseconds(300) : absl::Seconds(20))) return;
    told_ = now;
    const double seconds = absl::ToDoubleSeconds(now - begun_);
    std::fprintf(stderr, "%s%llu of %llu seeds, %.1f per second, %zu failed%s", terminal ? "\r" : "",
                 static_cast<unsigned long long>(total_.seeds), static_cast<unsigned long long>(options_.seeds),
                 static_cast<double>(total_.seeds) / seconds, failed_.size(), terminal && !last ? "   " : "\n");
  }

  int Finish() {
    const absl::Duration wall = absl::Now() - begun_;
    if (!failed_.empty()) Explain(failed_.begin()->first);
    Print(absl::StrCat(ToString(total_, wall), "violations: ", total_.violation_count(), "\n"));
    return total_.violation_count() > 0 ? 1 : 0;
  }

  void Explain(uint64_t seed) const {
    Config config = *ConfigOf(options_, seed);
    Print(absl::StrCat("\nseed ", seed, ": ", ToString(config), "\n", Commit()));
    if (options_.shrink) {
      config = Shrink(config);
      Print(absl::StrCat("shrunk to: ", ToString(config), "\n"));
    }
    PrintRun(config);
  }

  const CampaignOptions options_;
  const absl::Time begun_;
  absl::Time told_;
  Report total_;
  std::map<uint64_t, Report> failed_;
};

}  // namespace

int RunCampaign(const CampaignOptions& options) {
  const absl::StatusOr<Config> config = ConfigOf(options, options.first_seed);
  if (!config.ok()) {
    std::fprintf(stderr, "%s\n", std::string(config.status().message()).c_str());
    return 2;
  }
  return Campaign(options).Run();
}

int Replay(const CampaignOptions& options) {
  const absl::StatusOr<Config> config = ConfigOf(options, options.first_seed);
  if (!config.ok()) {
    std::fprintf(stderr, "%s\n", std::string(config.status().message()).c_str());
    return 2;
  }
  const uint64_t count = PrintRun(*config);
  Print(absl::StrCat("violations: ", count, "\n"));
  return count > 0 ? 1 : 0;
}

}  // namespace sim
