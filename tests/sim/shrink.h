// From a configuration that fails to a smaller one that still does, and what a person is shown of it.

#ifndef TESTS_SIM_SHRINK_H_
#define TESTS_SIM_SHRINK_H_

#include <cstdint>

#include "tests/sim/config.h"
#include "tests/sim/report.h"

namespace sim {

// Runs it in a child process: a crash is a violation of the kind "crash".
Report RunInChild(const Config& config);

// Takes away faults, workloads, copies, threads and time, one after another, and keeps what still violates something of
// a kind that `config` does. At most 200 runs.
Config Shrink(const Config& config);

// Prints the timeline as far as it matters, the violations, and the command that shows them again. Returns how many
// there are.
uint64_t PrintRun(const Config& config);

}  // namespace sim

#endif  // TESTS_SIM_SHRINK_H_
