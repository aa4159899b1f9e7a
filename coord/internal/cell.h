// What this copy knows of one cell, and whose turn it is to write it.
//
// Knowledge comes from reads, from own writes, and from the pushes of a watch, which may be late or repeated. A state
// counts only if its revision is above all that was read or written for this cell before (its floor), so that nothing
// ever goes back. Where a store's revisions do not grow, pushes are hints to read again, and a read counts only if
// nothing else was learned since it began. Where reads may lag, one that shows less than is known counts for nothing;
// but absence has no revision, and is believed until a push or a later read contradicts it.

#ifndef COORD_INTERNAL_CELL_H_
#define COORD_INTERNAL_CELL_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/records.h"
#include "coord/runtime.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace coord::internal {

// One state of a cell. Absent: no record, revision 0.
struct CellState {
  std::optional<CellRecord> record;
  kv::Revision revision = 0;
  std::string epoch;  // the store's, read before the state was
};
using CellStatePtr = std::shared_ptr<const CellState>;

// Hears of every new state, in order. Called with the cell's lock held: it publishes and posts, and calls nothing of
// the cell.
class CellListener {
 public:
  virtual ~CellListener() = default;
  virtual void OnCell(const std::string& key, const CellStatePtr& now) = 0;
};

// Thread-safe. The Core must outlive it.
class Cell {
 public:
  static constexpr size_t kMaxWaitingWrites = 1024;

  // `what` names the cell in messages: value "quota".
  Cell(Core* core, std::string key, std::string what);
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;

  const std::string& key() const { return key_; }
  const std::string& what() const { return what_; }

  // How much was known when a call was begun; what the call brings is judged by it.
  struct Mark {
    uint64_t changes = 0;
    uint64_t generation = 0;
  };
  Mark Now() const KV_EXCLUDES(mu_);

  // The newest state, if a write may start from it; else null: read first.
  CellStatePtr Known() const KV_EXCLUDES(mu_);
  // Known(), if something was learned since `mark` and it is newer than `base`; else null.
  CellStatePtr NewerThan(const CellState& base, const Mark& mark) const KV_EXCLUDES(mu_);

  // What is known, if a read that lags has brought an older state than that; else null.
  CellStatePtr NewerThanRead(const CellState& read) const KV_EXCLUDES(mu_);

  // A cell of which a listing has shown that it does not exist.
  void AssumeAbsent(const std::string& epoch) KV_EXCLUDES(mu_);

  // A read that began at `mark`. Absence has no revision, so that a late push could contradict it: on a cell that is
  // fed by a watch it counts only with `absence_counts`.
  void LearnRead(const Mark& mark, const CellStatePtr& state, bool absence_counts) KV_EXCLUDES(mu_);

  // An own write that was applied, sent at `mark` over a state of revision `base`. A delete whose revision is not known
  // has `state` absent and `revision` 0.
  void LearnWrite(const Mark& mark, kv::Revision base, const CellStatePtr& state, kv::Revision revision)
      KV_EXCLUDES(mu_);

  // A pushed state (of a delete: no record, and `revision` is that of the delete). False: it says nothing by itself,
  // read.
  bool LearnPush(const CellStatePtr& state, kv::Revision revision) KV_EXCLUDES(mu_);

  // A record that cannot be used, with the reason. The last good state stays what readers see, but no write starts from
  // it. True if this has not been said of the cell before, so that it is logged once.
  bool LearnDamaged(kv::Revision revision) KV_EXCLUDES(mu_);

  // Something may have been missed: what the snapshot that follows does not confirm has to be read.
  void Unconfirm() KV_EXCLUDES(mu_);
  bool confirmed() const KV_EXCLUDES(mu_);

  // The store is another incarnation: revisions begin anew. Readers keep the last state until another is learned.
  void Reset() KV_EXCLUDES(mu_);

  // Fed by a watch (or a poll): `listener` hears of every state from now on, of the present one at once if there is
  // one.
  void SetListener(CellListener* listener) KV_EXCLUDES(mu_);
  // After it has returned, `listener` is not called. No effect if another has taken its place.
  void ClearListener(CellListener* listener) KV_EXCLUDES(mu_);

  // Whether the cell is known to exist, and the floor; for whoever decides if the cell can be forgotten.
  bool present() const KV_EXCLUDES(mu_);
  bool usable() const KV_EXCLUDES(mu_);  // a write may start from what is known
  kv::Revision floor() const KV_EXCLUDES(mu_);

  // The turn to write, in the order of coming: one write of a process is under way per cell. Unavailable when
  // `deadline` (steady) passes first, Cancelled after Leave, ResourceExhausted when too many wait already.
  absl::Status EnterLane(absl::Time deadline) KV_EXCLUDES(mu_);
  void LeaveLane() KV_EXCLUDES(mu_);
  // Lets those who wait look whether Leave has begun.
  void WakeLane() KV_EXCLUDES(mu_);

 private:
  void Take(const CellStatePtr& state, kv::Revision floor) KV_REQUIRES(mu_);
  // False if a state learned in `epoch` cannot count; begins anew if it is the first of a new epoch.
  bool SameEpoch(const std::string& epoch) KV_REQUIRES(mu_);
  void Restart() KV_REQUIRES(mu_);

  Core* const core_;
  const std::string key_;
  const std::string what_;
  const bool monotonic_;
  const bool linear_;  // reads

  mutable kv::internal::Mutex mu_;
  CellStatePtr known_ KV_GUARDED_BY(mu_);      // the last good state; null: none yet
  bool usable_ KV_GUARDED_BY(mu_) = false;     // a write may start from it
  bool confirmed_ KV_GUARDED_BY(mu_) = false;  // seen since the last resync
  bool damage_told_ KV_GUARDED_BY(mu_) = false;
  bool absence_read_ KV_GUARDED_BY(mu_) = false;  // known_ is absent since a read said so
  std::string epoch_ KV_GUARDED_BY(mu_);          // in which floor_ counts
  kv::Revision floor_ KV_GUARDED_BY(mu_) = 0;
  uint64_t changes_ KV_GUARDED_BY(mu_) = 0;     // counts what was learned
  uint64_t generation_ KV_GUARDED_BY(mu_) = 0;  // counts restarts
  CellListener* listener_ KV_GUARDED_BY(mu_) = nullptr;

  const std::unique_ptr<Condition> turn_;
  std::deque<uint64_t> lane_ KV_GUARDED_BY(mu_);  // the first has the turn
  uint64_t next_in_lane_ KV_GUARDED_BY(mu_) = 1;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_CELL_H_
