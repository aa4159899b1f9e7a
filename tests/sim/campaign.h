// Many seeds, in child processes: what a killed copy leaves in memory goes with them, and a seed that aborts is a
// violation, not the end.

#ifndef TESTS_SIM_CAMPAIGN_H_
#define TESTS_SIM_CAMPAIGN_H_

#include <cstdint>
#include <string>

namespace sim {

struct CampaignOptions {
  uint64_t first_seed = 1;
  uint64_t seeds = 100;
  int jobs = 0;          // 0: one per processor
  std::string settings;  // for Override
  bool shrink = true;
  int stop_after = 5;  // seeds that fail
};

// Prints as it goes, and "violations: K" at last. The exit code of the program: 1 if K > 0, 2 if `settings` make no
// sense.
int RunCampaign(const CampaignOptions& options);

// One seed with its timeline.
int Replay(const CampaignOptions& options);

}  // namespace sim

#endif  // TESTS_SIM_CAMPAIGN_H_
