// The thread that makes the event bus's background store calls: rereads, cursors, deletes. Started by the first job.

#ifndef COORD_INTERNAL_EVENT_WORKER_H_
#define COORD_INTERNAL_EVENT_WORKER_H_

#include <functional>
#include <map>
#include <memory>

#include "absl/time/time.h"
#include "coord/runtime.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// Thread-safe. Jobs run one at a time, the one due first first. A job that fails queues itself again, later: nothing
// here retries. Whoever queues sees to it that it has a bounded number of jobs under way.
class EventWorker {
 public:
  explicit EventWorker(Runtime& runtime);
  ~EventWorker();  // Stop(InfinitePast())
  EventWorker(const EventWorker&) = delete;
  EventWorker& operator=(const EventWorker&) = delete;

  // Runs `job` at `due` (steady) or later. Dropped after Stop. Blocks nobody.
  void Post(absl::Time due, std::function<void()> job);

  // Drops what is queued, runs `last`, and waits for it until `until` (steady). A job that runs on beyond that is left
  // behind, and is the last. Idempotent: only the first call's `last` runs. Not from inside a job.
  void Stop(absl::Time until, std::function<void()> last = nullptr);

  // True once Stop was called: long jobs end early.
  bool stopping() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

// How long to wait after a store call has failed `attempt` times before: 5 ms, doubling up to 1 s, jittered by half.
absl::Duration RetryDelay(Runtime& runtime, int attempt);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_WORKER_H_
