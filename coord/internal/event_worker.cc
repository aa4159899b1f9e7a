#include "coord/internal/event_worker.h"

#include <algorithm>
#include <utility>

namespace coord::internal {

using kv::internal::Mutex;
using kv::internal::MutexLock;

struct EventWorker::State {
  explicit State(Runtime& rt) : runtime(rt), changed(rt.NewCondition()) {}

  void Run() KV_EXCLUDES(mu) {
    MutexLock lock(mu);
    while (!stopping) {
      const absl::Time due = jobs.empty() ? absl::InfiniteFuture() : jobs.begin()->first;
      if (runtime.Now() < due) {
        changed->Wait(mu, due);
        continue;
      }
      std::function<void()> job = std::move(jobs.begin()->second);
      jobs.erase(jobs.begin());
      lock.Unlock();
      job();
      job = nullptr;  // what it captured may need the mutex to die
      lock.Lock();
    }
    std::function<void()> end = std::move(last);
    last = nullptr;
    lock.Unlock();
    if (end) end();
    end = nullptr;
    lock.Lock();
    done = true;
    changed->NotifyAll();
  }

  Runtime& runtime;
  Mutex mu;
  const std::unique_ptr<Condition> changed;
  std::multimap<absl::Time, std::function<void()>> jobs KV_GUARDED_BY(mu);
  std::function<void()> last KV_GUARDED_BY(mu);
  bool stopping KV_GUARDED_BY(mu) = false;
  bool done KV_GUARDED_BY(mu) = false;
  std::unique_ptr<Thread> thread KV_GUARDED_BY(mu);
};

EventWorker::EventWorker(Runtime& runtime) : state_(std::make_shared<State>(runtime)) {}

EventWorker::~EventWorker() { Stop(absl::InfinitePast()); }

void EventWorker::Post(absl::Time due, std::function<void()> job) {
  MutexLock lock(state_->mu);
  if (state_->stopping) return;
  if (state_->thread == nullptr) {
    state_->thread = state_->runtime.StartThread("coord-events", [state = state_] { state->Run(); });
  }
  state_->jobs.emplace(due, std::move(job));
  state_->changed->NotifyAll();
}

void EventWorker::Stop(absl::Time until, std::function<void()> last) {
  std::multimap<absl::Time, std::function<void()>> dropped;
  std::unique_ptr<Thread> thread;
  {
    MutexLock lock(state_->mu);
    if (!state_->stopping) {
      state_->stopping = true;
      // Where no job ever ran there is nothing to finish.
      if (state_->thread != nullptr) state_->last = std::move(last);
      dropped.swap(state_->jobs);
    }
    state_->changed->NotifyAll();
    if (state_->thread == nullptr) return;
    while (!state_->done && !state_->thread->IsCurrent() && state_->runtime.Now() < until) {
      state_->changed->Wait(state_->mu, until);
    }
    if (!state_->done) state_->thread->Detach();
    thread = std::move(state_->thread);
  }
  thread.reset();
}

absl::Duration RetryDelay(Runtime& runtime, int attempt) {
  const absl::Duration full = absl::Milliseconds(5) * (1 << std::min(std::max(attempt, 0), 8));
  return std::min(full, absl::Seconds(1)) * (0.5 + 0.5 * static_cast<double>(runtime.Random() >> 11) / (1ull << 53));
}

bool EventWorker::stopping() const {
  MutexLock lock(state_->mu);
  return state_->stopping;
}

}  // namespace coord::internal
