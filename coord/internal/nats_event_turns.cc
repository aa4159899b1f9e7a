// The part of NatsEventSubscriber that runs on the callback thread.

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/nats_event_subscriber.h"

namespace coord::internal {

using kv::internal::MutexLock;

void NatsEventSubscriber::Turn() {
  {
    MutexLock lock(mu_);
    turn_queued_ = false;
  }
  EventSequencer::Steps steps;
  sequencer_.Expire(core_->runtime->Now(), &steps);
  Run(steps);
  bool more = true;
  for (int i = 0; i < kPerTurn && more; ++i) more = Step();
  if (resumed_feed_ != nullptr && inbox_.HalfEmpty()) resumed_feed_->Resume();
  if (more) {
    Wake();
  } else {
    ArmTimer();
  }
}

// False if there is nothing to do now.
bool NatsEventSubscriber::Step() {
  if (ended()) return false;
  std::optional<NatsInboxItem> item = inbox_.Take();
  if (!item.has_value()) return false;
  if (item->kind != NatsInboxItem::Kind::kEvent) {
    OnMark(*item);
  } else if (item->event.delivery == Delivery::kReliable) {
    Accept(*std::move(item));
  } else {
    Deliver(*item, 0);
  }
  return true;
}

void NatsEventSubscriber::OnMark(const NatsInboxItem& mark) {
  using Mark = NatsInboxItem::Kind;
  if (mark.kind == Mark::kLost) {
    Gap(mark.event.payload.empty()
            ? absl::StrCat("the handler was too slow: ", mark.lost, " best-effort events were dropped")
            : mark.event.payload,
        Delivery::kBestEffort);
    return;
  }
  if (mark.kind == Mark::kPlace) {
    position_ = std::max(position_, mark.sequence);
    if (place_ != nullptr && sequencer_.held() == 0) cursors_->Advance(place_, position_, "", 0);
    return;
  }
  EventSequencer::Steps steps;
  sequencer_.Loosen(&steps);
  Run(steps);
  const bool anew = mark.kind == Mark::kEpoch;
  position_ = anew ? mark.sequence : std::max(position_, mark.sequence);
  // Only once it is told is the cursor moved: a crash in between tells of the gap again.
  if (!Gap(mark.event.payload, Delivery::kReliable) || place_ == nullptr) return;
  if (anew) {
    cursors_->Restart(place_, mark.epoch, position_);
  } else {
    cursors_->Advance(place_, position_, "", 0);
  }
}

// Comes back when a missing number is to be given up on.
void NatsEventSubscriber::ArmTimer() {
  const absl::Time now = core_->runtime->Now();
  if (timer_ <= now) timer_ = absl::InfiniteFuture();
  const absl::Time next = sequencer_.NextExpiry();
  if (next >= timer_) return;
  timer_ = next;
  context_->worker->Post(next, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Wake();
  });
}

void NatsEventSubscriber::Accept(NatsInboxItem item) {
  position_ = std::max(position_, item.sequence);
  const uint64_t token = ++tokens_;
  const uint64_t number = item.event.number;
  const uint64_t low = item.low;
  const bool before = item.before;
  const std::string publisher = item.event.publisher;
  held_bytes_ += item.event.payload.size();
  held_.emplace(token, std::move(item));
  EventSequencer::Steps steps;
  const auto verdict = sequencer_.Offer(publisher, number, token, core_->runtime->Now(), &steps, low, before);
  if (verdict == EventSequencer::Verdict::kRepeat || verdict == EventSequencer::Verdict::kTooEarly) {
    held_bytes_ -= held_.at(token).event.payload.size();
    held_.erase(token);
  }
  Run(steps);
  while (held_bytes_ > kMaxHeldBytes && sequencer_.held() > 0) {
    steps.clear();
    sequencer_.GiveUpOldest(core_->runtime->Now(), &steps);
    Run(steps);
  }
  if (verdict == EventSequencer::Verdict::kTooEarly && !before) {
    Gap(absl::StrCat("an event came too late to be delivered in the order of its publisher (number ", number, ")"),
        Delivery::kReliable);
  }
}

void NatsEventSubscriber::Run(const EventSequencer::Steps& steps) {
  for (size_t i = 0; i < steps.size(); ++i) {
    const EventSequencer::Step& step = steps[i];
    if (step.kind == EventSequencer::Step::kGap) {
      Gap(absl::StrCat("events of one publisher are missing (numbers ", step.first, " to ", step.last, ")"),
          Delivery::kReliable);
      continue;
    }
    const auto held = held_.find(step.token);
    const NatsInboxItem item = std::move(held->second);
    held_bytes_ -= item.event.payload.size();
    held_.erase(held);
    // While anything is held, or yet to be delivered here, not all up to position_ is done.
    const bool all_done = i + 1 == steps.size() && sequencer_.held() == 0;
    Deliver(item, all_done ? position_ : 0);
  }
}

// `done`: everything up to this place is delivered with it.
void NatsEventSubscriber::Deliver(const NatsInboxItem& item, uint64_t done) {
  const Event& event = item.event;
  const bool wanted = !item.before && !item.is_void && (item.to.empty() || item.to == core_->options.instance) &&
                      (options_.own_events || !item.own);
  if (ended()) return;
  if (wanted) {
    bool ran = false;
    slot_->Run(event, item.reply, &ran);
    if (!ran) return;
    core_->counters.events_delivered.fetch_add(1, std::memory_order_relaxed);
  }
  if (place_ != nullptr && event.delivery == Delivery::kReliable) {
    cursors_->Advance(place_, done, event.publisher, event.number);
  }
}

bool NatsEventSubscriber::Gap(const std::string& why, Delivery delivery) {
  if (ended()) return false;
  Event event;
  event.topic = topic_;
  event.payload = why;
  event.delivery = delivery;
  event.gap = true;
  bool ran = false;
  slot_->Run(event, "", &ran);
  if (ran) core_->counters.event_gaps.fetch_add(1, std::memory_order_relaxed);
  return ran;
}

}  // namespace coord::internal
