#include "coord/internal/session_table.h"

#include <algorithm>
#include <utility>

namespace coord::internal {

using kv::internal::MutexLock;

bool SessionTable::Observe(std::string_view session, const kv::Entry& entry, const SessionRecord& record,
                           absl::Time now) {
  const absl::Time first_seen = now - std::max(entry.age.value_or(absl::ZeroDuration()), absl::ZeroDuration());
  MutexLock lock(mu_);
  auto [found, added] = sessions_.try_emplace(std::string(session));
  Sight& sight = found->second;
  if (!added && monotonic_ && entry.revision < sight.revision) {
    sight.looked_at = std::max(sight.looked_at, now);
    return false;
  }
  const bool news = added || entry.revision != sight.revision;
  if (news) {
    sight = {record, entry.revision, first_seen, now};
  } else {
    sight.first_seen = std::min(sight.first_seen, first_seen);
    sight.looked_at = std::max(sight.looked_at, now);
  }
  if (sessions_.size() > kMaxSessions) {
    auto oldest = std::min_element(sessions_.begin(), sessions_.end(), [](const auto& a, const auto& b) {
      return a.second.first_seen < b.second.first_seen;
    });
    sessions_.erase(oldest);
  }
  return news;
}

void SessionTable::Forget(std::string_view session) {
  MutexLock lock(mu_);
  sessions_.erase(std::string(session));
}

void SessionTable::Clear() {
  MutexLock lock(mu_);
  sessions_.clear();
}

std::optional<SessionTable::Sight> SessionTable::Find(std::string_view session) const {
  MutexLock lock(mu_);
  auto found = sessions_.find(std::string(session));
  if (found == sessions_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::pair<std::string, SessionTable::Sight>> SessionTable::AllSilent(absl::Time now, size_t limit) const {
  std::vector<std::pair<std::string, Sight>> silent;
  MutexLock lock(mu_);
  for (const auto& [session, sight] : sessions_) {
    if (silent.size() >= limit) break;
    if (sight.Silent(now)) silent.emplace_back(session, sight);
  }
  return silent;
}

}  // namespace coord::internal
