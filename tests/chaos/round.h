// One round of chaos: copies under load on an engine, faults drawn from a seed, and a judgement.

#ifndef TESTS_CHAOS_ROUND_H_
#define TESTS_CHAOS_ROUND_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "tests/chaos/engine.h"
#include "tests/chaos/loads.h"
#include "tests/process/process.h"

namespace chaos {

struct Result {
  Violations violations;
  std::map<std::string, int> faults;  // how often each was begun
  int64_t operations = 0;             // acknowledged writes and stored events
  std::string summary;                // of the loads
};

class Round {
 public:
  // `say` is given a line for each thing that happens.
  Round(Engine* engine, unsigned seed, std::function<void(const std::string&)> say);
  // Blocks for half a minute to a few minutes.
  Result Run(int faults);

 private:
  // A place in the deployment: its copy may be killed, and another one takes its place.
  struct Place {
    std::string name;
    int lives = 0;
    std::unique_ptr<process_test::Process> process;
    std::vector<std::unique_ptr<process_test::Process>> dead;
  };

  bool Begin(Place& place);
  std::vector<Fault> CopyFaults();
  absl::Duration Any(absl::Duration least, absl::Duration most);
  void Hurt(const std::vector<Fault>& engine_faults, const std::vector<Fault>& copy_faults);
  void BeginFault(const Fault& fault);
  void EndFault(const Fault& fault);
  bool AwaitGettingOn(const std::string& since);
  void CheckNothingIsLeft();
  void Fail(const std::string& violation);

  Engine& engine_;
  const unsigned seed_;
  std::mt19937 random_;
  const std::function<void(const std::string&)> say_;
  process_test::TemporaryFolder folder_;
  std::vector<Place> places_;
  std::unique_ptr<Loads> loads_;
  Result result_;
};

}  // namespace chaos

#endif  // TESTS_CHAOS_ROUND_H_
