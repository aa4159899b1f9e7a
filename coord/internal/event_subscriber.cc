#include "coord/internal/event_subscriber.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/records.h"
#include "coord/internal/revision_guard.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

// Reading the topic again is in event_subscriber_listing.cc.

EventSubscriber::EventSubscriber(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                                 std::shared_ptr<EventCursors> cursors, Setup setup, Handler handler)
    : core_(std::move(core)),
      worker_(std::move(worker)),
      cursors_(std::move(cursors)),
      setup_(std::move(setup)),
      slot_(std::make_shared<Slot>(*core_->runtime,
                                   [handler = std::move(handler)](const DeliveredEvent& event, bool* ran) {
                                     *ran = true;
                                     handler(event);
                                   })) {}

absl::Status EventSubscriber::Begin(absl::Time until) {
  // A weak reference: the hub must not keep alive what holds the hub's registrations.
  const std::weak_ptr<EventSubscriber> weak = weak_from_this();
  std::vector<std::unique_ptr<Hub::Registration>> registrations;
  registrations.push_back(core_->hub->Register(setup_.prefix, [weak](const kv::WatchEvent& event) {
    if (const auto self = weak.lock()) self->OnWatch(event);
  }));
  registrations.push_back(core_->hub->Register(core_->options.plugin + "/epoch", [weak](const kv::WatchEvent& event) {
    if (const auto self = weak.lock()) self->OnEpochRecord(event);
  }));
  inbox_.Begin(core_->hub->synced());
  {
    MutexLock lock(mu_);
    if (!ended_) registrations_ = std::move(registrations);
  }
  epoch_ = core_->EpochId();
  if (absl::Status status = FindPlace(until); !status.ok()) {
    End();
    return status;
  }
  ordered_from_ = position_;
  {
    MutexLock lock(mu_);
    if (ended_) return absl::CancelledError("this copy has left its cluster: join again to go on");
    open_ = true;
  }
  Wake();
  return absl::OkStatus();
}

absl::Status EventSubscriber::FindPlace(absl::Time until) {
  if (setup_.options.cursor.empty()) {
    position_ = core_->guard->highest();
    if (position_ != 0) return absl::OkStatus();
    const absl::StatusOr<Listing> listing = ListWithRetries(until);
    if (!listing.ok()) return listing.status();
    for (const kv::KeyedEntry& entry : listing->entries) position_ = std::max(position_, entry.entry.revision);
    return absl::OkStatus();
  }
  absl::StatusOr<EventCursors::Opened> opened =
      cursors_->Open(setup_.topic, setup_.options.cursor, {epoch_, std::nullopt, ""}, until);
  if (!opened.ok()) return opened.status();
  {
    MutexLock lock(mu_);
    place_ = opened->place;
    if (ended_) cursors_->Release(place_);
  }
  position_ = opened->at.revision;
  for (const auto& [publisher, last] : opened->at.last) sequencer_.Restore(publisher, last);
  first_gap_ = opened->gap;
  if (opened->fresh || !opened->gap.empty()) return absl::OkStatus();
  if (opened->at.epoch != epoch_) {
    Reload(kReloadEpoch);
    return absl::OkStatus();
  }
  absl::StatusOr<Listing> listing = ListWithRetries(until);
  if (!listing.ok()) return listing.status();
  reloading_ = kReloadReplay;
  MutexLock lock(mu_);
  listed_ = *std::move(listing);
  return absl::OkStatus();
}

void EventSubscriber::End() {
  std::vector<std::unique_ptr<Hub::Registration>> registrations;
  std::shared_ptr<EventCursors::Place> place;
  {
    MutexLock lock(mu_);
    if (ended_) return;
    ended_ = true;
    registrations.swap(registrations_);
    place = place_;
  }
  registrations.clear();  // waits for the watch to leave the inbox
  if (place != nullptr) cursors_->Release(place);
}

void EventSubscriber::Cancel() {
  End();
  slot_->Cancel();
}

bool EventSubscriber::ended() const {
  MutexLock lock(mu_);
  return ended_;
}

void EventSubscriber::OnWatch(const kv::WatchEvent& event) {
  if (inbox_.Add(event)) Wake();
}

void EventSubscriber::OnEpochRecord(const kv::WatchEvent& event) {
  if (event.kind != kv::WatchKind::kPut) return;
  const absl::StatusOr<EpochRecord> record = ParseEpochRecord(event.entry.value, "the epoch record");
  if (!record.ok()) return;  // the session reports it
  {
    MutexLock lock(mu_);
    epoch_seen_ = record->id;
  }
  Wake();
}

