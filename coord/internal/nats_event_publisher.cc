#include "coord/internal/nats_event_publisher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coord/internal/event_done.h"
#include "coord/internal/nats_event_publisher_state.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

// What is sent, and what comes of it, is in nats_event_sending.cc.

namespace {

absl::Status LeftError() { return absl::CancelledError("this copy has left its cluster: join again to go on"); }

}  // namespace

NatsEventPublisher::NatsEventPublisher(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                                       Transport transport, const NatsEventSubjects& subjects, std::string bus,
                                       size_t max_in_flight)
    : core_(std::move(core)),
      worker_(std::move(worker)),
      transport_(std::move(transport)),
      subjects_(subjects),
      bus_(std::move(bus)),
      max_in_flight_(max_in_flight),
      gate_(std::make_shared<CallbackGate>(*core_->runtime)),
      changed_(core_->runtime->NewCondition()) {}

NatsEventPublisher::~NatsEventPublisher() { gate_->Cancel(); }

NatsEventPublisher::TopicPtr NatsEventPublisher::FindTopic(std::string_view name) {
  const auto found = topics_.find(name);
  if (found != topics_.end()) {
    unused_.splice(unused_.end(), unused_, found->second->place);
    return found->second;
  }
  for (auto it = unused_.begin(); it != unused_.end() && topics_.size() >= kMaxTopics;) {
    const TopicPtr& old = topics_.find(*it)->second;
    // One with events that are not settled must not start over.
    if (old->pumping || !old->sent.empty() || !old->unsent.empty()) {
      ++it;
      continue;
    }
    topics_.erase(*it);
    it = unused_.erase(it);
  }
  if (topics_.size() >= kMaxTopics) return nullptr;
  auto topic = std::make_shared<Topic>();
  topic->name = std::string(name);
  topic->subject = subjects_.Reliable(name);
  topic->publisher = absl::StrFormat("%s%08x", bus_, ++incarnations_);
  topic->place = unused_.insert(unused_.end(), topic->name);
  topics_[topic->name] = topic;
  return topic;
}

absl::Status NatsEventPublisher::WaitForRoom(const Event& event) {
  while (!closing_) {
    const bool many_due = due_ >= kMaxDue;
    if (many_due && core_->callbacks->IsCurrent()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the event was not published: ", kMaxDue,
                       " calls that tell what became of earlier ones are due, which wait for this handler to return"));
    }
    const bool full = open_.size() >= max_in_flight_ || (!open_.empty() && bytes_ + event.payload->size() > kMaxBytes);
    if (!full && !many_due) return absl::OkStatus();
    if (core_->runtime->Now() >= event.until) {
      return absl::DeadlineExceededError(
          absl::StrCat("the event was not published: the deadline came while ",
                       many_due ? absl::StrCat(due_, " calls that tell what became of earlier ones were due")
                                : absl::StrCat(open_.size(), " earlier events of this copy were still being stored")));
    }
    changed_->Wait(mu_, event.until);
  }
  return LeftError();
}

absl::Status NatsEventPublisher::Begin(std::string_view topic_name, EventPtr event, TopicPtr* at) {
  MutexLock lock(mu_);
  if (absl::Status status = WaitForRoom(*event); !status.ok()) return status;
  *at = FindTopic(topic_name);
  if (*at == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this copy publishes on ", kMaxTopics, " topics at this moment: use fewer topics"));
  }
  event->call = ++calls_;
  open_.insert(event->call);
  bytes_ += event->payload->size();
  ArmExpiry(event->until);
  (*at)->unsent.push_back(std::move(event));
  return absl::OkStatus();
}

absl::Status NatsEventPublisher::Publish(std::string_view topic, std::string_view to, std::string_view payload,
                                         absl::Time until) {
  const auto event = std::make_shared<Event>();
  event->to = std::string(to);
  event->until = until;
  event->payload = std::make_shared<const std::string>(payload);
  event->told_changed = core_->runtime->NewCondition();
  TopicPtr at;
  if (absl::Status status = Begin(topic, event, &at); !status.ok()) return status;
  Pump(at);
  MutexLock lock(mu_);
  // The expiry would come too, but this thread need not wait for it.
  while (!event->told && core_->runtime->Now() < until) event->told_changed->Wait(mu_, until);
  if (!event->told) {
    Due none;
    GiveUp(at, event, &none);
  }
  return std::move(event->result);
}

void NatsEventPublisher::PublishAsync(std::string_view topic, std::string_view to, std::string_view payload,
                                      absl::Time until, PublishDone done) {
  const auto event = std::make_shared<Event>();
  event->to = std::string(to);
  event->until = until;
  event->payload = std::make_shared<const std::string>(payload);
  event->done = done;
  TopicPtr at;
  if (absl::Status status = Begin(topic, event, &at); !status.ok()) {
    if (done) done(status);
    return;
  }
  Pump(at);
}

void NatsEventPublisher::MakeDue(Due due) {
  for (auto& [done, status] : due) {
    TellDone(
        *core_->callbacks,
        [weak = weak_from_this(), done = std::move(done)](const absl::Status& result) {
          done(result);
          const auto self = weak.lock();
          if (self == nullptr) return;
          MutexLock lock(self->mu_);
          if (self->due_-- == kMaxDue) self->changed_->NotifyAll();
        },
        std::move(status));
  }
}

absl::Status NatsEventPublisher::Flush(absl::Time until) {
  MutexLock lock(mu_);
  const uint64_t last = calls_;
  while (!open_.empty() && *open_.begin() <= last) {
    if (closed_) return LeftError();
    if (core_->runtime->Now() >= until) {
      return absl::DeadlineExceededError(
          absl::StrCat(open_.size(), " events of this copy are still being stored: what became of them is not known"));
    }
    changed_->Wait(mu_, until);
  }
  return absl::OkStatus();
}

void NatsEventPublisher::Close(absl::Time until) {
  Due due;
  {
    MutexLock lock(mu_);
    closing_ = true;
    changed_->NotifyAll();
    while (!closed_ && !open_.empty() && transport_.connected()) {
      const absl::Time now = core_->runtime->Now();
      if (now >= until) break;
      changed_->Wait(mu_, std::min(until, now + absl::Milliseconds(50)));  // to look whether there is a connection
    }
    closed_ = true;
    changed_->NotifyAll();
    for (const auto& [name, topic] : topics_) {
      for (const auto* events : {&topic->sent, &topic->unsent}) {
        for (const EventPtr& event : *events) Tell(event, LeftError(), &due);
      }
    }
    topics_.clear();
    unused_.clear();
    open_.clear();
  }
  MakeDue(std::move(due));
}

}  // namespace coord::internal
