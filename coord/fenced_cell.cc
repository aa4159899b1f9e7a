#include "coord/fenced_cell.h"

#include <utility>

#include "coord/cells/fencing.h"
#include "coord/cells/values.h"
#include "coord/internal/core.h"

namespace coord {

namespace {

Fenced PublicFenced(const internal::CellState& state) {
  return {state.record->value, internal::PublicRevision(state), state.record->fence};
}

}  // namespace

struct FencedCell::State {
  std::shared_ptr<internal::Core> core;
  absl::StatusOr<std::shared_ptr<internal::Cell>> cell;
};

FencedCell::FencedCell(std::shared_ptr<internal::Core> core, std::string name) : state_(std::make_shared<State>()) {
  state_->cell = internal::OpenCell(*core, "fenced", "fenced cell", name);
  state_->core = std::move(core);
}

absl::StatusOr<Fenced> FencedCell::Get(absl::Time deadline) {
  if (!state_->cell.ok()) return state_->cell.status();
  absl::StatusOr<internal::CellStatePtr> state = state_->core->cells->Read(**state_->cell, deadline);
  if (!state.ok()) return state.status();
  if (!(*state)->record.has_value()) return internal::AbsentError(**state_->cell);
  return PublicFenced(**state);
}

absl::StatusOr<Revision> FencedCell::Set(const Grant& grant, std::string_view value, absl::Time deadline) {
  if (!state_->cell.ok()) return state_->cell.status();
  absl::StatusOr<internal::CellStatePtr> state = internal::ModifyFenced(
      *state_->core, **state_->cell, grant.held(),
      [&](const std::optional<std::string>&) { return std::string(value); }, /*always=*/true, deadline);
  if (!state.ok()) return state.status();
  return internal::PublicRevision(**state);
}

absl::StatusOr<Fenced> FencedCell::Update(const Grant& grant, const UpdateFunction& fn, absl::Time deadline) {
  if (!state_->cell.ok()) return state_->cell.status();
  absl::StatusOr<internal::CellStatePtr> state =
      internal::ModifyFenced(*state_->core, **state_->cell, grant.held(), fn, /*always=*/false, deadline);
  if (!state.ok()) return state.status();
  return PublicFenced(**state);
}

}  // namespace coord