void EventSubscriber::Wake() {
  {
    MutexLock lock(mu_);
    if (!open_ || ended_ || turn_queued_) return;
    turn_queued_ = true;
  }
  // If the callback thread has ended nothing is delivered any more.
  core_->callbacks->Post([self = shared_from_this()] { self->Turn(); });
}

void EventSubscriber::Turn() {
  std::string epoch_seen;
  {
    MutexLock lock(mu_);
    turn_queued_ = false;
    epoch_seen.swap(epoch_seen_);
  }
  TellFirstGap();
  NoteEpoch(epoch_seen);
  NoteEpoch(core_->EpochId());
  EventSequencer::Steps steps;
  sequencer_.Expire(core_->runtime->Now(), &steps);
  Run(steps);
  for (int i = 0; i < kPerTurn; ++i) {
    if (Step()) continue;
    ArmTimer();
    return;
  }
  Wake();
}

// Only then is the cursor moved: a crash in between tells of the gap again.
void EventSubscriber::TellFirstGap() {
  if (first_gap_.empty()) return;
  if (Gap(std::exchange(first_gap_, "")) && place_ != nullptr) cursors_->Restart(place_, epoch_, position_);
}

// False if there is nothing to do now.
bool EventSubscriber::Step() {
  if (ended()) return false;
  if (listing_begun_) {
    StepListed();
    return true;
  }
  if (reloading_ != 0) {
    std::optional<Listing> listing;
    {
      MutexLock lock(mu_);
      listing.swap(listed_);
    }
    if (!listing.has_value()) return false;
    BeginListing(*std::move(listing));
    return true;
  }
  std::optional<InboxItem> item = inbox_.Take();
  if (!item.has_value()) return false;
  if (item->reload != 0) {
    Reload(item->reload);
  } else {
    OnItem(*std::move(item));
  }
  return true;
}

// Comes back when a missing number is to be given up on.
void EventSubscriber::ArmTimer() {
  const absl::Time now = core_->runtime->Now();
  if (timer_ <= now) timer_ = absl::InfiniteFuture();
  const absl::Time next = sequencer_.NextExpiry();
  if (next >= timer_) return;
  timer_ = next;
  worker_->Post(next, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Wake();
  });
}

void EventSubscriber::NoteEpoch(const std::string& id) {
  // The previous one may still be named by whoever has not adopted the new one yet.
  if (id.empty() || id == epoch_ || id == previous_epoch_) return;
  const bool known = epoch_.empty();
  previous_epoch_ = std::exchange(epoch_, id);
  if (!known) {
    Reload(kReloadEpoch);
  } else if (place_ != nullptr) {
    cursors_->Restart(place_, epoch_, position_);
  }
}

void EventSubscriber::OnItem(InboxItem item) {
  const std::string_view name = std::string_view(item.key).substr(setup_.prefix.size());
  const bool above = item.revision > position_;
  if (name == kEventFloorName) {
    if (above) CheckFloor(item.value);
    position_ = std::max(position_, item.revision);
    return;
  }
  if (ahead_.erase(item.key) != 0) {
    position_ = std::max(position_, item.revision);
    return;
  }
  if (above) {
    position_ = item.revision;
  } else {
    // A watch keeps the order; should one not, reliable events still have their numbers.
    const std::optional<EventKey> key = ParseEventKey(name);
    if (!key.has_value() || !key->reliable || item.revision <= ordered_from_) return;
  }
  Accept(name, item.value, false);
}

void EventSubscriber::Accept(std::string_view name, const std::string& value, bool replayed) {
  const std::optional<EventKey> key = ParseEventKey(name);
  if (!key.has_value()) {
    const std::string why = absl::StrCat("a record among the events of topic ", QuoteName(setup_.topic),
                                         " has a name that is none of an event: ", QuoteName(name),
                                         "; find out who writes there besides this library");
    LogOnce(why);
    Gap(why);
    return;
  }
  Ready ready = Read(*key, value, replayed);
  if (!key->reliable) {
    Deliver(ready, 0);
    return;
  }
  const uint64_t token = ++tokens_;
  held_bytes_ += ready.bytes;
  held_.emplace(token, std::move(ready));
  EventSequencer::Steps steps;
  const auto verdict = sequencer_.Offer(key->publisher, key->number, token, core_->runtime->Now(), &steps);
  if (verdict == EventSequencer::Verdict::kRepeat || verdict == EventSequencer::Verdict::kTooEarly) {
    held_bytes_ -= held_.at(token).bytes;
    held_.erase(token);
  }
  if (held_bytes_ > kMaxHeldBytes) sequencer_.Expire(absl::InfiniteFuture(), &steps);
  Run(steps);
  if (verdict == EventSequencer::Verdict::kTooEarly) {
    Gap(absl::StrCat("an event came too late to be delivered in the order of its publisher (number ", key->number,
                     ")"));
  }
  // The store may still have what is missing; a listing that lacks it says that it has not.
  if (verdict == EventSequencer::Verdict::kHeld && !listing_begun_ &&
      sequencer_.Waits(key->publisher, key->number - 1)) {
    Reload(kReloadMissing);
  }
}

