#include "kv/memory_store.h"

#include <time.h>

#include <deque>
#include <list>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/internal/mutex.h"

namespace kv {
namespace {

using internal::CondVar;
using internal::Mutex;
using internal::MutexLock;

absl::Duration BootTime() {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return absl::DurationFromTimespec(now);
}

// An entry as stored. The value is shared with the events about it.
struct Record {
  std::shared_ptr<const std::string> value;
  Revision revision = 0;
  absl::Duration written;  // on the uptime clock
};

struct Event {
  WatchKind kind = WatchKind::kPut;
  std::string key;
  Record record;
};

// One watch. Guarded by the store's mutex, but for what is const.
struct Subscription {
  Subscription(std::string_view watched, WatchCallback function) : prefix(watched), callback(std::move(function)) {}

  const std::string prefix;
  const WatchCallback callback;
  std::deque<Event> queue;
  bool ready = false;          // is in the list of those with something to deliver
  bool needs_snapshot = true;  // instead of what is queued
  bool resync = false;         // kResync goes before the snapshot
  bool cancelled = false;
};

bool HasPrefix(std::string_view key, std::string_view prefix) { return key.substr(0, prefix.size()) == prefix; }

// The data and the queues; shared by the store, its watches and the task given to an executor, so that none of them
// can outlive what it uses.
class Core : public std::enable_shared_from_this<Core> {
 public:
  explicit Core(MemoryStoreOptions options) : options_(std::move(options)) {
    if (!options_.wall_now) options_.wall_now = [] { return absl::Now(); };
    if (!options_.uptime) options_.uptime = BootTime;
    traits_.name = "memory";
    traits_.watch = true;
    traits_.age = true;
    traits_.proves_incarnation = true;
  }

  const Traits& traits() const { return traits_; }

  absl::Status Check(std::string_view key, absl::Time deadline) const {
    if (absl::Status status = CheckKey(key, traits_); !status.ok()) return status;
    return CheckDeadline(deadline);
  }
  absl::Status CheckDeadline(absl::Time deadline) const {
    if (deadline == absl::InfiniteFuture() || deadline > options_.wall_now()) return absl::OkStatus();
    return absl::DeadlineExceededError("memory: the deadline had passed before the call");
  }

  absl::StatusOr<Entry> Get(std::string_view key) const {
    MutexLock lock(mutex_);
    const auto it = records_.find(key);
    if (it == records_.end()) return absl::NotFoundError("memory: no such key");
    return ToEntry(it->second);
  }

  enum class Condition { kAny, kAbsent, kRevision };
  WriteResult Write(std::string_view key, std::string_view value, Condition condition, Revision expected);
  WriteResult Delete(std::string_view key, Revision expected);
  std::vector<KeyedEntry> List(std::string_view prefix) const;

  std::shared_ptr<Subscription> Subscribe(std::string_view prefix, WatchCallback callback);
  void Unsubscribe(const std::shared_ptr<Subscription>& subscription);
  void Close();

 private:
  Entry ToEntry(const Record& record) const {
    return Entry{*record.value, record.revision, options_.uptime() - record.written};
  }
  WriteResult Lost(absl::StatusCode code, const Record& winner) const;
  void Publish(WatchKind kind, const std::string& key, const Record& record) KV_REQUIRES(mutex_);
  void MarkReady(const std::shared_ptr<Subscription>& subscription) KV_REQUIRES(mutex_);
  // Sees to it that somebody delivers. Called without the mutex, for an executor may run the task at once.
  void Wake();
  void Deliver();
  std::vector<Event> Take(Subscription* subscription) KV_REQUIRES(mutex_);
  void Run();

