// Reads in the background what a watch cannot tell: after a resync, or where the store has no watch at all, all the
// time, every ttl/8. One thread, started when it is first needed.

#ifndef COORD_INTERNAL_CELL_REFRESHER_H_
#define COORD_INTERNAL_CELL_REFRESHER_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/runtime.h"

namespace coord::internal {

// Something that is fed by a watch, and can catch up by reading.
class Refreshable {
 public:
  virtual ~Refreshable() = default;
  // Reads, by `deadline` (wall time) at the latest. Unavailable: try again later.
  virtual absl::Status Refresh(absl::Time deadline) = 0;
  // Another epoch has begun: revisions begin anew.
  virtual void OnEpochChanged() = 0;
};

// Thread-safe.
class CellRefresher {
 public:
  explicit CellRefresher(Core* core);
  ~CellRefresher();  // Stop(now)

  // Polled from now on if the store has no watch, and told of new epochs.
  void Add(const std::shared_ptr<Refreshable>& what);
  // Refreshes `what` soon. Never blocks; may be called from a watch callback. What was asked for already is read once.
  void Schedule(const std::weak_ptr<Refreshable>& what);
  void EpochChanged();

  // No refresh begins from now on; waits for a running one until `until` (steady time), then leaves it behind.
  void Stop(absl::Time until);

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_CELL_REFRESHER_H_
