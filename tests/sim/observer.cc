#include "tests/sim/observer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sim {
namespace {

double Fastest(const std::vector<CopyState>& copies) {
  double fastest = 0.1;
  for (const CopyState& copy : copies) fastest = std::max(fastest, copy.rate);
  return fastest;
}

}  // namespace

Observer::Observer(const Config& config, const Network& network, Timeline& timeline, Report& report,
                   std::vector<CopyState>& copies)
    : config_(config),
      network_(network),
      timeline_(timeline),
      report_(report),
      copies_(copies),
      begin_(network.now()),
      fastest_(Fastest(copies)) {}

absl::Time Observer::Steady(int copy) const {
  const double rate = copies_[copy].rate;
  const absl::Duration passed = network_.now() - begin_;
  return begin_ + (rate == 1.0 ? passed : passed * rate);
}

bool Observer::Valid(const Hold& hold) const {
  if (hold.process_gone || hold.ended || hold.held == nullptr) return false;
  const coord::internal::Held& held = *hold.held;
  return !held.lost && !held.released && held.session->Valid(Steady(hold.copy));
}

// Who had a grant when the store forgot may hold it until its next beat, or, if that fails, until its session ends.
absl::Duration Observer::UntilAllNotice() const {
  return config_.ttl * (1 / (1 - config_.drift)) + config_.latency * 20;
}

bool Observer::Excused() const { return !config_.keeps() && network_.now() - forgot_ <= UntilAllNotice(); }

// Until then fences may be given twice, also by those who have not heard of the new epoch yet.
bool Observer::AllHaveNoticed() const { return network_.now() - noticed_ > UntilAllNotice(); }

Hold* Observer::Acquired(int copy, const std::string& name, uint64_t capacity, uint64_t weight, bool fence_each,
                         coord::Grant& grant) {
  Hold& hold = all_.emplace_back();
  hold.copy = copy;
  hold.name = name;
  hold.capacity = capacity;
  hold.weight = weight;
  hold.fence = grant.fence();
  hold.held = grant.held();
  hold.session = hold.held->session->id;
  hold.since = network_.now();
  ++report_.operations;
  Hold* const self = &hold;
  timeline_.Tell(copy, "acquired", hold.fence, [&] {
    return absl::StrCat("has ", name, " fence ", self->fence, " weight ", weight, " session ", self->session);
  });
  grant.OnLost([this, self] { Signalled(self); });
  hold.valid = Valid(hold);
  if (!hold.valid) return self;
  CheckFence(self, fence_each);
  live_.push_back(self);
  CheckCapacity(name);
  return self;
}

void Observer::CheckFence(Hold* hold, bool fence_each) {
  const bool exclusive = hold->weight >= hold->capacity && hold->held->exclusive;
  Highest& highest = highest_[hold->name];
  const bool shared_by_copy = hold->fence == highest.fence && hold->session == highest.session && !fence_each;
  const bool promised = config_.keeps() || (config_.model == Model::kVolatile && !config_.has(Fault::kWallJump)) ||
                        (config_.model == Model::kForgetting && AllHaveNoticed() && !config_.has(Fault::kWallJump));
  if (exclusive && promised && !shared_by_copy && hold->fence <= highest.fence) {
    report_.Violation("fence", absl::StrCat("copy ", hold->copy, " was given ", hold->name, " with fence ", hold->fence,
                                            " after ", highest.fence));
  }
  if (hold->fence >= highest.fence || !promised) highest = {hold->fence, hold->session};
}

void Observer::CheckCapacity(const std::string& name) {
  uint64_t sum = 0, capacity = 0;
  for (const Hold* hold : live_) {
    if (hold->name != name || !Valid(*hold)) continue;
    sum += std::min(hold->weight, hold->capacity);
    capacity = std::max(capacity, hold->capacity);
  }
  if (sum <= capacity) return;
  if (Excused()) {
    ++report_.excused;
    return;
  }
  std::string who;
  for (const Hold* hold : live_) {
    if (hold->name != name || !Valid(*hold)) continue;
    absl::StrAppend(&who, ", copy ", hold->copy, " fence ", hold->fence, " weight ", hold->weight);
  }
  report_.Violation("exclusion",
                    absl::StrCat("too many hold ", name, " at +", absl::FormatDuration(network_.now() - begin_), who));
}