  MemoryStoreOptions options_;
  Traits traits_;
  mutable Mutex mutex_;
  Revision revision_ KV_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Record, std::less<>> records_ KV_GUARDED_BY(mutex_);
  std::list<std::shared_ptr<Subscription>> subscriptions_ KV_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Subscription>> ready_ KV_GUARDED_BY(mutex_);
  bool task_pending_ KV_GUARDED_BY(mutex_) = false;  // an executor has a task that has not ended
  bool closed_ KV_GUARDED_BY(mutex_) = false;
  const Subscription* running_ KV_GUARDED_BY(mutex_) = nullptr;  // whose callback runs now
  std::thread::id running_thread_ KV_GUARDED_BY(mutex_);
  std::thread thread_ KV_GUARDED_BY(mutex_);
  CondVar wake_;      // something is ready, or closed
  CondVar finished_;  // a callback has returned
};

WriteResult Core::Lost(absl::StatusCode code, const Record& winner) const {
  WriteResult result;
  result.status = absl::Status(code, code == absl::StatusCode::kAlreadyExists
                                         ? "memory: the key exists"
                                         : absl::StrCat("memory: the key is at revision ", winner.revision));
  result.current = ToEntry(winner);
  return result;
}

WriteResult Core::Write(std::string_view key, std::string_view value, Condition condition, Revision expected) {
  WriteResult result;
  {
    MutexLock lock(mutex_);
    auto it = records_.find(key);
    const bool exists = it != records_.end();
    if (condition == Condition::kAbsent && exists) return Lost(absl::StatusCode::kAlreadyExists, it->second);
    if (condition == Condition::kRevision) {
      if (!exists) return WriteResult{absl::NotFoundError("memory: no such key"), 0, std::nullopt};
      if (it->second.revision != expected) return Lost(absl::StatusCode::kAborted, it->second);
    }
    if (!exists) it = records_.emplace(key, Record()).first;
    it->second = Record{std::make_shared<const std::string>(value), ++revision_, options_.uptime()};
    result.revision = revision_;
    Publish(WatchKind::kPut, it->first, it->second);
    if (ready_.empty()) return result;
  }
  Wake();
  return result;
}

WriteResult Core::Delete(std::string_view key, Revision expected) {
  WriteResult result;
  {
    MutexLock lock(mutex_);
    const auto it = records_.find(key);
    if (it == records_.end()) return WriteResult{absl::NotFoundError("memory: no such key"), 0, std::nullopt};
    if (it->second.revision != expected) return Lost(absl::StatusCode::kAborted, it->second);
    Record tombstone{std::make_shared<const std::string>(), ++revision_, options_.uptime()};
    result.revision = revision_;
    Publish(WatchKind::kDelete, it->first, tombstone);
    records_.erase(it);
    if (ready_.empty()) return result;
  }
  Wake();
  return result;
}

std::vector<KeyedEntry> Core::List(std::string_view prefix) const {
  std::vector<KeyedEntry> entries;
  MutexLock lock(mutex_);
  for (auto it = records_.lower_bound(prefix); it != records_.end() && HasPrefix(it->first, prefix); ++it) {
    entries.push_back({it->first, ToEntry(it->second)});
  }
  return entries;
}

void Core::Publish(WatchKind kind, const std::string& key, const Record& record) {
  for (const auto& subscription : subscriptions_) {
    if (subscription->needs_snapshot || !HasPrefix(key, subscription->prefix)) continue;
    if (subscription->queue.size() >= options_.max_queued_events) {
      subscription->queue.clear();
      subscription->needs_snapshot = true;
      subscription->resync = true;
    } else {
      subscription->queue.push_back({kind, key, record});
    }
    MarkReady(subscription);
  }
}

void Core::MarkReady(const std::shared_ptr<Subscription>& subscription) {
  if (subscription->ready) return;
  subscription->ready = true;
  ready_.push_back(subscription);
}

std::shared_ptr<Subscription> Core::Subscribe(std::string_view prefix, WatchCallback callback) {
  auto subscription = std::make_shared<Subscription>(prefix, std::move(callback));
  {
    MutexLock lock(mutex_);
    subscriptions_.push_back(subscription);
    MarkReady(subscription);
    if (!options_.executor && !thread_.joinable()) {
      thread_ = std::thread([self = shared_from_this()] { self->Run(); });
    }
  }
  Wake();
  return subscription;
}

void Core::Unsubscribe(const std::shared_ptr<Subscription>& subscription) {
  MutexLock lock(mutex_);
  subscription->cancelled = true;
  subscription->queue.clear();
  subscriptions_.remove(subscription);
  if (options_.executor) return;
  while (running_ == subscription.get() && running_thread_ != std::this_thread::get_id()) finished_.Wait(mutex_);
}

void Core::Wake() {
  if (!options_.executor) {
    wake_.NotifyOne();
    return;
  }
  {
    MutexLock lock(mutex_);
    if (task_pending_ || closed_) return;
    task_pending_ = true;
  }
  options_.executor([self = shared_from_this()] { self->Deliver(); });
}

// Takes what is due for one watch: its queue, or the snapshot that replaces it.
std::vector<Event> Core::Take(Subscription* subscription) {
  std::vector<Event> events;
  if (!subscription->needs_snapshot) {
    events.assign(std::make_move_iterator(subscription->queue.begin()),
                  std::make_move_iterator(subscription->queue.end()));
    subscription->queue.clear();
    return events;
  }
  const std::string& prefix = subscription->prefix;
  if (subscription->resync) events.push_back({WatchKind::kResync, "", Record()});
  for (auto it = records_.lower_bound(prefix); it != records_.end() && HasPrefix(it->first, prefix); ++it) {
    events.push_back({WatchKind::kPut, it->first, it->second});
  }
  events.push_back({WatchKind::kSynced, "", Record()});
  subscription->needs_snapshot = false;
  subscription->resync = false;
  return events;
}

void Core::Deliver() {
  MutexLock lock(mutex_);
  while (!ready_.empty() && !closed_) {
    const std::shared_ptr<Subscription> subscription = std::move(ready_.front());
    ready_.pop_front();
    subscription->ready = false;
    if (subscription->cancelled) continue;
    const std::vector<Event> events = Take(subscription.get());
    running_ = subscription.get();
    running_thread_ = std::this_thread::get_id();
    for (const Event& event : events) {
      if (subscription->cancelled) break;
      lock.Unlock();
      WatchEvent out{event.kind, event.key, Entry()};
      if (event.record.value != nullptr) out.entry = ToEntry(event.record);
      subscription->callback(out);
      lock.Lock();
    }
    running_ = nullptr;
    finished_.NotifyAll();
  }
  task_pending_ = false;
}

void Core::Run() {
  while (true) {
    {
      MutexLock lock(mutex_);
      while (ready_.empty() && !closed_) wake_.Wait(mutex_);
      if (closed_) return;
    }
    Deliver();
  }
}

void Core::Close() {
  std::thread thread;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    thread.swap(thread_);
  }
  wake_.NotifyAll();
  if (thread.joinable()) thread.join();
}

class MemoryWatch : public Watch {
 public:
  MemoryWatch(std::shared_ptr<Core> core, std::shared_ptr<Subscription> subscription)
      : core_(std::move(core)), subscription_(std::move(subscription)) {}
  ~MemoryWatch() override { core_->Unsubscribe(subscription_); }

