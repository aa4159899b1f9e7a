// The part of NatsEventPublisher that sends events, takes the outcomes, and repairs.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/nats_event_publisher.h"
#include "coord/internal/nats_event_publisher_state.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

bool IsRefusal(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status);
}

absl::Status Refused(const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("the event was refused: ", std::string(status.message())));
}

// A request that the transport did not take was not sent, whatever the code.
absl::Status NotSent(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? status : absl::UnavailableError(std::string(status.message()));
}

}  // namespace

absl::Status NatsEventPublisher::Unknown(const Topic& topic, const absl::Status& last) {
  return absl::DeadlineExceededError(
      absl::StrCat("the server did not say in time whether the event of topic ", QuoteName(topic.name), " was stored (",
                   last.ok() ? "no answer yet" : std::string(last.message()), "): it may yet be delivered"));
}

// Sends what is unsent, also what others add meanwhile: one at a time does, so that numbers and sends have one order.
void NatsEventPublisher::Pump(const TopicPtr& topic) {
  {
    MutexLock lock(mu_);
    if (topic->pumping) return;
    topic->pumping = true;
  }
  for (int i = 0;; ++i) {
    EventPtr event;
    {
      MutexLock lock(mu_);
      topic->pumping = !topic->broken && !closed_ && !topic->unsent.empty() && i < kPerTurn;
      if (!topic->pumping) {
        if (i < kPerTurn || topic->broken || topic->unsent.empty()) return;
        break;
      }
      event = std::move(topic->unsent.front());
      topic->unsent.pop_front();
      event->number = topic->next++;
      event->under_way = true;
      ++topic->under_way;
      topic->sent.push_back(event);
    }
    Send(topic, event);
  }
  worker_->Post(core_->runtime->Now(), [self = shared_from_this(), topic] { self->Pump(topic); });
}

void NatsEventPublisher::Send(const TopicPtr& topic, const EventPtr& event) {
  NatsEventHeaders headers;
  std::shared_ptr<const std::string> payload;
  {
    MutexLock lock(mu_);
    headers.number = event->number;
    // The event is not stored itself: so there is one, but for a publisher that was closed.
    headers.low = topic->sent.empty() ? event->number : topic->sent.front()->number;
    headers.is_void = event->is_void;
    if (transport_.drops_repeats) headers.call = event->call;
    payload = event->payload;
  }
  headers.bus = bus_;
  headers.from = core_->options.instance;
  headers.to = event->to;
  headers.publisher = topic->publisher;
  const absl::Status status =
      transport_.send(topic->subject, *payload, Format(headers), core_->CallDeadline(absl::InfiniteFuture()),
                      [gate = gate_, this, topic, event](const absl::Status& outcome) {
                        gate->Run([&] { OnOutcome(topic, event, outcome); });
                      });
  if (!status.ok()) OnOutcome(topic, event, NotSent(status));
}

void NatsEventPublisher::OnOutcome(const TopicPtr& topic, const EventPtr& event, const absl::Status& status) {
  Due due;
  {
    MutexLock lock(mu_);
    if (closed_) return;
    event->under_way = false;
    --topic->under_way;
    if (status.ok()) {
      event->stored = true;
      Tell(event, status, &due);
      bytes_ -= event->payload->size();
      event->payload = nullptr;
    } else {
      // Not a copy that shares: the thread that brings it goes on with its own.
      event->last = absl::Status(status.code(), status.message());
      topic->broken = true;
      if (IsRefusal(status)) {
        Tell(event, event->maybe_stored ? Unknown(*topic, status) : Refused(status), &due);
        event->is_void = true;
        bytes_ -= event->payload->size();
        event->payload = std::make_shared<const std::string>();
      } else if (!absl::IsUnavailable(status)) {
        event->maybe_stored = true;
      }
    }
    AfterOutcome(topic);
  }
  MakeDue(std::move(due));
}

void NatsEventPublisher::AfterOutcome(const TopicPtr& topic) {
  while (!topic->sent.empty() && topic->sent.front()->stored) {
    Settle(topic->sent.front());
    topic->sent.pop_front();
  }
  if (!topic->broken || topic->under_way > 0) return;
  DropUnsent(topic.get());
  if (topic->sent.empty()) {
    topic->broken = false;
    topic->attempt = 0;
    if (topic->unsent.empty() || topic->pumping) return;
    worker_->Post(core_->runtime->Now(), [self = weak_from_this(), topic] {
      if (const auto publisher = self.lock()) publisher->Pump(topic);
    });
    return;
  }
  if (std::exchange(topic->repair_due, true)) return;
  worker_->Post(core_->runtime->Now() + RetryDelay(*core_->runtime, topic->attempt++),
                [self = weak_from_this(), topic] {
                  if (const auto publisher = self.lock()) publisher->Repair(topic);
                });
}

