// What this process knows of deleted keys: which have been deleted at which revision, and whose marker still stands in
// the stream and is to be removed.
//
// A deleted key is remembered beyond the removal of its marker, because a server may bring its last value back: from
// 2.10 on, one that was killed forgets that the value had been replaced by the marker (issue 8505 of nats-server). A
// value below the revision of a known delete is dead.
//
// Pure bookkeeping, thread-safe. Bounded: the oldest keys are forgotten first, and of too many own markers the oldest
// are due before their time.

#ifndef KV_INTERNAL_NATS_DELETES_H_
#define KV_INTERNAL_NATS_DELETES_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace kv::internal {

class NatsDeletes {
 public:
  // Of deleted keys, and of own markers that wait for their removal.
  static constexpr size_t kMaxKeys = 1 << 17;

  struct Marker {
    std::string key;
    Revision revision = 0;  // of the marker
  };

  // Markers that this process wrote are due after `linger`, others after three times as long: their writer had its
  // chance by then.
  explicit NatsDeletes(absl::Duration linger, size_t max_keys = kMaxKeys);

  // Another incarnation of the bucket: nothing is known of it. What is told of an older one is ignored.
  void Reset(uint64_t incarnation);

  // There is a marker of `key` at `revision`.
  void Deleted(uint64_t incarnation, std::string_view key, Revision revision, bool own, SteadyTime now);
  // `key` was written at `revision`.
  void Written(uint64_t incarnation, std::string_view key, Revision revision);

  // The newest known delete of `key`.
  std::optional<Revision> Find(std::string_view key) const;
  // The same, if its marker is in the stream as far as is known.
  std::optional<Revision> FindStanding(std::string_view key) const;
  // Whether an entry of this revision has been deleted.
  bool IsDead(std::string_view key, Revision revision) const;

  // Own markers whose time has come, at most `max`. They are taken for removed from now on, unless given back.
  std::vector<Marker> TakeDue(SteadyTime now, size_t max);
  // The same of others' markers.
  std::vector<Marker> TakeOverdue(SteadyTime now, size_t max);
  // The marker is not in the stream any more.
  void Removed(uint64_t incarnation, const Marker& marker);
  // The marker was not removed, or this one stands in its place: it is due at `due`.
  void GiveBack(uint64_t incarnation, const Marker& marker, SteadyTime due);

  // When TakeDue returns something next; nothing: there is no own marker.
  std::optional<SteadyTime> NextDue() const;

  struct Count {
    size_t standing = 0;  // markers that are in the stream, as far as is known
    size_t overdue = 0;   // of these, others' whose time has come
  };
  Count Standing(SteadyTime now) const;
  // Their writers have removed them.
  void ForgetOverdue(SteadyTime now);

 private:
  struct Due {
    SteadyTime due;
    Marker marker;
  };
  struct State {
    Revision revision = 0;
    bool own = false;
    bool standing = true;
  };
  bool StandsLocked(const Marker& marker) const KV_REQUIRES(mutex_);
  std::vector<Marker> TakeLocked(std::deque<Due>* queue, SteadyTime now, size_t max) KV_REQUIRES(mutex_);
  void TrimLocked() KV_REQUIRES(mutex_);

  const std::chrono::nanoseconds linger_;
  const size_t max_keys_;
  mutable Mutex mutex_;
  uint64_t incarnation_ KV_GUARDED_BY(mutex_) = 1;
  std::unordered_map<std::string, State> keys_ KV_GUARDED_BY(mutex_);
  std::deque<Marker> oldest_ KV_GUARDED_BY(mutex_);  // in the order in which they came to be known
  std::deque<Due> own_ KV_GUARDED_BY(mutex_);
  std::deque<Due> others_ KV_GUARDED_BY(mutex_);
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_DELETES_H_
