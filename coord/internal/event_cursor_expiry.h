// Forgets cursors that nobody uses.

#ifndef COORD_INTERNAL_EVENT_CURSOR_EXPIRY_H_
#define COORD_INTERNAL_EVENT_CURSOR_EXPIRY_H_

#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/event_worker.h"
#include "kv/store.h"

namespace coord::internal {

// The mark of an expired cursor is kept for this many times keep_cursors.
inline constexpr int kKeepExpiredCursors = 12;

// Marks the cursors of the plugin in `store` that were not written for `keep_cursors` as expired, so that their owners
// learn of the gap, and removes marks that are much older. Errors are left to the next time. Blocks for one listing and
// one write per expired cursor; ends early when `worker` stops.
void ExpireCursors(Core& core, kv::Store& store, const EventWorker& worker, absl::Duration keep_cursors);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_CURSOR_EXPIRY_H_
