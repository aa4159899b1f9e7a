#include "coord/sim/scheduler.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace coord::internal {
namespace {

// 2100-01-01 00:00 UTC.
const absl::Time kStart = absl::FromUnixSeconds(4'102'444'800);

}  // namespace

absl::Time SimGroup::Steady(absl::Time true_time) const {
  const absl::Duration passed = true_time - base_true;
  return base_steady + (rate == 1.0 ? passed : passed * rate);
}

absl::Time SimGroup::WhenSteadyIs(absl::Time steady) const {
  const absl::Duration left = steady - base_steady;
  if (rate == 1.0) return base_true + left;
  absl::Time when = base_true + left / rate;
  while (Steady(when) < steady) when += absl::Nanoseconds(1);
  return when;
}

SimScheduler::SimScheduler(const SimOptions& options)
    : owner_(pthread_self()),
      fifo_(options.fifo),
      stack_bytes_(options.stack_bytes),
      start_(kStart),
      end_(kStart + options.time_limit),
      order_random_(options.seed),
      user_random_(~options.seed),
      now_(kStart) {
  auto main = std::make_shared<SimThreadState>();
  main->name = "main";
  main->fiber = std::make_unique<Fiber>();
  current_ = main.get();
  threads_[0] = std::move(main);
  idle_.label = "all others to wait";
}

SimScheduler::~SimScheduler() {
  CheckCaller("~SimRuntime");
  if (current_->id != 0) Die("the runtime is destroyed by another thread than the one that made it");
  FreeEnded();
  if (threads_.size() > 1)
    Die("the runtime is destroyed while threads have not ended: end and join them first, or kill their group");
  for (const auto& thread : killed_) Fiber::Abandon(thread->fiber.release());
}

SimGroup& SimScheduler::group(int number) {
  const auto [found, made] = groups_.try_emplace(number);
  if (made) found->second.base_true = found->second.base_steady = start_;
  return found->second;
}

void SimScheduler::CheckCaller(const char* operation) const {
  if (pthread_equal(pthread_self(), owner_)) return;
  std::fprintf(
      stderr,
      "coord: SimRuntime: %s was called by an operating system thread other than the one that made the runtime; "
      "start threads with StartThread, and use stores that call back from no thread of their own\n",
      operation);
  std::abort();
}

void SimScheduler::CheckMayWait(const char* operation, int allowed) const {
  CheckCaller(operation);
  const int held = kv::internal::Mutex::HeldByThisThread();
  if (held == allowed) return;
  if (held < allowed) Die(absl::StrCat("thread '", current_->name, "' calls ", operation, " without its mutex held"));
  Die(absl::StrCat("thread '", current_->name, "' calls ", operation, " while it holds ", held - allowed,
                   allowed == 0 ? "" : " further",
                   " kv::internal::Mutex; unlock first, or whoever locks it next stops the simulation"));
}

std::string SimScheduler::NextConditionLabel() {
  return absl::StrCat("condition ", ++conditions_made_, " (made by '", current_->name, "')");
}

std::shared_ptr<SimThreadState> SimScheduler::Start(int group, const std::string& name, std::function<void()> body) {
  auto thread = std::make_shared<SimThreadState>();
  thread->id = ++threads_started_;
  thread->name = name;
  thread->group = group;
  thread->joiners.label = absl::StrCat("the end of thread ", thread->id, " '", name, "'");
  // The body moves to the fiber's own stack, so that what it captured dies there, while IsCurrent() still tells the
  // truth.
  thread->fiber = std::make_unique<Fiber>(stack_bytes_, [this, self = thread.get(), body = std::move(body)]() mutable {
    FreeEnded();
    std::exchange(body, nullptr)();
    End(self);
  });
  threads_[thread->id] = thread;
  MakeReady(thread.get());
  return thread;
}

void SimScheduler::End(SimThreadState* self) {
  CheckMayWait("the end of its function", 0);
  self->ended = true;
  WakeAll(self->joiners);
  const auto found = threads_.find(self->id);
  ended_.push_back(std::move(found->second));
  threads_.erase(found);
  SwitchAway(true);
}

void SimScheduler::Wait(SimWaitList* list, absl::Time until) {
  SimThreadState* const self = current_;
  self->waiting = true;
  self->list = list;
  if (list != nullptr) list->threads.push_back(self);
  self->until = until;
  SetTimer(self);
  SwitchAway(false);
}

void SimScheduler::WakeAll(SimWaitList& list) {
  while (!list.threads.empty()) MakeReady(list.threads.front());
}

void SimScheduler::Yield() {
  MakeReady(current_);
  SwitchAway(false);
}

void SimScheduler::RunUntilIdle() { Wait(&idle_, absl::InfiniteFuture()); }

void SimScheduler::MakeReady(SimThreadState* thread) {
  StopWaiting(thread);
  SimGroup& its_group = group(thread->group);
  (its_group.paused ? its_group.parked : ready_).push_back(thread);
}

void SimScheduler::StopWaiting(SimThreadState* thread) {
  if (!thread->waiting) return;
  thread->waiting = false;
  if (thread->list != nullptr) {
    auto& threads = thread->list->threads;
    threads.erase(std::find(threads.begin(), threads.end(), thread));
    thread->list = nullptr;
  }
  thread->until = absl::InfiniteFuture();
  SetTimer(thread);
}

// Makes the timer agree with `until`.
void SimScheduler::SetTimer(SimThreadState* thread) {
  if (thread->due != absl::InfiniteFuture()) timers_.erase({thread->due, thread->id});
  thread->due = thread->until;
  if (thread->until == absl::InfiniteFuture()) return;
  thread->due = std::max(now_, group(thread->group).WhenSteadyIs(thread->until));
  timers_.insert({thread->due, thread->id});
}

SimThreadState* SimScheduler::TakeNext() {
  while (ready_.empty()) {
    if (!idle_.threads.empty()) {
      WakeAll(idle_);
    } else if (!timers_.empty()) {
      AdvanceTo(timers_.begin()->first);
    } else {
      Die("deadlock: no thread is ready and none waits for a time");
    }
  }
  if (!fifo_) std::swap(ready_.front(), ready_[order_random_.Next() % ready_.size()]);
  SimThreadState* const next = ready_.front();
  ready_.pop_front();
  return next;
}

void SimScheduler::AdvanceTo(absl::Time time) {
  if (time > end_) {
    Die(absl::StrCat("the time limit of ", absl::FormatDuration(end_ - start_), " of virtual time would be passed"));
  }
  now_ = time;
  while (!timers_.empty() && timers_.begin()->first <= now_) MakeReady(threads_.at(timers_.begin()->second).get());
}

void SimScheduler::SwitchAway(bool forever) {
  SimThreadState* const self = current_;
  SimThreadState* const next = TakeNext();
  current_ = next;
  if (on_step) on_step(SimStep{now_, next->id, next->name, next->group});
  if (forever) Fiber::SwitchForever(*self->fiber, *next->fiber);
  if (next == self) return;
  Fiber::Switch(*self->fiber, *next->fiber);
  FreeEnded();
}

void SimScheduler::FreeEnded() {
  for (const auto& thread : ended_) thread->fiber.reset();
  ended_.clear();
}

void SimScheduler::Pause(int number) {
  if (number == 0) Die("group 0 cannot be paused, for main is in it");
  SimGroup& paused = group(number);
  paused.paused = true;
  const auto keep =
      std::stable_partition(ready_.begin(), ready_.end(), [&](auto* thread) { return thread->group != number; });
  paused.parked.insert(paused.parked.end(), keep, ready_.end());
  ready_.erase(keep, ready_.end());
}

void SimScheduler::Resume(int number) {
  SimGroup& resumed = group(number);
  resumed.paused = false;
  ready_.insert(ready_.end(), resumed.parked.begin(), resumed.parked.end());
  resumed.parked.clear();
}

void SimScheduler::Kill(int number) {
  if (number == 0) Die("group 0 cannot be killed, for main is in it");
  for (auto entry = threads_.begin(); entry != threads_.end();) {
    const std::shared_ptr<SimThreadState> thread = entry->second;
    if (thread->group != number) {
      ++entry;
      continue;
    }
    entry = threads_.erase(entry);
    StopWaiting(thread.get());
    thread->ended = true;
    killed_.push_back(thread);
  }
  SimGroup& killed = group(number);
  killed.parked.clear();
  killed.paused = false;
  ready_.erase(std::remove_if(ready_.begin(), ready_.end(), [&](auto* thread) { return thread->group == number; }),
               ready_.end());
  // Only now, when no thread of the group can be made ready any more.
  for (const auto& thread : killed_) WakeAll(thread->joiners);
  if (current_->ended) {
    CheckMayWait("Kill of its own group", 0);
    // The stack stays as it is, and so does what AddressSanitizer keeps for it.
    SwitchAway(false);
  }
}

void SimScheduler::SetClockRate(int number, double rate) {
  if (!(rate >= 0.5 && rate <= 2.0))
    Die(absl::StrCat("a clock rate of ", rate, " was asked for; it must be from 0.5 to 2"));
  SimGroup& changed = group(number);
  changed.base_steady = changed.Steady(now_);
  changed.base_true = now_;
  changed.rate = rate;
  for (const auto& [id, thread] : threads_) {
    if (thread->group == number && thread->waiting) SetTimer(thread.get());
  }
}

std::string SimScheduler::Describe(const SimThreadState& thread) const {
  std::string text = absl::StrCat("  thread ", thread.id, " '", thread.name, "' (group ", thread.group);
  const auto its_group = groups_.find(thread.group);
  if (its_group != groups_.end() && its_group->second.paused) absl::StrAppend(&text, ", paused");
  absl::StrAppend(&text, ") ");
  if (!thread.waiting) {
    absl::StrAppend(&text, &thread == current_ ? "runs" : "is ready");
  } else {
    absl::StrAppend(&text, thread.list == nullptr ? "sleeps" : "waits for ",
                    thread.list == nullptr ? "" : thread.list->label);
    if (thread.due != absl::InfiniteFuture())
      absl::StrAppend(&text, " until +", absl::FormatDuration(thread.due - start_));
  }
  return text;
}

void SimScheduler::Die(const std::string& problem) const {
  std::string text = absl::StrCat("coord: SimRuntime: ", problem, "\nat +", absl::FormatDuration(now_ - start_),
                                  " of virtual time:\n");
  for (const auto& [id, thread] : threads_) absl::StrAppend(&text, Describe(*thread), "\n");
  std::fputs(text.c_str(), stderr);
  std::abort();
}

}  // namespace coord::internal
