// The watches of one SQLite store: one thread that waits for the bell, reads what is new, and calls back.

#ifndef KV_INTERNAL_SQLITE_WATCHER_H_
#define KV_INTERNAL_SQLITE_WATCHER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "kv/internal/boot_clock.h"
#include "kv/internal/doorbell.h"
#include "kv/internal/mutex.h"
#include "kv/internal/sqlite_connection.h"
#include "kv/internal/sqlite_database.h"
#include "kv/store.h"

namespace kv::internal {

// Thread-safe. Keeps no queue: the thread reads from the database what its callbacks can take.
class Watcher {
 public:
  // All three must outlive it. The thread starts with the first watch.
  Watcher(Database* database, Doorbell* bell, const BootClock* clock);
  // Waits for a running callback.
  ~Watcher();

  std::unique_ptr<Watch> Add(std::string_view prefix, WatchCallback callback);

 private:
  struct Subscription;
  class Handle;
  using Subscriptions = std::vector<std::shared_ptr<Subscription>>;

  // What one look at the database found.
  struct Batch {
    struct Snapshot {
      std::shared_ptr<Subscription> subscription;
      std::vector<WatchEvent> events;
      Revision revision = 0;  // which of the store it shows
    };
    std::vector<Snapshot> snapshots;
    std::vector<WatchEvent> changes;
    bool more = false;
  };

  void Run();
  // Reads and delivers all that is due.
  absl::Status CatchUp();
  absl::Status EnsureConnection();
  absl::Status Read(const Subscriptions& subscriptions, Batch* batch);
  absl::Status ReadChanges(const Subscriptions& subscriptions, Batch* batch);
  absl::Status ReadChanged(std::string_view key, Revision revision, Batch* batch);
  absl::Status ReadSnapshot(const std::shared_ptr<Subscription>& subscription, Batch* batch);
  void Deliver(const Subscriptions& subscriptions, const Batch& batch);
  // False when the watch has ended.
  bool Call(const std::shared_ptr<Subscription>& subscription, const WatchEvent& event);
  // All watches begin again, told so by `kind`.
  void Restart(WatchKind kind);
  void Remove(const std::shared_ptr<Subscription>& subscription);
  Subscriptions Current() const;

  Database* const database_;
  Doorbell* const bell_;
  const BootClock* const clock_;

  mutable Mutex mutex_;
  CondVar finished_;
  Subscriptions subscriptions_ KV_GUARDED_BY(mutex_);
  const Subscription* running_ KV_GUARDED_BY(mutex_) = nullptr;
  bool stop_ KV_GUARDED_BY(mutex_) = false;
  std::thread thread_ KV_GUARDED_BY(mutex_);

  // Of the thread alone.
  std::unique_ptr<Connection> connection_;
  std::string incarnation_;
  Revision position_ = 0;  // all changes up to here are read; 0: none
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_SQLITE_WATCHER_H_
