// Reads in the background what a watch cannot tell: after a resync, or where the store has no watch at all, all the
// time, every ttl/8, and when a hint says that something has changed. One thread, started when it is first needed.

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
  // The same for what hints have named since the last time. If it fails, Refresh is called later.
  virtual absl::Status RefreshHinted(absl::Time deadline) { return Refresh(deadline); }
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
  // RefreshHinted, within kHintJitter, for the other copies have got the hint too. Hints that come meanwhile are
  // folded, so that made-up ones cost one read per kHintJitter/3 at most. Never blocks.
  void ScheduleHinted(const std::weak_ptr<Refreshable>& what);
  void EpochChanged();

  static constexpr absl::Duration kHintJitter = absl::Milliseconds(10);

  // No refresh begins from now on; waits for a running one until `until` (steady time), then leaves it behind.
  void Stop(absl::Time until);

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_CELL_REFRESHER_H_
