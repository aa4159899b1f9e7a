// Publishes reliable events, many at a time.
//
// Each topic has a publisher of its own: a random id and a count. An event gets its number when it is first sent, in
// the order of the calls, and what follows is sent without waiting for its acknowledgement. So the stream may lack a
// number and have later ones. Then the topic is *in repair*:
//
//   state       until                                          what is sent
//   flowing     one event fails, or its outcome is unknown     new events, as they come
//   in repair   every event that was sent is acknowledged      after all requests under way have ended: what is not
//                                                              acknowledged, in order, under the same numbers; again
//                                                              after a jittered pause if need be. No new event
//
// A caller whose deadline passes meanwhile learns so, and its event stays where it is: later numbers are of use only
// once it is stored. It is dropped, and its number used for the next one, if certainly no attempt was stored and no
// later number was sent. An event that the server refuses for good leaves a hole in the numbers, which an empty
// message under its number fills.
//
// Bounds: `max_in_flight` events and kMaxBytes from the oldest that is not settled on, over all topics; then callers
// wait. kMaxDue calls of `done`.

#ifndef COORD_INTERNAL_NATS_EVENT_PUBLISHER_H_
#define COORD_INTERNAL_NATS_EVENT_PUBLISHER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "coord/internal/callback_list.h"
#include "coord/internal/core.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/nats_event_wire.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"

namespace coord::internal {

// Thread-safe.
class NatsEventPublisher : public std::enable_shared_from_this<NatsEventPublisher> {
 public:
  static constexpr size_t kMaxTopics = 1024;  // the one not used longest starts over as another publisher
  static constexpr size_t kMaxBytes = kMaxNatsEventWindowBytes;
  static constexpr size_t kMaxDue = 16384;
  static constexpr int kPerTurn = 64;  // events that one caller sends, of others too, before the worker goes on

  // How it reaches the server. The functions may block for a moment, and are called without a lock.
  struct Transport {
    // As NatsConnection::RequestAsync, but for the answer: OK is stored, Unavailable is not stored, FailedPrecondition
    // and InvalidArgument are not stored and never will be; else unknown.
    using Outcome = std::function<void(const absl::Status&)>;
    std::function<absl::Status(const std::string& subject, std::string_view payload, const kv::NatsHeaders& headers,
                               absl::Time deadline, Outcome outcome)>
        send;
    // Before a repair: sees to it that the stream exists.
    std::function<void(absl::Time deadline)> look_after;
    std::function<bool()> connected;
    bool drops_repeats = true;  // where the server is asked to
  };

  // `bus` is the id with which all its publishers begin.
  NatsEventPublisher(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker, Transport transport,
                     const NatsEventSubjects& subjects, std::string bus, size_t max_in_flight);
  ~NatsEventPublisher();

  // EventBus::Publish and PublishAsync; `until` is steady. The payload's size was checked.
  absl::Status Publish(std::string_view topic, std::string_view to, std::string_view payload, absl::Time until);
  void PublishAsync(std::string_view topic, std::string_view to, std::string_view payload, absl::Time until,
                    PublishDone done);

  // Waits until every event given to it before is settled.
  absl::Status Flush(absl::Time until);

  // Takes nothing more, waits until `until` for what is under way while there is a connection, and tells the rest
  // Cancelled.
  void Close(absl::Time until);

 private:
  struct Event;
  struct Topic;
  using EventPtr = std::shared_ptr<Event>;
  using TopicPtr = std::shared_ptr<Topic>;
  // Calls of `done` that are due: made once the lock is released.
  using Due = std::vector<std::pair<PublishDone, absl::Status>>;

  absl::Status Begin(std::string_view topic, EventPtr event, TopicPtr* at) KV_EXCLUDES(mu_);
  absl::Status WaitForRoom(const Event& event) KV_REQUIRES(mu_);
  TopicPtr FindTopic(std::string_view name) KV_REQUIRES(mu_);
  void MakeDue(Due due) KV_EXCLUDES(mu_);

  // Sending: nats_event_sending.cc.
  void Pump(const TopicPtr& topic) KV_EXCLUDES(mu_);
  void Send(const TopicPtr& topic, const EventPtr& event) KV_EXCLUDES(mu_);
  void OnOutcome(const TopicPtr& topic, const EventPtr& event, const absl::Status& status) KV_EXCLUDES(mu_);
  void AfterOutcome(const TopicPtr& topic) KV_REQUIRES(mu_);
  void Repair(const TopicPtr& topic) KV_EXCLUDES(mu_);
  static absl::Status Unknown(const Topic& topic, const absl::Status& last);
  void Tell(const EventPtr& event, absl::Status status, Due* due) KV_REQUIRES(mu_);
  void Settle(const EventPtr& event) KV_REQUIRES(mu_);
  void DropUnsent(Topic* topic) KV_REQUIRES(mu_);
  void GiveUp(const TopicPtr& topic, const EventPtr& event, Due* due) KV_REQUIRES(mu_);
  void ArmExpiry(absl::Time next) KV_REQUIRES(mu_);
  void Expire() KV_EXCLUDES(mu_);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const Transport transport_;
  const NatsEventSubjects subjects_;
  const std::string bus_;
  const size_t max_in_flight_;
  const std::shared_ptr<CallbackGate> gate_;  // outcomes come through it: none after the destructor

  kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> changed_;  // room, or something settled, or closed
  bool closing_ KV_GUARDED_BY(mu_) = false;
  bool closed_ KV_GUARDED_BY(mu_) = false;
  uint32_t incarnations_ KV_GUARDED_BY(mu_) = 0;
  std::map<std::string, TopicPtr, std::less<>> topics_ KV_GUARDED_BY(mu_);
  std::list<std::string> unused_ KV_GUARDED_BY(mu_);  // topics, the one not used longest first
  uint64_t calls_ KV_GUARDED_BY(mu_) = 0;
  std::set<uint64_t> open_ KV_GUARDED_BY(mu_);  // events that take room, by their call
  size_t bytes_ KV_GUARDED_BY(mu_) = 0;         // of those
  size_t due_ KV_GUARDED_BY(mu_) = 0;           // calls of `done` that were not made yet
  absl::Time next_expiry_ KV_GUARDED_BY(mu_) = absl::InfiniteFuture();
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_PUBLISHER_H_
