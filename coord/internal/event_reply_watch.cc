#include "coord/internal/event_reply_watch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/event_record.h"

namespace coord::internal {

using kv::internal::MutexLock;

EventReplyWatch::EventReplyWatch(std::shared_ptr<Core> core, const std::string& bus,
                                 std::shared_ptr<EventReplies> replies)
    : core_(std::move(core)), prefix_(Prefix(*core_, bus)), replies_(std::move(replies)) {}

std::string EventReplyWatch::Prefix(const Core& core, std::string_view bus) {
  return absl::StrCat(core.options.plugin, "/reply/", std::string(bus), "/");
}

void EventReplyWatch::Start() {
  MutexLock lock(mu_);
  if (closed_ || registration_ != nullptr) return;
  // What the hub holds must not keep the core alive, which holds the hub.
  registration_ =
      core_->hub->Register(prefix_, [weak = std::weak_ptr<EventReplies>(replies_)](const kv::WatchEvent& event) {
        const auto replies = weak.lock();
        if (replies == nullptr || event.kind != kv::WatchKind::kPut) return;
        absl::StatusOr<EventEnvelope> envelope = ParseEventEnvelope(event.entry.value, "an answer");
        if (!envelope.ok()) return;  // nobody can say whose it was
        replies->Add(envelope->ask, event.key, {std::move(envelope->from), std::move(envelope->payload)});
      });
}

void EventReplyWatch::Close() {
  std::unique_ptr<Hub::Registration> registration;
  {
    MutexLock lock(mu_);
    closed_ = true;
    registration.swap(registration_);
  }
  registration.reset();  // waits for the watch to leave
}

}  // namespace coord::internal
