// What a watch has brought of one topic and nobody has looked at yet: bounded, and with marks where something is
// missing and the topic is to be read again.

#ifndef COORD_INTERNAL_EVENT_INBOX_H_
#define COORD_INTERNAL_EVENT_INBOX_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace coord::internal {

// Why a topic is to be read again; may be combined.
enum ReloadReason : unsigned {
  kReloadResync = 1,    // the watch says that it may have missed something
  kReloadOverflow = 2,  // the inbox was full
  kReloadMissing = 4,   // a number is missing
  kReloadEpoch = 8,     // the store is another incarnation
  kReloadReplay = 16,   // a subscription begins at its cursor
};

struct InboxItem {
  unsigned reload = 0;  // not 0: not an event, but the mark that the topic is to be read again, with the reasons
  std::string key;
  std::string value;
  kv::Revision revision = 0;
};

// Thread-safe. Nothing in it blocks.
class EventInbox {
 public:
  static constexpr size_t kMaxEvents = 4096;
  static constexpr size_t kMaxBytes = 16 << 20;

  // One watch event. True if there is something new to look at.
  bool Add(const kv::WatchEvent& event);

  // Said once, after the inbox was registered with a watch: whether it was in sync then. Until then, and where it was
  // not, events count as part of a snapshot, whose order means nothing: they are left out, and a mark follows its end.
  void Begin(bool synced);

  // The next thing to look at.
  std::optional<InboxItem> Take();

  // The topic is being read again: what comes from now on is kept again, however full the inbox was.
  void Capture();

  // Best-effort events that were left out because the inbox was full, since the last call. Reliable ones are found by
  // reading the topic again.
  uint64_t TakeLost();

 private:
  void Mark(unsigned reasons) KV_REQUIRES(mu_);

  kv::internal::Mutex mu_;
  std::deque<InboxItem> items_ KV_GUARDED_BY(mu_);
  size_t bytes_ KV_GUARDED_BY(mu_) = 0;
  uint64_t lost_ KV_GUARDED_BY(mu_) = 0;
  bool full_ KV_GUARDED_BY(mu_) = false;                // leaves out events until Capture
  bool in_snapshot_ KV_GUARDED_BY(mu_) = true;          // leaves out events until kSynced
  bool left_out_ KV_GUARDED_BY(mu_) = false;            // in the snapshot, any at all
  bool begun_ KV_GUARDED_BY(mu_) = false;               // it is known whether there is a snapshot
  unsigned at_end_ KV_GUARDED_BY(mu_) = kReloadResync;  // reasons for the mark at the snapshot's end
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_INBOX_H_
