// One run: the copies, their store, what goes wrong, and what is seen of it.
//
//   joins - faults - healing, in which every worker must succeed - rest - leaving - what is left over

#ifndef TESTS_SIM_WORLD_H_
#define TESTS_SIM_WORLD_H_

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "coord/event_bus.h"
#include "coord/sim_runtime.h"
#include "tests/sim/config.h"
#include "tests/sim/copy.h"
#include "tests/sim/network.h"
#include "tests/sim/observer.h"
#include "tests/sim/report.h"
#include "tests/sim/server.h"
#include "tests/sim/timeline.h"
#include "tests/sim/workload.h"

namespace sim {

enum class Phase { kFaulty, kHealing, kQuiet, kRest, kStop };

class Faults;

class World {
 public:
  World(const Config& config, TimelineMode mode);
  ~World();

  void Run();

  const Config config;
  coord::SimRuntime runtime;
  Network network;
  Timeline timeline;
  Report report;
  Server server;
  Phase phase = Phase::kFaulty;
  std::vector<CopyState> states;  // by number, from 1
  std::unique_ptr<Observer> observer;
  std::shared_ptr<coord::EventDriver> hints;  // null: the store carries events
  std::vector<std::unique_ptr<Workload>> workloads;
  std::vector<std::unique_ptr<Copy>> copies;  // that of number n at n - 1
  std::set<std::string> left_sessions;        // in good order

 private:
  void Heal();
  void Rest();
  void Stop();
  void CheckLeftovers();
  void CheckRecords(const Commit& commit);

  std::unique_ptr<Faults> faults_;
  std::map<std::string, std::string> lock_records_;
};

// Runs one configuration in a world of its own.
struct Outcome {
  Report report;
  std::string timeline;  // if it was to be kept
};
Outcome RunOnce(const Config& config, TimelineMode mode);

}  // namespace sim

#endif  // TESTS_SIM_WORLD_H_
