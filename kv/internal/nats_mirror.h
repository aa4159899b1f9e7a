// A copy of a bucket in memory, and the watches that are served from it. It is fed with the messages of one consumer
// over the whole bucket, so that any number of watches costs the server one.
//
// A copy is loaded, and then follows. When the consumer breaks, what it showed stays until another one has loaded a
// fresh copy; every watch then gets kResync and a snapshot. When the bucket turns out to be another incarnation, the
// copy is gone at once: every watch gets kEpochChanged, and a snapshot as soon as there is one.
//
// Callbacks run on one thread of the mirror, started by the first watch. A watch queues at most kMaxQueuedEvents events
// and kMaxQueuedBytes bytes of values while callbacks are at work; more, and its queue is replaced by kResync and a
// fresh snapshot from the copy.
//
// Pure memory: it knows no server. Thread-safe.

#ifndef KV_INTERNAL_NATS_MIRROR_H_
#define KV_INTERNAL_NATS_MIRROR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_deletes.h"
#include "kv/store.h"

namespace kv::internal {

class NatsMirror {
 public:
  static constexpr size_t kMaxQueuedEvents = 4096;
  static constexpr size_t kMaxQueuedBytes = 32 << 20;

  struct Change {
    std::string key;
    std::string value;
    Revision revision = 0;
    bool marker = false;
  };

  // `deletes` is told of every marker, and asked which entries are dead; must outlive the mirror. `on_dead` is called
  // with every entry that a server has brought back; it must not block.
  NatsMirror(NatsDeletes* deletes, std::function<void(const std::string& key, Revision revision)> on_dead);
  // Watches must be gone.
  ~NatsMirror();

  // Begins a fresh copy of this incarnation and returns its number. What is applied under another number is ignored.
  // The bucket is known to have come to `reached` already.
  uint64_t BeginLoad(uint64_t incarnation, Revision reached);
  // A message of the bucket. `last`: the server has no further one now. False: it is older than what is there already,
  // so that the consumer is not to be trusted.
  bool Apply(uint64_t load, Change change, bool last);
  // Somebody else's message under the bucket's subjects.
  bool Skip(uint64_t load, Revision revision, bool last);
  // The copy is loaded after so many messages, or before if one was the last; and what was loaded is of the
  // incarnation that was named, which is certain only now.
  void Expect(uint64_t load, uint64_t messages);
  // The consumer broke. Nothing is applied until the next BeginLoad.
  void Broken(uint64_t load);
  // Another incarnation.
  void Reset(uint64_t incarnation);

  // Whether what is applied under this number counts: not after another BeginLoad, or another incarnation.
  bool Takes(uint64_t load) const;
  // How far loading has come: nothing when it is done; else the messages that came so far.
  std::optional<uint64_t> Loading() const;
  // Everything up to here is in the copy.
  Revision reached() const;

  // The entry as the copy has it, whether or not that is the newest.
  std::optional<Entry> Find(std::string_view key) const;
  // Entries in the copy; nothing while there is none that follows.
  std::optional<size_t> Size() const;

  // A snapshot is not delivered before the copy has come to `at_least`, though after a second in any case.
  std::unique_ptr<Watch> Add(std::string_view prefix, WatchCallback callback, Revision at_least);

 private:
  // Values are shared with the events about them.
  struct Record {
    std::shared_ptr<const std::string> value;
    Revision revision = 0;
  };
  using Records = std::map<std::string, Record, std::less<>>;
  struct Event {
    WatchKind kind = WatchKind::kPut;
    std::string key;
    Record record;
  };
  struct Subscription;
  class Handle;
  using Dead = std::vector<std::pair<std::string, Revision>>;

  bool TakeInLocked(Revision revision) KV_REQUIRES(mutex_);
  void ApplyLocked(Change change) KV_REQUIRES(mutex_);
  Dead CountLocked(bool last) KV_REQUIRES(mutex_);
  Dead FinishIfLoadedLocked() KV_REQUIRES(mutex_);
  void TellDead(const Dead& dead) const;

  void PublishLocked(WatchKind kind, const std::string& key, const Record& record) KV_REQUIRES(mutex_);
  void RestartLocked(const std::shared_ptr<Subscription>& subscription, WatchKind kind) KV_REQUIRES(mutex_);
  void MarkReadyLocked(const std::shared_ptr<Subscription>& subscription) KV_REQUIRES(mutex_);
  void RousePatientLocked() KV_REQUIRES(mutex_);

  void Remove(const std::shared_ptr<Subscription>& subscription);
  void Run();
  void WaitLocked() KV_REQUIRES(mutex_);
  std::vector<Event> TakeLocked(const std::shared_ptr<Subscription>& subscription) KV_REQUIRES(mutex_);
  void DeliverLocked(const std::shared_ptr<Subscription>& subscription, const std::vector<Event>& events)
      KV_REQUIRES(mutex_);

  NatsDeletes& deletes_;
  const std::function<void(const std::string&, Revision)> on_dead_;

  mutable Mutex mutex_;
  uint64_t incarnation_ KV_GUARDED_BY(mutex_) = 1;
  Records records_ KV_GUARDED_BY(mutex_);
  Revision position_ KV_GUARDED_BY(mutex_) = 0;   // of the newest message in the copy
  Revision reached_ KV_GUARDED_BY(mutex_) = 0;    // everything up to here is in it as well
  bool following_ KV_GUARDED_BY(mutex_) = false;  // records_ is loaded, and its consumer works

  // The copy that is being loaded.
  uint64_t load_ KV_GUARDED_BY(mutex_) = 0;
  bool loading_ KV_GUARDED_BY(mutex_) = false;
  Records loaded_ KV_GUARDED_BY(mutex_);
  Revision loaded_position_ KV_GUARDED_BY(mutex_) = 0;
  Revision loaded_reached_ KV_GUARDED_BY(mutex_) = 0;
  uint64_t messages_ KV_GUARDED_BY(mutex_) = 0;
  bool last_seen_ KV_GUARDED_BY(mutex_) = false;
  std::optional<uint64_t> expected_ KV_GUARDED_BY(mutex_);
  Dead dead_ KV_GUARDED_BY(mutex_);

  std::list<std::shared_ptr<Subscription>> subscriptions_ KV_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Subscription>> ready_ KV_GUARDED_BY(mutex_);   // may have something to deliver
  std::list<std::shared_ptr<Subscription>> patient_ KV_GUARDED_BY(mutex_);  // wait for a snapshot
  const Subscription* running_ KV_GUARDED_BY(mutex_) = nullptr;             // whose callback runs now
  bool stop_ KV_GUARDED_BY(mutex_) = false;
  std::thread thread_ KV_GUARDED_BY(mutex_);
  CondVar wake_;
  CondVar finished_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_MIRROR_H_
