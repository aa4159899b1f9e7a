#include "coord/internal/event_publisher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

constexpr int kDeletesPerJob = 64;

absl::Status LeftError() { return absl::CancelledError("this copy has left its cluster: join again to go on"); }

}  // namespace

// `next` and `pending` belong to whoever has the turn; the rest is guarded by EventPublisher::mu_.
struct EventPublisher::Topic {
  std::string name;
  std::string publisher;
  std::list<std::string>::iterator place;
  bool busy = false;            // somebody has the turn
  std::list<uint64_t> waiting;  // those that want it, in order
  uint64_t tickets = 0;
  std::unique_ptr<Condition> turn;

  uint64_t next = 1;
  std::optional<Pending> pending;  // the event with number `next`: its outcome is unknown
};

EventPublisher::EventPublisher(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                               std::function<void(const std::string&, uint64_t)> on_stored)
    : core_(std::move(core)),
      worker_(std::move(worker)),
      on_stored_(std::move(on_stored)),
      bus_(absl::StrFormat("%016x", core_->runtime->Random())),
      changed_(core_->runtime->NewCondition()) {}

std::shared_ptr<EventPublisher::Topic> EventPublisher::FindTopic(const std::string& name) {
  auto found = topics_.find(name);
  if (found != topics_.end()) {
    unused_.splice(unused_.end(), unused_, found->second->place);
    return found->second;
  }
  for (auto it = unused_.begin(); it != unused_.end() && topics_.size() >= kMaxTopics;) {
    const std::shared_ptr<Topic>& old = topics_.at(*it);
    // One with callers or an unsettled event must not start over.
    if (old->busy || !old->waiting.empty() || old->pending.has_value()) {
      ++it;
      continue;
    }
    topics_.erase(*it);
    it = unused_.erase(it);
  }
  if (topics_.size() >= kMaxTopics) return nullptr;
  auto topic = std::make_shared<Topic>();
  topic->name = name;
  topic->publisher = absl::StrFormat("%s%08x", bus_, ++incarnations_);
  topic->turn = core_->runtime->NewCondition();
  topic->place = unused_.insert(unused_.end(), name);
  topics_[name] = topic;
  return topic;
}

absl::Status EventPublisher::TakeTurn(Topic* topic, absl::Time until) {
  if (topic->waiting.size() >= kMaxWaiting) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kMaxWaiting, " events of topic ", QuoteName(topic->name),
                     " wait already to be stored: publish less, or look after the store"));
  }
  const auto mine = topic->waiting.insert(topic->waiting.end(), ++topic->tickets);
  absl::Status status;
  while (topic->busy || topic->waiting.front() != *mine) {
    if (closed_) {
      status = LeftError();
    } else if (core_->runtime->Now() >= until) {
      status = absl::DeadlineExceededError(
          absl::StrCat("the event was not published: the deadline came while earlier events of topic ",
                       QuoteName(topic->name), " were still being stored"));
    }
    if (!status.ok()) break;
    topic->turn->Wait(mu_, until);
  }
  topic->waiting.erase(mine);
  if (status.ok()) {
    topic->busy = true;
  } else {
    topic->turn->NotifyAll();  // the next one in line may have waited for this one
  }
  return status;
}

void EventPublisher::EndTurn(Topic* topic) {
  MutexLock lock(mu_);
  topic->busy = false;
  topic->turn->NotifyAll();
}

absl::Status EventPublisher::PublishReliable(const std::string& topic_name, const std::string& prefix,
                                             EventEnvelope envelope, absl::Time until) {
  std::shared_ptr<Topic> topic;
  {
    MutexLock lock(mu_);
    if (closed_) return LeftError();
    topic = FindTopic(topic_name);
    if (topic == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("this copy publishes on ", kMaxTopics, " topics at this moment: use fewer topics"));
    }
    if (absl::Status status = TakeTurn(topic.get(), until); !status.ok()) return status;
  }
  absl::Status status = Send(topic, prefix, std::move(envelope), until);
  const uint64_t number = topic->next - 1;
  EndTurn(topic.get());
  if (status.ok()) on_stored_(topic_name, number);
  return status;
}

