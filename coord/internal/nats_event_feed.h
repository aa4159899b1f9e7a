// Brings the reliable events of one topic from the stream, from a place on, for as long as it is wanted: makes a
// consumer, makes another one when that breaks, and finds out what can no longer be brought.
//
// How far it is, in sequences of the stream: `taken` is the last event that was taken, and the next consumer begins
// behind it. `place` may be further: all events of the topic up to it were taken, or were reported as missing. What the
// stream no longer holds beyond the place is a gap, whoever's events it were: so the place is kept near the stream's
// end also while the topic is quiet, by making the consumer anew and finding nothing of the topic in between (Check).
// A consumer may be on a replica that lags behind the stream's leader, so that it alone is no proof of that; one that
// is seen to be there when it is made is made anew.
//
// When its taker has no room, it stops taking, ends the consumer, and makes another one once there is room.

#ifndef COORD_INTERNAL_NATS_EVENT_FEED_H_
#define COORD_INTERNAL_NATS_EVENT_FEED_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/internal/callback_list.h"
#include "coord/internal/core.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/nats_event_inbox.h"
#include "coord/internal/nats_event_stream.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_consumer.h"
#include "kv/nats_connection.h"

namespace coord::internal {

// Thread-safe.
class NatsEventFeed : public std::enable_shared_from_this<NatsEventFeed> {
 public:
  // Called on threads of the connection or of the worker, one at a time; must not block.
  struct Taker {
    // An event of the stream. False: there is no room for it now.
    std::function<bool(const kv::internal::StreamMessage& message)> take;
    std::function<void(NatsInboxItem mark)> mark;
    // There was no room: Resume is to be called once there is some.
    std::function<void()> stopped;
  };

  NatsEventFeed(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                std::shared_ptr<kv::NatsConnection> connection, std::shared_ptr<const NatsEventStream> stream,
                std::string subject, Taker taker);

  // Begins after `sequence` of the incarnation `epoch`, and first brings what the stream still has of the topic between
  // `from` (not above it) and there. If the server cannot be reached now it goes on by itself: OK. Blocks until `until`
  // (steady) at most.
  absl::Status Start(const std::string& epoch, uint64_t sequence, uint64_t from, absl::Time until);

  // There is room again, if there was none.
  void Resume();

  // What the stream is just now. Makes the consumer anew if the place has fallen behind, or the stream is another one.
  void Check(const NatsEventStreamState& state);

  // The taker is not called any more; waits for a running call. The consumer is ended by the worker. Idempotent.
  void Stop();

 private:
  using Consumer = kv::internal::NatsConsumer;

  void Restart(absl::Duration after) KV_REQUIRES(mu_);
  void RestartJob();
  absl::Status Connect(absl::Time until);
  absl::Status FindPlace(const NatsEventStreamState& state, std::optional<NatsInboxItem>* mark) KV_REQUIRES(mu_);
  absl::Status CheckPlace(const NatsEventStreamState& before, uint64_t place, const Consumer& consumer,
                          absl::Time until);
  void Mark(NatsInboxItem mark);
  void OnMessage(uint64_t generation, const kv::internal::StreamMessage& message);
  void OnBroken(uint64_t generation);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const std::shared_ptr<kv::NatsConnection> connection_;
  const std::shared_ptr<const NatsEventStream> stream_;
  const std::string subject_;
  const Taker taker_;
  const std::shared_ptr<CallbackGate> gate_;  // the taker is called inside of it, and the consumers' callbacks run so

  kv::internal::Mutex mu_;
  bool stopped_ KV_GUARDED_BY(mu_) = false;
  bool full_ KV_GUARDED_BY(mu_) = false;
  bool restart_due_ KV_GUARDED_BY(mu_) = false;
  bool warned_ KV_GUARDED_BY(mu_) = false;
  int attempt_ KV_GUARDED_BY(mu_) = 0;
  uint64_t generation_ KV_GUARDED_BY(mu_) = 0;  // counts the consumers: what comes from an older one is not taken
  std::string epoch_ KV_GUARDED_BY(mu_);
  uint64_t start_ KV_GUARDED_BY(mu_) = 0;  // the stream had this when it began
  uint64_t taken_ KV_GUARDED_BY(mu_) = 0;
  uint64_t place_ KV_GUARDED_BY(mu_) = 0;                               // not below taken_
  absl::Time short_since_ KV_GUARDED_BY(mu_) = absl::InfiniteFuture();  // when the stream was first seen to end earlier
  std::unique_ptr<Consumer> consumer_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_FEED_H_
