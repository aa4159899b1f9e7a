// What this process has seen of the other copies' sessions: when each one's present revision was first seen. Serves all
// waiters, outlives a failed try, and is fed by the watch or else by reads.

#ifndef COORD_INTERNAL_SESSION_TABLE_H_
#define COORD_INTERNAL_SESSION_TABLE_H_

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/time/time.h"
#include "coord/internal/records.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace coord::internal {

// Thread-safe. Holds at most kMaxSessions; beyond that the one that has been silent longest is forgotten, which only
// delays its end.
class SessionTable {
 public:
  static constexpr size_t kMaxSessions = 16384;

  struct Sight {
    SessionRecord record;
    kv::Revision revision = 0;
    absl::Time first_seen;  // steady: since when this revision stands, as far as this process can say
    absl::Time looked_at;   // steady: when it was last asked for, or pushed

    // The session has not beaten for the ttl that it states itself; true of a broken one too. Never of an ended one.
    bool Silent(absl::Time now) const { return record.mark != SessionMark::kEnded && now >= SilentAt(); }
    bool Ended() const { return record.mark == SessionMark::kEnded; }
    absl::Time SilentAt() const { return first_seen + record.ttl; }
  };

  // `monotonic`: revisions tell which of two records is older. Otherwise the last that came in counts, which at worst
  // makes a session look alive for a while longer.
  explicit SessionTable(bool monotonic) : monotonic_(monotonic) {}

  // `entry` is the record of `session` as it came in at `now`. Older than what is known: that was looked at, no more.
  // True if it is news.
  bool Observe(std::string_view session, const kv::Entry& entry, const SessionRecord& record, absl::Time now);

  // The record is gone: nothing is known of it any more.
  void Forget(std::string_view session);

  // The store is another incarnation.
  void Clear();

  std::optional<Sight> Find(std::string_view session) const;

  // All that are silent at `now`, at most `limit`.
  std::vector<std::pair<std::string, Sight>> AllSilent(absl::Time now, size_t limit) const;

 private:
  const bool monotonic_;
  mutable kv::internal::Mutex mu_;
  std::unordered_map<std::string, Sight> sessions_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_SESSION_TABLE_H_