absl::Status EventPublisher::Send(const std::shared_ptr<Topic>& topic, const std::string& prefix,
                                  EventEnvelope envelope, absl::Time until) {
  if (topic->pending.has_value()) {
    if (absl::Status status = SettlePending(topic.get(), until); !status.ok()) {
      SettleLater(topic, 0);
      return status;
    }
  }
  envelope.nonce = core_->Nonce();
  envelope.at = core_->runtime->WallNow();
  const std::string bytes = Format(envelope);
  for (;;) {
    const Pending event = {prefix + Format(EventKey{topic->publisher, topic->next, true}), bytes, envelope.nonce};
    absl::Status status;
    switch (CreateUntilKnown(event, false, until, &status)) {
      case Outcome::kStored:
        ++topic->next;
        return absl::OkStatus();
      case Outcome::kNotStored:
        return status;
      case Outcome::kForeign:
        ++topic->next;
        continue;
      case Outcome::kUnknown:
        topic->pending = event;
        core_->counters.unknown_outcomes.fetch_add(1, std::memory_order_relaxed);
        SettleLater(topic, 0);
        return absl::DeadlineExceededError(absl::StrCat("the store did not say in time whether the event of topic ",
                                                        QuoteName(topic->name), " was stored (",
                                                        std::string(status.message()), "): it may yet be delivered"));
    }
  }
}

absl::Status EventPublisher::SettlePending(Topic* topic, absl::Time until) {
  absl::Status status;
  const Outcome outcome = CreateUntilKnown(*topic->pending, true, until, &status);
  if (outcome == Outcome::kUnknown) {
    if (absl::IsCancelled(status)) return status;
    return absl::DeadlineExceededError(absl::StrCat("the event was not published: whether the one before it of topic ",
                                                    QuoteName(topic->name), " was stored is still unknown (",
                                                    std::string(status.message()), ")"));
  }
  topic->pending.reset();
  ++topic->next;
  return absl::OkStatus();
}

void EventPublisher::SettleLater(const std::shared_ptr<Topic>& topic, int attempt) {
  const absl::Duration wait = std::max(absl::Milliseconds(50), RetryDelay(*core_->runtime, attempt));
  worker_->Post(core_->runtime->Now() + wait,
                [self = shared_from_this(), topic, attempt] { self->SettleJob(topic, attempt); });
}

// Takes the turn only if it is free: whoever has it settles by itself.
void EventPublisher::SettleJob(const std::shared_ptr<Topic>& topic, int attempt) {
  {
    MutexLock lock(mu_);
    if (closed_ || topic->busy || !topic->waiting.empty() || !topic->pending.has_value()) return;
    topic->busy = true;
  }
  absl::Status status;
  const Outcome outcome = TryCreate(*topic->pending, absl::InfiniteFuture(), &status);
  const bool settled = outcome == Outcome::kStored || outcome == Outcome::kForeign;
  if (settled) {
    topic->pending.reset();
    ++topic->next;
  }
  EndTurn(topic.get());
  if (!settled) SettleLater(topic, attempt + 1);
}

EventPublisher::Outcome EventPublisher::TryCreate(const Pending& pending, absl::Time until, absl::Status* status) {
  const kv::WriteResult result = core_->store->Create(pending.key, pending.bytes, core_->CallDeadline(until));
  *status = result.status;
  if (result.ok()) return Outcome::kStored;
  if (absl::IsDeadlineExceeded(result.status)) return Outcome::kUnknown;
  if (result.status.code() != absl::StatusCode::kAlreadyExists) return Outcome::kNotStored;
  std::string found;
  if (result.current.has_value()) {
    found = result.current->value;
  } else {
    const absl::StatusOr<kv::Entry> entry = core_->store->Get(pending.key, core_->CallDeadline(until));
    // Stored, and trimmed since.
    if (absl::IsNotFound(entry.status())) return Outcome::kStored;
    *status = entry.status();
    if (!entry.ok()) return Outcome::kUnknown;
    found = entry->value;
  }
  const absl::StatusOr<EventEnvelope> envelope = ParseEventEnvelope(found, "event");
  if (envelope.ok() && envelope->nonce == pending.nonce) return Outcome::kStored;
  core_->Log(LogLevel::kWarning, absl::StrCat("somebody else wrote the key of an event of this copy (", pending.key,
                                              "): find out who writes there besides this library"));
  return Outcome::kForeign;
}

