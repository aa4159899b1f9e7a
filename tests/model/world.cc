#include "tests/model/world.h"

#include <algorithm>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/records.h"

namespace model {

using coord::internal::Ahead;
using coord::internal::Apply;
using coord::internal::FindAhead;
using coord::internal::FindOwner;
using coord::internal::FindWaiter;
using coord::internal::Format;
using coord::internal::GrantChange;
using coord::internal::GrantEntry;
using coord::internal::GrantRecord;
using coord::internal::ResolveFence;
using coord::internal::Ticket;

namespace {

constexpr uint32_t kNever = 0xffffffffu;  // a copy that has not looked yet

std::string Session(int i) { return std::string(1, static_cast<char>('a' + i)); }

bool Has(const GrantEntry* entry, uint64_t ticket) {
  return entry != nullptr &&
         std::any_of(entry->tickets.begin(), entry->tickets.end(), [&](const Ticket& t) { return t.id == ticket; });
}

// Requests in their order.
using Requests = std::vector<std::pair<std::string, uint64_t>>;

Requests Flat(const std::vector<GrantEntry>& entries) {
  Requests all;
  for (const GrantEntry& entry : entries) {
    for (const Ticket& ticket : entry.tickets) all.emplace_back(entry.session, ticket.id);
  }
  return all;
}

size_t Place(const Requests& all, const std::pair<std::string, uint64_t>& one) {
  return static_cast<size_t>(std::find(all.begin(), all.end(), one) - all.begin());
}

// First in, first out, over one write: nobody changes places, and whoever is granted leaves nobody behind that was
// ahead.
bool Fair(const GrantRecord& before, const GrantRecord& after) {
  const Requests was = Flat(before.queue), is = Flat(after.queue), owned = Flat(before.owners);
  size_t last = 0;
  for (size_t i = 0; i < is.size(); ++i) {
    const size_t place = Place(was, is[i]);
    if (place < last || (place == was.size() && i + 1 != is.size())) return false;
    last = place;
  }
  for (const auto& request : Flat(after.owners)) {
    if (Place(owned, request) != owned.size()) continue;
    const size_t end = Place(was, request);
    for (size_t i = 0; i < end; ++i) {
      if (Place(is, was[i]) != is.size()) return false;
    }
  }
  return true;
}

bool Grants(const GrantRecord& before, const GrantRecord& after) {
  const Requests owned = Flat(before.owners);
  for (const auto& request : Flat(after.owners)) {
    if (Place(owned, request) == owned.size()) return true;
  }
  return false;
}

// What a wrong transition would make instead of `after`.
GrantRecord Spoil(const Bugs& bugs, const std::optional<GrantRecord>& before, GrantRecord after) {
  if (bugs.jump_queue && after.queue.size() > 1 && before.has_value() && after.queue.size() > before->queue.size()) {
    std::rotate(after.queue.begin(), after.queue.end() - 1, after.queue.end());
  }
  if (bugs.old_fence && before.has_value() && before->fence != 0) after.fence = before->fence;
  return after;
}

}  // namespace

Model::Model(const World& world) : world_(world) {
  world_.weights.resize(kMaxCopies, 1);
  Intern(0, std::nullopt);
}

State Model::Start() const {
  State state;
  state.lost_replies = static_cast<uint8_t>(world_.lost_replies);
  state.late_pushes = static_cast<uint8_t>(world_.late_pushes);
  state.vanishings = static_cast<uint8_t>(world_.vanishings);
  state.breaks = static_cast<uint8_t>(world_.breaks);
  state.beats = static_cast<uint8_t>(world_.beats);
  state.deletes = static_cast<uint8_t>(world_.deletes);
  for (int i = 0; i < kMaxCopies; ++i) {
    state.copies[i].seen = kNever;
    state.copies[i].pc = i < world_.copies ? kIdle : kDone;
    state.copies[i].rounds = static_cast<uint8_t>(i < world_.copies ? world_.rounds : 0);
  }
  return state;
}

bool Model::Finished(const State& state) const {
  return std::all_of(state.copies, state.copies + kMaxCopies,
                     [](const Copy& copy) { return copy.pc == kDone || copy.pc == kDead; });
}

std::string Model::CheckHolders(const State& state) const {
  uint64_t held = 0;
  for (int i = 0; i < world_.copies; ++i) {
    const Copy& copy = state.copies[i];
    if ((copy.pc == kHold || copy.pc == kDowngrade) && copy.valid) held += WeightOf(i, copy);
  }
  return held <= world_.capacity ? std::string() : "too many valid holders";
}

uint32_t Model::Intern(uint32_t revision, std::optional<GrantRecord> record) {
  const std::string text = std::to_string(revision) + (record.has_value() ? Format(*record) : std::string());
  const auto [found, added] = version_of_.emplace(text, static_cast<uint32_t>(versions_.size()));
  if (added) versions_.push_back({revision, std::move(record)});
  return found->second;
}

bool Model::Names(uint32_t version, int i, const Copy& copy) const {
  const auto& record = versions_[version].record;
  return record.has_value() && Has(FindOwner(*record, Session(i)), copy.ticket);
}

bool Model::Queues(uint32_t version, int i, const Copy& copy) const {
  const auto& record = versions_[version].record;
  return record.has_value() && Has(FindWaiter(*record, Session(i)), copy.ticket);
}

bool Model::OthersWait(uint32_t version, int i) const {
  const auto& record = versions_[version].record;
  return record.has_value() && coord::internal::OthersWait(*record, Session(i));
}

// A Create is conditional on absence alone, not on a revision.
bool Model::Current(const State& state, const Copy& copy) const {
  if (copy.seen == kNever) return false;
  return copy.seen == state.record || (Absent(copy.seen) && Absent(state.record));
}

uint32_t Model::WeightOf(int i, const Copy& copy) const {
  return copy.downgraded ? 1 : world_.weights[static_cast<size_t>(i)];
}

void Model::Begin(Copy& copy) const {
  copy.pc = kWant;
  copy.downgraded = 0;
  copy.ticket = world_.bugs.reuse_tickets ? 1 : static_cast<uint8_t>(world_.rounds + 1 - copy.rounds);
}

// The copy once it knows that its write made `version`.
Copy Model::Succeeded(int i, Copy copy, uint32_t version) const {
  copy.seen = version;
  copy.unknown = 0;
  copy.expected = 0;
  switch (copy.pc) {
    case kWant:
      copy.pc = Names(version, i, copy) ? kHold : kWait;
      break;
    case kDowngrade:
      copy.pc = kHold;
      break;
    case kRelease:
    case kCancel:
    case kHold:  // only with the bug late_give_up
      copy.pc = kIdle;
      --copy.rounds;
      break;
    default:
      break;
  }
  return copy;
}

std::optional<uint32_t> Model::Write(const State& state, int i, uint32_t take_out, int nonce) {
  const Copy& copy = state.copies[i];
  const uint32_t before = Absent(state.record) ? state.record : copy.seen;
  const uint64_t key = (uint64_t{before} << 32) | (uint64_t{take_out} << 24) | (static_cast<uint64_t>(nonce) << 20) |
                       (uint64_t{copy.ticket} << 12) | (uint64_t{copy.downgraded} << 11) | (uint64_t{copy.pc} << 4) |
                       static_cast<uint64_t>(i);
  const auto known = writes_.find(key);
  if (known != writes_.end()) return known->second;
  GrantChange change;
  change.session = Session(i);
  change.ttl = absl::Seconds(1);
  change.now = absl::UnixEpoch();
  if (nonce != 0) change.nonce = std::to_string(i) + "." + std::to_string(nonce);
  change.capacity = world_.capacity;
  const bool gives_up = copy.pc == kRelease || copy.pc == kCancel || copy.pc == kIdle || copy.pc == kHold;
  if (!gives_up) change.keep.push_back(copy.ticket);
  const Version& version = versions_[before];
  if (world_.bugs.keep_strays && version.record.has_value()) {
    for (const GrantEntry* entry : {FindOwner(*version.record, Session(i)), FindWaiter(*version.record, Session(i))}) {
      if (entry == nullptr) continue;
      for (const Ticket& ticket : entry->tickets) {
        if (ticket.id != copy.ticket) change.keep.push_back(ticket.id);
      }
    }
  }
  if (copy.pc == kWant) change.add = Ticket{copy.ticket, WeightOf(i, copy)};
  if (copy.pc == kDowngrade) change.reweigh = Ticket{copy.ticket, 1};
  for (int p = 0; p < world_.copies; ++p) {
    if ((take_out >> p) & 1) change.take_out.push_back(Session(p));
  }
  const uint32_t revision = version.revision;
  const absl::StatusOr<GrantRecord> next =
      Apply(version.record, version.record.has_value() ? revision : 0, /*fence_base=*/0, change);
  std::optional<uint32_t> made;
  if (next.ok()) made = Intern(revision + 1, Spoil(world_.bugs, version.record, *next));
  return writes_[key] = made;
}

// Puts `version` in the place of the record and checks the step.
std::string Model::SetRecord(State& state, uint32_t version) const {
  const GrantRecord before = versions_[state.record].record.value_or(GrantRecord());
  const Version& next = versions_[version];
  state.record = version;
  for (Copy& copy : state.copies) {  // what can never arrive any more
    const bool create_may = copy.sent_create && world_.deletes > 0;
    if (copy.sent != 0 && !create_may && versions_[copy.sent].revision != next.revision + 1) {
      copy.sent = 0;
      copy.sent_create = 0;
    }
  }
  if (!next.record.has_value()) return std::string();
  const uint64_t fence = ResolveFence(next.record->fence, next.revision, 0);
  const bool grants = Grants(before, *next.record);
  if (grants && fence <= state.highest) return "a grant's fence is not above all earlier ones";
  if (fence < state.highest) return "the fence went back";
  state.highest = static_cast<uint8_t>(fence);
  return Fair(before, *next.record) ? std::string() : "somebody was overtaken";
}

// A copy's own record is not looked at: it knows its own clock.
Model::Act Model::ToDo(const State& state, int i) const {
  Act act;
  const auto& record = versions_[state.copies[i].seen].record;
  if (!record.has_value()) return act;
  const auto bit = [](const GrantEntry* entry) { return 1u << (entry->session[0] - 'a'); };
  const auto is_over = [&](int p) {
    const Copy& copy = state.copies[p];
    return copy.mark == kEnded || (copy.mark == kMissing && world_.bugs.missing_is_dead) ||
           (copy.mark == kBroken && world_.bugs.broken_is_ended);
  };
  const auto is_silent = [&](int p) {
    const Copy& copy = state.copies[p];
    const bool blind = world_.bugs.blind_eviction && copy.beaten > 0;
    return (copy.mark == kLive || copy.mark == kBroken) && (!copy.valid || blind);
  };
  const Ahead ahead = FindAhead(*record, Session(i));
  uint32_t candidates = 0;
  bool all_gone = true;
  for (const GrantEntry* entry : ahead.waiters) {
    const int p = entry->session[0] - 'a';
    if (world_.bugs.head_only || world_.bugs.any_waiter_acts) all_gone = false;
    if (!is_over(p) && !is_silent(p) && state.copies[p].mark != kMissing) all_gone = false;
    candidates |= bit(entry);
  }
  if (world_.bugs.any_waiter_acts && !ahead.waiters.empty()) {
    candidates = bit(ahead.waiters.back());
  } else if (!all_gone) {
    return act;
  } else {
    for (const GrantEntry* entry : ahead.owners) candidates |= bit(entry);
  }
  for (int p = 0; p < world_.copies; ++p) {
    if (((candidates >> p) & 1) == 0) continue;
    if (is_over(p)) {
      act.take_out |= 1u << p;
    } else if (is_silent(p)) {
      act.evict |= 1u << p;
    } else if (state.copies[p].mark == kMissing) {
      act.create |= 1u << p;
    }
  }
  return act;
}

}  // namespace model
