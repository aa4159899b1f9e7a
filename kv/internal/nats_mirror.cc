#include "kv/internal/nats_mirror.h"

#include <algorithm>
#include <utility>

namespace kv::internal {

NatsMirror::NatsMirror(NatsDeletes* deletes, std::function<void(const std::string&, Revision)> on_dead)
    : deletes_(*deletes), on_dead_(std::move(on_dead)) {}

uint64_t NatsMirror::BeginLoad(uint64_t incarnation, Revision reached) {
  MutexLock lock(mutex_);
  following_ = false;
  loading_ = true;
  incarnation_ = incarnation;
  loaded_.clear();
  loaded_position_ = 0;
  loaded_reached_ = reached;
  messages_ = 0;
  last_seen_ = false;
  expected_.reset();
  dead_.clear();
  return ++load_;
}

bool NatsMirror::Apply(uint64_t load, Change change, bool last) {
  Dead dead;
  {
    MutexLock lock(mutex_);
    if (load != load_ || (!loading_ && !following_)) return true;
    if (!TakeInLocked(change.revision)) return false;
    ApplyLocked(std::move(change));
    dead = CountLocked(last);
  }
  TellDead(dead);
  return true;
}

bool NatsMirror::Skip(uint64_t load, Revision revision, bool last) {
  Dead dead;
  {
    MutexLock lock(mutex_);
    if (load != load_ || (!loading_ && !following_)) return true;
    if (!TakeInLocked(revision)) return false;
    dead = CountLocked(last);
  }
  TellDead(dead);
  return true;
}

void NatsMirror::Expect(uint64_t load, uint64_t messages) {
  Dead dead;
  {
    MutexLock lock(mutex_);
    if (load != load_ || !loading_) return;
    expected_ = messages;
    dead = FinishIfLoadedLocked();
  }
  TellDead(dead);
}

void NatsMirror::Broken(uint64_t load) {
  MutexLock lock(mutex_);
  if (load != load_) return;
  loading_ = following_ = false;
  loaded_.clear();
}

void NatsMirror::Reset(uint64_t incarnation) {
  MutexLock lock(mutex_);
  ++load_;
  loading_ = following_ = false;
  incarnation_ = incarnation;
  records_.clear();
  loaded_.clear();
  position_ = reached_ = 0;
  for (const auto& subscription : subscriptions_) RestartLocked(subscription, WatchKind::kEpochChanged);
}

bool NatsMirror::Takes(uint64_t load) const {
  MutexLock lock(mutex_);
  return load == load_;
}

Revision NatsMirror::reached() const {
  MutexLock lock(mutex_);
  return std::max(position_, reached_);
}

std::optional<uint64_t> NatsMirror::Loading() const {
  MutexLock lock(mutex_);
  if (!loading_) return std::nullopt;
  return messages_;
}

std::optional<Entry> NatsMirror::Find(std::string_view key) const {
  MutexLock lock(mutex_);
  const auto it = records_.find(key);
  if (it == records_.end()) return std::nullopt;
  return Entry{*it->second.value, it->second.revision, std::nullopt};
}

std::optional<size_t> NatsMirror::Size() const {
  MutexLock lock(mutex_);
  if (!following_) return std::nullopt;
  return records_.size();
}

bool NatsMirror::TakeInLocked(Revision revision) {
  Revision& position = loading_ ? loaded_position_ : position_;
  if (revision <= position) return false;
  position = revision;
  return true;
}

void NatsMirror::ApplyLocked(Change change) {
  Records& records = loading_ ? loaded_ : records_;
  if (change.marker) {
    deletes_.Deleted(incarnation_, change.key, change.revision, /*own=*/false, std::chrono::steady_clock::now());
    if (records.erase(change.key) == 0 || loading_) return;
    PublishLocked(WatchKind::kDelete, change.key, Record{nullptr, change.revision});
    return;
  }
  // Written before a delete that is known: a server has brought it back.
  if (deletes_.IsDead(change.key, change.revision)) {
    dead_.emplace_back(std::move(change.key), change.revision);
    return;
  }
  deletes_.Written(incarnation_, change.key, change.revision);
  Record& record = records[change.key];
  record = Record{std::make_shared<const std::string>(std::move(change.value)), change.revision};
  if (!loading_) PublishLocked(WatchKind::kPut, change.key, record);
}

NatsMirror::Dead NatsMirror::CountLocked(bool last) {
  if (!loading_) {
    RousePatientLocked();
    return std::exchange(dead_, {});
  }
  ++messages_;
  last_seen_ = last_seen_ || last;
  return FinishIfLoadedLocked();
}

NatsMirror::Dead NatsMirror::FinishIfLoadedLocked() {
  // Of what was there at the beginning, messages that were overwritten before they were sent come later, with a higher
  // revision, so that the count is reached no sooner; those that were removed do not come at all.
  if (!expected_.has_value() || (messages_ < *expected_ && !last_seen_)) return {};
  loading_ = false;
  following_ = true;
  records_.swap(loaded_);
  loaded_.clear();
  position_ = std::max(position_, loaded_position_);
  reached_ = loaded_reached_;
  for (const auto& subscription : subscriptions_) RestartLocked(subscription, WatchKind::kResync);
  return std::exchange(dead_, {});
}

void NatsMirror::TellDead(const Dead& dead) const {
  for (const auto& [key, revision] : dead) on_dead_(key, revision);
}

}  // namespace kv::internal