EventPublisher::Outcome EventPublisher::CreateUntilKnown(const Pending& pending, bool maybe_sent, absl::Time until,
                                                         absl::Status* status) {
  *status = absl::DeadlineExceededError("the deadline had passed before the call");
  for (int attempt = 0; core_->runtime->Now() < until; ++attempt) {
    const Outcome outcome = TryCreate(pending, until, status);
    if (outcome == Outcome::kStored || outcome == Outcome::kForeign) return outcome;
    if (outcome == Outcome::kUnknown) maybe_sent = true;
    const bool lasting = outcome == Outcome::kNotStored && !absl::IsUnavailable(*status);
    if (lasting || !Pause(attempt, until)) break;
  }
  {
    MutexLock lock(mu_);
    if (closed_) *status = LeftError();
  }
  return maybe_sent ? Outcome::kUnknown : Outcome::kNotStored;
}

bool EventPublisher::Pause(int attempt, absl::Time until) {
  const absl::Time again = core_->runtime->Now() + RetryDelay(*core_->runtime, attempt);
  MutexLock lock(mu_);
  while (!closed_ && core_->runtime->Now() < std::min(again, until)) changed_->Wait(mu_, std::min(again, until));
  return !closed_ && again < until;
}

absl::Status EventPublisher::PublishBestEffort(const std::string& prefix, EventEnvelope envelope, absl::Time until) {
  envelope.nonce = core_->Nonce();
  envelope.at = core_->runtime->WallNow();
  const std::string bytes = Format(envelope);
  const EventKey key = {bus_ + "00000000", best_effort_.fetch_add(1, std::memory_order_relaxed) + 1, false};
  Stored stored = {prefix + Format(key), 0, absl::InfinitePast()};
  for (int attempt = 0;; ++attempt) {
    {
      MutexLock lock(mu_);
      if (closed_) return LeftError();
    }
    const kv::WriteResult result = core_->store->Create(stored.key, bytes, core_->CallDeadline(until));
    if (result.ok()) {
      stored.revision = result.revision;
      stored.at = core_->runtime->Now();
      DeleteLater(std::move(stored));
      return absl::OkStatus();
    }
    if (!absl::IsUnavailable(result.status) || !Pause(attempt, until)) return result.status;
  }
}

void EventPublisher::DeleteLater(Stored stored) {
  std::optional<Stored> oldest;
  {
    MutexLock lock(mu_);
    to_delete_.push_back(std::move(stored));
    if (to_delete_.size() > kMaxToDelete) {
      oldest = std::move(to_delete_.front());
      to_delete_.pop_front();
    }
    ScheduleDelete(kKeepBestEffort);
  }
  // Whoever publishes faster than the worker deletes is slowed down. If it fails the sweep finds it.
  if (oldest.has_value()) Delete(*oldest);
}

void EventPublisher::ScheduleDelete(absl::Duration after) {
  if (delete_due_ || closed_) return;
  delete_due_ = true;
  worker_->Post(core_->runtime->Now() + after, [self = shared_from_this()] {
    {
      MutexLock lock(self->mu_);
      self->delete_due_ = false;
    }
    self->DeleteOld(kKeepBestEffort, absl::InfiniteFuture());
  });
}

void EventPublisher::DeleteOld(absl::Duration age, absl::Time until) {
  for (int i = 0; core_->runtime->Now() < until; ++i) {
    Stored oldest;
    {
      MutexLock lock(mu_);
      if (to_delete_.empty()) return;
      const absl::Duration left = to_delete_.front().at + age - core_->runtime->Now();
      if (left > absl::ZeroDuration() || i == kDeletesPerJob) {
        ScheduleDelete(std::max(left, absl::ZeroDuration()));
        return;
      }
      oldest = to_delete_.front();
      to_delete_.pop_front();
    }
    if (Delete(oldest)) continue;
    MutexLock lock(mu_);
    if (to_delete_.size() < kMaxToDelete) to_delete_.push_front(std::move(oldest));
    ScheduleDelete(absl::Seconds(1));
    return;
  }
}

// False if it is to be tried again.
bool EventPublisher::Delete(const Stored& stored) {
  const kv::WriteResult result =
      core_->store->Delete(stored.key, stored.revision, core_->CallDeadline(absl::InfiniteFuture()));
  return !absl::IsUnavailable(result.status) && !absl::IsDeadlineExceeded(result.status);
}

void EventPublisher::Close() {
  MutexLock lock(mu_);
  closed_ = true;
  changed_->NotifyAll();
  for (const auto& [name, topic] : topics_) topic->turn->NotifyAll();
}

}  // namespace coord::internal
