// A value that only the present holder of a lock can write: a write whose fence is older than the newest seen is
// refused, so that a holder that was paused and lost the lock meanwhile cannot spoil what its successor wrote.
//
//   coord::FencedCell state = cluster->FencedCell("importer/position");
//   state.Set(*grant, "4711", deadline);
//
// The first write binds the cell to the lock of its grant ("mutex/importer"); a grant of another lock is refused, for
// fences of different locks cannot be compared. Only exclusive grants are accepted: of a Mutex, an Election, or Acquire
// of a SharedMutex.
//
// What the cell refuses it refuses as long as the store keeps it: a store that drops the entry (kv::Traits::evicting)
// has forgotten the newest fence with it, and the next write binds the cell anew.
//
// Threads, blocking and errors as in AtomicValue, and: FailedPrecondition when the grant is lost, released, downgraded,
// of another lock, or older than the newest seen; the sentence says which. Nothing is written then.

#ifndef COORD_FENCED_CELL_H_
#define COORD_FENCED_CELL_H_

#include "coord/atomic_value.h"
#include "coord/grant.h"

namespace coord {

struct Fenced {
  std::string value;
  Revision revision;
  uint64_t fence = 0;  // of the grant that wrote it
};

class FencedCell {
 public:
  absl::StatusOr<Fenced> Get(absl::Time deadline);  // needs no grant; NotFound if absent
  absl::StatusOr<Revision> Set(const Grant& grant, std::string_view value, absl::Time deadline);
  absl::StatusOr<Fenced> Update(const Grant& grant, const UpdateFunction& fn, absl::Time deadline);

 private:
  friend class Cluster;
  friend struct internal::CellTestPeer;
  FencedCell(std::shared_ptr<internal::Core> core, std::string name);
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_FENCED_CELL_H_
