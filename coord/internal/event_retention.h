// Removes what nobody needs any more: old reliable events, best-effort events and questions whose publisher died before
// it could delete them, cursors that nobody uses.
//
// Reliable events go in the order of revisions, and only after the topic's floor says so: whoever missed one learns of
// it. A topic is trimmed by its publishers, every kTrimEvery-th event or keep_events/8-th if that is more, and by every
// bus about once an hour. Each time the whole topic is read: about nine events read, and one deleted, for each one
// published.
//
// How old an event is comes from the store's own clock where it has one (traits().age); else from the wall clocks of
// publisher and remover, and then a clock that is wrong by hours keeps events that much longer or shorter. A gap is
// reported in any case.

#ifndef COORD_INTERNAL_EVENT_RETENTION_H_
#define COORD_INTERNAL_EVENT_RETENTION_H_

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "coord/internal/core.h"
#include "coord/internal/event_cursor.h"
#include "coord/internal/event_worker.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// Thread-safe; its store calls are the worker's.
class EventRetention : public std::enable_shared_from_this<EventRetention> {
 public:
  static constexpr uint64_t kTrimEvery = 64;
  // Best-effort events, questions and answers that are older have been left behind.
  static constexpr absl::Duration kStale = absl::Minutes(1);

  EventRetention(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker, std::shared_ptr<EventCursors> cursors,
                 StoreEventOptions options);

  // Begins the hourly sweeps, the first within minutes. Idempotent.
  void Start();

  // A reliable event of `topic` with this number was stored by this copy: queues a trim if it is time.
  void OnStored(const std::string& topic, uint64_t number);

  // Trims `topic` now. On the worker's thread.
  void Trim(const std::string& topic);

  // One sweep over all events and cursors of the plugin. On the worker's thread.
  void Sweep();

 private:
  void QueueTrim(const std::string& topic);
  void QueueSweep(absl::Duration after);
  // `entries` are those of one topic, `prefix` what their keys begin with. False if there is more to do.
  bool TrimListed(const std::string& prefix, const std::vector<kv::KeyedEntry>& entries);
  absl::Status RaiseFloor(const std::string& key, std::optional<kv::Entry> entry, uint64_t revision);
  void SweepEvents(std::string_view kind);
  absl::Duration EventAge(const kv::Entry& entry) const;
  // False if the store fails, or the bus is closing: stop for now.
  bool Delete(const std::string& key, kv::Revision revision);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const std::shared_ptr<EventCursors> cursors_;
  const StoreEventOptions options_;
  kv::internal::Mutex mu_;
  bool started_ KV_GUARDED_BY(mu_) = false;
  std::set<std::string> queued_ KV_GUARDED_BY(mu_);  // topics with a trim queued
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_RETENTION_H_
