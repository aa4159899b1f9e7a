// The epoch of a store: one incarnation of it, named by one record that the copies agree on.
//
// A store that begins anew (a volatile one restarted) has no record, and the first copy makes one. A store that proves
// to have forgotten writes gets another one, by whoever proves it. Sessions and grants carry the epoch's id in
// their keys, so that a write with a revision of a lost incarnation finds nothing.

#ifndef COORD_INTERNAL_EPOCH_H_
#define COORD_INTERNAL_EPOCH_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/records.h"

namespace coord::internal {

// Not thread-safe: owned by the thread that beats.
class EpochKeeper {
 public:
  explicit EpochKeeper(Core* core) : core_(core) {}

  // Reads the record, makes it where there is none (the loser of a race adopts the winner's), and replaces one whose
  // time lies below what this copy knows to have been given out. Steady deadline. FailedPrecondition: this copy's ttl
  // is above the deployment's max_ttl.
  absl::Status Join(absl::Time until);

  // Reads the record again: Aborted if it names another epoch or none; else what the store said. NotFound, where reads
  // may lag: the answer may be of before the epoch, and a write must tell. On a settling epoch also rewrites it as
  // settled once it stood unchanged for max_ttl, twice that where reads may lag: a copy that is shown the old epoch for
  // up to max_ttl stays valid so much longer.
  absl::Status Check(absl::Time until);

  // The store has proved to have forgotten: puts a new epoch in the place of the present one. Once it is OK, or Aborted
  // since somebody else did, Join again.
  absl::Status Replace(absl::Time until);

  const EpochRecord& record() const { return record_; }

 private:
  absl::StatusOr<std::optional<kv::Entry>> Read(absl::Time until);
  absl::Status Write(const std::optional<kv::Entry>& over, EpochRecord record, absl::Time until);
  absl::Status Adopt(const kv::Entry& entry);
  absl::Status SettleIfDue(absl::Time until);
  EpochRecord Fresh(bool settled) const;
  uint64_t HighestFence() const;
  uint64_t Headroom() const;
  bool TooLow(const EpochRecord& record);

  Core* const core_;
  EpochRecord record_;
  kv::Revision revision_ = 0;
  absl::Time first_seen_;           // steady: since when record_ stands unchanged, as far as this copy can say
  uint64_t newest_created_us_ = 0;  // of all epochs this copy has known
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EPOCH_H_
