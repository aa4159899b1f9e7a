#include "tests/sim/copy.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/world.h"

namespace sim {

using kv::internal::MutexLock;

namespace {

// What a killed process leaves in memory: never destroyed.
template <typename T>
void LeaveBehind(T value) {
  static auto* const all = new std::vector<T>();
  all->push_back(std::move(value));
}

}  // namespace

Copy::Copy(World& world, int number, CopyState& state)
    : world_(world),
      number_(number),
      state_(state),
      port_(number, world.config, world.network, world.server),
      dice_(world.config.seed, absl::StrCat("copy", number)) {
  world.runtime.SetClockRate(number, state.rate);
}

coord::SimRuntime& Copy::runtime() { return world_.runtime; }

Dice Copy::NewDice(std::string_view stream) const {
  return Dice(world_.config.seed, absl::StrCat(std::string(stream), "/", number_, "/", life_));
}

void Copy::Start() {
  if (running_) return;
  ++life_;
  running_ = true;
  stopping_ = again_ = false;
  stop_ = coord::CancelSource();
  tasks_.clear();
  progress_.assign(world_.workloads.size() * static_cast<size_t>(world_.config.threads), Progress());
  asked_ = world_.runtime.NewCondition();
  world_.timeline.Tell(number_, "start", static_cast<uint64_t>(life_),
                       [&] { return absl::StrCat("starts, life ", life_); });
  body_ = world_.runtime.StartThreadInGroup(number_, "body", [this] { Body(); });
}

void Copy::Kill() {
  if (!running_) return;
  world_.timeline.Tell(number_, "killed", 0, [] { return "is killed"; });
  world_.runtime.Kill(number_);
  state_.paused = false;
  world_.observer->Killed(number_);
  port_.Forget();
  LeaveBehind(std::move(cluster_));
  LeaveBehind(std::move(stop_));
  LeaveBehind(std::move(tasks_));
  cluster_ = nullptr;
  tasks_ = {};
  running_ = false;
}

void Copy::Pause() {
  state_.paused = true;
  state_.last_resume = absl::InfiniteFuture();
  world_.timeline.Tell(number_, "pause", 0, [] { return "stands still"; });
  world_.runtime.Pause(number_);
}

void Copy::Resume() {
  if (!state_.paused) return;
  state_.paused = false;
  state_.last_resume = world_.network.now();
  world_.timeline.Tell(number_, "resume", 0, [] { return "goes on"; });
  world_.runtime.Resume(number_);
}

void Copy::AskToLeave(bool again) {
  if (!running_ || stopping_) return;
  world_.timeline.Tell(number_, "leave", 0, [] { return "is asked to leave"; });
  stopping_ = true;
  again_ = again;
  stop_.Cancel();
  asked_->NotifyAll();
}

void Copy::Ask(std::function<void(coord::Cluster&)> task) {
  if (!joined()) return;
  tasks_.push_back(std::move(task));
  asked_->NotifyAll();
}

void Copy::NoteFault(Fault fault) {
  state_.last_fault = fault;
  state_.last_fault_at = world_.network.now();
}

absl::Time Copy::progress() const {
  if (!running_) return absl::InfinitePast();
  absl::Time least = absl::InfiniteFuture();
  for (const Progress& progress : progress_) least = std::min(least, progress.succeeded);
  return least;
}

bool Copy::rested() const {
  return std::all_of(progress_.begin(), progress_.end(), [](const Progress& progress) { return progress.rested; });
}

// ---------------------------------------------------------------------------------------------- in the process

bool Copy::Join() {
  const Config& config = world_.config;
  coord::JoinOptions options;
  options.store = std::make_shared<Link>(number_, world_.runtime, port_);
  // Whoever is killed must not keep them.
  if (world_.hints) options.events = {world_.hints.get(), [](coord::EventDriver*) {}};
  options.plugin = "p";
  options.instance = absl::StrCat("c", number_);
  options.ttl = config.ttl;
  options.max_ttl = config.max_ttl;
  options.join_timeout = config.ttl * 2;
  options.call_timeout = config.call_timeout();
  options.leave_timeout = absl::Seconds(2);
  options.idle_record_ttl = config.ttl * 5;
  options.accept_weaker = true;
  options.log = [this](coord::LogLevel, std::string_view line) {
    world_.timeline.Tell(number_, "log", line.size(), [&] { return absl::StrCat("logs: ", std::string(line)); });
  };
  options.runtime = &world_.runtime;
  while (!stopping_) {
    absl::StatusOr<std::unique_ptr<coord::Cluster>> joined = coord::Cluster::Join(options);
    if (joined.ok()) {
      cluster_ = *std::move(joined);
      world_.timeline.Tell(number_, "joined", 0, [&] { return absl::StrCat("has joined as ", cluster_->session()); });
      return true;
    }
    world_.timeline.Tell(number_, "not joined", 0,
                         [&] { return absl::StrCat("cannot join: ", joined.status().ToString()); });
    if (!absl::IsUnavailable(joined.status()) && !absl::IsDeadlineExceeded(joined.status())) {
      world_.report.Violation("join", absl::StrCat("copy ", number_, ": ", joined.status().ToString()));
    }
    world_.runtime.SleepFor(config.ttl / 20);
  }
  return false;
}

void Copy::Body() {
  if (Join()) {
    std::vector<std::unique_ptr<coord::Thread>> threads;
    size_t index = 0;
    for (const auto& workload : world_.workloads) {
      for (int thread = 0; thread < world_.config.threads; ++thread, ++index) {
        threads.push_back(world_.runtime.StartThread(
            "user", [this, raw = workload.get(), index, thread] { Work(*raw, index, thread); }));
      }
    }
    {
      MutexLock lock(mu_);
      while (!stopping_) {
        if (tasks_.empty()) {
          asked_->Wait(mu_, absl::InfiniteFuture());
          continue;
        }
        const auto task = std::move(tasks_.front());
        tasks_.pop_front();
        lock.Unlock();
        task(*cluster_);
        lock.Lock();
      }
    }
    // Its users find out, or are through before.
    const bool first = dice_.Chance(50);
    if (first) Leave();
    threads.clear();
    if (!first) Leave();
    cluster_ = nullptr;
  }
  world_.timeline.Tell(number_, "ended", 0, [] { return "has left"; });
  running_ = false;
  if (again_) world_.network.After(dice_.Upto(world_.config.ttl), [this] { Start(); });
}

void Copy::Leave() {
  const absl::Duration patience = std::max<absl::Duration>(world_.config.ttl, absl::Seconds(2));
  const absl::Time begun = world_.runtime.Now();
  const absl::Time begun_true = world_.network.now();
  const std::string session = cluster_->session();
  const uint64_t lost = cluster_->Stats().sessions_lost;
  const absl::Status left = cluster_->Leave(In(patience));
  // One that was lost meanwhile was not left: its places are others' to take out, when they want the name.
  if (left.ok() && cluster_->Stats().sessions_lost == lost) world_.left_sessions.insert(session);
  const absl::Duration took = world_.runtime.Now() - begun;
  world_.timeline.Tell(number_, "left", static_cast<uint64_t>(left.code()),
                       [&] { return absl::StrCat("Leave says ", left.ToString()); });
  if (took > patience + absl::Milliseconds(250) && !StoodStillSince(begun_true)) {
    world_.report.Violation("leave", absl::StrCat("copy ", number_, ": Leave took ", absl::FormatDuration(took),
                                                  " instead of ", absl::FormatDuration(patience), " at most"));
  }
  if (!left.ok() && world_.phase == Phase::kStop && !world_.observer->ForgotUnnoticed()) {
    world_.report.Violation("leave", absl::StrCat("copy ", number_, ", without faults: ", left.ToString()));
  }
}

void Copy::Work(Workload& workload, size_t index, int thread) {
  Dice dice = NewDice(absl::StrCat("think", index));
  const std::unique_ptr<Worker> worker = workload.Start(*this, thread);
  while (!stopping_) {
    if (world_.phase < Phase::kQuiet) {
      const bool succeeded = worker->Step();
      if (succeeded) progress_[index].succeeded = world_.network.now();
    } else if (world_.phase == Phase::kRest && !progress_[index].rested) {
      worker->AtRest();
      progress_[index].rested = true;
    }
    if (stopping_) break;
    world_.runtime.SleepFor(std::min<absl::Duration>(dice.Around(world_.config.think), absl::Seconds(2)));
  }
}

}  // namespace sim
