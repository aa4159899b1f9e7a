#include "coord/cells/map_index.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/names.h"
#include "kv/store.h"

namespace coord::internal {

namespace {

constexpr size_t kHeaderBytes = 512;  // of the cell's record

// What is no map key was not written by this library.
MapIndex::Keys Parse(const std::string& text) {
  MapIndex::Keys keys;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string key = text.substr(at, end - at);
    if (CheckMapKey("map key", key).ok()) keys.insert(std::move(key));
    at = end + 1;
  }
  return keys;
}

std::string Text(const MapIndex::Keys& keys) {
  std::string text;
  for (const std::string& key : keys) text.append(key).push_back('\n');
  return text;
}

}  // namespace

MapIndex::MapIndex(Core* core, std::shared_ptr<Cell> cell, std::function<Keys()> present)
    : core_(core), cell_(std::move(cell)), present_(std::move(present)) {}

absl::StatusOr<std::optional<MapIndex::Keys>> MapIndex::Read(absl::Time deadline) {
  absl::StatusOr<CellStatePtr> state = core_->cells->Read(*cell_, deadline, /*absence_counts=*/true);
  if (!state.ok()) return state.status();
  if (!(*state)->record.has_value()) return std::optional<Keys>();
  return std::optional<Keys>(Parse((*state)->record->value));
}

bool MapIndex::Names(std::string_view key) const {
  const CellStatePtr known = cell_->Known();
  if (known == nullptr || !known->record.has_value()) return false;
  const std::string& text = known->record->value;
  for (size_t at = text.find(key); at != std::string::npos; at = text.find(key, at + 1)) {
    const size_t end = at + key.size();
    if ((at == 0 || text[at - 1] == '\n') && (end == text.size() || text[end] == '\n')) return true;
  }
  return false;
}

absl::Status MapIndex::CheckSize(size_t keys, size_t bytes) const {
  const size_t limit = core_->store->traits().max_value_bytes;
  if (bytes + kHeaderBytes <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(cell_->what(), " is full: the store \"", core_->store->traits().name,
                                                   "\" cannot list its keys, and the names of ", keys,
                                                   " keys do not fit into one value of ", limit,
                                                   " bytes; spread them over several maps"));
}

absl::Status MapIndex::Change(const Keys& add, const Keys& drop, absl::Time deadline) {
  absl::StatusOr<CellStatePtr> state = core_->cells->Modify(
      *cell_,
      [&](const std::optional<CellRecord>& now) -> absl::StatusOr<std::optional<CellRecord>> {
        Keys keys = now ? Parse(now->value) : present_();
        for (const std::string& key : drop) keys.erase(key);
        keys.insert(add.begin(), add.end());
        CellRecord next = now.value_or(CellRecord());
        next.value = Text(keys);
        if (now ? next.value == now->value : keys.empty()) return std::nullopt;
        if (absl::Status fits = CheckSize(keys.size(), next.value.size()); !fits.ok()) return fits;
        return next;
      },
      deadline);
  if (absl::IsDeadlineExceeded(state.status()) || absl::IsAborted(state.status())) {
    return absl::UnavailableError(std::string(state.status().message()));
  }
  return state.status();
}

}  // namespace coord::internal
