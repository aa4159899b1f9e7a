// The connections of one store: at most `limit`, made when they are needed and kept. Thread-safe.

#ifndef KV_INTERNAL_MEMCACHED_POOL_H_
#define KV_INTERNAL_MEMCACHED_POOL_H_

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/memcached_address.h"
#include "kv/internal/memcached_connection.h"
#include "kv/internal/mutex.h"

namespace kv::internal {

class MemcachedPool {
 public:
  // The use of one connection. Gives it back when destroyed.
  class Lease {
   public:
    Lease(MemcachedPool* pool, std::unique_ptr<MemcachedConnection> connection, bool fresh)
        : pool_(pool), connection_(std::move(connection)), fresh_(fresh) {}
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), connection_(std::move(other.connection_)), fresh_(other.fresh_) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (pool_ != nullptr) pool_->GiveBack(std::move(connection_));
    }

    MemcachedConnection* operator->() const { return connection_.get(); }

    // Made for this lease, so that its failure is not that of a connection that broke long ago.
    bool fresh() const { return fresh_; }

    // Goes on with a new connection, after this and all idle ones were found broken.
    absl::Status Renew(SteadyTime until);

   private:
    MemcachedPool* pool_;
    std::unique_ptr<MemcachedConnection> connection_;
    bool fresh_;
  };

  MemcachedPool(const MemcachedAddress& address, int limit);
  // No lease may be out. In a child process after a fork it leaves the connections alone: they are the parent's.
  ~MemcachedPool();

  // Waits until `until` for one to become free, or for the server. Unavailable when it cannot be had.
  absl::StatusOr<Lease> Take(SteadyTime until);

  // False from a failure to connect until something works again.
  bool reachable() const { return reachable_.load(std::memory_order_relaxed); }

  // Whether this is the process that made the pool.
  bool InItsProcess() const;

 private:
  absl::StatusOr<std::unique_ptr<MemcachedConnection>> Connect(SteadyTime until);
  void GiveBack(std::unique_ptr<MemcachedConnection> connection);
  void DropIdle();

  const MemcachedAddress address_;
  const pid_t process_;
  std::atomic<bool> reachable_{true};
  Mutex mutex_;
  CondVar freed_;
  int free_ KV_GUARDED_BY(mutex_);  // leases that may still be given
  std::vector<std::unique_ptr<MemcachedConnection>> idle_ KV_GUARDED_BY(mutex_);
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_MEMCACHED_POOL_H_
