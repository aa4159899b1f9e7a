#include "coord/atomic_value.h"

#include <utility>

#include "coord/cells/values.h"
#include "coord/internal/core.h"

namespace coord {

using internal::Cell;

struct AtomicValue::State {
  std::shared_ptr<internal::Core> core;
  absl::StatusOr<std::shared_ptr<Cell>> cell;
};

AtomicValue::AtomicValue(std::shared_ptr<internal::Core> core, std::string name) : state_(std::make_shared<State>()) {
  state_->cell = internal::OpenCell(*core, "value", "value", name);
  state_->core = std::move(core);
}

absl::StatusOr<Versioned> AtomicValue::Get(absl::Time deadline) {
  if (!state_->cell.ok()) return state_->cell.status();
  return internal::GetValue(*state_->core, **state_->cell, deadline);
}

absl::StatusOr<Revision> AtomicValue::Set(std::string_view value, absl::Time deadline) {
  if (!state_->cell.ok()) return state_->cell.status();
  return internal::SetValue(*state_->core, **state_->cell, value, deadline);
}

absl::StatusOr<Revision> AtomicValue::CompareAndSet(const Revision& expected, std::string_view value,
                                                    absl::Time deadline) {
  if (!state_->cell.ok()) return state_->cell.status();
  return internal::CompareAndSetValue(*state_->core, **state_->cell, expected, value, deadline);
}

absl::StatusOr<Versioned> AtomicValue::Update(const UpdateFunction& fn, absl::Time deadline) {
  if (!state_->cell.ok()) return state_->cell.status();
  return internal::UpdateValue(*state_->core, **state_->cell, fn, deadline);
}

absl::Status AtomicValue::Delete(const Revision& expected, absl::Time deadline) {
  if (!state_->cell.ok()) return state_->cell.status();
  return internal::DeleteValue(*state_->core, **state_->cell, expected, deadline);
}

}  // namespace coord
