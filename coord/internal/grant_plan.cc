// GrantEngine's decisions: what is to be done next for a name, given what is known and wanted. No store call is made
// here, and nothing blocks.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/grant_engine.h"
#include "coord/names.h"

namespace coord::internal {

namespace {

bool HasTicket(const GrantEntry* entry, uint64_t id) {
  if (entry == nullptr || id == 0) return false;
  return std::any_of(entry->tickets.begin(), entry->tickets.end(), [id](const Ticket& t) { return t.id == id; });
}

std::string HeldBy(const GrantRecord& record) {
  if (record.owners.empty()) return "other copies wait for it";
  std::string text = "held by ";
  const size_t shown = std::min<size_t>(record.owners.size(), 3);
  for (size_t i = 0; i < shown; ++i) {
    absl::StrAppend(&text, i > 0 ? ", " : "", "copy ", QuoteName(record.owners[i].instance), " since ",
                    absl::FormatTime(record.owners[i].since, absl::UTCTimeZone()));
  }
  if (record.owners.size() > shown) absl::StrAppend(&text, " and ", record.owners.size() - shown, " more");
  return text;
}

}  // namespace

// Brings the state in line with the present session and epoch. False while there is no valid session.
bool GrantEngine::Attached(NameState& n, absl::Time now, std::shared_ptr<const Attachment>& attachment) {
  attachment = core_->session->Current();
  if (attachment == nullptr || !attachment->life->Valid(now)) return false;
  if (n.epoch != attachment->epoch) {
    n.epoch = attachment->epoch;
    n.key = absl::StrCat(core_->options.plugin, "/", n.kind, "/", n.epoch, "/", EscapeName(n.name));
    n.known = n.unsettled = n.verify = n.touch = false;
    n.record.reset();
    n.revision = n.floor = 0;
  }
  if (n.session != attachment->life->id) {
    n.session = attachment->life->id;
    n.life = attachment->life;
    for (auto& [id, ticket] : n.tickets) core_->session->PostLoss(LoseHolders(ticket));
    n.tickets.clear();
    for (const std::shared_ptr<Request>& request : n.pending) request->ticket = 0;
    if (ticket_session_ != n.session) {
      ticket_session_ = n.session;
      last_ticket_ = 0;
    }
  }
  return true;
}

bool GrantEngine::OwnLeftovers(const NameState& n) const {
  if (!n.record || n.session.empty()) return false;
  const uint64_t asked = n.pending.empty() ? 0 : n.pending.front()->ticket;
  for (const GrantEntry* entry : {FindOwner(*n.record, n.session), FindWaiter(*n.record, n.session)}) {
    if (entry == nullptr) continue;
    for (const Ticket& ticket : entry->tickets) {
      if (ticket.id != asked && n.tickets.count(ticket.id) == 0) return true;
    }
  }
  return false;
}

bool GrantEngine::Interested(const NameState& n) const {
  return !n.pending.empty() || !n.tickets.empty() || n.unsettled || n.verify || n.want_capacity || n.want_value ||
         n.leader != nullptr || OwnLeftovers(n);
}

// How old the view may become before the record is read again.
absl::Duration GrantEngine::ReadInterval(const NameState& n) const {
  absl::Duration interval = absl::InfiniteDuration();
  const bool waiting = !n.pending.empty() && n.pending.front()->ticket != 0;
  const bool retaining =
      std::any_of(n.tickets.begin(), n.tickets.end(), [](const auto& ticket) { return ticket.second.holders.empty(); });
  if (waiting || retaining) interval = ttl_;
  if (!watch_) {
    if (waiting || n.leader != nullptr) interval = ttl_ / 8 * n.poll_jitter;
    // A lost reply may have left something there that nobody here knows of.
    if (runtime_.Now() < n.written_at + absl::Hours(1)) interval = std::min(interval, ttl_);
  }
  if (evicting_ && !n.tickets.empty()) interval = std::min(interval, ttl_ / 3);
  // A try that finds the name taken must not go by a view that no push keeps fresh.
  if (watch_ && !n.pending.empty() && n.pending.front()->ask.try_only) interval = std::min(interval, ttl_);
  return interval;
}

bool GrantEngine::ReadIsDue(const NameState& n, absl::Time now) const {
  if (!n.known || n.verify || now >= n.hint_due) return true;
  const bool try_blind =
      !watch_ && !n.pending.empty() && n.pending.front()->ask.try_only && n.looked_at < n.pending.front()->asked;
  return try_blind || now >= std::max(n.looked_at, n.answered_at) + ReadInterval(n);
}

// The next in line reads at once, those behind it later the farther back they stand, so that a hand-over among many
// costs a few reads before the next hint; who only looks on, or holds, within a few milliseconds.
absl::Duration GrantEngine::HintDelay(const NameState& n) const {
  constexpr absl::Duration kStep = absl::Milliseconds(1);
  const double share = 0.5 + static_cast<double>(runtime_.Random() % 1024) / 2048.0;
  const bool waiting = n.record && FindWaiter(*n.record, n.session) != nullptr;
  const size_t place = waiting ? FindAhead(*n.record, n.session).waiters.size() : 5;
  return std::min(kStep * (static_cast<double>(place) * share), ttl_ / 16);
}

void GrantEngine::DropBadRequests(NameState& n, absl::Time now) {
  for (size_t i = 0; i < n.pending.size();) {
    const std::shared_ptr<Request> request = n.pending[i];
    absl::Status refused;
    if (request->done && request->deadline <= now) {
      refused = TimedOut(n);
    } else if (n.record && request->name->capacity != n.record->capacity && n.looked_at < request->asked) {
      n.verify = true;  // the view may be of before somebody's SetPermits
    } else if (n.record && request->name->capacity != n.record->capacity) {
      refused = absl::FailedPreconditionError(absl::StrCat(
          What(n), " has ", n.record->capacity, " permits, and this handle was made with ",
          request->name->capacity.load(), ": use the same number in all copies, or change it by SetPermits"));
    } else if (n.record && request->ask.weight > n.record->capacity) {
      refused = absl::InvalidArgumentError(
          absl::StrCat(request->ask.weight, " permits of ", What(n), " can never be had: it has ", n.record->capacity));
    }
    if (refused.ok()) {
      ++i;
    } else {
      Finish(n, request, refused, nullptr);
    }
  }
}

// Lets the first request in without a write where this copy owns already and nobody else waits. Sets `look_first` where
// it could, were the view not too old to tell.
bool GrantEngine::AdmitLocally(NameState& n, absl::Time now, bool& look_first) {
  if (n.pending.empty() || n.tickets.empty() || !n.record) return false;
  const std::shared_ptr<Request> head = n.pending.front();
  if (head->ticket != 0 || head->name->fence_each) return false;
  auto fits = std::find_if(n.tickets.begin(), n.tickets.end(), [&](const auto& entry) {
    const LocalTicket& ticket = entry.second;
    if (ticket.weight != head->ask.weight || ticket.reader != head->ask.reader) return false;
    return ticket.holders.empty() || ticket.reader;
  });
  if (fits == n.tickets.end() || OthersWait(*n.record, n.session)) return false;
  if (now >= n.proved_at + ttl_ / 3) {
    look_first = true;
    return false;
  }
  if (head->ask.value) n.want_value = head->ask.value;
  Finish(n, head, absl::OkStatus(), MakeHeld(n, *head, fits->first, fits->second));
  return true;
}

// Tickets that nobody here holds go, from here first, unless they are retained: while nobody else waits, and no longer
// than a ttl without use, for others may only try, which leaves no trace.
void GrantEngine::GiveUpFree(NameState& n, absl::Time now) {
  const bool retain = n.retain && !closing_ && n.record && !OthersWait(*n.record, n.session) && n.pending.empty() &&
                      now < n.used_at + ttl_;
  for (auto it = n.tickets.begin(); it != n.tickets.end();) {
    it->second.retained = it->second.holders.empty() && retain;
    it = it->second.holders.empty() && !retain ? n.tickets.erase(it) : std::next(it);
  }
  if (n.tickets.empty()) n.want_value.reset();  // it went with the term
}

// Whether `head` may have a ticket in the record now. A copy queues once; a mutex waits for this copy's own holder, a
// writer for this copy's own readers.
bool GrantEngine::MayAsk(const NameState& n, const Request& head) const {
  if (head.ticket != 0) return true;
  return n.kind == "semaphore" || n.tickets.empty() || (head.ask.reader && n.tickets.begin()->second.reader);
}

// The record as it is, as far as this copy is concerned.
GrantChange GrantEngine::Kept(const NameState& n, const Attachment& attachment) {
  GrantChange change;
  change.session = n.session;
  change.ttl = attachment.life->ttl;
  change.instance = core_->options.instance;
  change.now = runtime_.WallNow();
  change.capacity = n.capacity;
  for (const auto& [id, ticket] : n.tickets) {
    change.keep.push_back(id);
    const GrantEntry* own = n.record ? FindOwner(*n.record, n.session) : nullptr;
    if (own == nullptr) continue;
    for (const Ticket& written : own->tickets) {
      if (written.id == id && written.weight > ticket.weight) change.reweigh = Ticket{id, ticket.weight};
    }
  }
  if (!n.pending.empty() && n.pending.front()->ticket != 0) change.keep.push_back(n.pending.front()->ticket);
  if (!monotonic_) change.fence_above = FenceFloor(n, attachment);
  return change;
}

GrantChange GrantEngine::Wanted(NameState& n, const Attachment& attachment) {
  GrantChange change = Kept(n, attachment);
  if (!n.pending.empty() && MayAsk(n, *n.pending.front())) {
    Request& head = *n.pending.front();
    if (head.ticket == 0) head.ticket = ++last_ticket_;
    change.add = Ticket{head.ticket, head.ask.weight};
    if (head.ask.value) change.value = head.ask.value;
  }
  if (n.want_value && !n.tickets.empty()) change.value = n.want_value;
  if (n.want_capacity) {
    change.set_capacity = n.want_capacity;
    change.capacity = *n.want_capacity;
  }
  return change;
}

// Where revisions begin anew the record counts its fences. One that was dropped and is made again begins with the time
// of day: above all that the old one, which began earlier, can have counted, if the clocks of the two makers differ by
// less than it lived.
uint64_t GrantEngine::FenceFloor(const NameState& n, const Attachment& attachment) {
  if (n.record) return n.fence_seen;
  const auto now = static_cast<uint64_t>(std::max<int64_t>(absl::ToUnixMicros(runtime_.WallNow()), 0));
  return std::max({attachment.fence_base, now, n.fence_seen, core_->highest_fence.load(std::memory_order_acquire)});
}

// What stands between this copy's request and its turn: sessions to be looked at, to be ended, to be taken out. A
// waiter acts once every waiter ahead of it is silent or ended, so that only one acts. True: `action` is to be done
// first.
bool GrantEngine::Obstacles(NameState& n, absl::Time now, Action& action) {
  if (!n.record || n.pending.empty()) return false;
  const Request& head = *n.pending.front();
  const GrantEntry* waiter = FindWaiter(*n.record, n.session);
  const bool waiting = HasTicket(waiter, head.ticket);
  const bool inquire = waiting || head.ask.try_only;
  std::vector<const GrantEntry*> owners, waiters;
  for (const GrantEntry& owner : n.record->owners) {
    if (owner.session != n.session) owners.push_back(&owner);
  }
  for (const GrantEntry& other : n.record->queue) {
    if (waiting && other.session == n.session) break;
    if (other.session != n.session) waiters.push_back(&other);
  }
  bool all_gone = true;
  std::string silent;
  std::optional<SessionTable::Sight> silent_sight;
  for (const bool is_owner : {false, true}) {
    for (const GrantEntry* entry : is_owner ? owners : waiters) {
      std::optional<SessionTable::Sight> sight = core_->session->table().Find(entry->session);
      const bool stale = !sight || (!watch_ && !sight->Ended() && now >= sight->looked_at + ttl_ / 8);
      if (stale && inquire) {
        action.todo = Todo::kReadSession;
        action.session = entry->session;
        action.ttl = entry->ttl;
        return true;
      }
      if (!sight) {
        all_gone = all_gone && is_owner;
      } else if (sight->Ended()) {
        action.change.take_out.push_back(entry->session);
      } else if (sight->Silent(now)) {
        if (silent.empty()) {
          silent = entry->session;
          silent_sight = sight;
        }
      } else {
        all_gone = all_gone && is_owner;
        if (inquire) action.due = std::min(action.due, sight->SilentAt());
      }
    }
  }
  if (!all_gone) action.change.take_out.clear();
  if (all_gone && inquire && silent_sight) {
    action.todo = Todo::kEvict;
    action.session = silent;
    action.sight = silent_sight;
    return true;
  }
  return false;
}

GrantEngine::Action GrantEngine::Next(NameState& n) {
  Action action;
  const absl::Time now = runtime_.Now();
  std::shared_ptr<const Attachment> attachment;
  DropBadRequests(n, now);
  for (const std::shared_ptr<Request>& request : n.pending) {
    if (request->done) action.due = std::min(action.due, request->deadline);
  }
  if (!Attached(n, now, attachment)) {
    FinishAll(
        n,
        absl::UnavailableError(absl::StrCat(What(n), " cannot be had: this copy has no session; it is joining again")),
        /*try_only=*/true);
    return action;
  }
  if (closing_ && !losses_told_) return action;
  if (!Interested(n)) {
    n.hint_due = absl::InfiniteFuture();
    // Without a watch a name that was written lately is still looked at now and then.
    if (!watch_ && n.known && now < n.written_at + absl::Hours(1)) {
      action.due = std::max(n.looked_at, n.answered_at) + ttl_;
      if (now >= action.due) action.todo = Todo::kRead;
    }
    return action;
  }
  if (!attachment->settled && n.tickets.empty()) {
    FinishAll(n,
              absl::UnavailableError(absl::StrCat(
                  What(n),
                  " cannot be had yet: the store began anew, and copies of before may still be valid; grants "
                  "are given once it has stood for the deployment's max_ttl")),
              /*try_only=*/true);
    return action;
  }
  if (now < n.backoff_until) {
    action.due = std::min(action.due, n.backoff_until);
    return action;
  }
  if (ReadIsDue(n, now)) {
    action.todo = Todo::kRead;
    return action;
  }
  action.due = std::min(action.due, n.hint_due);
  bool look_first = false;
  while (AdmitLocally(n, now, look_first)) {
  }
  const bool free =
      std::any_of(n.tickets.begin(), n.tickets.end(), [](const auto& ticket) { return ticket.second.holders.empty(); });
  if (free && n.retain && now >= n.proved_at + ttl_ / 3) look_first = true;  // somebody may wait unheard
  // A store that takes longer to answer than a view stays fresh is not asked again and again: then nothing is passed
  // on.
  if (look_first && now >= n.answered_at + ttl_ / 3) {
    action.todo = linear_ ? Todo::kRead : Todo::kWrite;  // a reader that lags could show for ever that nobody waits
    if (!linear_) action.change = Kept(n, *attachment);
    return action;
  }
  GiveUpFree(n, now);
  if (Obstacles(n, now, action)) return action;
  std::vector<std::string> take_out = std::move(action.change.take_out);
  action.change = Wanted(n, *attachment);
  action.change.take_out = std::move(take_out);
  if (!n.pending.empty() && n.pending.front()->ask.try_only) {
    const std::shared_ptr<Request> head = n.pending.front();
    absl::StatusOr<GrantRecord> after = Apply(n.record, n.revision, attachment->fence_base, action.change);
    const bool fits = after.ok() && head->ticket != 0 && HasTicket(FindOwner(*after, n.session), head->ticket);
    if (!fits) {
      // The ticket was never written, or the record would show it.
      std::string why = n.record && OthersPresent(*n.record, n.session) ? HeldBy(*n.record) : "held by this copy";
      Finish(n, head, absl::ResourceExhaustedError(absl::StrCat(What(n), " is taken: ", why)), nullptr);
      return Next(n);
    }
  }
  const bool prove = n.unsettled || n.touch || (n.want_capacity && !linear_);
  if (prove || Changes(n.record, action.change)) {
    // Where nothing is left of a name, nothing may be left of its epoch: then nobody is to be granted anything.
    const bool anew = forgets_ && n.revision == 0 && n.epoch_at < n.looked_at;
    action.todo = anew ? Todo::kCheckEpoch : Todo::kWrite;
    return action;
  }
  action.due = std::min(action.due, std::max(n.looked_at, n.answered_at) + ReadInterval(n));
  const bool retains =
      std::any_of(n.tickets.begin(), n.tickets.end(), [](const auto& ticket) { return ticket.second.retained; });
  if (retains) action.due = std::min(action.due, n.used_at + ttl_);
  return action;
}

// ---------------------------------------------------------------------------------------------- what a record says

std::shared_ptr<Held> GrantEngine::MakeHeld(NameState& n, const Request& request, uint64_t ticket, LocalTicket& local) {
  auto held = std::make_shared<Held>();
  held->core = core_->shared_from_this();
  held->name = request.name;
  held->session = n.life;
  held->ticket = ticket;
  held->weight = local.weight;
  held->fence = local.fence;
  held->exclusive = !local.reader && n.kind != "semaphore";
  local.holders.push_back(held);
  core_->counters.grants.fetch_add(1, std::memory_order_relaxed);
  return held;
}

// The first request owns, as the newest record says: let it in, and with a reader the readers right behind it.
void GrantEngine::GrantHead(NameState& n) {
  const std::shared_ptr<const Attachment> attachment = core_->session->Current();
  if (n.pending.empty() || !n.record || attachment == nullptr) return;
  const std::shared_ptr<Request> head = n.pending.front();
  const GrantEntry* own = FindOwner(*n.record, n.session);
  // The record must name the present session, which must be valid at this very moment.
  if (n.session != attachment->life->id || n.epoch != attachment->epoch || !attachment->settled) return;
  if (!HasTicket(own, head->ticket) || !attachment->life->Valid(runtime_.Now())) return;
  LocalTicket& local = n.tickets[head->ticket];
  local.weight = head->ask.weight;
  local.reader = head->ask.reader;
  local.fence = ResolveFence(own->fence, n.revision, attachment->fence_base);
  const uint64_t ticket = head->ticket;
  Finish(n, head, absl::OkStatus(), MakeHeld(n, *head, ticket, local));
  while (local.reader && !n.pending.empty() && n.pending.front()->ask.reader && n.pending.front()->ticket == 0) {
    const std::shared_ptr<Request> next = n.pending.front();
    Finish(n, next, absl::OkStatus(), MakeHeld(n, *next, ticket, local));
  }
}

// The newest record of the name. `proof`: it came by a read or a write of one's own and not by a push that may lag.
void GrantEngine::Adopt(NameState& n, std::optional<GrantRecord> record, kv::Revision revision, bool proof) {
  n.record = std::move(record);
  n.revision = revision;
  n.floor = std::max(n.floor, revision);
  if (n.record && !monotonic_) {
    n.fence_seen = std::max(n.fence_seen, n.record->fence);
    core_->NoteFence(n.record->fence);
  }
  n.changed_at = runtime_.Now();
  n.known = true;
  const GrantEntry* own = n.record ? FindOwner(*n.record, n.session) : nullptr;
  for (auto it = n.tickets.begin(); it != n.tickets.end();) {
    if (HasTicket(own, it->first)) {
      ++it;
      continue;
    }
    if (!proof) {
      n.verify = true;
      ++it;
      continue;
    }
    if (!it->second.holders.empty()) {
      Warn(n, n.record ? "the store says that this copy does not own it; what it held is lost"
                       : "the store has dropped its record; what this copy held is lost");
    }
    core_->session->PostLoss(LoseHolders(it->second));
    it = n.tickets.erase(it);
  }
  if (proof && linear_ && n.record) CapacityIs(n, n.record->capacity);
  if (n.tickets.empty()) n.want_value.reset();
  GrantHead(n);
  PublishLeader(n);
}

// The store has `capacity` for sure. The handle that asked for it goes on with it, and so do the requests made with it.
void GrantEngine::CapacityIs(NameState& n, uint32_t capacity) {
  if (n.want_capacity != capacity) return;
  n.capacity_for->capacity = capacity;
  n.want_capacity.reset();
  n.capacity_for = nullptr;
}

void GrantEngine::PublishLeader(NameState& n) {
  if (n.leader == nullptr) return;
  if (!n.record || n.record->owners.empty()) {
    n.leader->Set(nullptr);
    return;
  }
  const GrantEntry& owner = n.record->owners.front();
  const std::shared_ptr<const Attachment> attachment = core_->session->Current();
  auto info = std::make_shared<LeaderInfo>();
  info->instance = owner.instance;
  info->session = owner.session;
  info->value = owner.value;
  info->fence = ResolveFence(owner.fence, n.revision, attachment == nullptr ? 0 : attachment->fence_base);
  info->since = owner.since;
  n.leader->Set(std::move(info));
}

}  // namespace coord::internal
