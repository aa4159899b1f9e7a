// What has arrived for one subscription and waits for its handler: events, and marks where some are missing. One order
// for all, and a bound for each delivery, so that a long replay does not push out what is new.

#ifndef COORD_INTERNAL_NATS_EVENT_INBOX_H_
#define COORD_INTERNAL_NATS_EVENT_INBOX_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "coord/event_bus.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

struct NatsInboxItem {
  enum class Kind {
    kEvent,  // `event`, and what comes with it
    kGap,    // reliable events may be missing: event.payload says why. All up to `sequence` is done
    kEpoch,  // likewise, and from now on sequences are those of the stream `epoch`, and all up to `sequence` is done
    kPlace,  // nothing is missing: all up to `sequence` is done
    kLost,   // best-effort events are missing: event.payload says why, or else it is `lost` that were dropped here
  };
  Kind kind = Kind::kEvent;
  Event event;
  std::string to;         // reliable: only for copies with this label
  bool own = false;       // published by this bus
  bool before = false;    // reliable: stored before the subscription begins, so that it knows of the number
  bool is_void = false;   // reliable: a number without an event
  std::string reply;      // questions: where the answer goes
  uint64_t sequence = 0;  // reliable: in the stream
  uint64_t low = 0;       // reliable: as EventSequencer has it
  uint64_t lost = 0;
  std::string epoch;
};

// Thread-safe. Nothing in it blocks.
class NatsEventInbox {
 public:
  static constexpr size_t kMaxEvents = 4096;     // of each delivery
  static constexpr size_t kMaxBytes = 16 << 20;  // likewise

  // A best-effort event. One for which there is no room is dropped and counted: a kLost tells.
  void AddBestEffort(NatsInboxItem item);

  // So many best-effort events were dropped before they came here.
  void AddLost(uint64_t count);

  // A reliable event. False if there is no room: it was not taken.
  bool AddReliable(NatsInboxItem item);

  // A mark. Marks are few: who adds them sees to that; those of one kind in a row are kept as one.
  void AddMark(NatsInboxItem mark);

  // The next thing to look at.
  std::optional<NatsInboxItem> Take();

  // True if reliable events fill less than half of their room.
  bool HalfEmpty() const;

 private:
  struct Load {
    size_t events = 0;
    size_t bytes = 0;
  };
  static bool Fits(const Load& load, size_t bytes);
  void MarkLost(uint64_t count) KV_REQUIRES(mu_);
  Load& LoadOf(const NatsInboxItem& item) KV_REQUIRES(mu_);

  mutable kv::internal::Mutex mu_;
  std::deque<NatsInboxItem> items_ KV_GUARDED_BY(mu_);
  Load best_effort_ KV_GUARDED_BY(mu_);
  Load reliable_ KV_GUARDED_BY(mu_);
  uint64_t lost_ KV_GUARDED_BY(mu_) = 0;         // since its mark was added
  bool lost_marked_ KV_GUARDED_BY(mu_) = false;  // there is a kLost that will take the count
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_INBOX_H_
