// One callback of a SharedMap.

#ifndef COORD_CELLS_MAP_SUBSCRIBER_H_
#define COORD_CELLS_MAP_SUBSCRIBER_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "coord/cells/map_state.h"
#include "coord/internal/callback_list.h"

namespace coord::internal {

// It is told what the keys in `news` are when it runs, so that changes which follow quickly are folded.
class MapState::Subscriber {
 public:
  Subscriber(Runtime& runtime, OnChangeFunction fn) : slot(runtime, std::move(fn)) {}
  void Cancel() { slot.Cancel(); }

  CallbackSlot<const std::string&, const std::optional<Versioned>&> slot;
  std::weak_ptr<MapState> owner;
  // Guarded by the owner's lock:
  bool pending = false;                  // a run is posted
  std::set<std::string> news;            // keys that changed since the last run
  std::map<std::string, Revision> told;  // what it knows to exist
};

}  // namespace coord::internal

#endif  // COORD_CELLS_MAP_SUBSCRIBER_H_
