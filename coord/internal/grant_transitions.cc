#include "coord/internal/grant_transitions.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace coord::internal {
namespace {

template <typename Entries>
auto* FindEntry(Entries& entries, std::string_view session) {
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const GrantEntry& entry) { return entry.session == session; });
  return found == entries.end() ? nullptr : &*found;
}

bool HasTicket(const GrantEntry* entry, uint64_t id) {
  return entry != nullptr && std::any_of(entry->tickets.begin(), entry->tickets.end(),
                                         [&](const Ticket& ticket) { return ticket.id == id; });
}

template <typename T>
bool Contains(const std::vector<T>& all, const T& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

size_t CountTickets(const std::vector<GrantEntry>& entries) {
  size_t count = 0;
  for (const GrantEntry& entry : entries) count += entry.tickets.size();
  return count;
}

// Takes out ended sessions, and own tickets that no request holds; then entries without tickets.
void Clean(const GrantChange& change, std::vector<GrantEntry>& entries) {
  const auto gone = [&](GrantEntry& entry) {
    if (Contains(change.take_out, entry.session)) return true;
    if (entry.session == change.session) {
      const auto unused = [&](const Ticket& ticket) {
        return !Contains(change.keep, ticket.id) && !(change.add.has_value() && change.add->id == ticket.id);
      };
      entry.tickets.erase(std::remove_if(entry.tickets.begin(), entry.tickets.end(), unused), entry.tickets.end());
    }
    return entry.tickets.empty();
  };
  entries.erase(std::remove_if(entries.begin(), entries.end(), gone), entries.end());
}

absl::Status Reweigh(const Ticket& to, GrantEntry* owner) {
  if (!HasTicket(owner, to.id)) {
    return absl::FailedPreconditionError("a request that does not own the lock cannot give up a part of it");
  }
  for (Ticket& ticket : owner->tickets) {
    if (ticket.id != to.id) continue;
    if (to.weight == 0 || to.weight > ticket.weight) {
      return absl::InvalidArgumentError(absl::StrCat("a grant of weight ", ticket.weight, " cannot be lowered to ",
                                                     to.weight, ": the new weight must be from 1 to the old one"));
    }
    ticket.weight = to.weight;
  }
  return absl::OkStatus();
}

absl::Status AddAtTail(const GrantChange& change, GrantRecord& record) {
  const Ticket& ticket = *change.add;
  if (ticket.id == 0) return absl::InvalidArgumentError("a ticket's id must be at least 1");
  GrantEntry* waiter = FindEntry(record.queue, change.session);
  if (HasTicket(waiter, ticket.id) || HasTicket(FindEntry(record.owners, change.session), ticket.id)) {
    return absl::OkStatus();
  }
  if (ticket.weight == 0 || ticket.weight > record.capacity) {
    return absl::InvalidArgumentError(
        absl::StrCat("a request of weight ", ticket.weight, " can never be granted: ask for 1 to ", record.capacity));
  }
  if (waiter != nullptr && waiter != &record.queue.back()) {
    return absl::FailedPreconditionError(
        "this copy already waits, and others behind it: a further request must wait in this process until then");
  }
  if (waiter == nullptr) {
    GrantEntry entry;
    entry.session = change.session;
    entry.ttl = change.ttl;
    entry.instance = change.instance;
    entry.since = change.now;
    record.queue.push_back(std::move(entry));
    waiter = &record.queue.back();
  }
  waiter->tickets.push_back(ticket);
  return absl::OkStatus();
}

// Moves tickets from the head of the queue to the owners while they fit. True if any was.
bool Promote(uint64_t fence, absl::Time now, GrantRecord& record) {
  uint64_t owned = OwnedWeight(record);
  auto head = record.queue.begin();
  bool granted = false;
  while (head != record.queue.end() && owned + head->tickets.front().weight <= record.capacity) {
    GrantEntry* owner = FindEntry(record.owners, head->session);
    if (owner == nullptr) {
      GrantEntry entry = *head;
      entry.tickets.clear();
      entry.since = now;
      entry.fence = fence;
      record.owners.push_back(std::move(entry));
      owner = &record.owners.back();
    }
    owned += head->tickets.front().weight;
    owner->tickets.push_back(head->tickets.front());
    head->tickets.erase(head->tickets.begin());
    if (head->tickets.empty()) ++head;
    granted = true;
  }
  record.queue.erase(record.queue.begin(), head);
  return granted;
}

absl::Status CheckSize(const GrantRecord& record) {
  const size_t entries = record.owners.size() + record.queue.size();
  const size_t tickets = CountTickets(record.owners) + CountTickets(record.queue);
  if (entries <= kMaxEntries && tickets <= kMaxTickets) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the lock has ", entries, " owners and waiters with ", tickets,
                                                   " requests; at most ", kMaxEntries, " with ", kMaxTickets,
                                                   " are allowed: try again later"));
}

