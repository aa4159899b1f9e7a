#include "coord/internal/hub.h"

#include <algorithm>
#include <atomic>
#include <unordered_map>
#include <utility>
#include <vector>

namespace coord::internal {

using kv::internal::Mutex;
using kv::internal::MutexLock;

namespace {

struct Slot {
  std::string prefix;
  Hub::Handler handler;
  Hub::HintHandler on_hint;
  bool dead = false;  // guarded by the State's mutex
};

}  // namespace

struct Hub::State {
  explicit State(Runtime& rt) : runtime(rt), idle(rt.NewCondition()) {}

  void Dispatch(const kv::WatchEvent& event) KV_EXCLUDES(mu) {
    if (event.kind == kv::WatchKind::kSynced) synced = true;
    if (event.kind == kv::WatchKind::kResync || event.kind == kv::WatchKind::kEpochChanged) synced = false;
    std::vector<std::shared_ptr<Slot>> targets;
    {
      MutexLock lock(mu);
      if (event.kind == kv::WatchKind::kPut || event.kind == kv::WatchKind::kDelete) {
        CollectAll(event.key, targets);
      } else {
        for (auto& [part, slots] : by_prefix) targets.insert(targets.end(), slots.begin(), slots.end());
      }
    }
    for (const std::shared_ptr<Slot>& slot : targets) {
      RunOne(*slot, [&] { slot->handler(event); });
    }
  }

  void DispatchHint(std::string_view key) KV_EXCLUDES(mu) {
    std::vector<std::shared_ptr<Slot>> targets;
    {
      MutexLock lock(mu);
      CollectAll(std::string(key), targets);
    }
    for (const std::shared_ptr<Slot>& slot : targets) {
      if (slot->on_hint) RunOne(*slot, [&] { slot->on_hint(key); });
    }
  }

  template <typename Fn>
  void RunOne(Slot& slot, const Fn& fn) KV_EXCLUDES(mu) {
    {
      MutexLock lock(mu);
      if (slot.dead) return;
      running = &slot;
      running_on = runtime.CurrentThread();
    }
    fn();
    MutexLock lock(mu);
    running = nullptr;
    idle->NotifyAll();
  }

  void CollectAll(const std::string& key, std::vector<std::shared_ptr<Slot>>& targets) KV_REQUIRES(mu) {
    Collect(key, targets);
    for (size_t at = key.find('/'); at != std::string::npos; at = key.find('/', at + 1)) {
      Collect(key.substr(0, at + 1), targets);
    }
  }

  void Collect(const std::string& part, std::vector<std::shared_ptr<Slot>>& targets) KV_REQUIRES(mu) {
    auto found = by_prefix.find(part);
    if (found != by_prefix.end()) targets.insert(targets.end(), found->second.begin(), found->second.end());
  }

  void Remove(const std::shared_ptr<Slot>& slot) KV_EXCLUDES(mu) {
    MutexLock lock(mu);
    slot->dead = true;
    auto found = by_prefix.find(slot->prefix);
    auto& slots = found->second;
    slots.erase(std::remove(slots.begin(), slots.end(), slot), slots.end());
    if (slots.empty()) by_prefix.erase(found);
    while (running == slot.get() && running_on != runtime.CurrentThread()) idle->Wait(mu, absl::InfiniteFuture());
  }

  Runtime& runtime;
  Mutex mu;
  std::unordered_map<std::string, std::vector<std::shared_ptr<Slot>>> by_prefix KV_GUARDED_BY(mu);
  Slot* running KV_GUARDED_BY(mu) = nullptr;
  uint64_t running_on KV_GUARDED_BY(mu) = 0;
  const std::unique_ptr<Condition> idle;
  std::string prefix;
  std::atomic<bool> synced{false};
};

namespace {

class SlotRegistration final : public Hub::Registration {
 public:
  explicit SlotRegistration(std::function<void()> remove) : remove_(std::move(remove)) {}
  ~SlotRegistration() override { remove_(); }

 private:
  std::function<void()> remove_;
};

}  // namespace

Hub::Hub(Runtime& runtime, std::shared_ptr<kv::Store> store, std::string prefix)
    : state_(std::make_shared<State>(runtime)), store_(std::move(store)) {
  state_->prefix = std::move(prefix);
}

Hub::~Hub() { Stop(); }

absl::Status Hub::Start() {
  if (!has_watch()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<kv::Watch>> watch =
      store_->WatchPrefix(state_->prefix, [state = state_](const kv::WatchEvent& event) { state->Dispatch(event); });
  if (!watch.ok()) return watch.status();
  watch_ = *std::move(watch);
  return absl::OkStatus();
}

void Hub::Stop() { watch_ = nullptr; }

bool Hub::has_watch() const { return store_->traits().watch; }

bool Hub::synced() const { return state_->synced; }

Hub::HintHandler Hub::HintSink() const {
  return [state = state_](std::string_view key) { state->DispatchHint(key); };
}

std::unique_ptr<Hub::Registration> Hub::Register(std::string prefix, Handler handler, HintHandler on_hint) {
  auto slot = std::make_shared<Slot>();
  slot->prefix = std::move(prefix);
  slot->handler = std::move(handler);
  slot->on_hint = std::move(on_hint);
  {
    MutexLock lock(state_->mu);
    state_->by_prefix[slot->prefix].push_back(slot);
  }
  return std::make_unique<SlotRegistration>([state = state_, slot] { state->Remove(slot); });
}

}  // namespace coord::internal
