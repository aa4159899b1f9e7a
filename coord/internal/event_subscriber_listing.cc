// The part of EventSubscriber that reads a topic anew and works the listing off.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/event_subscriber.h"
#include "coord/internal/revision_guard.h"

namespace coord::internal {

using kv::internal::MutexLock;

absl::StatusOr<EventSubscriber::Listing> EventSubscriber::List(absl::Time until) {
  Listing listing;
  // Before the call: a listing that begins now shows, or its floor tells of, all that was written up to here.
  listing.seen = core_->guard->highest();
  absl::StatusOr<std::vector<kv::KeyedEntry>> entries = core_->store->List(setup_.prefix, core_->CallDeadline(until));
  if (!entries.ok()) return entries.status();
  listing.entries = *std::move(entries);
  return listing;
}

absl::StatusOr<EventSubscriber::Listing> EventSubscriber::ListWithRetries(absl::Time until) {
  for (int attempt = 0;; ++attempt) {
    absl::StatusOr<Listing> listing = List(until);
    if (listing.ok()) return listing;
    const bool passing = absl::IsUnavailable(listing.status()) || absl::IsDeadlineExceeded(listing.status());
    const absl::Time again = core_->runtime->Now() + RetryDelay(*core_->runtime, attempt);
    if (!passing || again >= until) return listing.status();
    if (absl::Status open = core_->CheckOpen(); !open.ok()) return open;
    Pause(*core_->runtime, again);
  }
}

void EventSubscriber::Reload(unsigned reasons) {
  if (std::exchange(reloading_, reloading_ | reasons) != 0 || listing_begun_) return;
  worker_->Post(core_->runtime->Now(), [self = shared_from_this()] { self->ReloadJob(0); });
}

void EventSubscriber::ReloadJob(int attempt) {
  if (ended()) return;
  inbox_.Capture();
  absl::StatusOr<Listing> listing = List(absl::InfiniteFuture());
  if (!listing.ok()) {
    worker_->Post(core_->runtime->Now() + std::max(absl::Milliseconds(50), RetryDelay(*core_->runtime, attempt)),
                  [self = shared_from_this(), attempt] { self->ReloadJob(attempt + 1); });
    return;
  }
  {
    MutexLock lock(mu_);
    listed_ = *std::move(listing);
  }
  Wake();
}

void EventSubscriber::BeginListing(Listing listing) {
  const unsigned reasons = std::exchange(reloading_, 0);
  if ((reasons & kReloadEpoch) != 0) {
    SkipToPresent(listing);
    return;
  }
  if (const uint64_t lost = inbox_.TakeLost(); lost > 0) {
    Gap(absl::StrCat("the handler was too slow: ", lost, " best-effort events were dropped"));
  }
  std::sort(listing.entries.begin(), listing.entries.end(),
            [](const kv::KeyedEntry& a, const kv::KeyedEntry& b) { return a.entry.revision < b.entry.revision; });
  covered_ = std::max(position_, listing.seen);
  replaying_ = (reasons & kReloadReplay) != 0;
  std::unordered_set<std::string> ahead;
  for (const kv::KeyedEntry& entry : listing.entries) {
    if (entry.key.compare(setup_.prefix.size(), std::string::npos, kEventFloorName) == 0) CheckFloor(entry.entry.value);
  }
  for (kv::KeyedEntry& entry : listing.entries) {
    const std::string_view name = std::string_view(entry.key).substr(setup_.prefix.size());
    if (name == kEventFloorName) continue;
    const bool known = ahead_.count(entry.key) != 0;
    if (entry.entry.revision > covered_) ahead.insert(entry.key);
    const std::optional<EventKey> key = ParseEventKey(name);
    const bool waits = key.has_value() && key->reliable && sequencer_.Waits(key->publisher, key->number);
    const bool replay = !replaying_ || !key.has_value() || key->reliable;  // best-effort events are not replayed
    if (!known && replay && (entry.entry.revision > position_ || waits)) listing_.push_back(std::move(entry));
  }
  ahead_ = std::move(ahead);
  listing_begun_ = true;
}

// The store is another incarnation: revisions begin anew, and what is in it now is known to nobody.
void EventSubscriber::SkipToPresent(const Listing& listing) {
  EventSequencer::Steps steps;
  sequencer_.Loosen(&steps);
  Run(steps);
  inbox_.TakeLost();
  ahead_.clear();
  position_ = 0;
  for (const kv::KeyedEntry& entry : listing.entries) position_ = std::max(position_, entry.entry.revision);
  ordered_from_ = position_;
  const bool told = Gap(
      "the store is another incarnation of itself, restored or begun anew: events may have been lost with the old one");
  if (told && place_ != nullptr) cursors_->Restart(place_, epoch_, position_);
}

void EventSubscriber::StepListed() {
  if (listing_.empty()) {
    position_ = std::max(position_, covered_);
    ordered_from_ = position_;
    listing_begun_ = false;
    // A reason that came up meanwhile was only noted.
    if (const unsigned reasons = std::exchange(reloading_, 0); reasons != 0) Reload(reasons);
    return;
  }
  const kv::KeyedEntry entry = std::move(listing_.front());
  listing_.pop_front();
  const kv::Revision revision = entry.entry.revision;
  position_ = std::max(position_, std::min(revision, covered_));
  Accept(std::string_view(entry.key).substr(setup_.prefix.size()), entry.entry.value,
         replaying_ && revision <= covered_);
}

}  // namespace coord::internal
