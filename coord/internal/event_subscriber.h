// One subscription of a topic: takes what the watch brings, puts it in order, rereads the topic where something may be
// missing, and calls the handler on the Cluster's callback thread, in turns of at most kPerTurn events so that other
// callbacks are not held up.
//
// Threads: the watch only fills the inbox; the worker lists the topic; everything else runs on the callback thread, or
// before the first turn on the thread that subscribes.
//
// How far it is: `position_` is a revision; every event up to it was looked at. A listing covers all revisions up to
// the highest that this copy had seen before it began, even on a store whose List is not one instant; what it shows
// beyond is remembered by key until the watch brings it too.

#ifndef COORD_INTERNAL_EVENT_SUBSCRIBER_H_
#define COORD_INTERNAL_EVENT_SUBSCRIBER_H_

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "coord/internal/callback_list.h"
#include "coord/internal/core.h"
#include "coord/internal/event_cursor.h"
#include "coord/internal/event_inbox.h"
#include "coord/internal/event_record.h"
#include "coord/internal/event_sequencer.h"
#include "coord/internal/event_worker.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// What a handler gets: an event, and for questions where the answer goes.
struct DeliveredEvent {
  Event event;
  std::string reply_to;
  uint64_t ask = 0;
};

class EventSubscriber : public std::enable_shared_from_this<EventSubscriber> {
 public:
  static constexpr int kPerTurn = 64;
  static constexpr size_t kMaxHeldBytes = 16 << 20;  // of events that wait for an earlier number

  using Handler = std::function<void(const DeliveredEvent&)>;
  struct Setup {
    std::string topic;
    std::string prefix;  // of the events' keys
    std::string bus;     // one's own
    SubscribeOptions options;
  };

  EventSubscriber(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                  std::shared_ptr<EventCursors> cursors, Setup setup, Handler handler);

  // Registers with the watch and finds the place to begin at. Blocks until `until` (steady) at most; on an error it has
  // ended.
  absl::Status Begin(absl::Time until);

  // Nothing is delivered from now on, but for the handler's call that runs. Idempotent; any thread but the watch's.
  void End();

  // End, and waits for the running call, except from inside it.
  void Cancel();

  bool ended() const;

 private:
  struct Ready {  // an event whose turn may come later
    DeliveredEvent delivered;
    std::string to;
    bool own = false;
    bool gap = false;  // not an event: it could not be read, and the payload says why
    size_t bytes = 0;
  };
  struct Listing {
    kv::Revision seen = 0;  // covers all revisions up to it
    std::vector<kv::KeyedEntry> entries;
  };
  using Slot = CallbackSlot<const DeliveredEvent&, bool*>;

  absl::Status FindPlace(absl::Time until);
  absl::StatusOr<Listing> List(absl::Time until);
  absl::StatusOr<Listing> ListWithRetries(absl::Time until);
  void OnWatch(const kv::WatchEvent& event);
  void OnEpochRecord(const kv::WatchEvent& event);

  // Turns.
  void Wake() KV_EXCLUDES(mu_);
  void Turn();
  bool Step();
  void ArmTimer();

  // Reading the topic again.
  void Reload(unsigned reasons);
  void ReloadJob(int attempt);
  void BeginListing(Listing listing);
  void SkipToPresent(const Listing& listing);
  void TellFirstGap();
  void StepListed();
  void NoteEpoch(const std::string& id);

  // Events.
  void OnItem(InboxItem item);
  void Accept(std::string_view name, const std::string& value, bool replayed);
  Ready Read(const EventKey& key, const std::string& value, bool replayed);
  void CheckFloor(const std::string& value);
  void Run(const EventSequencer::Steps& steps);
  void Deliver(const Ready& ready, kv::Revision done);
  bool Gap(const std::string& why);  // true if the handler was told
  void LogOnce(const std::string& line);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const std::shared_ptr<EventCursors> cursors_;
  const Setup setup_;
  const std::shared_ptr<Slot> slot_;
  EventInbox inbox_;

  mutable kv::internal::Mutex mu_;
  std::vector<std::unique_ptr<Hub::Registration>> registrations_ KV_GUARDED_BY(mu_);
  bool open_ KV_GUARDED_BY(mu_) = false;
  bool ended_ KV_GUARDED_BY(mu_) = false;
  bool turn_queued_ KV_GUARDED_BY(mu_) = false;
  std::string epoch_seen_ KV_GUARDED_BY(mu_);         // in the epoch's record, by the watch
  std::optional<Listing> listed_ KV_GUARDED_BY(mu_);  // by the worker, not begun yet

  // Of the callback thread (before open_: of the thread that subscribes).
  std::shared_ptr<EventCursors::Place> place_;  // null without a cursor; set once, before open_ and under mu_
  std::string first_gap_;                       // to be delivered before anything else
  std::string epoch_;
  std::string previous_epoch_;
  kv::Revision position_ = 0;
  kv::Revision ordered_from_ = 0;  // below it the watch brings nothing that counts
  kv::Revision covered_ = 0;       // by the listing that is being worked off
  std::deque<kv::KeyedEntry> listing_;
  bool listing_begun_ = false;
  bool replaying_ = false;                 // that listing is the first, of a cursor
  unsigned reloading_ = 0;                 // reasons; not 0 while a listing is awaited
  std::unordered_set<std::string> ahead_;  // listed, above covered_: the watch will bring them too
  EventSequencer sequencer_;
  std::unordered_map<uint64_t, Ready> held_;  // by token
  size_t held_bytes_ = 0;
  uint64_t tokens_ = 0;
  absl::Time timer_ = absl::InfiniteFuture();
  bool logged_ = false;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_SUBSCRIBER_H_
