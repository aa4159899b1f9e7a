// Events between the copies of one plugin.
//
//   cluster->events().Subscribe("cache/invalidate", [](const coord::Event& e) { Drop(e.payload); });
//   cluster->events().Publish("cache/invalidate", "user 4711", deadline);
//
// The store is the truth, and events are hints: what must not be lost belongs into a cell. What can be done for events
// is done:
//
//   delivery     promise
//   best effort  at most once, to the copies that listen now; no order over publishers
//   reliable     at least once, de-duplicated, in the order of each publisher, kept for a while and replayed to a
//   subscriber with a cursor that was away.
//                What can no longer be replayed is reported as a gap, never dropped silently: read the store again
//                then.
//
// Thread safety: all methods, from any thread, handlers included.

#ifndef COORD_EVENT_BUS_H_
#define COORD_EVENT_BUS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/options.h"
#include "coord/runtime.h"
#include "coord/subscription.h"

namespace coord {

namespace internal {
struct Core;
}

enum class Delivery { kBestEffort, kReliable };

struct Event {
  std::string topic;
  std::string payload;
  std::string from;  // the publisher's label
  Delivery delivery = Delivery::kBestEffort;
  std::string publisher;  // reliable: the incarnation of the publisher, unique over restarts
  uint64_t number = 0;    // reliable: counts the publisher's events of this topic from 1
  bool replayed = false;  // it was published before this subscription began
  // Not an event, but the news that some may have been missed on this topic: read the store again. `payload` says why,
  // for people.
  bool gap = false;
};

struct PublishOptions {
  Delivery delivery = Delivery::kBestEffort;
  // Only copies with this label get it; empty: all.
  std::string to;
};

struct SubscribeOptions {
  // Reliable events: where to go on. The name of a place kept in the store, which advances after the handler has
  // returned; empty: from now on. One subscriber per cursor at a time; copies that each want all events use names of
  // their own, for example the copy's label. It is stored at most 100 ms or 64 events late, and when the subscription
  // ends: what a crash left unstored is delivered again. One that nobody used for long is forgotten, which its owner
  // learns by a gap.
  std::string cursor;
  // Also deliver what this copy published itself.
  bool own_events = true;
};

struct Reply {
  std::string from;  // the label of the copy that answered
  std::string payload;
};

// Runs on the Cluster's callback thread. After it has returned the event counts as delivered.
using EventHandler = std::function<void(const Event&)>;
// The same, for questions: the answer is sent back; nullopt: this copy does not answer.
using AskHandler = std::function<std::optional<std::string>(const Event&)>;
// Learns what became of an event. Runs on the Cluster's callback thread; where that has ended, on the thread that
// learns of it; and inside of PublishAsync itself where the outcome is known at once, as of best-effort events. It may
// call anything.
using PublishDone = std::function<void(const absl::Status& status)>;

class EventBus {
 public:
  EventBus() = default;
  EventBus(const EventBus&) = delete;
  EventBus& operator=(const EventBus&) = delete;
  virtual ~EventBus() = default;

  // Best effort: OK once it is handed to the transport. Reliable: OK once it is stored; DeadlineExceeded: it may yet be
  // delivered, and a repeated Publish would be another event. InvalidArgument: the topic, or a payload over
  // max_payload(). Blocks until `deadline` at most.
  virtual absl::Status Publish(std::string_view topic, std::string_view payload, absl::Time deadline,
                               const PublishOptions& options = {}) = 0;

  // The same without waiting for the outcome, so that many events may be under way: `done` (which may be empty) is
  // called exactly once, with what Publish would return, soon after `deadline` at the latest. Reliable events of one
  // topic are stored in the order of the calls. Blocks only to hand the event to the transport, and, until `deadline`,
  // while as many as the transport lets be are under way already or 16384 calls of `done` are due; from inside a
  // handler that last case is ResourceExhausted. On the store's own bus it is Publish, and blocks as that does.
  virtual void PublishAsync(std::string_view topic, std::string_view payload, absl::Time deadline, PublishDone done,
                            const PublishOptions& options = {}) = 0;

