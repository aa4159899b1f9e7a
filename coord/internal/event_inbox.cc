#include "coord/internal/event_inbox.h"

#include <utility>

namespace coord::internal {

using kv::internal::MutexLock;

bool EventInbox::Add(const kv::WatchEvent& event) {
  MutexLock lock(mu_);
  switch (event.kind) {
    case kv::WatchKind::kDelete:
      return false;
    case kv::WatchKind::kResync:
    case kv::WatchKind::kEpochChanged:
      begun_ = true;
      in_snapshot_ = true;
      if (event.kind == kv::WatchKind::kEpochChanged) at_end_ |= kReloadEpoch;
      return false;
    case kv::WatchKind::kSynced:
      begun_ = true;
      if (!in_snapshot_) return false;
      in_snapshot_ = false;
      Mark(std::exchange(at_end_, kReloadResync));
      return true;
    case kv::WatchKind::kPut:
      break;
  }
  if (in_snapshot_) {
    left_out_ = true;
    return false;
  }
  const size_t bytes = event.key.size() + event.entry.value.size();
  if (!full_ && (items_.size() >= kMaxEvents || bytes_ + bytes > kMaxBytes)) {
    full_ = true;
    Mark(kReloadOverflow);
  }
  if (full_) {
    if (event.key.find('~', event.key.rfind('/')) != std::string::npos) ++lost_;
    return false;
  }
  bytes_ += bytes;
  items_.push_back({0, event.key, event.entry.value, event.entry.revision});
  return true;
}

void EventInbox::Begin(bool synced) {
  MutexLock lock(mu_);
  if (begun_) return;
  begun_ = true;
  if (!synced) return;
  in_snapshot_ = false;
  if (left_out_) Mark(kReloadResync);
}

void EventInbox::Mark(unsigned reasons) {
  if (!items_.empty() && items_.back().reload != 0) {
    items_.back().reload |= reasons;
    return;
  }
  InboxItem mark;
  mark.reload = reasons;
  items_.push_back(std::move(mark));
}

std::optional<InboxItem> EventInbox::Take() {
  MutexLock lock(mu_);
  if (items_.empty()) return std::nullopt;
  InboxItem item = std::move(items_.front());
  items_.pop_front();
  if (item.reload == 0) bytes_ -= item.key.size() + item.value.size();
  return item;
}

void EventInbox::Capture() {
  MutexLock lock(mu_);
  full_ = false;
}

uint64_t EventInbox::TakeLost() {
  MutexLock lock(mu_);
  return std::exchange(lost_, 0);
}

}  // namespace coord::internal
