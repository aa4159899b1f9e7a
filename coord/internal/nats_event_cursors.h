// The bucket that keeps the cursors of one bus, opened by the first that needs it.

#ifndef COORD_INTERNAL_NATS_EVENT_CURSORS_H_
#define COORD_INTERNAL_NATS_EVENT_CURSORS_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/event_cursor.h"
#include "coord/internal/event_worker.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace coord::internal {

// Thread-safe.
class NatsEventCursors : public std::enable_shared_from_this<NatsEventCursors> {
 public:
  // Opens the bucket; `deadline` is wall time.
  using Opener = std::function<absl::StatusOr<std::shared_ptr<kv::Store>>(absl::Time deadline)>;

  // Whether the bucket was lost and made anew. NotFound: it is not there; Unavailable, DeadlineExceeded: try again.
  using LossCheck = std::function<absl::StatusOr<bool>(kv::Store& bucket, absl::Time deadline)>;

  // Cursors that did not move for `keep` are forgotten, about once an hour.
  NatsEventCursors(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker, Opener opener, LossCheck was_lost,
                   absl::Duration keep);

  // FailedPrecondition: the bucket exists with other settings. Unavailable, DeadlineExceeded: it could not be opened
  // until `until` (steady).
  absl::StatusOr<std::shared_ptr<EventCursors>> Get(absl::Time until);

  // EventCursors::Present::lost: why a cursor that does not exist may have been lost, "" if it cannot have been. Makes
  // the bucket again if it is gone. Only after Get; else as that.
  absl::StatusOr<std::string> Loss(absl::Time until);

  // Writes what is not written yet, until `until` (steady). On the worker's thread.
  void Flush(absl::Time until);

  // Forgets what nobody uses, now. On the worker's thread.
  void Sweep();

 private:
  absl::StatusOr<std::shared_ptr<EventCursors>> Open(absl::Time until);
  void QueueSweep(absl::Duration after);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const Opener opener_;
  const LossCheck was_lost_;
  const absl::Duration keep_;
  kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> idle_;
  bool opening_ KV_GUARDED_BY(mu_) = false;
  std::shared_ptr<kv::Store> store_ KV_GUARDED_BY(mu_);
  std::shared_ptr<EventCursors> cursors_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_CURSORS_H_
