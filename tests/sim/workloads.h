// The workloads that there are, one function each. WorkloadKinds() in workloads.cc lists them.

#ifndef TESTS_SIM_WORKLOADS_H_
#define TESTS_SIM_WORKLOADS_H_

#include <memory>

#include "tests/sim/workload.h"

namespace sim {

std::unique_ptr<Workload> MakeMutex(World& world);
std::unique_ptr<Workload> MakeRetain(World& world);
std::unique_ptr<Workload> MakeFenceEach(World& world);
std::unique_ptr<Workload> MakeSemaphore(World& world);
std::unique_ptr<Workload> MakeSharedMutex(World& world);
std::unique_ptr<Workload> MakeElection(World& world);
std::unique_ptr<Workload> MakeFenced(World& world);
std::unique_ptr<Workload> MakeValue(World& world);
std::unique_ptr<Workload> MakeSharedValue(World& world);
std::unique_ptr<Workload> MakeSharedMap(World& world);
std::unique_ptr<Workload> MakeEvents(World& world);

}  // namespace sim

#endif  // TESTS_SIM_WORKLOADS_H_
