// One value that the copies of a plugin share, changed by compare-and-set. Bytes in, bytes out; durable as the store
// is.
//
//   coord::AtomicValue quota = cluster->AtomicValue("invites/acme");
//   quota.Update([](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
//     int used = now ? std::stoi(*now) : 0;
//     if (used >= 10) return absl::ResourceExhaustedError("all 10 invitations are used");
//     return std::to_string(used + 1);
//   }, deadline);
//
// What the store may drop by itself (kv::Traits::evicting), or forgets at a restart, is absent then; a write that
// expects an earlier revision is Aborted. On a store whose reads may lag behind writes (linearizable_reads is false),
// Get may return what another copy has overwritten or removed meanwhile, though never less than this copy has seen; and
// so may what Update(fn) and Delete decide without writing: fn's error, a value that fn leaves as it is, NotFound. No
// write rests on such a read.
//
// Thread safety: all methods, from any thread. Every method blocks for its store calls, until `deadline` at most.
// Errors of every method: InvalidArgument (name, value too large), Cancelled (after Leave), Unavailable (not applied),
// DeadlineExceeded (a write MAY have been applied; it is never repeated silently. Or the deadline had passed before the
// call: nothing was sent), ResourceExhausted (1024 writes of this process to the value wait already), DataLoss or
// FailedPrecondition (damaged record, or of a newer version).

#ifndef COORD_ATOMIC_VALUE_H_
#define COORD_ATOMIC_VALUE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coord {

namespace internal {
struct Core;
struct CellTestPeer;
}  // namespace internal

// Names one state of a value: of which incarnation of the store, and the how-many-eth write there. Default: absent.
struct Revision {
  std::string epoch;
  uint64_t number = 0;

  bool absent() const { return number == 0; }
  bool operator==(const Revision& o) const { return number == o.number && (number == 0 || epoch == o.epoch); }
  bool operator!=(const Revision& o) const { return !(*this == o); }
};

struct Versioned {
  std::string value;
  Revision revision;
};

// The new value, given the present one (nullopt: absent); an error stops the update and is returned as it is. May be
// called several times, on the calling thread, with no lock held: no side effects.
using UpdateFunction = std::function<absl::StatusOr<std::string>(const std::optional<std::string>&)>;

class AtomicValue {
 public:
  absl::StatusOr<Versioned> Get(absl::Time deadline);  // NotFound if absent

  absl::StatusOr<Revision> Set(std::string_view value, absl::Time deadline);  // the last writer wins

  // Writes if the revision is still `expected` (absent(): if there is no value), else Aborted: reread, decide anew.
  // Compares revisions, not values. A revision of another incarnation of the store is Aborted.
  absl::StatusOr<Revision> CompareAndSet(const Revision& expected, std::string_view value, absl::Time deadline);

  // Reads, calls `fn`, writes, and begins again (after a jittered wait that grows to 100 ms) when another copy was
  // faster. Nothing is written when `fn` returns the present value. Starts from the last state this copy has seen, so
  // that the common case is one write.
  absl::StatusOr<Versioned> Update(const UpdateFunction& fn, absl::Time deadline);

  // Removes the value. `expected` as in CompareAndSet. NotFound if it is already absent. A delete whose reply was lost
  // is DeadlineExceeded even if the value is found to be gone: it cannot be told whose delete that was.
  absl::Status Delete(const Revision& expected, absl::Time deadline);

 private:
  friend class Cluster;
  friend struct internal::CellTestPeer;
  AtomicValue(std::shared_ptr<internal::Core> core, std::string name);
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace coord

#endif  // COORD_ATOMIC_VALUE_H_
