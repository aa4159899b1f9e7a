// The rule of FencedCell: which grants may write, and over what.

#ifndef COORD_CELLS_FENCING_H_
#define COORD_CELLS_FENCING_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/atomic_value.h"
#include "coord/internal/cell.h"
#include "coord/internal/core.h"
#include "coord/internal/held.h"
#include "coord/internal/records.h"

namespace coord::internal {

// "mutex/importer": the lock whose fences a cell compares.
std::string GuardName(const Held& held);

// OK if `held` may guard a write of `core` at this moment, else FailedPrecondition. `held` may be null: an empty Grant.
absl::Status CheckGrant(const Core& core, const Cell& cell, const std::shared_ptr<Held>& held);

// OK if a grant with this guard and fence may write over `now`, else FailedPrecondition. Pure.
absl::Status CheckFence(const std::string& what, const std::optional<CellRecord>& now, const std::string& guard,
                        uint64_t fence);

// Applies `fn` (which always writes if `always`) under the rule, with the grant checked again right before each
// attempt.
absl::StatusOr<CellStatePtr> ModifyFenced(Core& core, Cell& cell, const std::shared_ptr<Held>& held,
                                          const UpdateFunction& fn, bool always, absl::Time deadline);

}  // namespace coord::internal

#endif  // COORD_CELLS_FENCING_H_
