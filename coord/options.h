// What a copy says when it joins.

#ifndef COORD_OPTIONS_H_
#define COORD_OPTIONS_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "coord/runtime.h"
#include "kv/store.h"

namespace coord {

class EventDriver;

enum class LogLevel { kInfo, kWarning };

// Called from any thread of the library, perhaps from several at once, never under a lock. `line` has no newline and no
// secret.
using LogFunction = std::function<void(LogLevel level, std::string_view line)>;

enum class SessionState {
  kAttached,   // beats are on time
  kUncertain,  // a beat is overdue: grants still hold, but may soon be lost
  kLost,       // every grant of the session is lost; the copy is trying to join again
};

struct JoinOptions {
  // Required: where the truth is kept (kv::Open). May be shared by several Clusters.
  std::shared_ptr<kv::Store> store;
  // What carries events (coord/open_events.h); null: the store's own watch. On a store without a watch it also carries
  // hints, if it can: which record was just written, so that copies which wait need not wait for their next poll.
  std::shared_ptr<EventDriver> events;
  // Required: all copies of one plugin say the same; no other plugin's keys can be reached.
  std::string plugin;
  // Required: a label of this copy, shown to people and used to aim events. Two live copies with one label may join; a
  // warning says so where the store can list, and events aimed at the label reach both.
  std::string instance;
  // How long after its last beat a silent copy may be replaced. 100 ms to max_ttl. Shorter means sooner failover and
  // more writes (one per ttl/3), and less patience with pauses of the process: a pause beyond 5/6 of it loses the
  // grants.
  absl::Duration ttl = absl::Seconds(10);
  // The longest ttl of any copy of this deployment; the first copy's value is kept in the store, and a larger ttl is
  // refused then. When a store begins anew nobody is granted anything for so long, and twice that on one whose reads
  // may lag behind its writes: there choose it no shorter than they may (20 s for NATS with replicas).
  absl::Duration max_ttl = absl::Seconds(60);
  // How long Join may take.
  absl::Duration join_timeout = absl::Seconds(10);
  // How long one call of the store may take before it counts as failed. At most this long does a caller with a later
  // deadline wait for a dead store before it tries again.
  absl::Duration call_timeout = absl::Seconds(2);
  // What the destructor gives Leave. At most a minute.
  absl::Duration leave_timeout = absl::Seconds(2);
  // How long a lock record that nobody uses stays before it is removed. None is where the store's revisions may begin
  // anew (kv::Traits::monotonic_revisions is false): the record counts the fences.
  absl::Duration idle_record_ttl = absl::Hours(1);
  // Accept a store that cannot carry what the primitives promise; one warning names what is missing, and
  // coord/guarantees.h tells what each store does promise.
  bool accept_weaker = false;
  // Where log lines go; null: warnings to stderr.
  LogFunction log;
  // Called on the Cluster's callback thread with every change of the session's state.
  std::function<void(SessionState)> on_state;
  // Null: RealRuntime(). Tests pass a simulated one (coord/testing.h).
  Runtime* runtime = nullptr;
};

}  // namespace coord

#endif  // COORD_OPTIONS_H_
