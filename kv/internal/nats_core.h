// One bucket in one process: what all stores opened with one connection and equal options share.

#ifndef KV_INTERNAL_NATS_CORE_H_
#define KV_INTERNAL_NATS_CORE_H_

#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_bucket.h"
#include "kv/internal/nats_cleaner.h"
#include "kv/internal/nats_deletes.h"
#include "kv/internal/nats_gate.h"
#include "kv/internal/nats_mirror.h"
#include "kv/internal/nats_reads.h"
#include "kv/internal/nats_watcher.h"
#include "kv/internal/nats_writes.h"
#include "kv/nats_connection.h"
#include "kv/nats_store.h"
#include "kv/store.h"

namespace kv::internal {

// Thread-safe. Its destructor blocks for a second or two at most, also with the server dead.
class NatsCore {
 public:
  static absl::StatusOr<std::shared_ptr<NatsCore>> Open(std::shared_ptr<NatsConnection> connection,
                                                        const NatsStoreOptions& options, SteadyTime deadline);
  ~NatsCore();

  NatsReads& reads() { return reads_; }
  NatsWrites& writes() { return writes_; }
  const Traits& traits() const { return traits_; }
  Connection connection() const;

  // After a delete: sees to it that its marker is removed.
  void StartCleaning();
  std::unique_ptr<Watch> AddWatch(std::string_view prefix, WatchCallback callback);

 private:
  // What wakes the keeper. Callbacks of the connection may come late, so they share it.
  struct Bell;

  NatsCore(std::shared_ptr<NatsConnection> connection, const NatsStoreOptions& options, std::string_view version,
           const NatsStreamInfo& found, uint64_t generation);
  static Traits MakeTraits(const NatsStoreOptions& options, std::string_view version, size_t max_payload);
  void OnChange(uint64_t incarnation);
  void StartKeeper(bool watch);
  void Keep();

  const std::shared_ptr<NatsConnection> connection_;
  const Traits traits_;
  const NatsBucket bucket_;
  const std::shared_ptr<Bell> bell_;
  NatsDeletes deletes_;
  NatsMirror mirror_;
  NatsGate gate_;
  NatsCleaner cleaner_;
  NatsReads reads_;
  NatsWrites writes_;
  NatsWatcher watcher_;  // of the keeper

  Mutex mutex_;
  std::shared_ptr<void> state_handle_ KV_GUARDED_BY(mutex_);
  std::thread keeper_ KV_GUARDED_BY(mutex_);
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_CORE_H_
