#include "coord/internal/cell_refresher.h"

#include <algorithm>
#include <utility>

#include "kv/internal/mutex.h"

namespace coord::internal {

using kv::internal::Mutex;
using kv::internal::MutexLock;

namespace {

constexpr absl::Duration kRetryMin = absl::Milliseconds(10);
constexpr absl::Duration kRetryMax = absl::Seconds(2);

}  // namespace

// Outlives the Core where a refresh is left behind at Stop, and then touches nothing of it.
struct CellRefresher::State : std::enable_shared_from_this<State> {
  State(Runtime& rt, bool poll, absl::Duration period, absl::Duration timeout)
      : runtime(rt), polls(poll), poll_period(period), call_timeout(timeout), changed(rt.NewCondition()) {}

  using Item = std::weak_ptr<Refreshable>;

  static bool Same(const Item& a, const Item& b) { return !a.owner_before(b) && !b.owner_before(a); }

  static void Push(const Item& item, std::vector<Item>& items) {
    const bool known = std::any_of(items.begin(), items.end(), [&](const Item& other) { return Same(item, other); });
    if (!known) items.push_back(item);
  }

  void EnsureThread() KV_REQUIRES(mu) {
    if (thread != nullptr || stopped) return;
    thread = runtime.StartThread("coord-cells", [self = shared_from_this()] { self->Run(); });
  }

  // Half to one and a half of `duration`.
  absl::Duration Jitter(absl::Duration duration) {
    return duration * (0.5 + static_cast<double>(runtime.Random() >> 11) * 0x1p-53);
  }

  void Run() KV_EXCLUDES(mu);
  bool RefreshAll(std::vector<Item>& batch, absl::Status (Refreshable::*refresh)(absl::Time)) KV_EXCLUDES(mu);
  void RunBatch(std::vector<Item> batch, absl::Status (Refreshable::*refresh)(absl::Time)) KV_REQUIRES(mu);

  Runtime& runtime;
  const bool polls;
  const absl::Duration poll_period;
  const absl::Duration call_timeout;
  Mutex mu;
  const std::unique_ptr<Condition> changed;
  std::vector<Item> all KV_GUARDED_BY(mu);
  std::vector<Item> due KV_GUARDED_BY(mu);
  std::vector<Item> hinted KV_GUARDED_BY(mu);
  absl::Time hinted_due KV_GUARDED_BY(mu) = absl::InfiniteFuture();
  absl::Time not_before KV_GUARDED_BY(mu) = absl::InfinitePast();  // after a failure
  absl::Duration retry KV_GUARDED_BY(mu) = kRetryMin;
  absl::Time next_poll KV_GUARDED_BY(mu) = absl::InfiniteFuture();
  bool stopped KV_GUARDED_BY(mu) = false;
  bool done KV_GUARDED_BY(mu) = false;
  std::unique_ptr<Thread> thread KV_GUARDED_BY(mu);
};

void CellRefresher::State::Run() {
  MutexLock lock(mu);
  while (!stopped) {
    const absl::Time now = runtime.Now();
    if (now >= next_poll) {
      for (const Item& item : all) Push(item, due);
      next_poll = now + Jitter(poll_period);
    }
    if (now >= hinted_due) {
      hinted_due = absl::InfiniteFuture();
      RunBatch(std::exchange(hinted, {}), &Refreshable::RefreshHinted);
    } else if (!due.empty() && now >= not_before) {
      RunBatch(std::exchange(due, {}), &Refreshable::Refresh);
    } else {
      changed->Wait(mu, std::min({next_poll, hinted_due, due.empty() ? absl::InfiniteFuture() : not_before}));
    }
  }
  done = true;
  changed->NotifyAll();
}

// Releases the mutex in between.
void CellRefresher::State::RunBatch(std::vector<Item> batch, absl::Status (Refreshable::*refresh)(absl::Time)) {
  mu.Unlock();
  const bool all_done = RefreshAll(batch, refresh);
  mu.Lock();
  if (all_done) {
    retry = kRetryMin;
    not_before = absl::InfinitePast();
    return;
  }
  for (const Item& item : batch) Push(item, due);
  not_before = runtime.Now() + Jitter(retry);
  retry = std::min(retry * 2, kRetryMax);
}

// Leaves in `batch` what has to be tried again; true if nothing.
bool CellRefresher::State::RefreshAll(std::vector<Item>& batch, absl::Status (Refreshable::*refresh)(absl::Time)) {
  std::vector<Item> failed;
  for (const Item& item : batch) {
    {
      MutexLock lock(mu);
      if (stopped) break;
    }
    std::shared_ptr<Refreshable> what = item.lock();
    if (what == nullptr) continue;
    const absl::Status status = (what.get()->*refresh)(runtime.WallNow() + call_timeout);
    if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) failed.push_back(item);
  }
  batch = std::move(failed);
  return batch.empty();
}

CellRefresher::CellRefresher(Core* core)
    : state_(std::make_shared<State>(*core->runtime, !core->store->traits().watch, core->options.ttl / 8,
                                     core->options.call_timeout)) {}

CellRefresher::~CellRefresher() { Stop(absl::InfinitePast()); }

void CellRefresher::Add(const std::shared_ptr<Refreshable>& what) {
  MutexLock lock(state_->mu);
  auto& all = state_->all;
  all.erase(std::remove_if(all.begin(), all.end(), [](const State::Item& item) { return item.expired(); }), all.end());
  all.push_back(what);
  if (!state_->polls) return;
  // A hint may have started the thread before.
  if (state_->next_poll == absl::InfiniteFuture()) {
    state_->next_poll = state_->runtime.Now() + state_->Jitter(state_->poll_period);
    state_->changed->NotifyAll();
  }
  state_->EnsureThread();
}

void CellRefresher::Schedule(const std::weak_ptr<Refreshable>& what) {
  MutexLock lock(state_->mu);
  if (state_->stopped) return;
  State::Push(what, state_->due);
  state_->EnsureThread();
  state_->changed->NotifyAll();
}

void CellRefresher::ScheduleHinted(const std::weak_ptr<Refreshable>& what) {
  MutexLock lock(state_->mu);
  if (state_->stopped) return;
  State::Push(what, state_->hinted);
  if (state_->hinted_due != absl::InfiniteFuture()) return;
  state_->hinted_due = state_->runtime.Now() + state_->Jitter(kHintJitter) / 1.5;
  state_->EnsureThread();
  state_->changed->NotifyAll();
}

void CellRefresher::EpochChanged() {
  std::vector<State::Item> all;
  {
    MutexLock lock(state_->mu);
    all = state_->all;
  }
  for (const State::Item& item : all) {
    if (std::shared_ptr<Refreshable> what = item.lock()) what->OnEpochChanged();
    Schedule(item);
  }
}

void CellRefresher::Stop(absl::Time until) {
  std::unique_ptr<Thread> thread;
  {
    MutexLock lock(state_->mu);
    state_->stopped = true;
    state_->due.clear();
    state_->hinted.clear();
    state_->hinted_due = absl::InfiniteFuture();
    state_->changed->NotifyAll();
    thread = std::move(state_->thread);
    if (thread == nullptr) return;
    const bool inside = thread->IsCurrent();
    while (!inside && !state_->done && state_->runtime.Now() < until) state_->changed->Wait(state_->mu, until);
    if (!state_->done) thread->Detach();
  }
}

}  // namespace coord::internal
