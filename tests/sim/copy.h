// One copy of the plugin: a machine with clocks of its own, on which one process after another joins, works, and leaves
// or is killed.

#ifndef TESTS_SIM_COPY_H_
#define TESTS_SIM_COPY_H_

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "coord/cancel.h"
#include "coord/cluster.h"
#include "coord/sim_runtime.h"
#include "tests/sim/dice.h"
#include "tests/sim/link.h"
#include "tests/sim/observer.h"
#include "tests/sim/workload.h"

namespace sim {

class World;

class Copy {
 public:
  Copy(World& world, int number, CopyState& state);

  // ---- For the main thread.
  void Start();
  void Kill();
  void Pause();
  void Resume();
  // The process leaves; `again`: another one is started a while later.
  void AskToLeave(bool again);
  // Runs `task` on the process's first thread, soon. Dropped if there is none.
  void Ask(std::function<void(coord::Cluster&)> task);
  void NoteFault(Fault fault);
  bool running() const { return running_; }
  bool joined() const { return running_ && cluster_ != nullptr && !stopping_; }
  bool paused() const { return state_.paused; }
  std::string session() const { return joined() ? cluster_->session() : ""; }
  Port& port() { return port_; }
  // The least of the times at which its workers last succeeded.
  absl::Time progress() const;
  bool rested() const;

  // ---- For the process's own threads.
  int number() const { return number_; }
  int life() const { return life_; }
  World& world() { return world_; }
  coord::SimRuntime& runtime();
  coord::Cluster& cluster() { return *cluster_; }
  bool stopping() const { return stopping_; }
  coord::CancelToken stopped() const { return stop_.token(); }
  absl::Time In(absl::Duration patience) { return runtime().WallNow() + patience; }
  Dice NewDice(std::string_view stream) const;
  // Whether the machine stood still at some moment since `then`.
  bool StoodStillSince(absl::Time then) const { return state_.last_resume >= then; }

 private:
  void Body();
  bool Join();
  void Work(Workload& workload, size_t index, int thread);
  void Leave();

  World& world_;
  const int number_;
  CopyState& state_;
  Port port_;
  Dice dice_;
  int life_ = 0;
  bool running_ = false, stopping_ = false, again_ = false;
  std::unique_ptr<coord::Thread> body_;
  std::unique_ptr<coord::Cluster> cluster_;
  coord::CancelSource stop_;
  kv::internal::Mutex mu_;  // to wait with; all threads are one
  std::unique_ptr<coord::Condition> asked_;
  std::deque<std::function<void(coord::Cluster&)>> tasks_;
  struct Progress {
    absl::Time succeeded = absl::InfinitePast();
    bool rested = false;
  };
  std::vector<Progress> progress_;
};

}  // namespace sim

#endif  // TESTS_SIM_COPY_H_
