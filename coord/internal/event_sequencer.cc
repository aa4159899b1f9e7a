#include "coord/internal/event_sequencer.h"

#include <algorithm>

namespace coord::internal {

EventSequencer::Publisher& EventSequencer::Track(std::string_view name, uint64_t begin, Steps* steps) {
  while (!publishers_.empty() && publishers_.size() >= std::max<size_t>(limits_.publishers, 1)) {
    auto oldest = publishers_.find(silent_.front());
    while (!oldest->second.held.empty()) GiveUp(oldest->first, oldest->second, absl::InfinitePast(), steps);
    publishers_.erase(oldest);
    silent_.pop_front();
  }
  silent_.emplace_back(name);
  Publisher& publisher = publishers_[silent_.back()];
  publisher.begin = begin;
  publisher.last = begin - 1;
  publisher.place = std::prev(silent_.end());
  return publisher;
}

void EventSequencer::Deliver(const std::string& name, Publisher& publisher, uint64_t number, uint64_t token,
                             absl::Time now, Steps* steps) {
  steps->push_back({Step::kDeliver, token, name, number, number});
  publisher.last = number;
  publisher.loose = false;
  Drain(name, publisher, now, steps);
}

void EventSequencer::Drain(const std::string& name, Publisher& publisher, absl::Time now, Steps* steps) {
  bool moved = false;
  while (!publisher.held.empty() && publisher.held.begin()->first == publisher.last + 1) {
    const auto next = publisher.held.begin();
    steps->push_back({Step::kDeliver, next->second.token, name, next->first, next->first});
    publisher.last = next->first;
    publisher.held.erase(next);
    --held_;
    moved = true;
  }
  if (!moved || publisher.held.empty()) return;
  // The next missing number has been missing since any event behind it came.
  publisher.waiting_since = now;
  for (const auto& [number, held] : publisher.held) {
    publisher.waiting_since = std::min(publisher.waiting_since, held.since);
  }
}

void EventSequencer::GiveUp(const std::string& name, Publisher& publisher, absl::Time now, Steps* steps) {
  const uint64_t next = publisher.held.begin()->first;
  if (next > publisher.before) {
    steps->push_back({Step::kGap, 0, name, publisher.last + 1, next - 1});
  } else {
    publisher.begin = next;
  }
  publisher.last = next - 1;
  Drain(name, publisher, now, steps);
}

void EventSequencer::GiveUpOldest(absl::Time now, Steps* steps) {
  auto oldest = publishers_.end();
  for (auto it = publishers_.begin(); it != publishers_.end(); ++it) {
    if (it->second.held.empty()) continue;
    if (oldest == publishers_.end() || it->second.waiting_since < oldest->second.waiting_since) oldest = it;
  }
  if (oldest != publishers_.end()) GiveUp(oldest->first, oldest->second, now, steps);
}

// What is missing below `low`, and before the first number seen, was stored before that.
void EventSequencer::BeginAt(const std::string& name, Publisher& publisher, uint64_t low, absl::Time now,
                             Steps* steps) {
  const uint64_t begin = std::min(low, publisher.met);
  while (!publisher.held.empty() && publisher.last + 1 < begin) {
    publisher.begin = std::min(begin, publisher.held.begin()->first);
    publisher.last = publisher.begin - 1;
    Drain(name, publisher, now, steps);
  }
}

EventSequencer::Verdict EventSequencer::Offer(std::string_view name, uint64_t number, uint64_t token, absl::Time now,
                                              Steps* steps, uint64_t low, bool before) {
  const std::string key(name);
  auto found = publishers_.find(key);
  if (found == publishers_.end()) {
    Track(name, low == 0 ? number : low, steps).met = number;
    found = publishers_.find(key);
  }
  Publisher& publisher = found->second;
  silent_.splice(silent_.end(), silent_, publisher.place);
  if (before) publisher.met = publisher.before = std::max(publisher.before, number);
  BeginAt(key, publisher, low, now, steps);
  if (number < publisher.begin) return Verdict::kTooEarly;
  if (number <= publisher.last || publisher.held.count(number) != 0) return Verdict::kRepeat;
  if (number == publisher.last + 1 || publisher.loose) {
    Deliver(key, publisher, number, token, now, steps);
    return Verdict::kDelivered;
  }
  if (publisher.held.empty()) publisher.waiting_since = now;
  publisher.held[number] = {token, now};
  ++held_;
  while (held_ > limits_.held) GiveUpOldest(now, steps);
  return publisher.last >= number ? Verdict::kDelivered : Verdict::kHeld;
}

void EventSequencer::Expire(absl::Time now, Steps* steps) {
  if (held_ == 0) return;
  for (auto& [name, publisher] : publishers_) {
    while (!publisher.held.empty() && publisher.waiting_since + limits_.wait <= now)
      GiveUp(name, publisher, now, steps);
  }
}

absl::Time EventSequencer::NextExpiry() const {
  absl::Time next = absl::InfiniteFuture();
  if (held_ == 0) return next;
  for (const auto& [name, publisher] : publishers_) {
    if (!publisher.held.empty()) next = std::min(next, publisher.waiting_since + limits_.wait);
  }
  return next;
}

void EventSequencer::Loosen(Steps* steps) {
  for (auto& [name, publisher] : publishers_) {
    for (const auto& [number, held] : publisher.held) {
      steps->push_back({Step::kDeliver, held.token, name, number, number});
      publisher.last = number;
    }
    publisher.held.clear();
    publisher.loose = true;
  }
  held_ = 0;
}

void EventSequencer::Restore(std::string_view name, uint64_t last) {
  if (publishers_.count(std::string(name)) != 0 || publishers_.size() >= limits_.publishers) return;
  Steps none;
  Publisher& publisher = Track(name, 1, &none);
  publisher.last = last;
}

bool EventSequencer::Waits(std::string_view name, uint64_t number) const {
  const auto found = publishers_.find(std::string(name));
  if (found == publishers_.end() || found->second.held.empty()) return false;
  const Publisher& publisher = found->second;
  return number > publisher.last && number < publisher.held.rbegin()->first && publisher.held.count(number) == 0;
}

}  // namespace coord::internal