 private:
  const std::shared_ptr<Core> core_;
  const std::shared_ptr<Subscription> subscription_;
};

class MemoryStore : public Store {
 public:
  explicit MemoryStore(MemoryStoreOptions options) : core_(std::make_shared<Core>(std::move(options))) {}
  ~MemoryStore() override { core_->Close(); }

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override {
    if (absl::Status status = core_->Check(key, deadline); !status.ok()) return status;
    return core_->Get(key);
  }
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Write(key, value, deadline, Core::Condition::kAbsent, 0);
  }
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override {
    if (expected == 0) return NoRevision();
    return Write(key, value, deadline, Core::Condition::kRevision, expected);
  }
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override {
    if (expected == 0) return NoRevision();
    if (absl::Status status = core_->Check(key, deadline); !status.ok()) return {std::move(status), 0, std::nullopt};
    return core_->Delete(key, expected);
  }
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Write(key, value, deadline, Core::Condition::kAny, 0);
  }
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override {
    if (absl::Status status = core_->CheckDeadline(deadline); !status.ok()) return status;
    return core_->List(prefix);
  }
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override {
    return std::make_unique<MemoryWatch>(core_, core_->Subscribe(prefix, std::move(callback)));
  }
  const Traits& traits() const override { return core_->traits(); }

 private:
  static WriteResult NoRevision() {
    return {absl::InvalidArgumentError("memory: 0 is not a revision; use Create for an absent key"), 0, std::nullopt};
  }
  WriteResult Write(std::string_view key, std::string_view value, absl::Time deadline, Core::Condition condition,
                    Revision expected) {
    absl::Status status = core_->Check(key, deadline);
    if (status.ok()) status = CheckValue(value, core_->traits());
    if (!status.ok()) return {std::move(status), 0, std::nullopt};
    return core_->Write(key, value, condition, expected);
  }

  const std::shared_ptr<Core> core_;
};

}  // namespace

std::shared_ptr<Store> NewMemoryStore(MemoryStoreOptions options) {
  return std::make_shared<MemoryStore>(std::move(options));
}

}  // namespace kv