void NatsEventPublisher::Repair(const TopicPtr& topic) {
  const bool connected = transport_.connected();
  bool look = false;
  {
    MutexLock lock(mu_);
    look = !topic->sent.empty() && absl::IsUnavailable(topic->sent.front()->last);
  }
  if (connected && look) transport_.look_after(core_->CallDeadline(absl::InfiniteFuture()));
  std::vector<EventPtr> again;
  {
    MutexLock lock(mu_);
    topic->repair_due = false;
    if (closed_ || !topic->broken || topic->under_way > 0) return;
    if (connected) {
      for (const EventPtr& event : topic->sent) {
        if (event->stored) continue;
        event->under_way = true;
        ++topic->under_way;
        again.push_back(event);
      }
    }
    if (again.empty()) AfterOutcome(topic);  // nothing is left to repair, or it cannot be done now
  }
  for (const EventPtr& event : again) Send(topic, event);
}

// Drops the newest that certainly were not stored and that nobody waits for: their numbers are free again.
void NatsEventPublisher::DropUnsent(Topic* topic) {
  while (!topic->sent.empty()) {
    const EventPtr& event = topic->sent.back();
    if (event->stored || event->under_way || event->maybe_stored || !event->told) return;
    Settle(event);
    topic->sent.pop_back();
    --topic->next;
  }
}

// Nobody waits for its outcome any more.
void NatsEventPublisher::GiveUp(const TopicPtr& topic, const EventPtr& event, Due* due) {
  if (event->told) return;
  if (event->number == 0) {
    topic->unsent.erase(std::find(topic->unsent.begin(), topic->unsent.end(), event));
    Settle(event);
    Tell(
        event,
        absl::DeadlineExceededError(absl::StrCat("the event was not published: the deadline came while earlier events ",
                                                 "of topic ", QuoteName(topic->name), " were still being stored")),
        due);
    return;
  }
  const bool newest = topic->sent.back() == event;
  if (newest && !event->under_way && !event->maybe_stored) {
    Tell(event,
         absl::UnavailableError(
             absl::StrCat("the event was not stored, and it will not be: ", std::string(event->last.message()))),
         due);
    DropUnsent(topic.get());
    return;
  }
  core_->counters.unknown_outcomes.fetch_add(1, std::memory_order_relaxed);
  Tell(event, Unknown(*topic, event->last), due);
}

void NatsEventPublisher::Tell(const EventPtr& event, absl::Status status, Due* due) {
  if (std::exchange(event->told, true)) return;
  if (event->done) {
    ++due_;
    due->emplace_back(std::exchange(event->done, nullptr), std::move(status));
    return;
  }
  event->result = std::move(status);
  if (event->told_changed != nullptr) event->told_changed->NotifyAll();
}

// Its room is free.
void NatsEventPublisher::Settle(const EventPtr& event) {
  if (event->payload != nullptr) bytes_ -= event->payload->size();
  event->payload = nullptr;
  open_.erase(event->call);
  changed_->NotifyAll();
}

void NatsEventPublisher::ArmExpiry(absl::Time next) {
  if (next >= next_expiry_) return;
  next_expiry_ = next;
  worker_->Post(next, [self = weak_from_this()] {
    if (const auto publisher = self.lock()) publisher->Expire();
  });
}

void NatsEventPublisher::Expire() {
  Due due;
  {
    MutexLock lock(mu_);
    const absl::Time now = core_->runtime->Now();
    absl::Time next = absl::InfiniteFuture();
    for (const auto& [name, topic] : topics_) {
      std::vector<EventPtr> late;
      for (const auto* events : {&topic->sent, &topic->unsent}) {
        for (const EventPtr& event : *events) {
          if (event->told) continue;
          if (event->until <= now) {
            late.push_back(event);
          } else {
            next = std::min(next, event->until);
          }
        }
      }
      // The newest first: what was certainly not stored is dropped from the end.
      for (auto event = late.rbegin(); event != late.rend(); ++event) GiveUp(topic, *event, &due);
    }
    next_expiry_ = absl::InfiniteFuture();
    ArmExpiry(next);
  }
  MakeDue(std::move(due));
}

}  // namespace coord::internal
