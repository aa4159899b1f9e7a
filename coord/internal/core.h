// What all primitives of one Cluster share. Handles hold it by shared_ptr, so that they outlive their Cluster safely.

#ifndef COORD_INTERNAL_CORE_H_
#define COORD_INTERNAL_CORE_H_

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "coord/internal/executor.h"
#include "coord/internal/hints.h"
#include "coord/internal/hub.h"
#include "coord/options.h"
#include "coord/runtime.h"
#include "coord/stats.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace coord::internal {

class CellEngine;
class GrantEngine;
class Janitor;
class RevisionGuard;
class SessionKeeper;

// Counters behind Cluster::Stats(), each written with relaxed order.
struct Counters {
  std::atomic<uint64_t> beats{0}, failed_beats{0}, sessions{0}, sessions_lost{0};
  std::atomic<uint64_t> grants{0}, grants_lost{0}, evictions{0}, conflicts{0}, unknown_outcomes{0};
  std::atomic<uint64_t> cell_reads{0}, cell_writes{0}, cell_conflicts{0};
  std::atomic<uint64_t> events_published{0}, events_delivered{0}, event_gaps{0};
};

struct Core : std::enable_shared_from_this<Core> {
  // Sets up everything but the session and the grants, and starts no watch: hub->Start() does.
  explicit Core(JoinOptions options);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  JoinOptions options;  // runtime and log are never null
  Runtime* runtime = nullptr;
  std::shared_ptr<RevisionGuard> guard;
  std::shared_ptr<kv::Store> store;  // the guard: every call of coord/ goes through it
  std::unique_ptr<Hub> hub;
  std::unique_ptr<Hints> hints;
  std::unique_ptr<Executor> callbacks;  // user callbacks, one at a time
  std::shared_ptr<SessionKeeper> session;
  std::shared_ptr<GrantEngine> grants;
  std::shared_ptr<Janitor> janitor;
  std::shared_ptr<CellEngine> cells;  // its owner calls EpochChanged() after SetEpochId, and Stop() at Leave
  Counters counters;
  // Of all fences that this copy has seen, the highest. Kept where revisions do not grow, and fences count by
  // themselves.
  std::atomic<uint64_t> highest_fence{0};
  std::atomic<bool> closed{false};  // Leave has begun: calls return Cancelled

  // OK, or Cancelled with a sentence once Leave has begun.
  absl::Status CheckOpen() const;

  // The wall-clock deadline of one store call for a caller whose own deadline is `steady`: that, or call_timeout from
  // now if sooner.
  absl::Time CallDeadline(absl::Time steady) const;

  // "<plugin>/<kind>/" + EscapeName(name).
  std::string CellKey(std::string_view kind, std::string_view name) const;

  // A nonce for one write: unique over all copies and all time.
  std::string Nonce();

  void NoteFence(uint64_t fence);

  // The id of the present epoch of the store, "" before the first join. Thread-safe.
  std::string EpochId() const;
  void SetEpochId(std::string id);

  void Log(LogLevel level, const std::string& line);

  std::atomic<uint64_t> nonce_counter{0};
  std::string nonce_prefix;  // 16 random hex digits

 private:
  mutable kv::internal::Mutex mu_;
  std::string epoch_id_ KV_GUARDED_BY(mu_);
};

// Waits until `until` (steady).
void Pause(Runtime& runtime, absl::Time until);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_CORE_H_
