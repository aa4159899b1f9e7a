#include "coord/shared_map.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/cells/map_state.h"
#include "coord/cells/values.h"
#include "coord/internal/callback_list.h"
#include "coord/internal/core.h"
#include "coord/names.h"

namespace coord {

using internal::Cell;
using internal::Core;
using internal::MapState;

struct SharedMap::State {
  std::shared_ptr<MapState> map;
};

absl::StatusOr<std::shared_ptr<SharedMap>> SharedMap::Open(std::shared_ptr<Core> core, std::string_view name,
                                                           absl::Time deadline) {
  absl::Status status = core->CheckOpen();
  if (status.ok()) status = CheckName("map name", name);
  if (!status.ok()) return status;
  const std::string prefix = core->CellKey("map", name) + "/";
  const std::string what = absl::StrCat("map ", QuoteName(name));
  std::shared_ptr<Cell> index;
  if (!core->store->traits().list) {
    index = core->cells->FindCell(core->CellKey("map_index", name), "the index of " + what);
  }
  auto map =
      core->cells->FindShared<MapState>(prefix, [&] { return std::make_shared<MapState>(core, prefix, what, index); });
  status = map->Load(deadline);
  if (!status.ok()) return status;
  return std::shared_ptr<SharedMap>(new SharedMap(std::make_shared<State>(State{std::move(map)})));
}

SharedMap::SharedMap(std::shared_ptr<State> state) : state_(std::move(state)) {}
SharedMap::~SharedMap() = default;

std::shared_ptr<const SharedMap::Snapshot> SharedMap::Get() const { return state_->map->Get(); }

bool SharedMap::Contains(std::string_view key) const {
  const std::shared_ptr<const Snapshot> now = Get();
  return now->find(key) != now->end();
}

std::optional<Versioned> SharedMap::Find(std::string_view key) const {
  const std::shared_ptr<const Snapshot> now = Get();
  const auto found = now->find(key);
  if (found == now->end()) return std::nullopt;
  return found->second;
}

absl::StatusOr<Revision> SharedMap::Set(std::string_view key, std::string_view value, absl::Time deadline) {
  absl::StatusOr<std::shared_ptr<Cell>> cell = state_->map->CellOf(key);
  if (!cell.ok()) return cell.status();
  if (absl::Status announced = state_->map->Announce(key, deadline); !announced.ok()) return announced;
  return internal::SetValue(state_->map->core(), **cell, value, deadline);
}

absl::StatusOr<Revision> SharedMap::CompareAndSet(std::string_view key, const Revision& expected,
                                                  std::string_view value, absl::Time deadline) {
  absl::StatusOr<std::shared_ptr<Cell>> cell = state_->map->CellOf(key);
  if (!cell.ok()) return cell.status();
  if (expected.absent()) {
    if (absl::Status announced = state_->map->Announce(key, deadline); !announced.ok()) return announced;
  }
  return internal::CompareAndSetValue(state_->map->core(), **cell, expected, value, deadline);
}

absl::StatusOr<Versioned> SharedMap::Update(std::string_view key, const UpdateFunction& fn, absl::Time deadline) {
  absl::StatusOr<std::shared_ptr<Cell>> cell = state_->map->CellOf(key);
  if (!cell.ok()) return cell.status();
  if (absl::Status announced = state_->map->Announce(key, deadline); !announced.ok()) return announced;
  return internal::UpdateValue(state_->map->core(), **cell, fn, deadline);
}

absl::Status SharedMap::Delete(std::string_view key, const Revision& expected, absl::Time deadline) {
  absl::StatusOr<std::shared_ptr<Cell>> cell = state_->map->CellOf(key);
  if (!cell.ok()) return cell.status();
  return internal::DeleteValue(state_->map->core(), **cell, expected, deadline);
}

absl::Status SharedMap::Remove(std::string_view key, absl::Time deadline) {
  absl::StatusOr<std::shared_ptr<Cell>> cell = state_->map->CellOf(key);
  if (!cell.ok()) return cell.status();
  return state_->map->core().cells->Remove(**cell, deadline);
}

Subscription SharedMap::OnChange(std::function<void(const std::string& key, const std::optional<Versioned>& now)> fn) {
  return MapState::OnChange(state_->map, std::move(fn));
}

}  // namespace coord
