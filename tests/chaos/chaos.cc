// Chaos: real processes on real servers, killed, stopped, cut off, slowed down, out of disk, with jumping clocks.
//
//   bazel run //tests/chaos -- --hours 1                  an hour, the engines in turn
//   bazel run //tests/chaos -- --hours 1 --engine nats    one of sqlite, nats, nats3, memcached
//   bazel run //tests/chaos -- --rounds 1 --seed 42       the same choices again (their times are real)
//
// nats3 needs a nats-server of 2.10 or later in $COORD_NATS_SERVER. One of another version in $COORD_NATS_SERVER_NEXT
// makes servers go on with that and back. The last line is "violations: K".

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/chaos/engine.h"
#include "tests/chaos/round.h"

ABSL_FLAG(double, hours, 0, "how long; rounds that have begun are ended");
ABSL_FLAG(int, rounds, 0, "how many rounds in all, instead of a time");
ABSL_FLAG(std::string, engine, "all",
          "sqlite, nats, nats3, memcached, or all in turn (nats3 only where it can be had)");
ABSL_FLAG(uint32_t, seed, 0, "of the first round; each further one has the next; 0: any");
ABSL_FLAG(int, faults, 5, "in a round, at most two at a time");
ABSL_FLAG(bool, verbose, false, "tell each thing that happens, not of failed rounds alone");

namespace chaos {
namespace {

struct Kind {
  const char* name;
  absl::StatusOr<std::unique_ptr<Engine>> (*make)();
};
constexpr Kind kKinds[] = {{"sqlite", NewSqlite}, {"nats", NewNats}, {"nats3", NewNats3}, {"memcached", NewMemcached}};

struct Total {
  int rounds = 0;
  int64_t operations = 0;
  size_t violations = 0;
  absl::Duration time;
  std::map<std::string, int> faults;
};

class Progress {
 public:
  void Show(const std::string& text) {
    if (isatty(STDERR_FILENO) != 0) {
      std::fprintf(stderr, "\r\x1b[K%s", text.c_str());
    } else if (absl::Now() > next_) {
      std::fprintf(stderr, "%s\n", text.c_str());
      next_ = absl::Now() + absl::Seconds(30);
    }
  }
  void Clear() const {
    if (isatty(STDERR_FILENO) != 0) std::fprintf(stderr, "\r\x1b[K");
  }

 private:
  absl::Time next_;
};

void Print(const std::map<std::string, Total>& totals) {
  for (const auto& [engine, total] : totals) {
    std::printf("%s: %d rounds, %s, %lld operations, %zu violations\n", engine.c_str(), total.rounds,
                absl::FormatDuration(absl::Trunc(total.time, absl::Seconds(1))).c_str(),
                static_cast<long long>(total.operations), total.violations);
    for (const auto& [fault, count] : total.faults) std::printf("  %5d  %s\n", count, fault.c_str());
  }
  for (const std::string& what : Machine::Get().left_out) std::printf("left out: %s\n", what.c_str());
}

class Campaign {
 public:
  // False if the engine cannot be had.
  bool Round(const Kind& kind, unsigned seed, const std::string& progress) {
    const absl::Time begun = absl::Now();
    auto engine = kind.make();
    if (!engine.ok()) {
      Machine::Get().left_out.push_back(absl::StrCat(kind.name, ": ", engine.status().ToString()));
      return false;
    }
    std::vector<std::string> story;
    const auto say = [&](const std::string& text) {
      story.push_back(
          absl::StrCat(absl::FormatDuration(absl::Trunc(absl::Now() - begun, absl::Milliseconds(1))), "  ", text));
      if (absl::GetFlag(FLAGS_verbose)) std::printf("%s\n", story.back().c_str());
      progress_.Show(absl::StrCat(progress, kind.name, " seed ", seed, ": ", text));
    };
    Result result = chaos::Round(engine->get(), seed, say).Run(absl::GetFlag(FLAGS_faults));
    progress_.Clear();
    Total& total = totals_[kind.name];
    ++total.rounds;
    total.operations += result.operations;
    total.violations += result.violations.size();
    total.time += absl::Now() - begun;
    for (const auto& [fault, count] : result.faults) total.faults[fault] += count;
    violations_ += result.violations.size();
    if (result.violations.empty() && !absl::GetFlag(FLAGS_verbose)) return true;
    std::printf("%s, seed %u\n", kind.name, seed);
    if (!absl::GetFlag(FLAGS_verbose)) {
      for (const std::string& line : story) std::printf("  %s\n", line.c_str());
    }
    std::printf("%s", result.summary.c_str());
    if (!result.violations.empty()) {
      std::printf("again: bazel run //tests/chaos -- --rounds 1 --engine %s --seed %u --faults %d\n", kind.name, seed,
                  absl::GetFlag(FLAGS_faults));
    }
    std::fflush(stdout);
    return true;
  }

  int Run(const std::vector<Kind>& kinds) {
    unsigned seed = absl::GetFlag(FLAGS_seed);
    if (seed == 0) seed = std::random_device()();
    const absl::Time begun = absl::Now();
    const absl::Time end = begun + absl::Hours(1) * absl::GetFlag(FLAGS_hours);
    const int rounds = absl::GetFlag(FLAGS_rounds);
    std::vector<Kind> left = kinds;
    for (int n = 0; !left.empty() && (rounds > 0 ? n < rounds : absl::Now() < end); ++n) {
      const size_t at = static_cast<size_t>(n) % left.size();
      const std::string progress =
          absl::StrCat(absl::FormatDuration(absl::Trunc(absl::Now() - begun, absl::Seconds(1))), " of ",
                       rounds > 0 ? absl::StrCat(rounds, " rounds") : absl::FormatDuration(end - begun), ", round ",
                       n + 1, ", violations ", violations_, "; ");
      if (Round(left[at], seed++, progress)) continue;
      left.erase(left.begin() + static_cast<long>(at));
      --n;
    }
    Print(totals_);
    const bool none = totals_.empty();
    if (none) std::printf("nothing could be run\n");
    std::printf("violations: %zu\n", violations_);
    return violations_ == 0 && !none ? 0 : 1;
  }

 private:
  Progress progress_;
  std::map<std::string, Total> totals_;
  size_t violations_ = 0;
};

int Main() {
  std::vector<Kind> kinds;
  const std::string wanted = absl::GetFlag(FLAGS_engine);
  for (const Kind& kind : kKinds) {
    if (wanted == "all" || wanted == kind.name) kinds.push_back(kind);
  }
  if (kinds.empty()) {
    std::fprintf(stderr, "There is no engine \"%s\": sqlite, nats, nats3, memcached or all.\n", wanted.c_str());
    return 64;
  }
  if (absl::GetFlag(FLAGS_hours) <= 0 && absl::GetFlag(FLAGS_rounds) <= 0) {
    std::fprintf(stderr, "Say how long: --hours H or --rounds N. --help tells all.\n");
    return 64;
  }
  PrepareMachine();
  return Campaign().Run(kinds);
}

}  // namespace
}  // namespace chaos

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  absl::SetProgramUsageMessage(
      "Real processes on real servers under faults. chaos --hours H | --rounds N [--engine NAME] [--seed S]");
  absl::ParseCommandLine(argc, argv);
  return chaos::Main();
}
