// One simulated run: everything that is drawn from its seed. A swarm: each seed has only some of the faults, some of
// the workloads, and sizes of its own, so that rare mixtures come up, and a fault does not hide what another would
// show.

#ifndef TESTS_SIM_CONFIG_H_
#define TESTS_SIM_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace sim {

// What the store promises.
enum class Model {
  kLinearizable,   // everything, as one file or a synced server does
  kFollowerReads,  // a read may be answered from the past
  kNoWatch,        // nothing is pushed
  kForgetting,     // after a crash it may have forgotten the last writes that it acknowledged
  kVolatile,       // after a crash it begins anew, empty
  kEvicting,       // as a cache server: no watch, no list, entries vanish, revisions are clocks
};
inline constexpr Model kModels[] = {Model::kLinearizable, Model::kFollowerReads, Model::kNoWatch,
                                    Model::kForgetting,   Model::kVolatile,      Model::kEvicting};
const char* ModelName(Model model);

enum class Fault {
  kCrash,      // a copy is killed, and started again
  kPause,      // a copy stands still, for less or more than its ttl
  kLeave,      // a copy leaves, and joins again
  kBreak,      // a copy breaks another's session
  kCut,        // nothing goes from a copy to the store, or from the store to a copy, or both
  kSlow,       // a link takes much longer
  kLoss,       // requests and replies are lost
  kLate,       // a request arrives when its caller has given up
  kOutage,     // the store cannot be reached by anybody
  kWallJump,   // a copy's wall clock jumps
  kResync,     // a watch is interrupted
  kWatchLag,   // watch events come late
  kDuplicate,  // watch events come twice
  kReorder,    // watch events of different keys or one key change their places
  kCancel,     // callers give up
  kCrashStore  // the store crashes: nothing is lost, or what the model loses
};
inline constexpr int kFaults = 16;
const char* FaultName(Fault fault);

// Something broken on purpose, to see that the checks find it.
enum class Sabotage {
  kNone,
  kWrites,   // conditional writes succeed whatever the revision is
  kPushes,   // watch events are lost, and nobody is told
  kForgets,  // a store that promises to keep everything falls back when it crashes
  kDeaf,     // one copy stays cut off when all faults have ended
};

struct Config {
  uint64_t seed = 0;
  Sabotage sabotage = Sabotage::kNone;  // never drawn
  Model model = Model::kLinearizable;
  int copies = 3;
  int threads = 1;  // of each workload in each copy
  absl::Duration ttl = absl::Seconds(2);
  absl::Duration max_ttl = absl::Seconds(4);
  absl::Duration length = absl::Seconds(20);       // of the time with faults
  absl::Duration latency = absl::Milliseconds(1);  // of a link in one direction, typically
  absl::Duration fault_every = absl::Seconds(2);   // on average
  absl::Duration think = absl::Milliseconds(200);  // of a workload between two operations, on average
  double drift = 0.08;                             // each clock may be off by so much
  bool age = false;                                // entries tell their age
  bool proves_incarnation = false;
  bool hints = false;         // where there is no watch
  bool check_records = true;  // parse every lock record that is written
  uint32_t faults = 0;        // bits by Fault
  std::vector<std::string> workloads;

  bool has(Fault fault) const { return (faults >> static_cast<int>(fault) & 1) != 0; }
  bool watch() const { return model != Model::kNoWatch && model != Model::kEvicting; }
  // Of one call of the store: the copies' option.
  absl::Duration call_timeout() const { return ttl / 4 < absl::Milliseconds(200) ? absl::Milliseconds(200) : ttl / 4; }
  // Nothing that was acknowledged is ever gone.
  bool keeps() const {
    return model == Model::kLinearizable || model == Model::kFollowerReads || model == Model::kNoWatch;
  }
};

// `known_workloads`: those that there are; see workload.h.
Config DrawConfig(uint64_t seed, const std::vector<std::string>& known_workloads);

// One line, in words that Override understands.
std::string ToString(const Config& config);

// `settings`: words as of ToString, which replace what was drawn: "model=evicting copies=2 faults=crash,pause
// workloads=mutex drift=0.3". InvalidArgument names the word that makes no sense.
absl::Status Override(std::string_view settings, const std::vector<std::string>& known_workloads, Config* config);

}  // namespace sim

#endif  // TESTS_SIM_CONFIG_H_
