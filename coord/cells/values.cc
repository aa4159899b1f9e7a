#include "coord/cells/values.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/names.h"
#include "kv/store.h"

namespace coord::internal {

namespace {

// An absent revision says the same in every epoch.
absl::Status CheckEpoch(Core& core, const Cell& cell, const Revision& expected) {
  absl::Status open = core.CheckOpen();
  if (!open.ok() || expected.absent() || expected.epoch == core.EpochId()) return open;
  return absl::AbortedError(absl::StrCat("the revision is of ", cell.what(),
                                         " in a store that has been replaced or reset since: read it again, and decide "
                                         "anew"));
}

}  // namespace

Revision PublicRevision(const CellState& state) {
  if (!state.record.has_value()) return {};
  return {state.epoch, state.revision};
}

std::shared_ptr<const Versioned> PublicValue(const CellState& state) {
  if (!state.record.has_value()) return nullptr;
  auto value = std::make_shared<Versioned>();
  value->value = state.record->value;
  value->revision = PublicRevision(state);
  return value;
}

absl::StatusOr<std::shared_ptr<Cell>> OpenCell(Core& core, std::string_view kind, std::string_view what,
                                               std::string_view name) {
  absl::Status status = CheckName(std::string(what) + " name", name);
  if (!status.ok()) return status;
  std::string key = core.CellKey(kind, name);
  status = kv::CheckKey(key, core.store->traits());
  if (!status.ok()) return status;
  return core.cells->FindCell(key, absl::StrCat(std::string(what), " ", QuoteName(name)));
}

absl::Status AbsentError(const Cell& cell) { return absl::NotFoundError(absl::StrCat(cell.what(), " does not exist")); }

absl::StatusOr<Versioned> GetValue(Core& core, Cell& cell, absl::Time deadline) {
  absl::StatusOr<CellStatePtr> state = core.cells->Read(cell, deadline);
  if (!state.ok()) return state.status();
  if (!(*state)->record.has_value()) return AbsentError(cell);
  return *PublicValue(**state);
}

absl::StatusOr<Revision> SetValue(Core& core, Cell& cell, std::string_view value, absl::Time deadline) {
  absl::StatusOr<CellStatePtr> state = core.cells->Modify(
      cell,
      [&](const std::optional<CellRecord>& now) -> absl::StatusOr<std::optional<CellRecord>> {
        CellRecord next = now.value_or(CellRecord());
        next.value.assign(value);
        return next;
      },
      deadline);
  if (!state.ok()) return state.status();
  return PublicRevision(**state);
}

absl::StatusOr<Revision> CompareAndSetValue(Core& core, Cell& cell, const Revision& expected, std::string_view value,
                                            absl::Time deadline) {
  absl::Status status = CheckEpoch(core, cell, expected);
  if (!status.ok()) return status;
  absl::StatusOr<CellStatePtr> state = core.cells->Replace(cell, expected.number, value, deadline);
  if (!state.ok()) return state.status();
  return PublicRevision(**state);
}

absl::StatusOr<Versioned> UpdateValue(Core& core, Cell& cell, const UpdateFunction& fn, absl::Time deadline) {
  absl::StatusOr<CellStatePtr> state = core.cells->Modify(
      cell,
      [&](const std::optional<CellRecord>& now) -> absl::StatusOr<std::optional<CellRecord>> {
        absl::StatusOr<std::string> value = fn(now ? std::optional<std::string>(now->value) : std::nullopt);
        if (!value.ok()) return value.status();
        if (now.has_value() && *value == now->value) return std::nullopt;
        CellRecord next = now.value_or(CellRecord());
        next.value = *std::move(value);
        return next;
      },
      deadline);
  if (!state.ok()) return state.status();
  return *PublicValue(**state);
}

absl::Status DeleteValue(Core& core, Cell& cell, const Revision& expected, absl::Time deadline) {
  absl::Status status = CheckEpoch(core, cell, expected);
  if (!status.ok()) return status;
  if (!expected.absent()) return core.cells->Erase(cell, expected.number, deadline);
  absl::StatusOr<CellStatePtr> state = core.cells->Read(cell, deadline);
  if (!state.ok()) return state.status();
  if (!(*state)->record.has_value()) return AbsentError(cell);
  return absl::AbortedError(absl::StrCat(cell.what(), " exists: to remove it, pass the revision that was read"));
}

}  // namespace coord::internal
