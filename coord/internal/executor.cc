#include "coord/internal/executor.h"

#include <atomic>
#include <utility>

namespace coord::internal {

using kv::internal::Mutex;
using kv::internal::MutexLock;

struct Executor::State {
  explicit State(Runtime& rt) : runtime(rt), changed(rt.NewCondition()) {}

  void Run() KV_EXCLUDES(mu) {
    MutexLock lock(mu);
    thread_id.store(runtime.CurrentThread(), std::memory_order_release);
    for (;;) {
      while (queue.empty() && !stopping) changed->Wait(mu, absl::InfiniteFuture());
      if (queue.empty() || (stopping && runtime.Now() >= stop_at)) break;
      std::function<void()> fn = std::move(queue.front());
      queue.pop_front();
      lock.Unlock();
      fn();
      fn = nullptr;  // what it captured may need the mutex to die
      lock.Lock();
    }
    std::deque<std::function<void()>> dropped = std::move(queue);
    queue.clear();
    done = true;
    thread_id.store(0, std::memory_order_release);
    changed->NotifyAll();
    lock.Unlock();
    dropped.clear();
    lock.Lock();
  }

  Runtime& runtime;
  Mutex mu;
  std::deque<std::function<void()>> queue KV_GUARDED_BY(mu);
  bool stopping KV_GUARDED_BY(mu) = false;
  absl::Time stop_at KV_GUARDED_BY(mu);
  bool done KV_GUARDED_BY(mu) = false;
  std::atomic<uint64_t> thread_id{0};
  const std::unique_ptr<Condition> changed;
};

Executor::Executor(Runtime& runtime, std::string name) : state_(std::make_shared<State>(runtime)) {
  thread_ = runtime.StartThread(name, [state = state_] { state->Run(); });
}

Executor::~Executor() { Stop(absl::InfinitePast()); }

bool Executor::Post(std::function<void()> fn) {
  MutexLock lock(state_->mu);
  if (state_->stopping || state_->queue.size() >= kMaxQueued) return false;
  state_->queue.push_back(std::move(fn));
  state_->changed->NotifyAll();
  return true;
}

void Executor::Stop(absl::Time until) {
  const bool inside = IsCurrent();
  std::unique_ptr<Thread> ended;
  MutexLock lock(state_->mu);
  if (!state_->stopping) {
    state_->stopping = true;
    state_->stop_at = until;
  }
  state_->changed->NotifyAll();
  // A user's function that never returns must not hold up whoever stops: it is left behind.
  while (!inside && !state_->done && state_->runtime.Now() < until) state_->changed->Wait(state_->mu, until);
  if (thread_ == nullptr) return;
  if (!state_->done) thread_->Detach();
  if (!inside) ended = std::move(thread_);
  lock.Unlock();
  ended.reset();
  lock.Lock();
}

bool Executor::IsCurrent() const {
  return state_->thread_id.load(std::memory_order_acquire) == state_->runtime.CurrentThread();
}

}  // namespace coord::internal
