#include "kv/internal/memcached_pool.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace kv::internal {

MemcachedPool::MemcachedPool(const MemcachedAddress& address, int limit)
    : address_(address), process_(getpid()), free_(limit) {}

MemcachedPool::~MemcachedPool() {
  if (InItsProcess()) return;
  MutexLock lock(mutex_);
  for (std::unique_ptr<MemcachedConnection>& connection : idle_) (void)connection.release();
}

bool MemcachedPool::InItsProcess() const { return getpid() == process_; }

absl::StatusOr<MemcachedPool::Lease> MemcachedPool::Take(SteadyTime until) {
  std::unique_ptr<MemcachedConnection> connection;
  {
    MutexLock lock(mutex_);
    while (free_ == 0) {
      if (!freed_.WaitUntil(mutex_, until) && free_ == 0) {
        return absl::UnavailableError(absl::StrCat("memcached: all connections to ", address_.Text(),
                                                   " are in use by earlier calls; nothing was "
                                                   "sent"));
      }
    }
    --free_;
    // The one used last, so that what is not needed rests.
    if (!idle_.empty()) {
      connection = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (connection != nullptr) return Lease(this, std::move(connection), /*fresh=*/false);
  absl::StatusOr<std::unique_ptr<MemcachedConnection>> made = Connect(until);
  if (made.ok()) return Lease(this, *std::move(made), /*fresh=*/true);
  GiveBack(nullptr);
  return made.status();
}

absl::Status MemcachedPool::Lease::Renew(SteadyTime until) {
  connection_.reset();
  pool_->DropIdle();
  absl::StatusOr<std::unique_ptr<MemcachedConnection>> made = pool_->Connect(until);
  if (!made.ok()) return made.status();
  connection_ = *std::move(made);
  fresh_ = true;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<MemcachedConnection>> MemcachedPool::Connect(SteadyTime until) {
  absl::StatusOr<std::unique_ptr<MemcachedConnection>> made = MemcachedConnection::Open(address_, until);
  reachable_.store(made.ok(), std::memory_order_relaxed);
  return made;
}

void MemcachedPool::GiveBack(std::unique_ptr<MemcachedConnection> connection) {
  const bool usable = connection != nullptr && connection->usable();
  if (usable) {
    reachable_.store(true, std::memory_order_relaxed);
  } else {
    connection.reset();
    DropIdle();  // what broke one may have broken all
  }
  {
    MutexLock lock(mutex_);
    if (usable) idle_.push_back(std::move(connection));
    ++free_;
  }
  freed_.NotifyOne();
}

void MemcachedPool::DropIdle() {
  std::vector<std::unique_ptr<MemcachedConnection>> dropped;
  MutexLock lock(mutex_);
  dropped.swap(idle_);
  lock.Unlock();
}

}  // namespace kv::internal
