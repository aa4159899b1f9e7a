// What the workloads over locks have in common: ask for one, hold it for a while, give it up, and be seen doing so.

#ifndef TESTS_SIM_GRANTS_H_
#define TESTS_SIM_GRANTS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/cancel.h"
#include "coord/grant.h"
#include "coord/mutex.h"
#include "tests/sim/copy.h"
#include "tests/sim/dice.h"

namespace sim {

// One request for a lock.
struct Request {
  std::string name;  // as the observer calls it: "mutex/m0"
  uint64_t capacity = 1;
  uint64_t weight = 1;
  bool fence_each = false;
  // How it is asked for; one of these is set.
  std::function<absl::StatusOr<coord::Grant>(absl::Time deadline, const coord::CancelToken& cancel)> ask;
  std::function<void(absl::Time deadline, coord::GrantCallback done, const coord::CancelToken& cancel)> ask_async;
  // While it is held. May be empty.
  std::function<void(coord::Grant& grant, Hold* hold)> hold;
  bool may_be_refused = false;  // FailedPrecondition is no surprise
};

// True if it was held.
bool AskAndHold(Copy& copy, Dice& dice, const Request& request);

// Reports a code that no caller expects while things go wrong, or that came too late.
void CheckFailure(Copy& copy, const std::string& what, const absl::Status& status, bool may_be_refused = false);

}  // namespace sim

#endif  // TESTS_SIM_GRANTS_H_
