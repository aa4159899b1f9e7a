#include "tests/sim/workloads.h"

namespace sim {
namespace {

bool Always(const Config&) { return true; }
bool Watches(const Config& config) { return config.watch(); }

}  // namespace

const std::vector<WorkloadKind>& WorkloadKinds() {
  static const auto* const kinds = new std::vector<WorkloadKind>{
      {"mutex", MakeMutex, Always},
      {"retain", MakeRetain, Always},
      {"fence_each", MakeFenceEach, Always},
      {"semaphore", MakeSemaphore, Always},
      {"shared_mutex", MakeSharedMutex, Always},
      {"election", MakeElection, Always},
      {"fenced", MakeFenced, Always},
      {"value", MakeValue, Always},
      {"shared_value", MakeSharedValue, Always},
      {"shared_map", MakeSharedMap, Always},
      {"events", MakeEvents, Watches},
  };
  return *kinds;
}

std::vector<std::string> WorkloadNames() {
  std::vector<std::string> names;
  for (const WorkloadKind& kind : WorkloadKinds()) names.emplace_back(kind.name);
  return names;
}

}  // namespace sim