void Observer::Step(absl::Time /*now*/) {
  for (size_t i = 0; i < live_.size();) {
    Hold* const hold = live_[i];
    if (Valid(*hold)) {
      ++i;
      continue;
    }
    hold->valid = false;
    live_[i] = live_.back();
    live_.pop_back();
    timeline_.Tell(hold->copy, "over", hold->fence, [&] {
      return absl::StrCat("no longer has ", hold->name, " fence ", hold->fence,
                          hold->held && hold->held->released ? " (released)" : " (lost)");
    });
  }
}

void Observer::Ended(Hold* hold, Hold::End end) {
  hold->ended = true;
  hold->end = end;
  hold->held = nullptr;
  live_.erase(std::remove(live_.begin(), live_.end(), hold), live_.end());
  timeline_.Tell(hold->copy, "ended", static_cast<uint64_t>(end),
                 [&] { return absl::StrCat("is through with ", hold->name, " fence ", hold->fence); });
}

void Observer::Killed(int copy) {
  for (Hold& hold : all_) {
    if (hold.copy != copy || hold.ended || hold.process_gone) continue;
    hold.process_gone = true;
    // What the process had in memory stays as it is.
    static auto* const left_behind = new std::vector<std::shared_ptr<coord::internal::Held>>();
    left_behind->push_back(std::move(hold.held));
    hold.held = nullptr;
  }
}

void Observer::Committed(const Commit& commit) {
  if (commit.key == "p/epoch" && noticed_ == absl::InfiniteFuture() &&
      commit.value.find("\"settled\":false") != std::string::npos) {
    noticed_ = network_.now();
  }
  const size_t at = commit.key.find("/session/");
  if (at == std::string::npos || commit.deleted) return;
  const std::string id = commit.key.substr(commit.key.rfind('/') + 1);
  Session& session = sessions_[id];
  if (commit.value.find("\"mark\":\"live\"") != std::string::npos) {
    session.last_beat = network_.now();
    return;
  }
  if (session.ended != absl::InfiniteFuture()) return;
  if (commit.value.find("\"mark\":\"ended\"") == std::string::npos) return;
  session.ended = network_.now();
  for (const Hold* hold : live_) {
    if (hold->session != id || hold->copy == commit.copy || !Valid(*hold) || Excused()) continue;
    report_.Violation("ended-early", absl::StrCat("copy ", commit.copy, " ended session ", id, " of copy ", hold->copy,
                                                  ", which validly holds ", hold->name));
  }
}

void Observer::Signalled(Hold* hold) {
  ++hold->signals;
  timeline_.Tell(hold->copy, "signalled", hold->fence,
                 [&] { return absl::StrCat("is told that it lost ", hold->name, " fence ", hold->fence); });
  if (hold->signals > 1) {
    report_.Violation("signals", absl::StrCat("copy ", hold->copy, " was told ", hold->signals,
                                              " times of the loss of ", hold->name));
  }
  const auto found = sessions_.find(hold->session);
  // One that came lost is told at once: nobody has relied on it.
  if (found == sessions_.end() || hold->since == network_.now()) return;
  const absl::Time takeover = std::min(found->second.ended, found->second.last_beat + config_.ttl / fastest_);
  const absl::Duration window = network_.now() - takeover;
  const CopyState& copy = copies_[hold->copy];
  const bool stood_still = copy.last_resume >= takeover;
  const bool recent = network_.now() - copy.last_fault_at <= config_.ttl * 2;
  report_.stale_windows[stood_still ? "pause"
                        : recent    ? FaultName(copy.last_fault)
                                    : "other"]
      .push_back(static_cast<float>(absl::ToDoubleMilliseconds(window)));
  if (window > absl::ZeroDuration() && !stood_still && !Excused()) {
    report_.Violation("told-late", absl::StrCat("copy ", hold->copy, " was told of the loss of ", hold->name, " ",
                                                absl::FormatDuration(window), " after another could take over"));
  }
}

void Observer::Finish() {
  for (const Hold& hold : all_) {
    if (!hold.ended || hold.process_gone || hold.end == Hold::kEither) continue;
    const bool lost = hold.end == Hold::kLost;
    if (hold.signals == (lost ? 1 : 0)) continue;
    report_.Violation("signals", absl::StrCat("copy ", hold.copy, lost ? " lost " : " released ", hold.name, " fence ",
                                              hold.fence, " and was told ", hold.signals, " times of a loss"));
  }
}

}  // namespace sim