EventSubscriber::Ready EventSubscriber::Read(const EventKey& key, const std::string& value, bool replayed) {
  Ready ready;
  ready.bytes = value.size();
  ready.own = key.publisher.compare(0, setup_.bus.size(), setup_.bus) == 0;
  Event& event = ready.delivered.event;
  event.topic = setup_.topic;
  event.delivery = key.reliable ? Delivery::kReliable : Delivery::kBestEffort;
  event.publisher = key.publisher;
  event.number = key.number;
  event.replayed = replayed;
  absl::StatusOr<EventEnvelope> envelope =
      ParseEventEnvelope(value, absl::StrCat("an event of topic ", QuoteName(setup_.topic)));
  if (!envelope.ok()) {
    ready.gap = true;
    event.payload = std::string(envelope.status().message());
    LogOnce(event.payload);
    return ready;
  }
  event.payload = std::move(envelope->payload);
  event.from = std::move(envelope->from);
  ready.to = std::move(envelope->to);
  ready.delivered.reply_to = std::move(envelope->reply_to);
  ready.delivered.ask = envelope->ask;
  if (!key.reliable) {
    event.publisher.clear();
    event.number = 0;
  }
  return ready;
}

// Whoever stands below the floor has missed the events that were removed.
void EventSubscriber::CheckFloor(const std::string& value) {
  const absl::StatusOr<EventFloor> floor =
      ParseEventFloor(value, absl::StrCat("the floor of topic ", QuoteName(setup_.topic)));
  if (!floor.ok()) {
    LogOnce(std::string(floor.status().message()));
    Gap(std::string(floor.status().message()));
    return;
  }
  if (floor->epoch != epoch_ || floor->revision <= position_) return;
  EventSequencer::Steps steps;
  sequencer_.Loosen(&steps);
  Run(steps);
  const bool told =
      Gap("older events were removed before this subscription came to them: it was away or behind for longer than "
          "events are kept");
  if (told && place_ != nullptr) cursors_->Advance(place_, floor->revision, "", 0);
}

void EventSubscriber::Run(const EventSequencer::Steps& steps) {
  for (size_t i = 0; i < steps.size(); ++i) {
    const EventSequencer::Step& step = steps[i];
    if (step.kind == EventSequencer::Step::kGap) {
      Gap(absl::StrCat("events of one publisher are missing (numbers ", step.first, " to ", step.last, ")"));
      continue;
    }
    const auto held = held_.find(step.token);
    const Ready ready = std::move(held->second);
    held_bytes_ -= ready.bytes;
    held_.erase(held);
    // While anything is held, or yet to be delivered here, not all up to position_ is done.
    const bool all_done = i + 1 == steps.size() && sequencer_.held() == 0;
    Deliver(ready, all_done ? position_ : 0);
  }
}

// `done`: everything up to this revision is delivered with it.
void EventSubscriber::Deliver(const Ready& ready, kv::Revision done) {
  const Event& event = ready.delivered.event;
  const bool wanted =
      (ready.to.empty() || ready.to == core_->options.instance) && (setup_.options.own_events || !ready.own);
  if (ended()) return;
  if (ready.gap) {
    if (!Gap(event.payload)) return;
  } else if (wanted) {
    bool ran = false;
    slot_->Run(ready.delivered, &ran);
    if (!ran) return;
    core_->counters.events_delivered.fetch_add(1, std::memory_order_relaxed);
  }
  if (place_ != nullptr && event.delivery == Delivery::kReliable) {
    cursors_->Advance(place_, done, event.publisher, event.number);
  }
}

bool EventSubscriber::Gap(const std::string& why) {
  if (ended()) return false;
  DeliveredEvent delivered;
  delivered.event.topic = setup_.topic;
  delivered.event.payload = why;
  delivered.event.delivery = Delivery::kReliable;
  delivered.event.gap = true;
  bool ran = false;
  slot_->Run(delivered, &ran);
  if (ran) core_->counters.event_gaps.fetch_add(1, std::memory_order_relaxed);
  return ran;
}

void EventSubscriber::LogOnce(const std::string& line) {
  if (!std::exchange(logged_, true)) core_->Log(LogLevel::kWarning, line);
}

}  // namespace coord::internal
