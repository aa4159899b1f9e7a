// What this copy knows and wants of one lock name. Data only; GrantEngine guards it with its mutex.

#ifndef COORD_INTERNAL_GRANT_STATE_H_
#define COORD_INTERNAL_GRANT_STATE_H_

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/cancel.h"
#include "coord/grant.h"
#include "coord/internal/grant_transitions.h"
#include "coord/internal/held.h"
#include "coord/internal/records.h"
#include "coord/runtime.h"
#include "kv/store.h"

namespace coord::internal {

// What a caller asks for.
struct Ask {
  uint32_t weight = 1;
  bool reader = false;               // shares a ticket with the copy's other readers
  bool try_only = false;             // never queues
  bool standing = false;             // goes on after errors that somebody must mend
  std::optional<std::string> value;  // what a leader proclaims
};

// One Acquire that is under way.
struct Request {
  std::shared_ptr<const GrantName> name;
  Ask ask;
  absl::Time asked;                                 // steady
  absl::Time deadline;                              // steady
  std::function<void(absl::StatusOr<Grant>)> done;  // asynchronous ones
  CancelToken cancel;
  std::atomic<uint64_t> cancel_id{0};

  uint64_t ticket = 0;  // in the present session; 0: none yet
  bool finished = false;
  absl::Status status;              // once finished
  std::shared_ptr<Held> held;       // once finished with OK
  std::unique_ptr<Condition> wake;  // where the caller waits
};

// A ticket that the record grants to this copy and that is in use here.
struct LocalTicket {
  uint32_t weight = 1;
  bool reader = false;
  uint64_t fence = 0;
  std::vector<std::shared_ptr<Held>> holders;  // empty: free to be passed on, retained, or given up next
  bool retained = false;                       // free, and kept on purpose
};

// Who leads, for those who only look. Read without the engine's mutex.
class LeaderCell;

struct NameState : std::enable_shared_from_this<NameState> {
  // Identity.
  uint64_t number = 0;  // counts those of one copy
  std::string kind;
  std::string name;
  std::string epoch;                  // of the key
  std::string key;                    // "<plugin>/<kind>/<epoch>/<escaped name>"
  std::string session;                // whose tickets are below
  std::shared_ptr<SessionLife> life;  // of that session

  // The record as last seen.
  bool known = false;  // it has been read at all; record may still be absent
  std::optional<GrantRecord> record;
  kv::Revision revision = 0;                     // 0: absent
  kv::Revision floor = 0;                        // the highest ever seen for this key: pushes must be above it
  absl::Time looked_at;                          // steady: when the call was sent that last confirmed the view
  absl::Time answered_at;                        // steady: when that call came back; what is due next counts from here
  absl::Time changed_at;                         // steady: when the record was last seen to change
  absl::Time epoch_at = absl::InfinitePast();    // steady: when a read was sent that found the epoch as it was
  absl::Time proved_at = absl::InfinitePast();   // the same, of a call that proved it: one that cannot lag
  double poll_jitter = 1;                        // drawn anew with every look, so that copies do not poll in step
  absl::Time hint_due = absl::InfiniteFuture();  // steady: a hint says to read, then at the latest
  absl::Duration hint_gap;                       // grows while hints bring nothing new: they may be made up
  uint64_t fence_seen = 0;                       // the highest of the name that this copy has seen

  // What is wanted.
  std::deque<std::shared_ptr<Request>> pending;  // only the first may have a ticket in the record
  std::map<uint64_t, LocalTicket> tickets;
  uint32_t capacity = 1;  // of the handles here: what a record that this copy makes gets
  bool retain = false;    // keep a free ticket while nobody else waits
  std::optional<uint32_t> want_capacity;
  std::shared_ptr<const GrantName> capacity_for;  // the handle that goes on with it
  std::optional<std::string> want_value;
  absl::Status refused;                // why one of these two was given up
  std::shared_ptr<LeaderCell> leader;  // somebody observes
  bool verify = false;                 // read before believing in what is held
  bool touch = false;                  // the same by a write that changes nothing, where a read proves too little

  // A conditional write whose outcome is open: until a later one's is known, or the revision has moved, it may yet
  // arrive.
  bool unsettled = false;
  kv::Revision unsettled_at = 0;  // what it expected; 0: absence

  // Work.
  bool busy = false;  // a thread drives it
  absl::Time due = absl::InfiniteFuture();
  absl::Time queued = absl::InfiniteFuture();  // its place in the work queue
  absl::Time backoff_until = absl::InfinitePast();
  int conflicts = 0;        // conditional writes in a row that lost
  int failures = 0;         // calls in a row that failed or lost
  absl::Status last_error;  // of the last call, OK if it came through
  absl::Time used_at;       // steady: last written or asked for by this copy
  absl::Time written_at = absl::InfinitePast();
  std::unique_ptr<Condition> changed;  // for those who wait for a give-up or a change to be in the store
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_GRANT_STATE_H_
