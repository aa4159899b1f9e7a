// Who runs next, and when: the engine of SimRuntime.

#ifndef COORD_SIM_SCHEDULER_H_
#define COORD_SIM_SCHEDULER_H_

#include <pthread.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "coord/sim/fiber.h"
#include "coord/sim/random.h"
#include "coord/sim_runtime.h"

namespace coord::internal {

struct SimThreadState;

// Threads that wait for one thing. `label` says what, for people.
struct SimWaitList {
  std::string label;
  std::vector<SimThreadState*> threads;
};

struct SimThreadState {
  uint64_t id = 0;
  std::string name;
  int group = 0;
  std::unique_ptr<Fiber> fiber;
  bool ended = false;  // or killed

  // Of a thread that waits. `until` is on its group's clock, `due` the same in true time.
  bool waiting = false;
  SimWaitList* list = nullptr;
  absl::Time until = absl::InfiniteFuture();
  absl::Time due = absl::InfiniteFuture();

  SimWaitList joiners;
};

// The clocks of one group: linear in true time since the last change of the rate.
struct SimGroup {
  absl::Time base_true;
  absl::Time base_steady;
  double rate = 1.0;
  absl::Duration wall_offset;

  bool paused = false;
  std::deque<SimThreadState*> parked;  // ready, but for the pause

  absl::Time Steady(absl::Time true_time) const;
  // The earliest true time at which Steady is `steady` or later.
  absl::Time WhenSteadyIs(absl::Time steady) const;
};

class SimScheduler {
 public:
  explicit SimScheduler(const SimOptions& options);
  ~SimScheduler();

  SimThreadState* current() const { return current_; }
  SimGroup& group(int number);
  absl::Time true_now() const { return now_; }
  absl::Duration wall_offset = absl::ZeroDuration();
  std::function<void(const SimStep&)> on_step;

  // Aborts, naming `operation`, on a foreign operating system thread.
  void CheckCaller(const char* operation) const;
  // And where the caller holds another number of kv::internal::Mutex than `allowed`.
  void CheckMayWait(const char* operation, int allowed) const;

  uint64_t Random() { return user_random_.Next(); }
  std::string NextConditionLabel();
  std::shared_ptr<SimThreadState> Start(int group, const std::string& name, std::function<void()> body);

  // Lets others run until the caller is woken from `list` (null: by time alone) or its group's clock shows `until`.
  void Wait(SimWaitList* list, absl::Time until);
  void WakeAll(SimWaitList& list);
  void Yield();
  void RunUntilIdle();

  void Pause(int group);
  void Resume(int group);
  void Kill(int group);
  void SetClockRate(int group, double rate);

  // Prints `problem` and all threads, and aborts.
  [[noreturn]] void Die(const std::string& problem) const;

 private:
  void End(SimThreadState* self);
  void MakeReady(SimThreadState* thread);
  void StopWaiting(SimThreadState* thread);
  void SetTimer(SimThreadState* thread);
  SimThreadState* TakeNext();
  void AdvanceTo(absl::Time time);
  void SwitchAway(bool forever);
  void FreeEnded();
  std::string Describe(const SimThreadState& thread) const;

  const pthread_t owner_;
  const bool fifo_;
  const size_t stack_bytes_;
  const absl::Time start_;
  const absl::Time end_;
  SimRandom order_random_;
  SimRandom user_random_;

  absl::Time now_;
  std::map<int, SimGroup> groups_;
  SimThreadState* current_ = nullptr;
  std::map<uint64_t, std::shared_ptr<SimThreadState>> threads_;  // those that have not ended
  std::vector<std::shared_ptr<SimThreadState>> ended_;           // their stacks are to be freed by whoever runs next
  std::vector<std::shared_ptr<SimThreadState>> killed_;
  std::deque<SimThreadState*> ready_;
  std::set<std::pair<absl::Time, uint64_t>> timers_;  // (due, thread)
  SimWaitList idle_;
  uint64_t threads_started_ = 0;
  uint64_t conditions_made_ = 0;
};

}  // namespace coord::internal

#endif  // COORD_SIM_SCHEDULER_H_
