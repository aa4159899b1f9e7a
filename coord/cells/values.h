// The operations that all plain cells share, in terms of the public types.

#ifndef COORD_CELLS_VALUES_H_
#define COORD_CELLS_VALUES_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/atomic_value.h"
#include "coord/internal/cell.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/core.h"

namespace coord::internal {

Revision PublicRevision(const CellState& state);
// Null if absent.
std::shared_ptr<const Versioned> PublicValue(const CellState& state);

// The cell of `kind` and `name`, or InvalidArgument. `what` is the noun for messages ("value").
absl::StatusOr<std::shared_ptr<Cell>> OpenCell(Core& core, std::string_view kind, std::string_view what,
                                               std::string_view name);

// As the methods of AtomicValue.
absl::StatusOr<Versioned> GetValue(Core& core, Cell& cell, absl::Time deadline);
absl::StatusOr<Revision> SetValue(Core& core, Cell& cell, std::string_view value, absl::Time deadline);
absl::StatusOr<Revision> CompareAndSetValue(Core& core, Cell& cell, const Revision& expected, std::string_view value,
                                            absl::Time deadline);
absl::StatusOr<Versioned> UpdateValue(Core& core, Cell& cell, const UpdateFunction& fn, absl::Time deadline);
absl::Status DeleteValue(Core& core, Cell& cell, const Revision& expected, absl::Time deadline);

absl::Status AbsentError(const Cell& cell);

}  // namespace coord::internal

#endif  // COORD_CELLS_VALUES_H_
