// One copy of a plugin among its copies. Everything that they share comes by name from here.
//
//   absl::StatusOr<std::unique_ptr<coord::Cluster>> cluster =
//       coord::Cluster::Join({.store = *kv::Open("sqlite:"), .plugin = "com.example.digest", .instance = "server-1"});
//
// Joining gives the copy a session: a record that it rewrites every ttl/3, one write however many grants it holds. If
// the beats fail to reach the store for 5/6 of the ttl the session is lost, and every grant with it; the copy then
// joins again by itself.
//
//   state      meaning                                        grants          next
//   attached   beats are on time                              valid           uncertain, when a beat is overdue (ttl/2)
//   uncertain  no beat got through lately                     valid           attached, or lost at 5/6 of the ttl
//   lost       the session is void                            all lost        attached, under a new session, once the
//   store answers
//
// Thread safety: all methods, from any thread; also from callbacks, Leave and the destructor included. Handles and
// grants may outlive the Cluster: calls then return Cancelled, grants are lost.
//
// Threads: eight small ones per Cluster (beats, loss signals, callbacks, cleaning, four for background writes), two
// more that start when values or events need them, and the store's own. No signal handlers are installed. Not
// fork-safe: fork before joining.

#ifndef COORD_CLUSTER_H_
#define COORD_CLUSTER_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/atomic_value.h"
#include "coord/election.h"
#include "coord/event_bus.h"
#include "coord/fenced_cell.h"
#include "coord/mutex.h"
#include "coord/options.h"
#include "coord/runtime.h"
#include "coord/semaphore.h"
#include "coord/shared_map.h"
#include "coord/shared_mutex.h"
#include "coord/shared_value.h"
#include "coord/stats.h"
#include "kv/internal/mutex.h"

namespace coord {

class Cluster {
 public:
  // Blocks until the copy has a session, for options.join_timeout at most. InvalidArgument: an option is missing or out
  // of range. FailedPrecondition: the store cannot carry the promises (see accept_weaker), holds records of a newer
  // version, or a ttl above the deployment's max_ttl. Unavailable, DeadlineExceeded: the store did not answer; nothing
  // is left behind but a session record that expires.
  static absl::StatusOr<std::unique_ptr<Cluster>> Join(JoinOptions options);

  // Leave, with options.leave_timeout.
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // No new grants; waits end with Cancelled; every grant is lost (OnLost is called) and handed over in the store;
  // events are flushed; the session record is marked ended, so that others need not wait for what was not handed over
  // in time. Returns by `deadline` (wall time) even if the store is dead, then with what was left undone: Unavailable
  // or DeadlineExceeded. Idempotent.
  absl::Status Leave(absl::Time deadline);

  // No I/O: a bad name is reported by the first call of the handle.
  coord::Mutex Mutex(std::string_view name, MutexOptions options = {});
  coord::SharedMutex SharedMutex(std::string_view name);
  coord::Semaphore Semaphore(std::string_view name, uint32_t permits);
  coord::Election Election(std::string_view name);
  coord::AtomicValue AtomicValue(std::string_view name);
  coord::FencedCell FencedCell(std::string_view name);

  // These read the store once, and follow it from then on. Copies of one name share the memory.
  absl::StatusOr<std::shared_ptr<coord::SharedValue>> SharedValue(std::string_view name, absl::Time deadline);
  absl::StatusOr<std::shared_ptr<coord::SharedMap>> SharedMap(std::string_view name, absl::Time deadline);

  EventBus& events();

  SessionState state() const;
  std::string session() const;  // the present session's id; empty while there is none
  const std::string& instance() const;
  const std::string& plugin() const;
  coord::Stats Stats() const;

  // Makes the session `session` of another copy (Inspect shows it) lose: its record is marked broken, the owner's next
  // beat fails and tells it, and its grants go to others as soon as it has been told, or else after its ttl. NotFound:
  // no such session. OK if it had ended already.
  absl::Status Break(std::string_view session, absl::Time deadline);

 private:
  explicit Cluster(std::shared_ptr<internal::Core> core);
  absl::Status LeaveOnce(absl::Time until);

  std::shared_ptr<internal::Core> core_;
  std::unique_ptr<EventBus> events_;
  kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> left_changed_;
  bool left_ KV_GUARDED_BY(mu_) = false;  // Leave is through
};

}  // namespace coord

#endif  // COORD_CLUSTER_H_
