// The one engine behind all cells: last known state or Get -> a pure function -> conditional write with a nonce -> on a
// conflict once more. A primitive of the family is a codec and a few pure functions on it.
//
// A write whose reply did not come (the store says DeadlineExceeded) is settled by reading again:
//   our nonce                     applied
//   the same revision             not settled: the very same write is sent again. Both expect the same revision, so at
//   most one of them is
//                                 applied, whenever the first may arrive
//   another revision without it   applied and overwritten, or never applied: DeadlineExceeded, and never a silent
//   repeat absent                        the same: of two creations both could be applied, with somebody's delete
//   between them
//
// Errors of all calls: Cancelled after Leave. Unavailable: nothing was written, the sentence says why not until
// `deadline`. DeadlineExceeded: a write may have been applied (or the deadline had passed before the call). DataLoss,
// FailedPrecondition: the record is damaged, or of a newer version. ResourceExhausted: too many writes of this process
// to the cell wait already. What else the store says, as it says it.

#ifndef COORD_INTERNAL_CELL_ENGINE_H_
#define COORD_INTERNAL_CELL_ENGINE_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/cell.h"
#include "coord/internal/cell_refresher.h"
#include "coord/internal/core.h"
#include "coord/internal/records.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace coord::internal {

// The record to be written, given the present one (nullopt: absent). Nullopt: leave it as it is. An error ends the
// call. May be called several times. It starts from a copy of the present record, so that fields of a newer minor
// survive; the engine sets the nonce.
using CellFunction = std::function<absl::StatusOr<std::optional<CellRecord>>(const std::optional<CellRecord>& now)>;

// Asked right before every attempt to write; an error ends the call, and nothing more is sent.
using CellCheck = std::function<absl::Status()>;

// Thread-safe. All deadlines are wall clock times, as in the public interface. The Core must outlive it.
class CellEngine {
 public:
  explicit CellEngine(Core* core);
  ~CellEngine();  // Stop
  CellEngine(const CellEngine&) = delete;
  CellEngine& operator=(const CellEngine&) = delete;

  // Ends the waits of all calls (with Cancelled; core->closed is set before) and the background reads, and waits for
  // the latter until `until` (steady time) at most. Idempotent.
  void Stop(absl::Time until);

  // To be called after Core::SetEpochId has named another epoch: what is cached is read again in the background.
  void EpochChanged();

  // The one Cell of this key in this process. `what` names it in messages.
  std::shared_ptr<Cell> FindCell(const std::string& key, const std::string& what);

  // The one object of type T for `key`, made by `make` if there is none that lives. `make` runs under a lock and must
  // not call the engine.
  template <typename T, typename Make>
  std::shared_ptr<T> FindShared(const std::string& key, const Make& make) {
    kv::internal::MutexLock lock(mu_);
    SweepShared();
    std::weak_ptr<void>& slot = shared_[key];
    std::shared_ptr<T> found = std::static_pointer_cast<T>(slot.lock());
    if (found == nullptr) slot = found = make();
    return found;
  }

  // Reads. An absent cell is a state without a record, not an error. `absence_counts`: see Cell::LearnRead.
  absl::StatusOr<CellStatePtr> Read(Cell& cell, absl::Time deadline, bool absence_counts = false);

  // All entries under `prefix`; `what` names them in messages.
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(const std::string& prefix, const std::string& what,
                                                   absl::Time deadline);

  // Applies `fn` until its result is written. Begins from what is known, if anything is; what `fn` makes of such a
  // state without a write (nullopt, or an error) counts only after a read. Returns the state that is there now.
  absl::StatusOr<CellStatePtr> Modify(Cell& cell, const CellFunction& fn, absl::Time deadline,
                                      const CellCheck& check = nullptr);

  // Writes `value` over the state of revision `expected` (0: absent) and no other; Aborted if it is another.
  absl::StatusOr<CellStatePtr> Replace(Cell& cell, kv::Revision expected, std::string_view value, absl::Time deadline);

  // Removes the state of revision `expected` (not 0); Aborted if it is another, NotFound if there is none.
  absl::Status Erase(Cell& cell, kv::Revision expected, absl::Time deadline);

  // Removes the cell whatever it is; OK if it is absent.
  absl::Status Remove(Cell& cell, absl::Time deadline);

  // What the bytes of an entry say; tells the cell, and the log once, if they cannot be used.
  absl::StatusOr<CellStatePtr> Parse(Cell& cell, const kv::Entry& entry, std::string epoch);

  CellRefresher& refresher() { return refresher_; }

 private:
  struct Write;
  struct Outcome;
  class Backoff;
  class Turn;

  absl::Status CheckDeadline(const std::string& what, absl::Time steady) const;
  absl::Status RetryRead(const std::string& what, absl::Time steady, const std::function<absl::Status()>& read);
  absl::StatusOr<CellStatePtr> ReadUntil(Cell& cell, absl::Time steady, bool absence_counts);
  absl::StatusOr<Write> Prepare(const Cell& cell, const CellState& base, CellRecord record, const CellCheck& check);

  absl::Status EraseInTurn(Cell& cell, kv::Revision expected, absl::Time steady, bool* absent);

  // In cell_write.cc. With the turn to write: sends until the outcome is known, and tells the cell.
  Outcome Send(Cell& cell, const Write& write, absl::Time steady);
  absl::Status MaySend(const Cell& cell, const Write& write, absl::Time steady, const absl::Status& last);
  kv::WriteResult Attempt(const Cell& cell, const Write& write, absl::Time steady);
  Outcome Settle(Cell& cell, const Write& write, absl::Time steady, const Cell::Mark& mark,
                 const kv::WriteResult& result);
  Outcome Applied(Cell& cell, const Write& write, const Cell::Mark& mark, kv::Revision revision);

  void SweepShared() KV_REQUIRES(mu_);

  Core* const core_;
  kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> stopping_;
  std::unordered_map<std::string, std::weak_ptr<Cell>> cells_ KV_GUARDED_BY(mu_);
  size_t sweep_at_ KV_GUARDED_BY(mu_) = 1024;  // forget dead cells when there are as many
  std::map<std::string, std::weak_ptr<void>> shared_ KV_GUARDED_BY(mu_);
  CellRefresher refresher_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_CELL_ENGINE_H_
