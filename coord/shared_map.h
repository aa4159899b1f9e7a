// A map from strings to bytes that every copy keeps in memory, pushed by the store. For a few thousand entries: trigger
// words, subscriptions, per-channel settings. Each entry is a cell of its own: writers of different keys never
// conflict.
//
//   auto words = cluster->SharedMap("triggers", deadline);
//   (*words)->Set("hello", "", deadline);
//   if ((*words)->Contains("hello")) ...
//
// Promises about reads, threads and lifetime as in SharedValue, per key. Keys: 1 to 128 bytes of UTF-8 without control
// characters.
//
// On a store that cannot list its keys (kv::Traits::list) an index, one more entry, names them:
//   - A new key costs one write more, and writers of new keys may conflict; they try again. All keys with their
//   newlines
//     must fit into one value of the store, else ResourceExhausted (1 MiB: 50,000 keys of 20 bytes).
//   - A key that is gone is dropped from the index after idle_record_ttl, or when room is needed.
//   - Opening reads entry by entry. A poll (every ttl/8 or so) reads the index and at most 256 entries, so that without
//     hints the changes of a larger map are late by one poll for each 256.
//   - If the store drops the index, every copy that holds entries in memory puts their keys back at its next poll. Who
//     opens the map before sees less until then. Entries that no copy holds in memory then are found by name only (Set,
//     Update, Delete), never by Get or OnChange.
//   - If the store drops an entry it counts as removed.

#ifndef COORD_SHARED_MAP_H_
#define COORD_SHARED_MAP_H_

#include <map>
#include <vector>

#include "coord/atomic_value.h"
#include "coord/subscription.h"

namespace coord {

class SharedMap {
 public:
  using Snapshot = std::map<std::string, Versioned, std::less<>>;

  ~SharedMap();

  // The newest state this copy has heard of, as one immutable map. Tens of nanoseconds; the first read after a
  // change copies the map.
  std::shared_ptr<const Snapshot> Get() const;
  bool Contains(std::string_view key) const;
  std::optional<Versioned> Find(std::string_view key) const;

  // As in AtomicValue, for one key.
  absl::StatusOr<Revision> Set(std::string_view key, std::string_view value, absl::Time deadline);
  absl::StatusOr<Revision> CompareAndSet(std::string_view key, const Revision& expected, std::string_view value,
                                         absl::Time deadline);
  absl::StatusOr<Versioned> Update(std::string_view key, const UpdateFunction& fn, absl::Time deadline);
  absl::Status Delete(std::string_view key, const Revision& expected, absl::Time deadline);
  // Removes whatever revision is there; OK if it is absent.
  absl::Status Remove(std::string_view key, absl::Time deadline);

  // Calls `fn` on the Cluster's callback thread after every change of a key (null: removed); changes of one key that
  // follow quickly may be folded. Entries that exist already come first.
  Subscription OnChange(std::function<void(const std::string& key, const std::optional<Versioned>& now)> fn);

 private:
  friend class Cluster;
  friend struct internal::CellTestPeer;
  struct State;
  static absl::StatusOr<std::shared_ptr<SharedMap>> Open(std::shared_ptr<internal::Core> core, std::string_view name,
                                                         absl::Time deadline);
  explicit SharedMap(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_SHARED_MAP_H_
