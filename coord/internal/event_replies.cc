#include "coord/internal/event_replies.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "coord/internal/event_record.h"

namespace coord::internal {

using kv::internal::MutexLock;

EventReplies::EventReplies(std::shared_ptr<Core> core, const std::string& bus)
    : core_(std::move(core)), prefix_(Prefix(*core_, bus)) {}

std::string EventReplies::Prefix(const Core& core, std::string_view bus) {
  return absl::StrCat(core.options.plugin, "/reply/", std::string(bus), "/");
}

absl::StatusOr<uint64_t> EventReplies::Begin() {
  auto ask = std::make_shared<Ask>();
  ask->changed = core_->runtime->NewCondition();
  MutexLock lock(mu_);
  if (closed_) return absl::CancelledError("this copy has left its cluster: join again to go on");
  if (asks_.size() >= kMaxAsks) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kMaxAsks, " questions of this copy wait for answers already: ask less, or with sooner deadlines"));
  }
  if (registration_ == nullptr) {
    registration_ = core_->hub->Register(prefix_, [weak = weak_from_this()](const kv::WatchEvent& event) {
      if (const auto self = weak.lock()) self->OnWatch(event);
    });
  }
  asks_[++last_] = std::move(ask);
  return last_;
}

std::vector<Reply> EventReplies::Finish(uint64_t number, size_t enough, absl::Time until) {
  MutexLock lock(mu_);
  const std::shared_ptr<Ask> ask = asks_.at(number);
  const auto done = [&] { return enough != 0 && ask->replies.size() >= enough; };
  while (!done() && !closed_ && core_->runtime->Now() < until) ask->changed->Wait(mu_, until);
  asks_.erase(number);
  return std::move(ask->replies);
}

void EventReplies::OnWatch(const kv::WatchEvent& event) {
  if (event.kind != kv::WatchKind::kPut) return;
  absl::StatusOr<EventEnvelope> envelope = ParseEventEnvelope(event.entry.value, "an answer");
  if (!envelope.ok()) return;  // nobody can say whose it was
  MutexLock lock(mu_);
  const auto found = asks_.find(envelope->ask);
  if (found == asks_.end()) return;
  Ask& ask = *found->second;
  const size_t bytes = event.entry.value.size();
  if (ask.replies.size() >= kMaxReplies || ask.bytes + bytes > kMaxBytes || !ask.keys.insert(event.key).second) return;
  ask.bytes += bytes;
  ask.replies.push_back({std::move(envelope->from), std::move(envelope->payload)});
  ask.changed->NotifyAll();
}

void EventReplies::Close() {
  std::unique_ptr<Hub::Registration> registration;
  {
    MutexLock lock(mu_);
    closed_ = true;
    registration.swap(registration_);
    for (const auto& [number, ask] : asks_) ask->changed->NotifyAll();
  }
  registration.reset();  // waits for the watch to leave
}

}  // namespace coord::internal
