// One subscription of a topic over NATS: keeps what arrives until its turn, puts reliable events in order, and calls
// the handler on the Cluster's callback thread, in turns of at most kPerTurn events so that other callbacks are not
// held up.
//
// Threads: those of the connection, and the feed's worker, only fill the inbox; everything else runs on the callback
// thread, or before the first turn on the thread that subscribes.

#ifndef COORD_INTERNAL_NATS_EVENT_SUBSCRIBER_H_
#define COORD_INTERNAL_NATS_EVENT_SUBSCRIBER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "coord/internal/callback_list.h"
#include "coord/internal/core.h"
#include "coord/internal/event_cursor.h"
#include "coord/internal/event_sequencer.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/nats_event_cursors.h"
#include "coord/internal/nats_event_feed.h"
#include "coord/internal/nats_event_inbox.h"
#include "coord/internal/nats_event_stream.h"
#include "coord/internal/nats_event_topics.h"
#include "coord/internal/nats_event_wire.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"

namespace coord::internal {

// What the subscriptions of one bus share.
struct NatsEventContext {
  std::shared_ptr<Core> core;
  std::shared_ptr<kv::NatsConnection> connection;
  std::shared_ptr<const NatsEventStream> stream;
  std::shared_ptr<NatsEventTopics> topics;
  std::shared_ptr<NatsEventCursors> cursors;
  std::shared_ptr<EventWorker> worker;  // of the feeds
  NatsEventSubjects subjects;
  std::string bus;
  SequencerLimits limits;
};

class NatsEventSubscriber : public NatsEventSink, public std::enable_shared_from_this<NatsEventSubscriber> {
 public:
  static constexpr int kPerTurn = 64;
  // Of events that wait for an earlier number: the whole windows of four copies, for a server that fails fails for all
  // of them. Beyond that the gap that has waited longest is given up on.
  static constexpr size_t kMaxHeldBytes = 4 * kMaxNatsEventWindowBytes;
  // How far before its beginning it looks for numbers that are stored already, so that it does not wait for them: so
  // many messages of the stream, of about so many bytes.
  static constexpr uint64_t kMaxLookBack = 1024;
  static constexpr uint64_t kMaxLookBackBytes = 1 << 20;

  // `reply` is where an answer to a question goes.
  using Handler = std::function<void(const Event& event, const std::string& reply)>;
  using Kind = NatsEventSubjects::Kind;

  // Questions have no reliable events.
  NatsEventSubscriber(std::shared_ptr<const NatsEventContext> context, Kind kind, std::string topic,
                      SubscribeOptions options, Handler handler);

  // Subscribes and finds the place to begin at. Blocks until `until` (steady) at most; on an error it has ended.
  absl::Status Begin(absl::Time until);

  // No call of the handler begins from now on; one that runs is not waited for. Idempotent.
  void End();

  // End, and waits for the running call, except from inside it.
  void Cancel();

  // The connection was lost and is back. Blocks nobody.
  void OnReconnected();

  // What the stream is just now. Blocks nobody.
  void Check(const NatsEventStreamState& state);

  // NatsEventSink.
  void OnArrival(const NatsEventHeaders& headers, const kv::NatsMessage& message) override;
  void OnForeign(const absl::Status& why) override;
  void OnDropped(uint64_t count) override;

 private:
  using Slot = CallbackSlot<const Event&, const std::string&, bool*>;

  absl::Status Listen(absl::Time until);
  absl::Status FindPlace(absl::Time until);
  bool OnStreamMessage(const kv::internal::StreamMessage& message);
  bool ended() const;

  // Turns.
  void Wake() KV_EXCLUDES(mu_);
  void Turn();
  bool Step();
  void OnMark(const NatsInboxItem& mark);
  void ArmTimer();

  // Events.
  void Accept(NatsInboxItem item);
  void Run(const EventSequencer::Steps& steps);
  void Deliver(const NatsInboxItem& item, uint64_t done);
  bool Gap(const std::string& why, Delivery delivery);  // true if the handler was told

  const std::shared_ptr<const NatsEventContext> context_;
  const std::shared_ptr<Core> core_;
  const Kind kind_;
  const std::string topic_;
  const SubscribeOptions options_;
  const std::shared_ptr<Slot> slot_;
  NatsEventInbox inbox_;
  std::atomic<uint64_t> present_{0};  // all in the stream up to it was published before this began
  std::atomic<uint64_t> before_{0};   // of those, what is not to be delivered any more
  std::string present_epoch_;         // the stream's, when it began; set once, before the feed is started

  mutable kv::internal::Mutex mu_;
  bool open_ KV_GUARDED_BY(mu_) = false;
  bool ended_ KV_GUARDED_BY(mu_) = false;
  bool turn_queued_ KV_GUARDED_BY(mu_) = false;
  bool warned_ KV_GUARDED_BY(mu_) = false;
  std::vector<std::shared_ptr<void>> subscriptions_ KV_GUARDED_BY(mu_);
  std::shared_ptr<NatsEventFeed> feed_ KV_GUARDED_BY(mu_);

  // Of the callback thread (before open_: of the thread that subscribes).
  std::shared_ptr<EventCursors> cursors_;  // null without a cursor; as place_ set once, before open_, under mu_
  std::shared_ptr<EventCursors::Place> place_;
  std::shared_ptr<NatsEventFeed> resumed_feed_;  // the same as feed_
  uint64_t position_ = 0;
  EventSequencer sequencer_;
  std::unordered_map<uint64_t, NatsInboxItem> held_;  // by token
  size_t held_bytes_ = 0;
  uint64_t tokens_ = 0;
  absl::Time timer_ = absl::InfiniteFuture();
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_SUBSCRIBER_H_
