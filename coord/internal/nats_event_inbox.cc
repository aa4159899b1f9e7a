#include "coord/internal/nats_event_inbox.h"

#include <utility>

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

// What one item takes, about.
size_t Bytes(const NatsInboxItem& item) {
  return sizeof(item) + item.event.topic.size() + item.event.payload.size() + item.event.from.size();
}

}  // namespace

bool NatsEventInbox::Fits(const Load& load, size_t bytes) {
  // One event always fits, whatever its size.
  return load.events == 0 || (load.events < kMaxEvents && load.bytes + bytes <= kMaxBytes);
}

NatsEventInbox::Load& NatsEventInbox::LoadOf(const NatsInboxItem& item) {
  return item.event.delivery == Delivery::kReliable ? reliable_ : best_effort_;
}

void NatsEventInbox::AddBestEffort(NatsInboxItem item) {
  const size_t bytes = Bytes(item);
  MutexLock lock(mu_);
  if (Fits(best_effort_, bytes)) {
    ++best_effort_.events;
    best_effort_.bytes += bytes;
    items_.push_back(std::move(item));
    return;
  }
  MarkLost(1);
}

void NatsEventInbox::AddLost(uint64_t count) {
  MutexLock lock(mu_);
  MarkLost(count);
}

void NatsEventInbox::MarkLost(uint64_t count) {
  lost_ += count;
  if (std::exchange(lost_marked_, true)) return;
  NatsInboxItem mark;
  mark.kind = NatsInboxItem::Kind::kLost;
  items_.push_back(std::move(mark));
}

bool NatsEventInbox::AddReliable(NatsInboxItem item) {
  const size_t bytes = Bytes(item);
  MutexLock lock(mu_);
  if (!Fits(reliable_, bytes)) return false;
  ++reliable_.events;
  reliable_.bytes += bytes;
  items_.push_back(std::move(item));
  return true;
}

void NatsEventInbox::AddMark(NatsInboxItem mark) {
  MutexLock lock(mu_);
  const bool same = !items_.empty() && items_.back().kind == mark.kind &&
                    (mark.kind != NatsInboxItem::Kind::kLost || items_.back().event.payload == mark.event.payload);
  if (same) {
    items_.back() = std::move(mark);
    return;
  }
  items_.push_back(std::move(mark));
}

std::optional<NatsInboxItem> NatsEventInbox::Take() {
  MutexLock lock(mu_);
  if (items_.empty()) return std::nullopt;
  NatsInboxItem item = std::move(items_.front());
  items_.pop_front();
  if (item.kind == NatsInboxItem::Kind::kEvent) {
    Load& load = LoadOf(item);
    --load.events;
    load.bytes -= Bytes(item);
  } else if (item.kind == NatsInboxItem::Kind::kLost && item.event.payload.empty()) {
    item.lost = std::exchange(lost_, 0);
    lost_marked_ = false;
  }
  return item;
}

bool NatsEventInbox::HalfEmpty() const {
  MutexLock lock(mu_);
  return reliable_.events < kMaxEvents / 2 && reliable_.bytes < kMaxBytes / 2;
}

}  // namespace coord::internal
