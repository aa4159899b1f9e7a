#include "coord/sim_runtime.h"

#include <utility>

#include "coord/sim/scheduler.h"

namespace coord {
namespace {

using internal::SimScheduler;
using internal::SimThreadState;
using internal::SimWaitList;

class SimCondition final : public Condition {
 public:
  explicit SimCondition(SimScheduler& scheduler) : scheduler_(scheduler) {
    waiters_.label = scheduler.NextConditionLabel();
  }

  ~SimCondition() override {
    if (!waiters_.threads.empty()) scheduler_.Die(waiters_.label + " is destroyed while a thread waits for it");
  }

  void Wait(kv::internal::Mutex& mu, absl::Time until) KV_REQUIRES(mu) override {
    scheduler_.CheckMayWait("Condition::Wait", 1);
    mu.Unlock();
    scheduler_.Wait(&waiters_, until);
    mu.Lock();
  }

  void NotifyAll() override {
    scheduler_.CheckCaller("NotifyAll");
    scheduler_.WakeAll(waiters_);
  }

 private:
  SimScheduler& scheduler_;
  SimWaitList waiters_;
};

class SimThread final : public Thread {
 public:
  SimThread(SimScheduler& scheduler, std::shared_ptr<SimThreadState> state)
      : scheduler_(scheduler), state_(std::move(state)) {}

  ~SimThread() override {
    if (state_->ended || detached_ || IsCurrent()) return;
    scheduler_.CheckMayWait("the destructor of a Thread", 0);
    scheduler_.Wait(&state_->joiners, absl::InfiniteFuture());
  }

  bool IsCurrent() const override { return !state_->ended && scheduler_.current() == state_.get(); }

  void Detach() override { detached_ = true; }

 private:
  SimScheduler& scheduler_;
  const std::shared_ptr<SimThreadState> state_;
  bool detached_ = false;
};

}  // namespace

SimRuntime::SimRuntime(SimOptions options) : scheduler_(std::make_unique<SimScheduler>(options)) {}

SimRuntime::~SimRuntime() = default;

absl::Time SimRuntime::Now() {
  scheduler_->CheckCaller("Now");
  return scheduler_->group(CurrentGroup()).Steady(scheduler_->true_now());
}

absl::Time SimRuntime::WallNow() {
  return Now() + scheduler_->wall_offset + scheduler_->group(CurrentGroup()).wall_offset;
}

uint64_t SimRuntime::Random() {
  scheduler_->CheckCaller("Random");
  return scheduler_->Random();
}

uint64_t SimRuntime::CurrentThread() {
  scheduler_->CheckCaller("CurrentThread");
  return scheduler_->current()->id + 1;
}

std::unique_ptr<Condition> SimRuntime::NewCondition(ConditionKind /*kind*/) {
  scheduler_->CheckCaller("NewCondition");
  return std::make_unique<SimCondition>(*scheduler_);
}

std::unique_ptr<Thread> SimRuntime::StartThread(const std::string& name, std::function<void()> body) {
  return StartThreadInGroup(CurrentGroup(), name, std::move(body));
}

std::unique_ptr<Thread> SimRuntime::StartThreadInGroup(int group, const std::string& name, std::function<void()> body) {
  scheduler_->CheckCaller("StartThread");
  return std::make_unique<SimThread>(*scheduler_, scheduler_->Start(group, name, std::move(body)));
}

void SimRuntime::SleepFor(absl::Duration duration) {
  if (duration <= absl::ZeroDuration()) return Yield();
  scheduler_->CheckMayWait("SleepFor", 0);
  scheduler_->Wait(nullptr, Now() + duration);
}

void SimRuntime::Yield() {
  scheduler_->CheckMayWait("Yield", 0);
  scheduler_->Yield();
}

void SimRuntime::RunUntilIdle() {
  scheduler_->CheckMayWait("RunUntilIdle", 0);
  scheduler_->RunUntilIdle();
}

void SimRuntime::JumpWallClock(absl::Duration by) { scheduler_->wall_offset += by; }

void SimRuntime::JumpWallClock(int group, absl::Duration by) { scheduler_->group(group).wall_offset += by; }

int SimRuntime::CurrentGroup() const { return scheduler_->current()->group; }

void SimRuntime::Pause(int group) {
  scheduler_->CheckCaller("Pause");
  scheduler_->Pause(group);
}

void SimRuntime::Resume(int group) {
  scheduler_->CheckCaller("Resume");
  scheduler_->Resume(group);
}

void SimRuntime::Kill(int group) {
  scheduler_->CheckCaller("Kill");
  scheduler_->Kill(group);
}

void SimRuntime::SetClockRate(int group, double rate) {
  scheduler_->CheckCaller("SetClockRate");
  scheduler_->SetClockRate(group, rate);
}

void SimRuntime::OnStep(std::function<void(const SimStep&)> hook) { scheduler_->on_step = std::move(hook); }

}  // namespace coord
