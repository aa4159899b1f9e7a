// What all SharedMaps of one name in one process share: a Cell per key, and one immutable map of what exists.

#ifndef COORD_CELLS_MAP_STATE_H_
#define COORD_CELLS_MAP_STATE_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/atomic_value.h"
#include "coord/cells/map_index.h"
#include "coord/internal/cell.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/core.h"
#include "coord/internal/hub.h"
#include "coord/internal/read_cache.h"
#include "coord/subscription.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace coord::internal {

// Thread-safe. Locks, in this order: a cell's, then mu_.
// Final, so that a virtual call that the destructor waits for meets no half-destroyed object.
class MapState final : public CellListener, public Refreshable, public std::enable_shared_from_this<MapState> {
 public:
  using Snapshot = std::map<std::string, Versioned, std::less<>>;
  using OnChangeFunction = std::function<void(const std::string& key, const std::optional<Versioned>& now)>;

  // Cells of absent keys that are remembered, so that late pushes cannot bring them back. Beyond that, those are
  // forgotten that the watch has passed.
  static constexpr size_t kMaxAbsent = 1024;

  // On a store that cannot list, one refresh reads at most so many entries, beside those that are new in the index:
  // the others come with the next ones.
  static constexpr size_t kReadsPerRefresh = 256;

  // `prefix` ends with '/'; `what` names the map in messages; `index` is for a store that cannot list, else null.
  MapState(std::shared_ptr<Core> core, std::string prefix, std::string what, const std::shared_ptr<Cell>& index);
  ~MapState() override;

  // Reads once, and follows from then on.
  absl::Status Load(absl::Time deadline) KV_EXCLUDES(mu_);

  std::shared_ptr<const Snapshot> Get() const;

  // The cell of one map key, or InvalidArgument.
  absl::StatusOr<std::shared_ptr<Cell>> CellOf(std::string_view key) KV_EXCLUDES(mu_);

  // To be called before `key` is created: on a store that cannot list, puts it into the index, if it is not there.
  absl::Status Announce(std::string_view key, absl::Time deadline) KV_EXCLUDES(mu_);

  static Subscription OnChange(const std::shared_ptr<MapState>& self, OnChangeFunction fn);

  Core& core() const { return *core_; }

  void OnCell(const std::string& key, const CellStatePtr& now) override KV_EXCLUDES(mu_);
  absl::Status Refresh(absl::Time deadline) override KV_EXCLUDES(mu_);
  absl::Status RefreshHinted(absl::Time deadline) override KV_EXCLUDES(mu_);
  void OnEpochChanged() override KV_EXCLUDES(mu_);

 private:
  class Subscriber;
  class Refreshing;
  using Keys = MapIndex::Keys;
  using Cells = std::map<std::string, std::shared_ptr<Cell>, std::less<>>;

  // In map_refresh.cc.
  void OnHint(std::string_view store_key) KV_EXCLUDES(mu_);
  absl::Status RefreshByList(absl::Time deadline) KV_EXCLUDES(mu_);
  absl::Status RefreshByIndex(absl::Time deadline) KV_EXCLUDES(mu_);
  Keys Due(const Keys& named, bool all) KV_EXCLUDES(mu_);
  absl::Status ReadKeys(const Keys& keys, absl::Time deadline) KV_EXCLUDES(mu_);
  Keys LongAbsent(const Keys& named, const Keys& read) KV_EXCLUDES(mu_);
  absl::Status Forget(const Keys& keys, absl::Time deadline) KV_EXCLUDES(mu_);
  Keys PresentKeys() const KV_EXCLUDES(mu_);

  void OnEvent(const kv::WatchEvent& event) KV_EXCLUDES(mu_);
  bool OnEntryEvent(const kv::WatchEvent& event) KV_EXCLUDES(mu_);
  std::shared_ptr<Cell> FindOrMake(const std::string& key) KV_EXCLUDES(mu_);
  // The map key in a store key; nullopt for what this library never writes there.
  std::optional<std::string> MapKey(const std::string& store_key) const;
  Cells AllCells() const KV_EXCLUDES(mu_);
  bool TooManyAbsent() const KV_REQUIRES(mu_);
  void ForgetAbsent() KV_EXCLUDES(mu_);
  std::shared_ptr<const Snapshot> Fresh() const KV_EXCLUDES(mu_);
  void Post(const std::shared_ptr<Subscriber>& subscriber) KV_REQUIRES(mu_);
  // What `subscriber` has not been told yet.
  std::vector<std::pair<std::string, std::optional<Versioned>>> TakeNews(Subscriber& subscriber) KV_EXCLUDES(mu_);

  const std::shared_ptr<Core> core_;
  const std::string prefix_;
  const std::string what_;
  std::unique_ptr<Hub::Registration>
      registration_;  // set under mu_; destroyed without it, for it waits for the handler
  std::unique_ptr<Hub::Registration> index_registration_;  // the same
  std::unique_ptr<MapIndex> index_;                        // null where the store lists
  ReadCache<Snapshot> cache_;

  mutable kv::internal::Mutex mu_;
  bool loaded_ KV_GUARDED_BY(mu_) = false;
  Cells cells_ KV_GUARDED_BY(mu_);
  Snapshot working_ KV_GUARDED_BY(mu_);
  mutable std::shared_ptr<const Snapshot> snapshot_ KV_GUARDED_BY(mu_);  // null: working_ has changed since
  kv::Revision pushed_ KV_GUARDED_BY(mu_) = 0;                           // how far the watch has come
  int refreshing_ KV_GUARDED_BY(mu_) = 0;
  Keys hinted_ KV_GUARDED_BY(mu_);
  bool new_hinted_ KV_GUARDED_BY(mu_) = false;  // there may be keys that are not known yet
  bool read_all_ KV_GUARDED_BY(mu_) = true;     // the next refresh by the index reads everything
  std::string read_up_to_ KV_GUARDED_BY(mu_);
  std::map<std::string, absl::Time, std::less<>> absent_since_ KV_GUARDED_BY(mu_);  // named by the index, and not there
  size_t forget_at_ KV_GUARDED_BY(mu_) = kMaxAbsent;
  std::vector<std::weak_ptr<Subscriber>> subscribers_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_CELLS_MAP_STATE_H_
