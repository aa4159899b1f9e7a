#include "coord/internal/nats_event_topics.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace coord::internal {

using kv::internal::Mutex;
using kv::internal::MutexLock;

// One subject. Sinks are called under its lock, which nobody else holds for long: so none is called after it has gone.
class NatsEventTopics::Entry {
 public:
  void OnMessage(const kv::NatsMessage& message) {
    const absl::StatusOr<NatsEventHeaders> headers = ParseNatsEventHeaders(message, /*reliable=*/false);
    MutexLock lock(mu_);
    const uint64_t dropped = subscription_ == nullptr ? dropped_ : subscription_->dropped();
    const uint64_t more = dropped - std::exchange(dropped_, dropped);
    for (NatsEventSink* sink : sinks_) {
      if (more > 0) sink->OnDropped(more);
      if (headers.ok()) {
        sink->OnArrival(*headers, message);
      } else {
        sink->OnForeign(headers.status());
      }
    }
  }

  void Add(NatsEventSink* sink) {
    MutexLock lock(mu_);
    sinks_.push_back(sink);
  }

  void Set(std::unique_ptr<kv::NatsSubscription> subscription) {
    MutexLock lock(mu_);
    subscription_ = std::move(subscription);
  }

  // The subscription, if nobody listens any more: to be destroyed without the lock, for it waits for OnMessage.
  std::unique_ptr<kv::NatsSubscription> Remove(NatsEventSink* sink) {
    MutexLock lock(mu_);
    const auto found = std::find(sinks_.begin(), sinks_.end(), sink);
    if (found != sinks_.end()) sinks_.erase(found);
    return sinks_.empty() ? std::move(subscription_) : nullptr;
  }

 private:
  Mutex mu_;
  std::vector<NatsEventSink*> sinks_ KV_GUARDED_BY(mu_);
  std::unique_ptr<kv::NatsSubscription> subscription_ KV_GUARDED_BY(mu_);
  uint64_t dropped_ KV_GUARDED_BY(mu_) = 0;
};

NatsEventTopics::NatsEventTopics(std::shared_ptr<Core> core, std::shared_ptr<kv::NatsConnection> connection)
    : core_(std::move(core)), connection_(std::move(connection)), idle_(core_->runtime->NewCondition()) {}

absl::StatusOr<std::shared_ptr<void>> NatsEventTopics::Add(const std::string& subject, NatsEventSink* sink) {
  std::shared_ptr<Entry> made;
  {
    MutexLock lock(mu_);
    while (busy_) idle_->Wait(mu_, absl::InfiniteFuture());
    std::shared_ptr<Entry>& entry = entries_[subject];
    if (entry == nullptr) {
      entry = made = std::make_shared<Entry>();
      busy_ = true;
    }
    entry->Add(sink);
  }
  absl::Status status;
  if (made != nullptr) {
    auto subscription = connection_->Subscribe(
        subject, [made](const kv::NatsMessage& message) { made->OnMessage(message); }, kMaxPending);
    status = subscription.status();
    if (subscription.ok()) made->Set(*std::move(subscription));
    MutexLock lock(mu_);
    if (!status.ok()) entries_.erase(subject);
    busy_ = false;
    idle_->NotifyAll();
  }
  if (!status.ok()) return status;
  // Not a pointer to anything: what counts is its end.
  return std::shared_ptr<void>(sink,
                               [self = shared_from_this(), subject, sink](void*) { self->Remove(subject, sink); });
}

void NatsEventTopics::Remove(const std::string& subject, NatsEventSink* sink) {
  std::unique_ptr<kv::NatsSubscription> last;
  MutexLock lock(mu_);
  while (busy_) idle_->Wait(mu_, absl::InfiniteFuture());
  const auto found = entries_.find(subject);
  if (found == entries_.end()) return;
  last = found->second->Remove(sink);
  if (last != nullptr) entries_.erase(found);
  lock.Unlock();
}

}  // namespace coord::internal
