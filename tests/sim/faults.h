// What goes wrong in a run, and when: drawn from its seed.

#ifndef TESTS_SIM_FAULTS_H_
#define TESTS_SIM_FAULTS_H_

#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "tests/sim/config.h"
#include "tests/sim/dice.h"
#include "tests/sim/link.h"

namespace sim {

class Copy;
class World;

// Main thread only.
class Faults {
 public:
  explicit Faults(World& world);

  void Start();
  // Everything that goes wrong ends now. Copies that were killed are started again, soon.
  void End();

 private:
  void Tick();
  void Inject(Fault fault);
  void InjectProcess(Fault fault, Copy& copy);
  void InjectWeather(Fault fault, Copy& copy);
  void CrashStore();
  void Outage();
  // Changes the weather of `copy`, and back after a while.
  void Weather(Copy& copy, absl::Duration longest, const std::function<void(Port::Weather&)>& change);
  bool MayClaimAnEpoch() const;
  Copy& AnyCopy();

  World& world_;
  Dice dice_;
  bool ended_ = false;
  std::vector<Fault> possible_;
};

}  // namespace sim

#endif  // TESTS_SIM_FAULTS_H_
