// What the copies of a run do. A workload is one file; it joins by one line in workloads.cc.

#ifndef TESTS_SIM_WORKLOAD_H_
#define TESTS_SIM_WORKLOAD_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/sim/config.h"

namespace sim {

class Copy;
class World;

// The part of a workload that one thread of one process of a copy does. Made, used and destroyed by that thread, unless
// its process is killed.
class Worker {
 public:
  virtual ~Worker() = default;
  // One operation. True if it succeeded: after all faults have ended every worker must do so in time.
  virtual bool Step() = 0;
  // Once, when no worker has stepped for a while and nothing is under way: what must be the same everywhere by now.
  virtual void AtRest() {}
};

// What the workers of all copies share. Lives as long as its run.
class Workload {
 public:
  virtual ~Workload() = default;
  virtual std::unique_ptr<Worker> Start(Copy& copy, int thread) = 0;
  // When all copies have left: checks what was recorded.
  virtual void Finish() {}
};

struct WorkloadKind {
  const char* name;
  std::unique_ptr<Workload> (*make)(World& world);
  bool (*fits)(const Config& config);  // whether the store can carry it
};

const std::vector<WorkloadKind>& WorkloadKinds();
std::vector<std::string> WorkloadNames();

}  // namespace sim

#endif  // TESTS_SIM_WORKLOAD_H_
