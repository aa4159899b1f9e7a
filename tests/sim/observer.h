// Sees what the copies hold, from outside of all of them and in true time, and checks at every step of the simulation
// what must hold between them:
// - never more holders than the lock allows, each asked as its own process would be (Grant::Lost compares its clock);
// - fences of exclusive grants strictly increase per name (threads of one copy may share one);
// - nobody ends a session that is still valid by its owner's clock;
// - a loss is signalled exactly once, and before another could have taken over unless the process itself stood still.
// Where the model of the store may forget, what its row in docs/guarantees.md leaves open is excused, and counted.

#ifndef TESTS_SIM_OBSERVER_H_
#define TESTS_SIM_OBSERVER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/grant.h"
#include "coord/internal/held.h"
#include "tests/sim/config.h"
#include "tests/sim/report.h"
#include "tests/sim/server.h"
#include "tests/sim/timeline.h"

namespace sim {

// A copy's clock and condition, as the faults make them.
struct CopyState {
  double rate = 1.0;
  bool paused = false;
  absl::Time last_resume = absl::InfinitePast();
  Fault last_fault = Fault::kCancel;  // kCancel: none lately
  absl::Time last_fault_at = absl::InfinitePast();
};

struct Hold {
  int copy = 0;
  std::string name;  // "mutex/m0"
  uint64_t capacity = 1;
  uint64_t weight = 1;
  uint64_t fence = 0;
  std::string session;
  std::shared_ptr<coord::internal::Held> held;  // while it may be valid
  absl::Time since;
  int signals = 0;
  bool valid = true;          // as of the last step
  bool process_gone = false;  // killed while it held
  bool ended = false;         // its user is through
  enum End { kGivenUp, kLost, kEither } end = kEither;
};

class Observer {
 public:
  Observer(const Config& config, const Network& network, Timeline& timeline, Report& report,
           std::vector<CopyState>& copies);

  // A grant that a copy has just been given. The result lives as long as this.
  Hold* Acquired(int copy, const std::string& name, uint64_t capacity, uint64_t weight, bool fence_each,
                 coord::Grant& grant);
  void Downgraded(Hold* hold) { hold->weight = 1; }
  // Its user is through, with the grant given up, lost, or who knows.
  void Ended(Hold* hold, Hold::End end);

  void Step(absl::Time now);
  void Committed(const Commit& commit);
  void Killed(int copy);
  // The store has forgotten something, in a way that its copies may notice late.
  void Forgot() {
    forgot_ = network_.now();
    noticed_ = absl::InfiniteFuture();
  }
  // It has, and no copy has noticed: whoever knows a later state of a record may then wait for it in vain.
  bool ForgotUnnoticed() const { return noticed_ == absl::InfiniteFuture(); }
  void Finish();

 private:
  struct Session {
    absl::Time last_beat = absl::InfinitePast();
    absl::Time ended = absl::InfiniteFuture();  // by another, or broken
    absl::Duration ttl;
  };

  absl::Time Steady(int copy) const;
  bool Valid(const Hold& hold) const;
  bool Excused() const;
  absl::Duration UntilAllNotice() const;
  bool AllHaveNoticed() const;
  void CheckCapacity(const std::string& name);
  void CheckFence(Hold* hold, bool fence_each);
  void Signalled(Hold* hold);

  const Config& config_;
  const Network& network_;
  Timeline& timeline_;
  Report& report_;
  std::vector<CopyState>& copies_;
  const absl::Time begin_;
  absl::Time forgot_ = absl::InfinitePast();
  // When a new epoch began since; InfiniteFuture: not yet.
  absl::Time noticed_ = absl::InfinitePast();
  std::deque<Hold> all_;
  std::vector<Hold*> live_;
  struct Highest {
    uint64_t fence = 0;
    std::string session;
  };
  std::map<std::string, Highest> highest_;
  std::map<std::string, Session, std::less<>> sessions_;
  const double fastest_;
};

}  // namespace sim

#endif  // TESTS_SIM_OBSERVER_H_