bool Same(const std::vector<GrantEntry>& a, const std::vector<GrantEntry>& b) {
  const auto same_ticket = [](const Ticket& x, const Ticket& y) { return x.id == y.id && x.weight == y.weight; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const GrantEntry& x, const GrantEntry& y) {
    return x.session == y.session && x.fence == y.fence && x.value == y.value &&
           std::equal(x.tickets.begin(), x.tickets.end(), y.tickets.begin(), y.tickets.end(), same_ticket);
  });
}

}  // namespace

absl::StatusOr<GrantRecord> Apply(const std::optional<GrantRecord>& record, uint64_t revision, uint64_t fence_base,
                                  const GrantChange& change) {
  GrantRecord next;
  if (record.has_value()) {
    next = *record;
    next.fence = ResolveFence(next.fence, revision, fence_base);
    for (GrantEntry& owner : next.owners) owner.fence = ResolveFence(owner.fence, revision, fence_base);
  } else {
    next.capacity = change.capacity;
    next.fence = change.fence_above.value_or(0);
  }
  Clean(change, next.owners);
  Clean(change, next.queue);
  if (change.reweigh.has_value()) {
    absl::Status status = Reweigh(*change.reweigh, FindEntry(next.owners, change.session));
    if (!status.ok()) return status;
  }
  if (change.set_capacity.has_value()) next.capacity = *change.set_capacity;
  if (next.capacity == 0) return absl::InvalidArgumentError("a capacity must be at least 1");
  if (change.add.has_value()) {
    if (absl::Status status = AddAtTail(change, next); !status.ok()) return status;
  }
  if (change.value.has_value()) {
    for (std::vector<GrantEntry>* entries : {&next.owners, &next.queue}) {
      if (GrantEntry* own = FindEntry(*entries, change.session)) own->value = *change.value;
    }
  }
  uint64_t fence = 0;
  if (change.fence_above.has_value()) {
    fence = std::max(*change.fence_above, next.fence) + 1;
  } else if (record.has_value()) {
    fence = std::max(fence_base + revision, next.fence) + 1;
  }
  if (Promote(fence, change.now, next)) next.fence = fence;
  if (absl::Status status = CheckSize(next); !status.ok()) return status;
  next.nonce = change.nonce;
  return next;
}

bool Changes(const std::optional<GrantRecord>& record, const GrantChange& change) {
  const absl::StatusOr<GrantRecord> next = Apply(record, 0, 0, change);
  if (!next.ok()) return true;
  if (!record.has_value()) return change.set_capacity.has_value() || !next->owners.empty() || !next->queue.empty();
  return next->capacity != record->capacity || !Same(next->owners, record->owners) || !Same(next->queue, record->queue);
}

bool WorthAHint(const std::optional<GrantRecord>& before, const GrantRecord& after) {
  if (!before.has_value()) return true;
  return before->capacity != after.capacity || before->queue.empty() != after.queue.empty() ||
         !Same(before->owners, after.owners);
}

const GrantEntry* FindOwner(const GrantRecord& record, std::string_view session) {
  return FindEntry(record.owners, session);
}

const GrantEntry* FindWaiter(const GrantRecord& record, std::string_view session) {
  return FindEntry(record.queue, session);
}

uint64_t Weight(const GrantEntry& entry) {
  uint64_t weight = 0;
  for (const Ticket& ticket : entry.tickets) weight += ticket.weight;
  return weight;
}

uint64_t OwnedWeight(const GrantRecord& record) {
  uint64_t weight = 0;
  for (const GrantEntry& owner : record.owners) weight += Weight(owner);
  return weight;
}

bool OthersWait(const GrantRecord& record, std::string_view session) {
  return std::any_of(record.queue.begin(), record.queue.end(),
                     [&](const GrantEntry& waiter) { return waiter.session != session; });
}

bool OthersPresent(const GrantRecord& record, std::string_view session) {
  return OthersWait(record, session) || std::any_of(record.owners.begin(), record.owners.end(),
                                                    [&](const GrantEntry& owner) { return owner.session != session; });
}

bool Hopeless(const GrantRecord& record, std::string_view session) {
  const GrantEntry* waiter = FindWaiter(record, session);
  return waiter != nullptr && std::any_of(waiter->tickets.begin(), waiter->tickets.end(),
                                          [&](const Ticket& ticket) { return ticket.weight > record.capacity; });
}

uint64_t ResolveFence(uint64_t fence, uint64_t revision, uint64_t fence_base) {
  return fence == 0 ? fence_base + revision : fence;
}

Ahead FindAhead(const GrantRecord& record, std::string_view session) {
  Ahead ahead;
  for (const GrantEntry& owner : record.owners) {
    if (owner.session != session) ahead.owners.push_back(&owner);
  }
  for (const GrantEntry& waiter : record.queue) {
    if (waiter.session == session) break;
    ahead.waiters.push_back(&waiter);
  }
  return ahead;
}

}  // namespace coord::internal
