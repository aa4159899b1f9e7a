#include "coord/internal/nats_event_cursors.h"

#include <utility>

#include "coord/internal/event_cursor_expiry.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

constexpr absl::Duration kSweepEvery = absl::Hours(1);

constexpr char kAnyKey[] = "bucket/any";

constexpr char kLost[] = "the bucket of cursors was lost or removed, and made anew, while the stream of events was not";

}  // namespace

NatsEventCursors::NatsEventCursors(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker, Opener opener,
                                   LossCheck was_lost, absl::Duration keep)
    : core_(std::move(core)),
      worker_(std::move(worker)),
      opener_(std::move(opener)),
      was_lost_(std::move(was_lost)),
      keep_(keep),
      idle_(core_->runtime->NewCondition()) {}

absl::StatusOr<std::shared_ptr<EventCursors>> NatsEventCursors::Get(absl::Time until) {
  {
    MutexLock lock(mu_);
    while (opening_ && core_->runtime->Now() < until) idle_->Wait(mu_, until);
    if (opening_) return absl::DeadlineExceededError("the bucket of cursors is still being opened");
    if (cursors_ != nullptr) return cursors_;
    opening_ = true;
  }
  absl::StatusOr<std::shared_ptr<EventCursors>> cursors = Open(until);
  MutexLock lock(mu_);
  opening_ = false;
  idle_->NotifyAll();
  return cursors;
}

absl::StatusOr<std::shared_ptr<EventCursors>> NatsEventCursors::Open(absl::Time until) {
  for (int attempt = 0;; ++attempt) {
    absl::StatusOr<std::shared_ptr<kv::Store>> store = opener_(core_->CallDeadline(until));
    const absl::Time again = core_->runtime->Now() + RetryDelay(*core_->runtime, attempt);
    if (!store.ok()) {
      const bool passing = absl::IsUnavailable(store.status()) || absl::IsDeadlineExceeded(store.status());
      if (!passing || again >= until) return store.status();
      if (absl::Status open = core_->CheckOpen(); !open.ok()) return open;
      Pause(*core_->runtime, again);
      continue;
    }
    MutexLock lock(mu_);
    store_ = *std::move(store);
    cursors_ = std::make_shared<EventCursors>(core_, worker_, store_);
    QueueSweep(absl::Minutes(1) + absl::Milliseconds(core_->runtime->Random() % (9 * 60 * 1000)));
    return cursors_;
  }
}

absl::StatusOr<std::string> NatsEventCursors::Loss(absl::Time until) {
  std::shared_ptr<kv::Store> store;
  {
    MutexLock lock(mu_);
    store = store_;
  }
  for (int attempt = 0;; ++attempt) {
    const absl::StatusOr<bool> lost = was_lost_(*store, core_->CallDeadline(until));
    if (lost.ok()) return *lost ? std::string(kLost) : std::string();
    // A store whose bucket is gone makes it again once a call fails. What goes wrong here shows in the next attempt.
    if (absl::IsNotFound(lost.status())) (void)store->Get(kAnyKey, core_->CallDeadline(until));
    const bool passing = absl::IsNotFound(lost.status()) || absl::IsUnavailable(lost.status()) ||
                         absl::IsDeadlineExceeded(lost.status());
    const absl::Time again = core_->runtime->Now() + RetryDelay(*core_->runtime, attempt);
    if (!passing || again >= until) return lost.status();
    if (absl::Status open = core_->CheckOpen(); !open.ok()) return open;
    Pause(*core_->runtime, again);
  }
}

void NatsEventCursors::QueueSweep(absl::Duration after) {
  worker_->Post(core_->runtime->Now() + after, [self = shared_from_this()] {
    self->Sweep();
    const double spread = static_cast<double>(self->core_->runtime->Random() % 1000) / 1000;
    self->QueueSweep(kSweepEvery * (0.9 + 0.2 * spread));
  });
}

void NatsEventCursors::Sweep() {
  std::shared_ptr<kv::Store> store;
  std::shared_ptr<EventCursors> cursors;
  {
    MutexLock lock(mu_);
    store = store_;
    cursors = cursors_;
  }
  if (store == nullptr) return;
  cursors->Touch(keep_ / 4);
  ExpireCursors(*core_, *store, *worker_, keep_);
}

void NatsEventCursors::Flush(absl::Time until) {
  std::shared_ptr<EventCursors> cursors;
  {
    MutexLock lock(mu_);
    cursors = cursors_;
  }
  if (cursors != nullptr) cursors->Flush(until);
}

}  // namespace coord::internal
