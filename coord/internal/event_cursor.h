// The places of subscribers that may go away, kept in the store: loaded when a subscription begins, written behind its
// back as it advances.
//
// A place is written kLag after it moved, or after kMaxUnwritten moves if sooner, and when its subscription ends. What
// was delivered in between is delivered again after a crash: at least once.

#ifndef COORD_INTERNAL_EVENT_CURSOR_H_
#define COORD_INTERNAL_EVENT_CURSOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/event_record.h"
#include "coord/internal/event_worker.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace coord::internal {

// Thread-safe. At most one place per cursor that is in use or not yet written.
class EventCursors : public std::enable_shared_from_this<EventCursors> {
 public:
  static constexpr absl::Duration kLag = absl::Milliseconds(100);
  static constexpr int kMaxUnwritten = 64;
  // Publishers whose last number a cursor keeps; the ones least recently heard of go first.
  static constexpr size_t kMaxPublishers = 64;

  // `store` keeps the cursors; where the events are is the subscribers' business.
  EventCursors(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker, std::shared_ptr<kv::Store> store);

  // One cursor in use.
  struct Place;

  // Where a cursor begins that does not exist, or was forgotten.
  struct Present {
    std::string epoch;  // the incarnation of what holds the events
    // All events up to it are older than the subscription. Unset: the events are in the cursors' own store, and so the
    // revision of the cursor's first write is as good as any.
    std::optional<uint64_t> revision;
    // Not empty: the cursors may have been lost, and why: one that does not exist is a gap, and stays away until that
    // was told.
    std::string lost;
  };

  struct Opened {
    std::shared_ptr<Place> place;
    EventCursor at;      // where to go on; its revision is a real one
    bool fresh = false;  // there was none: it starts at the present, and is stored
    std::string gap;     // not empty: why events may have been missed; then it starts at the present too
  };

  // Takes cursor `name` of `topic`, until Release. FailedPrecondition: another subscription of this copy has it, or its
  // record is of a newer version. Blocks until `until` (steady) at most.
  absl::StatusOr<Opened> Open(const std::string& topic, const std::string& name, const Present& present,
                              absl::Time until);

  // All up to `revision` was delivered (never less than before), of `publisher` up to `number`; an empty publisher
  // changes none.
  void Advance(const std::shared_ptr<Place>& place, uint64_t revision, const std::string& publisher, uint64_t number);

  // The store is another incarnation: from now on the place is `revision` there, even if it is less.
  void Restart(const std::shared_ptr<Place>& place, const std::string& epoch, uint64_t revision);

  // The subscription has ended; what it advanced is written soon.
  void Release(const std::shared_ptr<Place>& place);

  // Writes what is not written yet, until `until` (steady). On the worker's thread.
  void Flush(absl::Time until);

  // Rewrites those in use that did not move for `idle`, so that nobody takes them for forgotten. On the worker's
  // thread.
  void Touch(absl::Duration idle);

 private:
  absl::Status Load(Place* place, const Present& present, Opened* opened, absl::Time until);
  // False if it is to be tried again.
  bool TryLoad(Place* place, const Present& present, Opened* opened, absl::Time until, absl::Status* status);
  bool Begin(Place* place, const Present& present, Opened* opened, absl::Time until, absl::Status* status);
  void Changed(const std::shared_ptr<Place>& place, int moves) KV_REQUIRES(mu_);
  void Write(const std::shared_ptr<Place>& place, absl::Time until) KV_EXCLUDES(mu_);
  absl::Status TryWrite(Place* place, const EventCursor& record, absl::Time until) KV_EXCLUDES(mu_);
  absl::Status Reread(Place* place, absl::Time until);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const std::shared_ptr<kv::Store> store_;
  kv::internal::Mutex mu_;
  std::map<std::string, std::shared_ptr<Place>> places_ KV_GUARDED_BY(mu_);  // by key
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_CURSOR_H_
