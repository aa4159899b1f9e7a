#include "coord/internal/event_replies.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace coord::internal {

using kv::internal::MutexLock;

absl::StatusOr<uint64_t> EventReplies::Begin() {
  auto ask = std::make_shared<Ask>();
  ask->changed = core_->runtime->NewCondition();
  MutexLock lock(mu_);
  if (closed_) return absl::CancelledError("this copy has left its cluster: join again to go on");
  if (asks_.size() >= kMaxAsks) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kMaxAsks, " questions of this copy wait for answers already: ask less, or with sooner deadlines"));
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

void EventReplies::Add(uint64_t number, const std::string& id, Reply reply) {
  MutexLock lock(mu_);
  const auto found = asks_.find(number);
  if (found == asks_.end()) return;
  Ask& ask = *found->second;
  const size_t bytes = id.size() + reply.from.size() + reply.payload.size();
  if (ask.replies.size() >= kMaxReplies || ask.bytes + bytes > kMaxBytes) return;
  if (!id.empty() && !ask.ids.insert(id).second) return;
  ask.bytes += bytes;
  ask.replies.push_back(std::move(reply));
  ask.changed->NotifyAll();
}

void EventReplies::Close() {
  MutexLock lock(mu_);
  closed_ = true;
  for (const auto& [number, ask] : asks_) ask->changed->NotifyAll();
}

}  // namespace coord::internal
