#include "coord/shared_value.h"

#include <atomic>
#include <utility>
#include <vector>

#include "coord/cells/values.h"
#include "coord/internal/callback_list.h"
#include "coord/internal/cell.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/core.h"
#include "coord/internal/hub.h"
#include "coord/internal/read_cache.h"
#include "kv/internal/mutex.h"

namespace coord {

using internal::Cell;
using internal::CellStatePtr;
using internal::Core;
using kv::internal::Mutex;
using kv::internal::MutexLock;
using VersionedPtr = std::shared_ptr<const Versioned>;

// Locks, in this order: the cell's, then mu.
struct SharedValue::State final : public internal::CellListener,
                                  public internal::Refreshable,
                                  public std::enable_shared_from_this<SharedValue::State> {
  State(std::shared_ptr<Core> given_core, std::shared_ptr<Cell> given_cell)
      : core(std::move(given_core)), cell(std::move(given_cell)) {}

  ~State() override {
    registration = nullptr;  // no handler runs from here on
    cell->ClearListener(this);
  }

  // One callback. It tells the state as it is when it runs, so that changes which follow quickly are folded.
  struct Subscriber {
    Subscriber(Runtime& runtime, std::function<void(const VersionedPtr&)> fn) : slot(runtime, std::move(fn)) {}
    void Cancel() { slot.Cancel(); }

    void Run() {
      pending.store(false);
      std::shared_ptr<State> state = owner.lock();
      if (state == nullptr) return;
      VersionedPtr now = state->Present();
      if (told_any && now == told) return;
      told_any = true;
      told = now;
      slot.Run(now);
    }

    internal::CallbackSlot<const VersionedPtr&> slot;
    std::weak_ptr<State> owner;
    std::atomic<bool> pending{false};
    bool told_any = false;  // these two: by the callback thread alone
    VersionedPtr told;
  };

  absl::Status Load(absl::Time deadline) KV_EXCLUDES(mu) {
    absl::Status open = core->CheckOpen();
    if (!open.ok()) return open;
    cell->SetListener(this);
    {
      MutexLock lock(mu);
      if (loaded) return absl::OkStatus();
      if (registration == nullptr) {
        registration = core->hub->Register(
            cell->key(), [this](const kv::WatchEvent& event) { OnEvent(event); },
            [this](std::string_view) { core->cells->refresher().ScheduleHinted(weak_from_this()); });
      }
    }
    absl::StatusOr<CellStatePtr> read = core->cells->Read(*cell, deadline, /*absence_counts=*/true);
    if (!read.ok()) return read.status();
    MutexLock lock(mu);
    if (!std::exchange(loaded, true)) core->cells->refresher().Add(shared_from_this());
    return absl::OkStatus();
  }

  VersionedPtr Present() KV_EXCLUDES(mu) {
    MutexLock lock(mu);
    return present;
  }

  void Post(const std::shared_ptr<Subscriber>& subscriber) {
    if (subscriber->pending.exchange(true)) return;
    if (!core->callbacks->Post([subscriber] { subscriber->Run(); })) subscriber->pending.store(false);
  }

  void OnCell(const std::string&, const CellStatePtr& now) override KV_EXCLUDES(mu) {
    MutexLock lock(mu);
    present = internal::PublicValue(*now);
    cache.Changed();
    size_t kept = 0;
    for (std::weak_ptr<Subscriber>& weak : subscribers) {
      std::shared_ptr<Subscriber> subscriber = weak.lock();
      if (subscriber == nullptr) continue;
      Post(subscriber);
      subscribers[kept++] = subscriber;
    }
    subscribers.resize(kept);
  }

  // On the store's watch thread.
  void OnEvent(const kv::WatchEvent& event) {
    bool understood = true;
    switch (event.kind) {
      case kv::WatchKind::kPut: {
        absl::StatusOr<CellStatePtr> state = core->cells->Parse(*cell, event.entry, core->EpochId());
        if (state.ok()) understood = cell->LearnPush(*state, event.entry.revision);
        break;
      }
      case kv::WatchKind::kDelete: {
        auto absent = std::make_shared<internal::CellState>();
        absent->epoch = core->EpochId();
        understood = cell->LearnPush(absent, event.entry.revision);
        break;
      }
      case kv::WatchKind::kResync:
        cell->Unconfirm();
        break;
      case kv::WatchKind::kEpochChanged:
        cell->Reset();
        break;
      case kv::WatchKind::kSynced:
        understood = cell->confirmed();
        break;
    }
    if (!understood) core->cells->refresher().Schedule(weak_from_this());
  }

  absl::Status Refresh(absl::Time deadline) override {
    return core->cells->Read(*cell, deadline, /*absence_counts=*/true).status();
  }

  void OnEpochChanged() override { cell->Reset(); }

  const std::shared_ptr<Core> core;
  const std::shared_ptr<Cell> cell;
  std::unique_ptr<internal::Hub::Registration> registration;  // set under mu; destroyed without it, for it waits
  internal::ReadCache<Versioned> cache;
  Mutex mu;
  bool loaded KV_GUARDED_BY(mu) = false;
  VersionedPtr present KV_GUARDED_BY(mu);
  std::vector<std::weak_ptr<Subscriber>> subscribers KV_GUARDED_BY(mu);
};

absl::StatusOr<std::shared_ptr<SharedValue>> SharedValue::Open(std::shared_ptr<Core> core, std::string_view name,
                                                               absl::Time deadline) {
  absl::StatusOr<std::shared_ptr<Cell>> cell = internal::OpenCell(*core, "value", "value", name);
  if (!cell.ok()) return cell.status();
  auto state = core->cells->FindShared<State>((*cell)->key(), [&] { return std::make_shared<State>(core, *cell); });
  absl::Status status = state->Load(deadline);
  if (!status.ok()) return status;
  return std::shared_ptr<SharedValue>(new SharedValue(std::move(state)));
}

SharedValue::SharedValue(std::shared_ptr<State> state) : state_(std::move(state)) {}
SharedValue::~SharedValue() = default;

VersionedPtr SharedValue::Get() const {
  return state_->cache.Get([&] { return state_->Present(); });
}

absl::StatusOr<Revision> SharedValue::Set(std::string_view value, absl::Time deadline) {
  return internal::SetValue(*state_->core, *state_->cell, value, deadline);
}

absl::StatusOr<Revision> SharedValue::CompareAndSet(const Revision& expected, std::string_view value,
                                                    absl::Time deadline) {
  return internal::CompareAndSetValue(*state_->core, *state_->cell, expected, value, deadline);
}

absl::StatusOr<Versioned> SharedValue::Update(const UpdateFunction& fn, absl::Time deadline) {
  return internal::UpdateValue(*state_->core, *state_->cell, fn, deadline);
}

absl::Status SharedValue::Delete(const Revision& expected, absl::Time deadline) {
  return internal::DeleteValue(*state_->core, *state_->cell, expected, deadline);
}

Subscription SharedValue::OnChange(std::function<void(const VersionedPtr&)> fn) {
  auto subscriber = std::make_shared<State::Subscriber>(*state_->core->runtime, std::move(fn));
  subscriber->owner = state_;
  {
    MutexLock lock(state_->mu);
    state_->subscribers.push_back(subscriber);
    state_->Post(subscriber);
  }
  return internal::MakeSubscription(std::move(subscriber), state_);  // follows on even if the SharedValue is gone
}

}  // namespace coord
