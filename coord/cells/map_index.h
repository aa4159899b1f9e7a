// Which keys a map has, on a store that cannot list: one cell that names them all, one a line.
//
// A key is in the index before its entry is created, and may stay there long after the entry is gone. So the index may
// name too much, and too little only where it was dropped by the store, or in a race that is mended by the next refresh
// of the copy that made the entry (MapState): whoever holds an entry in memory puts its key back.

#ifndef COORD_CELLS_MAP_INDEX_H_
#define COORD_CELLS_MAP_INDEX_H_

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/cell.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/core.h"

namespace coord::internal {

// Thread-safe. The Core must outlive it.
class MapIndex {
 public:
  using Keys = std::set<std::string, std::less<>>;

  // `present` returns the keys whose entries this copy holds: an index that is made anew begins with them.
  MapIndex(Core* core, std::shared_ptr<Cell> cell, std::function<Keys()> present);

  // The store's key of the index.
  const std::string& key() const { return cell_->key(); }

  // One read. Nullopt: the store has no index, or has dropped it.
  absl::StatusOr<std::optional<Keys>> Read(absl::Time deadline);

  // True if the index names `key`, as far as this copy knows. No call.
  bool Names(std::string_view key) const;

  // Adds and drops keys, in one write; none if that changes nothing. ResourceExhausted if it would not fit into one
  // value of the store. Unavailable for what else the store says for the time being, also where the outcome is unknown:
  // that does no harm here, and nothing depends on it.
  absl::Status Change(const Keys& add, const Keys& drop, absl::Time deadline);

 private:
  absl::Status CheckSize(size_t keys, size_t bytes) const;

  Core* const core_;
  const std::shared_ptr<Cell> cell_;
  const std::function<Keys()> present_;
};

}  // namespace coord::internal

#endif  // COORD_CELLS_MAP_INDEX_H_
