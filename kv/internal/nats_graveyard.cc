#include "kv/internal/nats_graveyard.h"

#include <cstdint>
#include <utility>

namespace kv::internal {
namespace {

constexpr int64_t kFlushMillis = 500;

void DestroyAll(const std::vector<natsSubscription*>& subscriptions) {
  for (natsSubscription* subscription : subscriptions) natsSubscription_Destroy(subscription);
}

}  // namespace

void NatsGraveyard::Bury(natsSubscription* subscription) {
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      buried_.push_back(subscription);
      return;
    }
  }
  natsSubscription_Destroy(subscription);
}

bool NatsGraveyard::HasWork(bool connected) const {
  MutexLock lock(mutex_);
  return !buried_.empty() || (connected && !ended_.empty());
}

void NatsGraveyard::Work(natsConnection* connection, bool connected) {
  std::vector<natsSubscription*> buried;
  std::vector<natsSubscription*> ended;
  {
    MutexLock lock(mutex_);
    buried.swap(buried_);
    ended.swap(ended_);
  }
  for (natsSubscription* subscription : buried) natsSubscription_Unsubscribe(subscription);
  ended.insert(ended.end(), buried.begin(), buried.end());
  if (connected && natsConnection_FlushTimeout(connection, kFlushMillis) == NATS_OK) {
    DestroyAll(ended);
    return;
  }
  MutexLock lock(mutex_);
  ended_.insert(ended_.end(), ended.begin(), ended.end());
}

void NatsGraveyard::Close() {
  std::vector<natsSubscription*> rest;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    rest.swap(buried_);
    rest.insert(rest.end(), ended_.begin(), ended_.end());
    ended_.clear();
  }
  DestroyAll(rest);
}

}  // namespace kv::internal
