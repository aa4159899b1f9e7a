// Runs seeds of the simulation and reports what they came to. See --help.

#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "tests/sim/campaign.h"

ABSL_FLAG(uint64_t, seeds, 100, "how many seeds to run");
ABSL_FLAG(uint64_t, first_seed, 1, "the first of them");
ABSL_FLAG(int, jobs, 0, "processes at a time; 0: one per processor");
ABSL_FLAG(std::string, set, "",
          "what replaces the draw of every seed: words as in the line of a configuration, "
          "such as \"model=evicting copies=2 faults=crash,pause workloads=mutex,value length=20s drift=0.3\"");
ABSL_FLAG(std::string, model, "", "the same as --set model=...");
ABSL_FLAG(std::string, workload, "", "the same as --set workloads=...");
ABSL_FLAG(bool, replay, false, "run --first_seed alone, with its timeline");
ABSL_FLAG(bool, shrink, true, "reduce the first seed that fails");
ABSL_FLAG(int, stop_after, 5, "stop after so many seeds that fail");

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "Simulates copies of a plugin, their store and what goes wrong, one world per seed.\n"
      "  bazel run //tests/sim -- --seeds 1000\n"
      "  bazel run //tests/sim -- --replay --first-seed 17\n"
      "The last line of the output is \"violations: K\"; the exit code is 1 if K is not 0.");
  // --first-seed is --first_seed.
  for (int i = 1; i < argc; ++i) {
    for (char* c = argv[i]; *c != '\0' && *c != '=' && argv[i][0] == '-'; ++c) {
      if (*c == '-' && c > argv[i] + 1) *c = '_';
    }
  }
  absl::ParseCommandLine(argc, argv);
  sim::CampaignOptions options;
  options.seeds = absl::GetFlag(FLAGS_seeds);
  options.first_seed = absl::GetFlag(FLAGS_first_seed);
  options.jobs = absl::GetFlag(FLAGS_jobs);
  options.settings = absl::GetFlag(FLAGS_set);
  if (const std::string model = absl::GetFlag(FLAGS_model); !model.empty()) options.settings += " model=" + model;
  if (const std::string name = absl::GetFlag(FLAGS_workload); !name.empty()) options.settings += " workloads=" + name;
  options.shrink = absl::GetFlag(FLAGS_shrink);
  options.stop_after = absl::GetFlag(FLAGS_stop_after);
  return absl::GetFlag(FLAGS_replay) ? sim::Replay(options) : sim::RunCampaign(options);
}
