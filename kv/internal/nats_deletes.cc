#include "kv/internal/nats_deletes.h"

#include <algorithm>

namespace kv::internal {

NatsDeletes::NatsDeletes(absl::Duration linger, size_t max_keys)
    : linger_(absl::ToChronoNanoseconds(linger)), max_keys_(max_keys) {}

void NatsDeletes::Reset(uint64_t incarnation) {
  MutexLock lock(mutex_);
  incarnation_ = incarnation;
  keys_.clear();
  oldest_.clear();
  own_.clear();
  others_.clear();
}

void NatsDeletes::Deleted(uint64_t incarnation, std::string_view key, Revision revision, bool own, SteadyTime now) {
  MutexLock lock(mutex_);
  if (incarnation != incarnation_) return;
  Marker marker{std::string(key), revision};
  State& state = keys_[marker.key];
  if (state.revision > revision) return;
  if (state.revision == revision) {
    // An own marker comes twice, from its writer and by the watch, in either order.
    if (!own || state.own) return;
    state.own = true;
  } else {
    state = State{revision, own, true};
    oldest_.push_back(marker);
  }
  (own ? own_ : others_).push_back({now + (own ? 1 : 3) * linger_, std::move(marker)});
  TrimLocked();
}

void NatsDeletes::Written(uint64_t incarnation, std::string_view key, Revision revision) {
  MutexLock lock(mutex_);
  if (incarnation != incarnation_) return;
  const auto it = keys_.find(std::string(key));
  if (it != keys_.end() && it->second.revision < revision) keys_.erase(it);
}

std::optional<Revision> NatsDeletes::Find(std::string_view key) const {
  MutexLock lock(mutex_);
  const auto it = keys_.find(std::string(key));
  if (it == keys_.end()) return std::nullopt;
  return it->second.revision;
}

std::optional<Revision> NatsDeletes::FindStanding(std::string_view key) const {
  MutexLock lock(mutex_);
  const auto it = keys_.find(std::string(key));
  if (it == keys_.end() || !it->second.standing) return std::nullopt;
  return it->second.revision;
}

bool NatsDeletes::IsDead(std::string_view key, Revision revision) const {
  const std::optional<Revision> deleted = Find(key);
  return deleted.has_value() && revision <= *deleted;
}

std::vector<NatsDeletes::Marker> NatsDeletes::TakeDue(SteadyTime now, size_t max) {
  MutexLock lock(mutex_);
  return TakeLocked(&own_, now, max);
}

std::vector<NatsDeletes::Marker> NatsDeletes::TakeOverdue(SteadyTime now, size_t max) {
  MutexLock lock(mutex_);
  return TakeLocked(&others_, now, max);
}

std::vector<NatsDeletes::Marker> NatsDeletes::TakeLocked(std::deque<Due>* queue, SteadyTime now, size_t max) {
  std::vector<Marker> taken;
  while (!queue->empty() && taken.size() < max && (queue->front().due <= now || queue->size() > max_keys_)) {
    Marker marker = std::move(queue->front().marker);
    queue->pop_front();
    if (!StandsLocked(marker)) continue;
    if (const auto it = keys_.find(marker.key); it != keys_.end()) it->second.standing = false;
    taken.push_back(std::move(marker));
  }
  return taken;
}

// One that has been forgotten for want of room may well stand.
bool NatsDeletes::StandsLocked(const Marker& marker) const {
  const auto it = keys_.find(marker.key);
  return it == keys_.end() || (it->second.revision == marker.revision && it->second.standing);
}

void NatsDeletes::Removed(uint64_t incarnation, const Marker& marker) {
  MutexLock lock(mutex_);
  const auto it = keys_.find(marker.key);
  if (incarnation == incarnation_ && it != keys_.end() && it->second.revision == marker.revision) {
    it->second.standing = false;
  }
}

void NatsDeletes::GiveBack(uint64_t incarnation, const Marker& marker, SteadyTime due) {
  MutexLock lock(mutex_);
  if (incarnation != incarnation_) return;
  const auto it = keys_.find(marker.key);
  if (it != keys_.end() && it->second.revision > marker.revision) return;
  if (it != keys_.end()) it->second = State{marker.revision, /*own=*/true, /*standing=*/true};
  // In front: those behind it are due later, or have as much time.
  own_.push_front({due, marker});
}

std::optional<SteadyTime> NatsDeletes::NextDue() const {
  MutexLock lock(mutex_);
  if (own_.empty()) return std::nullopt;
  return own_.front().due;
}

NatsDeletes::Count NatsDeletes::Standing(SteadyTime now) const {
  MutexLock lock(mutex_);
  Count count;
  for (const auto& [key, state] : keys_) count.standing += state.standing ? 1 : 0;
  for (const Due& each : others_) {
    if (each.due > now) break;
    const auto it = keys_.find(each.marker.key);
    const bool stands = it != keys_.end() && it->second.revision == each.marker.revision && it->second.standing;
    count.overdue += stands && !it->second.own ? 1 : 0;
  }
  return count;
}

void NatsDeletes::ForgetOverdue(SteadyTime now) {
  MutexLock lock(mutex_);
  while (!others_.empty() && others_.front().due <= now) {
    const Marker& marker = others_.front().marker;
    const auto it = keys_.find(marker.key);
    if (it != keys_.end() && it->second.revision == marker.revision && !it->second.own) it->second.standing = false;
    others_.pop_front();
  }
}

void NatsDeletes::TrimLocked() {
  // Entries of the list that have been overtaken count as well, so that it stays bounded too.
  while (oldest_.size() > max_keys_) {
    const auto it = keys_.find(oldest_.front().key);
    if (it != keys_.end() && it->second.revision == oldest_.front().revision) keys_.erase(it);
    oldest_.pop_front();
  }
  // Others' markers in excess are left to their writers.
  while (others_.size() > max_keys_) others_.pop_front();
}

}  // namespace kv::internal
