// The watches of NatsMirror: their queues, and the thread that calls back.

#include <algorithm>
#include <utility>

#include "kv/internal/nats_mirror.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

// How long a snapshot waits for the copy to come to what its process has written.
constexpr auto kPatience = std::chrono::seconds(1);

bool HasPrefix(std::string_view key, std::string_view prefix) { return key.substr(0, prefix.size()) == prefix; }

}  // namespace

// One watch. Guarded by the mirror's mutex, but for what is const.
struct NatsMirror::Subscription {
  Subscription(std::string_view watched, WatchCallback function, Revision from)
      : prefix(watched), callback(std::move(function)), at_least(from), patience_end(steady_clock::now() + kPatience) {}

  const std::string prefix;
  const WatchCallback callback;
  const Revision at_least;
  const SteadyTime patience_end;
  std::deque<Event> queue;
  size_t queued_bytes = 0;
  bool needs_snapshot = true;       // instead of what is queued
  std::optional<WatchKind> before;  // to be told before the snapshot
  bool ready = false;               // is in the list of those that may have something to deliver
  bool patient = false;             // is in the list of those that wait for a snapshot
  bool cancelled = false;
};

class NatsMirror::Handle : public Watch {
 public:
  Handle(NatsMirror* mirror, std::shared_ptr<Subscription> subscription)
      : mirror_(*mirror), subscription_(std::move(subscription)) {}
  ~Handle() override { mirror_.Remove(subscription_); }

 private:
  NatsMirror& mirror_;
  const std::shared_ptr<Subscription> subscription_;
};

NatsMirror::~NatsMirror() {
  std::thread thread;
  {
    MutexLock lock(mutex_);
    stop_ = true;
    thread.swap(thread_);
    wake_.NotifyAll();
  }
  if (thread.joinable()) thread.join();
}

std::unique_ptr<Watch> NatsMirror::Add(std::string_view prefix, WatchCallback callback, Revision at_least) {
  auto subscription = std::make_shared<Subscription>(prefix, std::move(callback), at_least);
  MutexLock lock(mutex_);
  subscriptions_.push_back(subscription);
  MarkReadyLocked(subscription);
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  return std::make_unique<Handle>(this, std::move(subscription));
}

void NatsMirror::Remove(const std::shared_ptr<Subscription>& subscription) {
  MutexLock lock(mutex_);
  subscription->cancelled = true;
  subscription->queue.clear();
  subscriptions_.remove(subscription);
  const bool inside = thread_.get_id() == std::this_thread::get_id();
  while (running_ == subscription.get() && !inside) finished_.Wait(mutex_);
}

void NatsMirror::PublishLocked(WatchKind kind, const std::string& key, const Record& record) {
  for (const auto& subscription : subscriptions_) {
    if (subscription->needs_snapshot || !HasPrefix(key, subscription->prefix)) continue;
    const size_t bytes = record.value == nullptr ? 0 : record.value->size();
    if (subscription->queue.size() >= kMaxQueuedEvents || subscription->queued_bytes + bytes > kMaxQueuedBytes) {
      RestartLocked(subscription, WatchKind::kResync);
      continue;
    }
    subscription->queued_bytes += bytes;
    subscription->queue.push_back({kind, key, record});
    MarkReadyLocked(subscription);
  }
}

// One that has seen nothing yet has nothing to forget; of two reasons the stronger one stays.
void NatsMirror::RestartLocked(const std::shared_ptr<Subscription>& subscription, WatchKind kind) {
  if (!subscription->needs_snapshot || (subscription->before.has_value() && kind == WatchKind::kEpochChanged)) {
    subscription->before = kind;
  }
  subscription->needs_snapshot = true;
  subscription->queue.clear();
  subscription->queued_bytes = 0;
  MarkReadyLocked(subscription);
}

void NatsMirror::MarkReadyLocked(const std::shared_ptr<Subscription>& subscription) {
  if (subscription->ready) return;
  subscription->ready = true;
  ready_.push_back(subscription);
  wake_.NotifyOne();
}

// Looks again at those that wait for a snapshot.
void NatsMirror::RousePatientLocked() {
  for (const auto& subscription : patient_) {
    subscription->patient = false;
    MarkReadyLocked(subscription);
  }
  patient_.clear();
}

// Takes what is due for one watch: its queue, or the snapshot that replaces it.
std::vector<NatsMirror::Event> NatsMirror::TakeLocked(const std::shared_ptr<Subscription>& subscription) {
  std::vector<Event> events;
  if (!subscription->needs_snapshot) {
    events.assign(std::make_move_iterator(subscription->queue.begin()),
                  std::make_move_iterator(subscription->queue.end()));
    subscription->queue.clear();
    subscription->queued_bytes = 0;
    return events;
  }
  const bool behind =
      std::max(position_, reached_) < subscription->at_least && steady_clock::now() < subscription->patience_end;
  const bool can = following_ && !behind;
  // That the revisions mean nothing any more is told at once; that something was missed, with what it was.
  if (subscription->before.has_value() && (can || *subscription->before == WatchKind::kEpochChanged)) {
    events.push_back({*subscription->before, "", Record()});
    subscription->before.reset();
  }
  if (!can) {
    if (!std::exchange(subscription->patient, true)) patient_.push_back(subscription);
    return events;
  }
  const std::string& prefix = subscription->prefix;
  for (auto it = records_.lower_bound(prefix); it != records_.end() && HasPrefix(it->first, prefix); ++it) {
    events.push_back({WatchKind::kPut, it->first, it->second});
  }
  events.push_back({WatchKind::kSynced, "", Record()});
  subscription->needs_snapshot = false;
  return events;
}

void NatsMirror::DeliverLocked(const std::shared_ptr<Subscription>& subscription, const std::vector<Event>& events) {
  running_ = subscription.get();
  for (const Event& event : events) {
    if (subscription->cancelled || stop_) break;
    mutex_.Unlock();
    WatchEvent out;
    out.kind = event.kind;
    out.key = event.key;
    out.entry.revision = event.record.revision;
    if (event.record.value != nullptr) out.entry.value = *event.record.value;
    subscription->callback(out);
    mutex_.Lock();
  }
  running_ = nullptr;
  finished_.NotifyAll();
}

void NatsMirror::WaitLocked() {
  if (!following_ || patient_.empty()) {
    wake_.Wait(mutex_);
    return;
  }
  SteadyTime until = patient_.front()->patience_end;
  for (const auto& subscription : patient_) until = std::min(until, subscription->patience_end);
  if (!wake_.WaitUntil(mutex_, until)) RousePatientLocked();
}

void NatsMirror::Run() {
  MutexLock lock(mutex_);
  while (!stop_) {
    if (ready_.empty()) {
      WaitLocked();
      continue;
    }
    const std::shared_ptr<Subscription> subscription = std::move(ready_.front());
    ready_.pop_front();
    subscription->ready = false;
    if (!subscription->cancelled) DeliverLocked(subscription, TakeLocked(subscription));
  }
}

}  // namespace kv::internal
