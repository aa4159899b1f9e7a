// The lock protocol as pure functions record -> record: no I/O, no clock, no randomness. One weighted first-in
// first-out queue serves four primitives:
//
//   Mutex, Election   capacity 1            a request weighs 1
//   Semaphore(n)      capacity n            k permits weigh k
//   SharedMutex       capacity kUnbounded   a reader weighs 1, a writer kUnbounded
//
// A request that does not fit stops the queue; nobody overtakes. A release hands over directly: the releasing write
// itself names the next owners.

#ifndef COORD_INTERNAL_GRANT_TRANSITIONS_H_
#define COORD_INTERNAL_GRANT_TRANSITIONS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "coord/internal/records.h"

namespace coord::internal {

// What one copy wants of a record, as a state and not as steps: applying it twice changes nothing the second time. A
// ticket of its own session that `keep` does not list is removed, wherever it stands, so that no lost reply and no
// cancelled request leaves anything behind.
struct GrantChange {
  std::string session;  // this copy's; never empty
  absl::Duration ttl;
  std::string instance;
  absl::Time now;  // wall clock, for the stamps that people read
  std::string nonce;
  uint32_t capacity = 1;              // of the handle: a new record gets it
  std::vector<uint64_t> keep;         // own tickets that stay: held, retained, or waiting (that of `add` stays anyway)
  std::optional<Ticket> add;          // a new request, at the tail; ignored if the record already has its id
  std::vector<std::string> take_out;  // sessions known to be ended: their entries go
  std::optional<Ticket> reweigh;      // downgrade: an owned ticket gets this smaller weight
  std::optional<uint32_t> set_capacity;  // Semaphore::SetPermits
  // Set on this copy's entries, owner and waiter, once `add` is in: what it proclaims.
  std::optional<std::string> value;
  // Where revisions say nothing about earlier records of the name, fences count by themselves: they begin above this.
  std::optional<uint64_t> fence_above;
};

// The record after `change`. `record` is nullopt where the name has none yet; `revision` is then 0. `fence_base` is the
// epoch's creation time in microseconds. Every owner that the write adds gets fence_base + revision + 1 (or one above
// the record's highest fence, if that is larger); in a record just created 0, which stands for fence_base + the
// revision of that very write and is replaced by the number at the next Apply. With `fence_above` it gets one above the
// larger of that and the record's highest fence, whatever the revision.
//
// In this order: `take_out`, `keep`, `reweigh`, `set_capacity`, `add`, `value`; then the head of the queue becomes
// owner while it fits. A ticket that joins an owner entry leaves that entry's fence as it is; the record's grows all
// the same.
//
// Errors: ResourceExhausted when the record would have more than kMaxEntries entries or kMaxTickets tickets;
// InvalidArgument for a weight or capacity of 0, a weight above the capacity, a `reweigh` above the old weight;
// FailedPrecondition for a `reweigh` of what is not owned, and for an `add` while this copy waits already and others
// behind it.
absl::StatusOr<GrantRecord> Apply(const std::optional<GrantRecord>& record, uint64_t revision, uint64_t fence_base,
                                  const GrantChange& change);

// True if `change` would make a difference to anything but the nonce.
bool Changes(const std::optional<GrantRecord>& record, const GrantChange& change);

// True if somebody may want to know of the change at once: who owns, or for how many there is room, or the first has
// come to wait, or the last has gone. Who comes to wait behind others concerns nobody.
bool WorthAHint(const std::optional<GrantRecord>& before, const GrantRecord& after);

// Owner and waiting entry of `session`, or null.
const GrantEntry* FindOwner(const GrantRecord& record, std::string_view session);
const GrantEntry* FindWaiter(const GrantRecord& record, std::string_view session);

// The weight of an entry, and of all owners.
uint64_t Weight(const GrantEntry& entry);
uint64_t OwnedWeight(const GrantRecord& record);

// True if the record has owners' tickets or waiters of any session but `session`. The second: waiters only.
bool OthersPresent(const GrantRecord& record, std::string_view session);
bool OthersWait(const GrantRecord& record, std::string_view session);

// True if `session` waits for more than the capacity, which somebody lowered since: it blocks the queue until its own
// copy gives that request up.
bool Hopeless(const GrantRecord& record, std::string_view session);

// The number behind a fence of 0: fence_base + `revision`, which must be the one that the record was read with.
uint64_t ResolveFence(uint64_t fence, uint64_t revision, uint64_t fence_base);

// Other sessions that stand before the waiting entry of `session`: all owners, and the waiters ahead of it in order.
// All waiters where it has no waiting entry.
struct Ahead {
  std::vector<const GrantEntry*> owners;
  std::vector<const GrantEntry*> waiters;
};
Ahead FindAhead(const GrantRecord& record, std::string_view session);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_GRANT_TRANSITIONS_H_
