// Writes events: one Create each. Reliable ones are numbered per topic, one Create under way per topic, so that the
// order of revisions is the order of numbers. Best-effort ones are deleted again a few seconds later.
//
// A number is used once its Create is known to have been applied. If that is unknown when the caller's time is up, the
// same bytes are sent again under the same key, by the worker or by whoever publishes on the topic next, until the
// outcome is known: no later number is written before. So nothing is stored twice, and no number is skipped.

#ifndef COORD_INTERNAL_EVENT_PUBLISHER_H_
#define COORD_INTERNAL_EVENT_PUBLISHER_H_

#include <atomic>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/event_record.h"
#include "coord/internal/event_worker.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// Thread-safe.
class EventPublisher : public std::enable_shared_from_this<EventPublisher> {
 public:
  static constexpr size_t kMaxTopics =
      1024;  // numbered at a time; the one not used longest starts over as another publisher
  static constexpr size_t kMaxWaiting = 1024;    // callers queued on one topic
  static constexpr size_t kMaxToDelete = 16384;  // best-effort events not deleted yet
  static constexpr absl::Duration kKeepBestEffort = absl::Seconds(5);

  // `on_stored(topic)` runs after a reliable event was stored, on the publishing thread, without a lock.
  EventPublisher(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                 std::function<void(const std::string& topic, uint64_t number)> on_stored);

  // The random id of this bus, with which all its publishers begin.
  const std::string& bus() const { return bus_; }

  // Stores an event of `topic`, whose keys begin with `prefix`. `until` is steady. Unavailable: not stored, and it will
  // not be. DeadlineExceeded: the outcome is unknown, or it never came to its turn. ResourceExhausted: kMaxWaiting.
  absl::Status PublishReliable(const std::string& topic, const std::string& prefix, EventEnvelope envelope,
                               absl::Time until);

  // Stores an event for a few seconds. Retries while the store says Unavailable.
  absl::Status PublishBestEffort(const std::string& prefix, EventEnvelope envelope, absl::Time until);

  // Every call that waits returns Cancelled, and later ones too.
  void Close();

  // Deletes own best-effort events that are older than `age`, until `until`. On the worker's thread, or after it has
  // ended.
  void DeleteOld(absl::Duration age, absl::Time until);

 private:
  struct Topic;
  struct Pending {
    std::string key;
    std::string bytes;
    std::string nonce;
  };
  enum class Outcome { kStored, kNotStored, kUnknown, kForeign };
  struct Stored {
    std::string key;
    kv::Revision revision = 0;
    absl::Time at;  // steady
  };

  std::shared_ptr<Topic> FindTopic(const std::string& name) KV_REQUIRES(mu_);
  absl::Status TakeTurn(Topic* topic, absl::Time until) KV_REQUIRES(mu_);
  void EndTurn(Topic* topic) KV_EXCLUDES(mu_);
  absl::Status Send(const std::shared_ptr<Topic>& topic, const std::string& prefix, EventEnvelope envelope,
                    absl::Time until);
  // `*status` is why not, or what is unknown. `maybe_sent`: an earlier attempt has an unknown outcome.
  Outcome CreateUntilKnown(const Pending& pending, bool maybe_sent, absl::Time until, absl::Status* status);
  Outcome TryCreate(const Pending& pending, absl::Time until, absl::Status* status);
  absl::Status SettlePending(Topic* topic, absl::Time until);
  void SettleLater(const std::shared_ptr<Topic>& topic, int attempt);
  void SettleJob(const std::shared_ptr<Topic>& topic, int attempt);
  // False at `until`, or when closed.
  bool Pause(int attempt, absl::Time until) KV_EXCLUDES(mu_);
  void DeleteLater(Stored stored);
  void ScheduleDelete(absl::Duration after) KV_REQUIRES(mu_);
  bool Delete(const Stored& stored);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const std::function<void(const std::string&, uint64_t)> on_stored_;
  std::string bus_;
  std::atomic<uint64_t> best_effort_{0};  // counts best-effort events

  kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> changed_;
  bool closed_ KV_GUARDED_BY(mu_) = false;
  uint32_t incarnations_ KV_GUARDED_BY(mu_) = 0;
  std::map<std::string, std::shared_ptr<Topic>> topics_ KV_GUARDED_BY(mu_);
  std::list<std::string> unused_ KV_GUARDED_BY(mu_);  // topics, the one not used longest first
  std::deque<Stored> to_delete_ KV_GUARDED_BY(mu_);   // oldest first
  bool delete_due_ KV_GUARDED_BY(mu_) = false;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_PUBLISHER_H_
