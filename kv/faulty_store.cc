#include "kv/faulty_store.h"

#include <list>
#include <thread>
#include <utility>

#include "kv/internal/deadline.h"

namespace kv {

using internal::CondVar;
using internal::Mutex;
using internal::MutexLock;

// All events of all watches pass one queue, so that never two callbacks run at a time whoever delivers.
class FaultyStore::Events {
 public:
  struct Target {
    std::string prefix;
    WatchCallback callback;
    std::unique_ptr<Watch> inner;
    uint64_t generation = 0;  // events of an earlier inner watch count no more
    bool cancelled = false;
  };

  void SetPaused(bool paused) {
    {
      MutexLock lock(mutex_);
      paused_ = paused;
    }
    Pump();
  }

  void SetFilter(EventFilter filter) {
    MutexLock lock(mutex_);
    filter_ = std::move(filter);
  }

  void Push(const std::shared_ptr<Target>& target, uint64_t generation, const WatchEvent& event) {
    {
      MutexLock lock(mutex_);
      if (target->cancelled || target->generation != generation) return;
      queue_.push_back({target, event});
    }
    Pump();
  }

  absl::Status Attach(const std::shared_ptr<Events>& self, Store* store, const std::shared_ptr<Target>& target) {
    uint64_t generation;
    {
      MutexLock lock(mutex_);
      generation = target->generation;
    }
    absl::StatusOr<std::unique_ptr<Watch>> inner = store->WatchPrefix(
        target->prefix, [self, target, generation](const WatchEvent& event) { self->Push(target, generation, event); });
    if (!inner.ok()) return inner.status();
    MutexLock lock(mutex_);
    // One that was removed meanwhile stays without: `inner` ends after the lock.
    if (!target->cancelled) target->inner = *std::move(inner);
    return absl::OkStatus();
  }

  void Add(const std::shared_ptr<Target>& target) {
    MutexLock lock(mutex_);
    targets_.push_back(target);
  }

  // Ends `target`; waits for its running callback unless that runs on this very thread.
  void Remove(const std::shared_ptr<Target>& target) {
    std::unique_ptr<Watch> inner;
    {
      MutexLock lock(mutex_);
      target->cancelled = true;
      targets_.remove(target);
      inner = std::move(target->inner);
      while (running_ == target.get() && running_thread_ != std::this_thread::get_id()) finished_.Wait(mutex_);
    }
    inner.reset();
  }

  std::vector<std::shared_ptr<Target>> BeginInterrupt(WatchKind kind) {
    std::vector<std::shared_ptr<Target>> targets;
    std::vector<std::unique_ptr<Watch>> ended;
    {
      MutexLock lock(mutex_);
      targets.assign(targets_.begin(), targets_.end());
      for (const auto& target : targets) {
        ++target->generation;
        ended.push_back(std::move(target->inner));
        WatchEvent event;
        event.kind = kind;
        queue_.push_back({target, event});
      }
    }
    ended.clear();
    Pump();
    return targets;
  }

 private:
  struct Item {
    std::shared_ptr<Target> target;
    WatchEvent event;
  };

  void Pump() {
    MutexLock lock(mutex_);
    if (pumping_) return;
    pumping_ = true;
    while (!queue_.empty() && !paused_) {
      const Item item = std::move(queue_.front());
      queue_.pop_front();
      if (item.target->cancelled) continue;
      const EventFilter filter = filter_;
      running_ = item.target.get();
      running_thread_ = std::this_thread::get_id();
      lock.Unlock();
      if (!filter || filter(item.event)) item.target->callback(item.event);
      lock.Lock();
      running_ = nullptr;
      finished_.NotifyAll();
    }
    pumping_ = false;
  }

  Mutex mutex_;
  CondVar finished_;
  std::deque<Item> queue_ KV_GUARDED_BY(mutex_);
  std::list<std::shared_ptr<Target>> targets_ KV_GUARDED_BY(mutex_);
  EventFilter filter_ KV_GUARDED_BY(mutex_);
  bool paused_ KV_GUARDED_BY(mutex_) = false;
  bool pumping_ KV_GUARDED_BY(mutex_) = false;
  const Target* running_ KV_GUARDED_BY(mutex_) = nullptr;
  std::thread::id running_thread_ KV_GUARDED_BY(mutex_);
};

class FaultyStore::FaultyWatch : public Watch {
 public:
  FaultyWatch(std::shared_ptr<Events> events, std::shared_ptr<Events::Target> target)
      : events_(std::move(events)), target_(std::move(target)) {}
  ~FaultyWatch() override { events_->Remove(target_); }