  // Waits until the transport has taken every best-effort event published before, and the outcome of every reliable one
  // is known to it (the calls of `done` may still be due). DeadlineExceeded: it is not yet; Unavailable: it cannot be
  // known now. An event that fails is told to who published it, not here.
  virtual absl::Status Flush(absl::Time deadline) = 0;

  // Calls `handler` for every event of `topic`, of both deliveries, until the subscription is destroyed. Blocks for at
  // most `deadline`.
  virtual absl::StatusOr<Subscription> Subscribe(std::string_view topic, EventHandler handler, absl::Time deadline,
                                                 const SubscribeOptions& options = {}) = 0;

  // Sends a question (best effort) to all copies, or to those labelled `to`, and gathers the answers that come before
  // `deadline`; returns sooner once `enough` have come (0: never). No answer is not an error. This copy's own answer
  // counts; it cannot come while Ask is called from inside a handler. At most 1024 questions of a copy at a time, then
  // ResourceExhausted.
  virtual absl::StatusOr<std::vector<Reply>> Ask(std::string_view topic, std::string_view payload, absl::Time deadline,
                                                 size_t enough = 0, std::string_view to = {}) = 0;

  // Answers questions on `topic`.
  virtual absl::StatusOr<Subscription> Answer(std::string_view topic, AskHandler handler, absl::Time deadline) = 0;

  // The largest payload in bytes.
  virtual size_t max_payload() const = 0;

  // Delivers nothing more, stores the cursors, and returns by `deadline` at the latest; calls after it return
  // Cancelled. Cluster::Leave does it. Also from inside a handler. Idempotent.
  virtual void Close(absl::Time deadline) = 0;
};

// Hints about keys of a store that cannot watch: "look at this key sooner than you would have". They may be lost,
// repeated or reordered, and nothing may rest on them but speed.
class HintChannel {
 public:
  HintChannel() = default;
  HintChannel(const HintChannel&) = delete;
  HintChannel& operator=(const HintChannel&) = delete;
  // After it has returned `on_hint` does not begin any more; waits for a running one, unless called from inside it.
  virtual ~HintChannel() = default;

  // Hands the hint to the transport, or drops it where that is not possible at once; an empty or over-long key (the
  // transport's limit, at least 1000 bytes) is dropped too. Never blocks for more than the transport's write timeout
  // (half a second at most). From any thread, `on_hint` included.
  virtual void Send(std::string_view key) = 0;
};

// A transport, shared by the Clusters of a process: makes the bus of one of them. Destroying the bus ends its
// subscriptions.
class EventDriver {
 public:
  EventDriver() = default;
  EventDriver(const EventDriver&) = delete;
  EventDriver& operator=(const EventDriver&) = delete;
  virtual ~EventDriver() = default;

  virtual absl::StatusOr<std::unique_ptr<EventBus>> MakeBus(std::shared_ptr<internal::Core> core) = 0;

  // A channel for hints between the copies of `plugin`. `on_hint` is called on a thread of the transport, one call at a
  // time, with what other channels sent (never with what this one sent); it must not block. nullptr: this transport has
  // none, or it cannot be made now.
  virtual std::unique_ptr<HintChannel> MakeHints(const std::string& /*plugin*/,
                                                 std::function<void(std::string_view key)> /*on_hint*/) {
    return nullptr;
  }
};

// Events over the store's own watch, the default of Cluster::Join. On a store without watch every call is
// FailedPrecondition.
struct StoreEventOptions {
  // Reliable events older than this, or more than this many of a topic, may be removed: who was away longer gets a gap.
  absl::Duration keep_for = absl::Hours(24);
  size_t keep_events = 10000;
  // A cursor that did not move for so long is forgotten.
  absl::Duration keep_cursors = absl::Hours(24 * 30);
};
std::shared_ptr<EventDriver> StoreEvents(const StoreEventOptions& options = {});

}  // namespace coord

#endif  // COORD_EVENT_BUS_H_
