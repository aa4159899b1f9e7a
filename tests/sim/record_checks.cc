#include "tests/sim/record_checks.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/internal/records.h"

namespace sim {

using coord::internal::GrantEntry;
using coord::internal::GrantRecord;
using coord::internal::Ticket;

namespace {

using TicketKey = std::pair<std::string, uint64_t>;

std::vector<TicketKey> Tickets(const std::vector<GrantEntry>& entries) {
  std::vector<TicketKey> tickets;
  for (const GrantEntry& entry : entries) {
    for (const Ticket& ticket : entry.tickets) tickets.emplace_back(entry.session, ticket.id);
  }
  return tickets;
}

// Who got in ahead of a copy that has waited since the former record, and waits still.
std::string CheckOrder(const GrantRecord& before, const GrantRecord& after) {
  const std::vector<TicketKey> waited = Tickets(before.queue);
  const std::vector<TicketKey> owned = Tickets(before.owners);
  const std::vector<TicketKey> waiting = Tickets(after.queue);
  const std::set<TicketKey> still(waiting.begin(), waiting.end());
  for (const TicketKey& owner : Tickets(after.owners)) {
    if (std::find(owned.begin(), owned.end(), owner) != owned.end()) continue;
    for (const TicketKey& earlier : waited) {
      if (earlier == owner) break;
      if (earlier.first == owner.first || still.count(earlier) == 0) continue;
      return absl::StrCat("session ", owner.first, " ticket ", owner.second, " overtakes session ", earlier.first,
                          " ticket ", earlier.second);
    }
  }
  return "";
}

}  // namespace

std::string LockKind(std::string_view key) {
  for (const char* kind : {"mutex", "semaphore", "shared_mutex", "election"}) {
    const std::string prefix = absl::StrCat("p/", kind, "/");
    if (key.substr(0, prefix.size()) == prefix) return kind;
  }
  return "";
}

std::string CheckTransition(const std::string& before, const std::string& after) {
  const auto record = coord::internal::ParseGrantRecord(after, "record");
  if (!record.ok()) return record.status().ToString();
  uint64_t weight = 0;
  for (const GrantEntry& owner : record->owners) {
    for (const Ticket& ticket : owner.tickets) weight += ticket.weight;
  }
  GrantRecord former;
  if (!before.empty()) {
    auto parsed = coord::internal::ParseGrantRecord(before, "record");
    if (!parsed.ok()) return parsed.status().ToString();
    former = *std::move(parsed);
  }
  uint64_t former_weight = 0;
  for (const GrantEntry& owner : former.owners) {
    for (const Ticket& ticket : owner.tickets) former_weight += ticket.weight;
  }
  // A capacity that was lowered revokes nothing.
  if (weight > record->capacity && weight > former_weight) {
    return absl::StrCat("owners weigh ", weight, " of ", record->capacity);
  }
  if (record->fence != 0 && former.fence != 0 && record->fence < former.fence) {
    return absl::StrCat("the fence falls from ", former.fence, " to ", record->fence);
  }
  return CheckOrder(former, *record);
}

std::string CheckLeftover(const std::string& text, const std::set<std::string>& left) {
  const auto record = coord::internal::ParseGrantRecord(text, "record");
  if (!record.ok()) return record.status().ToString();
  for (const auto* entries : {&record->owners, &record->queue}) {
    for (const GrantEntry& entry : *entries) {
      if (left.count(entry.session) != 0)
        return absl::StrCat("session ", entry.session, " has left, and is still in it");
    }
  }
  return "";
}

}  // namespace sim