 private:
  const std::shared_ptr<Events> events_;
  const std::shared_ptr<Events::Target> target_;
};

FaultyStore::FaultyStore(std::shared_ptr<Store> base)
    : StoreWrapper(std::move(base)), events_(std::make_shared<Events>()) {}

FaultyStore::~FaultyStore() = default;

void FaultyStore::SetHook(Hook hook) {
  MutexLock lock(mutex_);
  hook_ = std::move(hook);
}

void FaultyStore::Unblock() {
  {
    MutexLock lock(mutex_);
    ++unblocked_;
  }
  unblock_.NotifyAll();
}

size_t FaultyStore::blocked() const {
  MutexLock lock(mutex_);
  return blocked_;
}

std::vector<WriteResult> FaultyStore::ReleaseHeld() {
  std::deque<Write> held;
  {
    MutexLock lock(mutex_);
    held.swap(held_);
  }
  std::vector<WriteResult> results;
  for (const Write& write : held) results.push_back(write(absl::InfiniteFuture()));
  return results;
}

void FaultyStore::DropHeld() {
  MutexLock lock(mutex_);
  held_.clear();
}

size_t FaultyStore::held() const {
  MutexLock lock(mutex_);
  return held_.size();
}

void FaultyStore::PauseWatches() { events_->SetPaused(true); }
void FaultyStore::ResumeWatches() { events_->SetPaused(false); }
void FaultyStore::SetEventFilter(EventFilter filter) { events_->SetFilter(std::move(filter)); }

void FaultyStore::Interrupt(WatchKind kind) {
  for (const auto& target : events_->BeginInterrupt(kind)) {
    // A base that cannot watch now leaves the watch silent, as a broken one would be.
    (void)events_->Attach(events_, base().get(), target);
  }
}

absl::StatusOr<Fault> FaultyStore::Ask(CallKind kind, std::string_view key, absl::Time deadline) {
  FaultyCall call{kind, std::string(key), 0};
  Hook hook;
  {
    MutexLock lock(mutex_);
    call.number = ++calls_;
    hook = hook_;
  }
  const Fault fault = hook ? hook(call) : Fault::kNone;
  if (fault == Fault::kFailBefore) return absl::UnavailableError("faulty: the store cannot be reached (injected)");
  if (fault != Fault::kBlock) return fault;

  const auto until = internal::SteadyDeadline(deadline);
  if (!until.has_value()) return Fault::kNone;  // the store itself refuses it
  MutexLock lock(mutex_);
  const uint64_t before = unblocked_;
  ++blocked_;
  bool in_time = true;
  while (in_time && unblocked_ == before) in_time = unblock_.WaitUntil(mutex_, *until);
  --blocked_;
  if (unblocked_ == before) return absl::UnavailableError("faulty: blocked until the deadline (injected)");
  return Fault::kNone;
}

absl::Status FaultyStore::AskRead(CallKind kind, std::string_view key, absl::Time deadline) {
  absl::StatusOr<Fault> fault = Ask(kind, key, deadline);
  if (!fault.ok()) return fault.status();
  if (*fault == Fault::kNone) return absl::OkStatus();
  return absl::DeadlineExceededError("faulty: the reply was lost (injected)");
}

WriteResult FaultyStore::Run(CallKind kind, std::string_view key, absl::Time deadline, Write write) {
  const absl::StatusOr<Fault> fault = Ask(kind, key, deadline);
  if (!fault.ok()) return {fault.status(), 0, std::nullopt};
  if (*fault == Fault::kNone) return write(deadline);
  if (*fault == Fault::kApplyLate) {
    MutexLock lock(mutex_);
    held_.push_back(std::move(write));
  } else {
    (void)write(deadline);
  }
  return {absl::DeadlineExceededError("faulty: the reply was lost (injected)"), 0, std::nullopt};
}

absl::StatusOr<Entry> FaultyStore::Get(std::string_view key, absl::Time deadline) {
  if (absl::Status status = AskRead(CallKind::kGet, key, deadline); !status.ok()) return status;
  return base()->Get(key, deadline);
}

WriteResult FaultyStore::Create(std::string_view key, std::string_view value, absl::Time deadline) {
  return Run(CallKind::kCreate, key, deadline,
             [store = base(), k = std::string(key), v = std::string(value)](absl::Time until) {
               return store->Create(k, v, until);
             });
}

WriteResult FaultyStore::Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) {
  return Run(CallKind::kUpdate, key, deadline,
             [store = base(), k = std::string(key), v = std::string(value), expected](absl::Time until) {
               return store->Update(k, v, expected, until);
             });
}

WriteResult FaultyStore::Delete(std::string_view key, Revision expected, absl::Time deadline) {
  return Run(CallKind::kDelete, key, deadline, [store = base(), k = std::string(key), expected](absl::Time until) {
    return store->Delete(k, expected, until);
  });
}

WriteResult FaultyStore::Put(std::string_view key, std::string_view value, absl::Time deadline) {
  return Run(CallKind::kPut, key, deadline,
             [store = base(), k = std::string(key), v = std::string(value)](absl::Time until) {
               return store->Put(k, v, until);
             });
}

absl::StatusOr<std::vector<KeyedEntry>> FaultyStore::List(std::string_view prefix, absl::Time deadline) {
  if (absl::Status status = AskRead(CallKind::kList, prefix, deadline); !status.ok()) return status;
  return base()->List(prefix, deadline);
}

absl::StatusOr<std::unique_ptr<Watch>> FaultyStore::WatchPrefix(std::string_view prefix, WatchCallback callback) {
  if (absl::Status status = AskRead(CallKind::kWatch, prefix, absl::InfiniteFuture()); !status.ok()) return status;
  auto target = std::make_shared<Events::Target>();
  target->prefix = std::string(prefix);
  target->callback = std::move(callback);
  events_->Add(target);
  if (absl::Status status = events_->Attach(events_, base().get(), target); !status.ok()) {
    events_->Remove(target);
    return status;
  }
  return std::make_unique<FaultyWatch>(events_, target);
}

}  // namespace kv
