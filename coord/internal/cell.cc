#include "coord/internal/cell.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace coord::internal {

using kv::internal::MutexLock;

Cell::Cell(Core* core, std::string key, std::string what)
    : core_(core),
      key_(std::move(key)),
      what_(std::move(what)),
      monotonic_(core->store->traits().monotonic_revisions),
      linear_(core->store->traits().linearizable_reads),
      turn_(core->runtime->NewCondition()) {}

Cell::Mark Cell::Now() const {
  MutexLock lock(mu_);
  return {changes_, generation_};
}

CellStatePtr Cell::Known() const {
  const std::string epoch = core_->EpochId();
  MutexLock lock(mu_);
  return usable_ && known_ != nullptr && known_->epoch == epoch ? known_ : nullptr;
}

CellStatePtr Cell::NewerThan(const CellState& base, const Mark& mark) const {
  const std::string epoch = core_->EpochId();
  MutexLock lock(mu_);
  if (changes_ == mark.changes || !usable_ || known_ == nullptr || known_->epoch != epoch) return nullptr;
  if (known_->revision == base.revision) return nullptr;
  // An absent state has no revision to compare; the write that follows decides which of the two was right.
  const bool comparable = monotonic_ && known_->record.has_value() && base.record.has_value();
  return !comparable || known_->revision > base.revision ? known_ : nullptr;
}

CellStatePtr Cell::NewerThanRead(const CellState& read) const {
  if (linear_ || !monotonic_) return nullptr;
  MutexLock lock(mu_);
  if (known_ == nullptr || known_->epoch != read.epoch || !known_->record || !read.record) return nullptr;
  return known_->revision > read.revision ? known_ : nullptr;
}

void Cell::AssumeAbsent(const std::string& epoch) {
  MutexLock lock(mu_);
  if (known_ != nullptr || floor_ != 0) return;
  auto absent = std::make_shared<CellState>();
  absent->epoch = epoch;
  known_ = std::move(absent);
  epoch_ = epoch;
  usable_ = confirmed_ = true;
}

void Cell::LearnRead(const Mark& mark, const CellStatePtr& state, bool absence_counts) {
  MutexLock lock(mu_);
  if (mark.generation != generation_ || !SameEpoch(state->epoch)) return;
  const bool unchanged = mark.changes == changes_;
  if (!state->record.has_value()) {
    if (!unchanged || (!absence_counts && listener_ != nullptr)) return;
    Take(state, floor_);
    absence_read_ = true;
    return;
  }
  const bool in_doubt = !linear_ && absence_read_ && state->revision == floor_;
  if (in_doubt || (monotonic_ ? state->revision > floor_ : unchanged)) {
    Take(state, state->revision);
  } else if (state->revision == floor_ && known_ != nullptr && known_->revision == floor_) {
    if (known_->epoch == state->epoch) {
      usable_ = confirmed_ = true;
    } else {
      Take(state, floor_);
    }
  }
}

void Cell::LearnWrite(const Mark& mark, kv::Revision base, const CellStatePtr& state, kv::Revision revision) {
  MutexLock lock(mu_);
  if (mark.generation != generation_ || !SameEpoch(state->epoch)) return;
  const bool alone = mark.changes == changes_;
  if (revision > floor_ || (!monotonic_ && alone)) {
    Take(state, revision);
  } else if (revision == 0 && floor_ <= base) {
    Take(state, base);  // a delete without a revision: nothing newer is known than what it deleted
  } else if (!monotonic_) {
    usable_ = false;  // a read since then may have brought what came after it, or before: the next write reads
  }
}

bool Cell::LearnPush(const CellStatePtr& state, kv::Revision revision) {
  MutexLock lock(mu_);
  if (!monotonic_ || revision == 0) return false;
  if (!SameEpoch(state->epoch)) return false;
  if (revision > floor_) {
    Take(state, revision);
  } else if (revision == floor_ && known_ != nullptr && known_->revision == state->revision) {
    confirmed_ = true;
  } else if (revision == floor_ && absence_read_ && !linear_) {
    return false;
  }
  return true;
}

bool Cell::LearnDamaged(kv::Revision revision) {
  MutexLock lock(mu_);
  if (monotonic_ && revision < floor_) return false;
  floor_ = revision;
  usable_ = false;
  confirmed_ = true;  // reading again would bring the same
  ++changes_;
  return !std::exchange(damage_told_, true);
}

void Cell::Unconfirm() {
  MutexLock lock(mu_);
  confirmed_ = false;
}

bool Cell::confirmed() const {
  MutexLock lock(mu_);
  // What is absent is not in a snapshot either, and what was created since is.
  return confirmed_ || known_ == nullptr || !known_->record.has_value();
}

void Cell::Reset() {
  MutexLock lock(mu_);
  Restart();
}

void Cell::SetListener(CellListener* listener) {
  MutexLock lock(mu_);
  listener_ = listener;
  if (known_ != nullptr) listener_->OnCell(key_, known_);
}

void Cell::ClearListener(CellListener* listener) {
  MutexLock lock(mu_);
  if (listener_ == listener) listener_ = nullptr;
}

bool Cell::present() const {
  MutexLock lock(mu_);
  return known_ != nullptr && known_->record.has_value();
}

bool Cell::usable() const {
  MutexLock lock(mu_);
  return usable_;
}

kv::Revision Cell::floor() const {
  MutexLock lock(mu_);
  return floor_;
}

absl::Status Cell::EnterLane(absl::Time deadline) {
  MutexLock lock(mu_);
  if (lane_.size() > kMaxWaitingWrites) {
    return absl::ResourceExhaustedError(absl::StrCat("not written: ", kMaxWaitingWrites, " writes of this process to ",
                                                     what_, " wait already; write less often"));
  }
  const uint64_t mine = next_in_lane_++;
  lane_.push_back(mine);
  absl::Status status;
  while (status.ok() && lane_.front() != mine) {
    status = core_->CheckOpen();
    if (status.ok() && core_->runtime->Now() >= deadline) {
      status = absl::UnavailableError(absl::StrCat("not written: an earlier write of this process to ", what_,
                                                   " is still under way; nothing of this one was sent"));
    }
    if (status.ok()) turn_->Wait(mu_, deadline);
  }
  if (!status.ok()) {
    lane_.erase(std::find(lane_.begin(), lane_.end(), mine));
    turn_->NotifyAll();
  }
  return status;
}

void Cell::LeaveLane() {
  MutexLock lock(mu_);
  lane_.pop_front();
  turn_->NotifyAll();
}

void Cell::WakeLane() {
  MutexLock lock(mu_);
  turn_->NotifyAll();
}

void Cell::Take(const CellStatePtr& state, kv::Revision floor) {
  known_ = state;
  floor_ = floor;
  usable_ = confirmed_ = true;
  damage_told_ = absence_read_ = false;
  ++changes_;
  if (listener_ != nullptr) listener_->OnCell(key_, known_);
}

bool Cell::SameEpoch(const std::string& epoch) {
  if (epoch == epoch_) return true;
  if (epoch != core_->EpochId()) return false;  // learned before the epoch changed
  if (!epoch_.empty() || known_ != nullptr) Restart();
  epoch_ = epoch;
  return true;
}

void Cell::Restart() {
  floor_ = 0;
  usable_ = confirmed_ = absence_read_ = false;
  ++changes_;
  ++generation_;
}

}  // namespace coord::internal
