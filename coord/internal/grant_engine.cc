// GrantEngine's requests and work queue. Decisions are in grant_plan.cc, store calls in grant_calls.cc.

#include "coord/internal/grant_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

constexpr const char* kKinds[] = {"mutex", "semaphore", "shared_mutex", "election"};

absl::Status Left() { return absl::CancelledError("this copy has left its cluster: join again to go on"); }
absl::Status CancelledByCaller() { return absl::CancelledError("the wait was cancelled by its caller"); }

}  // namespace

GrantEngine::GrantEngine(Core* core)
    : core_(core),
      runtime_(*core->runtime),
      watch_(core->store->traits().watch),
      evicting_(core->store->traits().evicting),
      forgets_(core->store->traits().volatile_storage && !core->store->traits().proves_incarnation),
      monotonic_(core->store->traits().monotonic_revisions),
      linear_(core->store->traits().linearizable_reads),
      ttl_(core->options.ttl),
      work_(core->runtime->NewCondition()) {}

GrantEngine::~GrantEngine() = default;

void GrantEngine::Start() {
  for (const char* kind : kKinds) {
    const std::string prefix = absl::StrCat(core_->options.plugin, "/", kind, "/");
    registrations_.push_back(core_->hub->Register(
        prefix, [this](const kv::WatchEvent& event) { OnEvent(event); },
        [this](std::string_view key) { OnHint(key); }));
  }
  MutexLock lock(mu_);
  for (int i = 0; i < kWorkers; ++i) {
    ++workers_running_;
    workers_.push_back(
        runtime_.StartThread("coord-grants", [this, core = core_->shared_from_this()] { WorkerThread(); }));
  }
}

std::string GrantEngine::What(const NameState& n) const {
  return absl::StrCat(n.kind == "shared_mutex" ? "shared mutex" : n.kind, " ", QuoteName(n.name));
}

absl::Status GrantEngine::CheckAsk(const GrantName& name, const Ask& ask) const {
  if (absl::Status open = core_->CheckOpen(); !open.ok()) return open;
  if (!name.error.ok()) return name.error;
  if (ask.weight == 0 || ask.weight > name.capacity) {
    return absl::InvalidArgumentError(absl::StrCat(ask.weight, " permits of ", name.kind, " ", QuoteName(name.name),
                                                   " were asked for: ask for 1 to ", name.capacity.load()));
  }
  if (ask.value && ask.value->size() > kMaxProclaimed) {
    return absl::InvalidArgumentError(absl::StrCat("a leader may proclaim at most ", kMaxProclaimed, " bytes; this is ",
                                                   ask.value->size(),
                                                   ": keep it in a SharedValue and proclaim its name"));
  }
  return absl::OkStatus();
}

std::shared_ptr<NameState> GrantEngine::State(const GrantName& name) {
  std::shared_ptr<NameState>& state = states_[absl::StrCat(name.kind, "/", EscapeName(name.name))];
  if (state == nullptr) {
    state = std::make_shared<NameState>();
    state->number = ++names_made_;
    state->kind = name.kind;
    state->name = name.name;
    state->capacity = name.capacity;
    state->changed = runtime_.NewCondition();
  }
  state->used_at = runtime_.Now();
  return state;
}

// ---------------------------------------------------------------------------------------------- requests

std::shared_ptr<Request> GrantEngine::Enqueue(NameState& n, const std::shared_ptr<const GrantName>& name, Ask ask,
                                              absl::Time deadline) {
  auto request = std::make_shared<Request>();
  request->name = name;
  request->ask = std::move(ask);
  request->asked = runtime_.Now();
  request->deadline = deadline;
  n.capacity = name->capacity;
  n.retain = n.retain || name->retain;
  n.pending.push_back(request);
  return request;
}

void GrantEngine::Finish(NameState& n, const std::shared_ptr<Request>& request, absl::Status status,
                         std::shared_ptr<Held> held) {
  n.pending.erase(std::remove(n.pending.begin(), n.pending.end(), request), n.pending.end());
  request->finished = true;
  request->status = std::move(status);
  request->held = std::move(held);
  if (request->wake != nullptr) request->wake->NotifyAll();
  if (!request->done) return;
  const auto deliver = [request] {
    request->cancel.Forget(request->cancel_id);
    if (!request->status.ok()) return request->done(request->status);
    request->done(Grant(std::move(request->held)));
  };
  if (!core_->callbacks->Post(deliver)) core_->session->PostLoss({deliver});  // full: never drop a grant
}

void GrantEngine::FinishAll(NameState& n, const absl::Status& status, bool try_only) {
  const std::deque<std::shared_ptr<Request>> requests = n.pending;
  for (const std::shared_ptr<Request>& request : requests) {
    if (!try_only || request->ask.try_only) Finish(n, request, status, nullptr);
  }
}

absl::Status GrantEngine::TimedOut(const NameState& n) const {
  std::string text = absl::StrCat(What(n), " was not acquired by the deadline");
  if (n.record && !n.record->owners.empty() && n.last_error.ok()) {
    const GrantEntry& owner = n.record->owners.front();
    absl::StrAppend(&text, owner.session == n.session ? ": this copy itself holds it" : ": copy ",
                    owner.session == n.session ? "" : QuoteName(owner.instance) + " holds it", " since ",
                    absl::FormatTime(owner.since, absl::UTCTimeZone()));
  }
  if (!n.last_error.ok()) {
    absl::StrAppend(&text, "; the store's last answer: ", std::string(n.last_error.message()));
  } else if (core_->session->State() == SessionState::kLost) {
    absl::StrAppend(&text, "; this copy has no session and is joining again");
  }
  return absl::DeadlineExceededError(text);
}

absl::StatusOr<Grant> GrantEngine::Acquire(const std::shared_ptr<const GrantName>& name, Ask ask, absl::Time deadline,
                                           const CancelToken& cancel) {
  if (absl::Status checked = CheckAsk(*name, ask); !checked.ok()) return checked;
  if (cancel.cancelled()) return CancelledByCaller();
  const absl::Time until = runtime_.SteadyDeadline(deadline);
  MutexLock lock(mu_);
  if (closing_) return Left();
  const std::shared_ptr<NameState> n = State(*name);
  if (ask.try_only && !n->pending.empty()) {
    return absl::ResourceExhaustedError(absl::StrCat(What(*n), " is taken: other threads of this copy wait for it"));
  }
  const std::shared_ptr<Request> request = Enqueue(*n, name, std::move(ask), until);
  request->wake = runtime_.NewCondition();
  lock.Unlock();
  // Neither is ever called under the engine's mutex: the token has one of its own.
  const uint64_t cancel_id = cancel.OnCancel([this, request] { Withdraw(request, CancelledByCaller()); });
  lock.Lock();
  Drive(n, until, [&] { return request->finished; });
  if (!request->finished) {
    while (!request->finished && runtime_.Now() < until) request->wake->Wait(mu_, until);
    if (!request->finished) {
      Finish(*n, request, TimedOut(*n), nullptr);
      Schedule(*n, runtime_.Now());
    }
  }
  lock.Unlock();
  cancel.Forget(cancel_id);
  if (!request->status.ok()) return request->status;
  return Grant(std::move(request->held));
}

void GrantEngine::AcquireAsync(const std::shared_ptr<const GrantName>& name, Ask ask, absl::Time deadline,
                               std::function<void(absl::StatusOr<Grant>)> done, const CancelToken& cancel) {
  absl::Status refused = CheckAsk(*name, ask);
  std::shared_ptr<Request> request;
  if (refused.ok()) {
    MutexLock lock(mu_);
    if (closing_) {
      refused = Left();
    } else {
      const std::shared_ptr<NameState> n = State(*name);
      request = Enqueue(*n, name, std::move(ask), runtime_.SteadyDeadline(deadline));
      request->done = done;
      request->cancel = cancel;
      Schedule(*n, runtime_.Now());
    }
  }
  if (!refused.ok()) {
    if (!core_->callbacks->Post([done, refused] { done(refused); })) done(refused);
    return;
  }
  const uint64_t id = cancel.OnCancel([this, core = core_->weak_from_this(), weak = std::weak_ptr<Request>(request)] {
    const std::shared_ptr<Core> alive = core.lock();
    const std::shared_ptr<Request> still = weak.lock();
    if (alive != nullptr && still != nullptr) Withdraw(still, CancelledByCaller());
  });
  request->cancel_id = id;
  bool finished;
  {
    MutexLock lock(mu_);
    finished = request->finished;
  }
  if (finished) cancel.Forget(id);  // `done` may have come before the id
}

void GrantEngine::Withdraw(const std::shared_ptr<Request>& request, const absl::Status& status) {
  MutexLock lock(mu_);
  if (request->finished) return;
  const std::shared_ptr<NameState> n = State(*request->name);
  Finish(*n, request, status, nullptr);
  Schedule(*n, runtime_.Now());
}

// ---------------------------------------------------------------------------------------------- giving up, changing

std::vector<std::function<void()>> GrantEngine::LoseHolders(LocalTicket& ticket) {
  std::vector<std::function<void()>> callbacks;
  for (const std::shared_ptr<Held>& held : ticket.holders) {
    held->lost.store(true, std::memory_order_release);
    core_->counters.grants_lost.fetch_add(1, std::memory_order_relaxed);
    MutexLock lock(held->mu);
    held->told = true;
    for (auto& fn : held->on_lost) callbacks.push_back(std::move(fn));
    held->on_lost.clear();
  }
  ticket.holders.clear();
  return callbacks;
}

// Drives `n` until `reached`, and waits where another thread drives. `what` was to become true, for the error.
absl::Status GrantEngine::WaitFor(NameState& n, absl::Time until, const std::function<bool()>& reached,
                                  const char* what) {
  Drive(n.shared_from_this(), until, reached);
  while (!reached() && runtime_.Now() < until && !stopped_) n.changed->Wait(mu_, until);
  if (reached()) return absl::OkStatus();
  if (stopped_) return Left();
  const std::string text =
      absl::StrCat(What(n), ": ", what, " is not confirmed by the store yet", n.last_error.ok() ? "" : ": ",
                   std::string(n.last_error.message()), "; it is tried further in the background");
  return absl::IsUnavailable(n.last_error) ? absl::UnavailableError(text) : absl::DeadlineExceededError(text);
}

absl::Status GrantEngine::Release(const std::shared_ptr<Held>& held, absl::Duration timeout) {
  const absl::Time until = runtime_.Now() + timeout;
  const bool valid = held->Valid();
  MutexLock lock(mu_);
  if (held->released.exchange(true)) return absl::OkStatus();
  auto found = states_.find(absl::StrCat(held->name->kind, "/", EscapeName(held->name->name)));
  const std::shared_ptr<NameState> n = found == states_.end() ? nullptr : found->second;
  if (!valid && n != nullptr && n->session == held->session->id) {
    // Were the session to go on after all, nothing must be left behind.
    core_->session->Lose("a grant of it was found to be past its time");
  }
  if (!valid || n == nullptr || held->lost) {
    return absl::FailedPreconditionError(absl::StrCat(held->name->kind, " ", QuoteName(held->name->name),
                                                      " was lost before it was released; nothing was written"));
  }
  const uint64_t id = held->ticket;
  const std::string session = held->session->id;
  auto ticket = n->tickets.find(id);
  if (ticket == n->tickets.end()) return absl::OkStatus();
  std::vector<std::shared_ptr<Held>>& holders = ticket->second.holders;
  holders.erase(std::remove(holders.begin(), holders.end(), held), holders.end());
  n->used_at = runtime_.Now();
  ticket->second.retained = false;
  // Passed on, retained, or out of the record.
  bool lost = false;
  const auto settled = [&] {
    if (n->session != session) return lost = true;
    const auto now = n->tickets.find(id);
    if (now != n->tickets.end()) return now->second.retained || !now->second.holders.empty();
    const GrantEntry* own = n->record ? FindOwner(*n->record, session) : nullptr;
    if (own == nullptr) return !n->unsettled;
    return std::none_of(own->tickets.begin(), own->tickets.end(), [&](const Ticket& t) { return t.id == id; });
  };
  if (!holders.empty()) return absl::OkStatus();  // other readers of this copy hold on
  const absl::Status status = WaitFor(*n, until, settled, "its release");
  if (!status.ok() || !lost) return status;
  return absl::UnavailableError(
      absl::StrCat(What(*n), ": the session ended before the release was stored; others take over by that"));
}

absl::Status GrantEngine::Downgrade(const std::shared_ptr<Held>& held, absl::Time deadline) {
  MutexLock lock(mu_);
  if (closing_) return Left();
  auto found = states_.find(absl::StrCat(held->name->kind, "/", EscapeName(held->name->name)));
  const std::shared_ptr<NameState> n = found == states_.end() ? nullptr : found->second;
  const auto ticket = n == nullptr ? std::map<uint64_t, LocalTicket>::iterator() : n->tickets.find(held->ticket);
  if (n == nullptr || !held->Valid() || ticket == n->tickets.end() || held->session->id != n->session) {
    return absl::FailedPreconditionError("the grant is lost or released: there is nothing to downgrade");
  }
  if (!held->exclusive.exchange(false)) {
    return absl::FailedPreconditionError("the grant is shared already");
  }
  // Given up here first, whatever becomes of the write.
  ticket->second.weight = 1;
  ticket->second.reader = true;
  const uint64_t id = held->ticket;
  const auto reached = [&] {
    const GrantEntry* own = n->record ? FindOwner(*n->record, n->session) : nullptr;
    if (own == nullptr) return true;  // lost meanwhile; the grant says so
    return std::none_of(own->tickets.begin(), own->tickets.end(),
                        [&](const Ticket& t) { return t.id == id && t.weight > 1; });
  };
  return WaitFor(*n, runtime_.SteadyDeadline(deadline), reached, "the downgrade");
}

absl::Status GrantEngine::SetPermits(const std::shared_ptr<const GrantName>& name, uint32_t permits,
                                     absl::Time deadline) {
  if (absl::Status checked = CheckAsk(*name, Ask{}); !checked.ok()) return checked;
  if (permits == 0 || permits == kUnbounded) {
    return absl::InvalidArgumentError("a semaphore has 1 to 4294967294 permits");
  }
  MutexLock lock(mu_);
  if (closing_) return Left();
  const std::shared_ptr<NameState> n = State(*name);
  n->want_capacity = permits;
  n->capacity_for = name;
  n->verify = true;  // the view may be of before somebody else's change
  n->refused = absl::OkStatus();
  const auto reached = [&] { return !n->want_capacity || *n->want_capacity != permits; };
  absl::Status status = WaitFor(*n, runtime_.SteadyDeadline(deadline), reached, "the new number of permits");
  if (!status.ok()) {
    if (n->want_capacity == permits) n->want_capacity.reset();
    return status;
  }
  if (!n->refused.ok()) return n->refused;
  if (n->record && n->record->capacity == permits) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat(What(*n), ": another SetPermits came in between; the number is ",
                                         n->record ? n->record->capacity : n->capacity, " now"));
}

absl::Status GrantEngine::Proclaim(const std::shared_ptr<Held>& held, std::string_view value, absl::Time deadline) {
  Ask ask;
  ask.value = std::string(value);
  if (absl::Status checked = CheckAsk(*held->name, ask); !checked.ok()) return checked;
  MutexLock lock(mu_);
  if (closing_) return Left();
  const std::shared_ptr<NameState> n = State(*held->name);
  if (!held->Valid() || held->name->kind != "election" || n->tickets.count(held->ticket) == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(What(*n), ": this copy does not lead any more; only the leader can proclaim"));
  }
  n->want_value = *ask.value;
  n->refused = absl::OkStatus();
  bool lost = false;
  const auto reached = [&] {
    const GrantEntry* own = n->record ? FindOwner(*n->record, held->session->id) : nullptr;
    lost = own == nullptr || n->tickets.count(held->ticket) == 0;
    return lost || own->value == *ask.value || n->want_value != ask.value;
  };
  absl::Status status = WaitFor(*n, runtime_.SteadyDeadline(deadline), reached, "the proclaimed value");
  if (!status.ok()) return status;
  if (!n->refused.ok()) return n->refused;
  if (!lost) {
    const GrantEntry* own = FindOwner(*n->record, held->session->id);
    if (own != nullptr && own->value == *ask.value) return status;
    return absl::AbortedError(absl::StrCat(What(*n), ": another Proclaim of this copy came in between"));
  }
  return absl::FailedPreconditionError(absl::StrCat(What(*n), ": the term ended before its new value was stored"));
}

absl::StatusOr<NameInfo> GrantEngine::Inspect(const GrantName& name, absl::Time deadline) {
  if (absl::Status checked = CheckAsk(name, Ask{}); !checked.ok()) return checked;
  const std::shared_ptr<const Attachment> attachment = core_->session->Current();
  const std::string key =
      absl::StrCat(core_->options.plugin, "/", name.kind, "/", attachment->epoch, "/", EscapeName(name.name));
  absl::StatusOr<kv::Entry> entry = core_->store->Get(key, core_->CallDeadline(runtime_.SteadyDeadline(deadline)));
  NameInfo info;
  info.capacity = name.capacity;
  if (absl::IsNotFound(entry.status())) return info;
  if (!entry.ok()) return entry.status();
  absl::StatusOr<GrantRecord> record =
      ParseGrantRecord(entry->value, absl::StrCat("record of ", name.kind, " ", QuoteName(name.name)));
  if (!record.ok()) return record.status();
  info.capacity = record->capacity;
  info.fence = ResolveFence(record->fence, entry->revision, attachment->fence_base);
  for (const bool owners : {true, false}) {
    for (const GrantEntry& e : owners ? record->owners : record->queue) {
      const uint64_t fence = owners ? ResolveFence(e.fence, entry->revision, attachment->fence_base) : 0;
      (owners ? info.owners : info.waiters).push_back({e.instance, e.session, e.since, fence, Weight(e), e.value});
    }
  }
  return info;
}

std::shared_ptr<LeaderCell> GrantEngine::LeaderWithoutRead(const GrantName& name) {
  MutexLock lock(mu_);
  const std::shared_ptr<NameState> n = State(name);
  if (n->leader == nullptr) {
    n->leader = std::make_shared<LeaderCell>(runtime_, *core_->callbacks);
    if (n->known) PublishLeader(*n);
    if (!closing_) Schedule(*n, runtime_.Now());
  }
  return n->leader;
}

absl::StatusOr<std::shared_ptr<LeaderCell>> GrantEngine::Leader(const std::shared_ptr<const GrantName>& name,
                                                                absl::Time deadline) {
  if (absl::Status checked = CheckAsk(*name, Ask{}); !checked.ok()) return checked;
  std::shared_ptr<LeaderCell> cell = LeaderWithoutRead(*name);
  MutexLock lock(mu_);
  const std::shared_ptr<NameState> n = State(*name);
  if (!n->known || !watch_) n->verify = true;
  n->refused = absl::OkStatus();
  const auto looked = [&] { return (n->known && !n->verify) || !n->refused.ok(); };
  absl::Status status = WaitFor(*n, runtime_.SteadyDeadline(deadline), looked, "the first look");
  if (!status.ok()) return status;
  if (!n->known) return n->refused;
  if (name->leader_owner == nullptr) {
    name->leader_owner = cell;
    name->leader.store(cell.get(), std::memory_order_release);
  }
  return cell;
}

size_t GrantEngine::held_count() const {
  size_t count = 0;
  MutexLock lock(mu_);
  for (const auto& [name, n] : states_) {
    for (const auto& [id, ticket] : n->tickets) count += ticket.holders.size();
  }
  return count;
}

// ---------------------------------------------------------------------------------------------- work

void GrantEngine::Drive(const std::shared_ptr<NameState>& n, absl::Time until, const std::function<bool()>& satisfied) {
  if (n->busy) return;
  n->busy = true;
  for (;;) {
    Action action = Next(*n);
    if (action.todo == Todo::kNothing) {
      n->due = action.due;
      break;
    }
    if (stopped_ || runtime_.Now() >= until || satisfied()) {
      n->due = runtime_.Now();
      break;
    }
    Execute(n, std::move(action), until);
    n->changed->NotifyAll();
  }
  n->busy = false;
  if (n->unsettled || (n->pending.empty() && OwnLeftovers(*n))) {
    unsettled_.insert(n.get());
    if (unsettled_.size() > kMaxUnsettled) {
      core_->session->Lose(absl::StrCat("more than ", kMaxUnsettled, " locks have writes whose outcome is open"));
    }
  } else {
    unsettled_.erase(n.get());
  }
  Schedule(*n, n->due);
  n->changed->NotifyAll();
}

// Queues `n` for the workers at `due` (steady). While somebody drives it nothing is queued: the driver looks again.
void GrantEngine::Schedule(NameState& n, absl::Time due) {
  if (n.queued != absl::InfiniteFuture()) queue_.erase({n.queued, n.number});
  n.queued = absl::InfiniteFuture();
  if (n.busy || due == absl::InfiniteFuture() || stopped_) return;
  n.queued = due;
  queue_.emplace(std::make_pair(due, n.number), n.shared_from_this());
  WakeWorkers();
}

// Wakes the sleepers unless one of them wakes in time for what is due next anyway.
void GrantEngine::WakeWorkers() {
  if (!queue_.empty() && !sleeps_.empty() && queue_.begin()->first.first < *sleeps_.begin()) work_->NotifyAll();
}

void GrantEngine::WorkerThread() {
  MutexLock lock(mu_);
  while (!stopped_) {
    const absl::Time due = queue_.empty() ? absl::InfiniteFuture() : queue_.begin()->first.first;
    if (runtime_.Now() < due) {
      const auto sleep = sleeps_.insert(due);
      work_->Wait(mu_, due);
      sleeps_.erase(sleep);
      continue;
    }
    const std::shared_ptr<NameState> next = queue_.begin()->second;
    queue_.erase(queue_.begin());
    next->queued = absl::InfiniteFuture();
    WakeWorkers();  // this one may be away for as long as a call takes
    Drive(next, absl::InfiniteFuture(), [] { return false; });
  }
  --workers_running_;
  work_->NotifyAll();
}

NameState* GrantEngine::FindByKey(std::string_view key) {
  // <plugin>/<kind>/<epoch>/<name>
  const size_t kind = core_->options.plugin.size() + 1;
  const size_t epoch = key.find('/', kind) + 1;
  const size_t name = epoch == 0 ? std::string_view::npos : key.find('/', epoch);
  if (name == std::string_view::npos) return nullptr;
  const auto found = states_.find(std::string(key.substr(kind, epoch - kind)).append(key.substr(name + 1)));
  return found != states_.end() && found->second->key == key ? found->second.get() : nullptr;
}

// On the hints' thread. Whoever waits, looks on, or keeps a lock that others may want reads the record soon.
void GrantEngine::OnHint(std::string_view key) {
  MutexLock lock(mu_);
  NameState* const n = FindByKey(key);
  if (n == nullptr || closing_) return;
  const bool retains =
      std::any_of(n->tickets.begin(), n->tickets.end(), [](const auto& t) { return t.second.retained; });
  if (n->pending.empty() && n->leader == nullptr && !retains) return;
  const absl::Time due = std::max(runtime_.Now() + HintDelay(*n), n->answered_at + n->hint_gap);
  if (due >= n->hint_due) return;
  n->hint_due = due;
  Schedule(*n, std::min(n->queued, due));
}

// On the store's watch thread: notes the record down, and wakes whoever it concerns.
void GrantEngine::OnEvent(const kv::WatchEvent& event) {
  MutexLock lock(mu_);
  const bool one = event.kind == kv::WatchKind::kPut || event.kind == kv::WatchKind::kDelete;
  if (one) {
    if (NameState* const n = FindByKey(event.key)) OnPush(*n, event);
    return;
  }
  if (event.kind == kv::WatchKind::kSynced && !resyncing_) return;
  resyncing_ = event.kind != kv::WatchKind::kSynced;
  if (resyncing_) return;
  // Something may have been missed: what is held or waited for is looked at, by reads, for a snapshot may lag.
  for (auto& [name, n] : states_) {
    if (!Interested(*n)) {
      n->known = false;
      continue;
    }
    n->verify = true;
    Schedule(*n, runtime_.Now());
  }
}

void GrantEngine::OnPush(NameState& n, const kv::WatchEvent& event) {
  if (!monotonic_) {  // it cannot be told from one of before
    n.verify = n.verify || Interested(n);
    n.known = n.known && n.verify;
  } else if (event.kind == kv::WatchKind::kDelete) {
    if (event.entry.revision != 0 && event.entry.revision <= n.floor) return;
    n.floor = std::max(n.floor, event.entry.revision);
    if (Interested(n)) {
      n.verify = true;
    } else {
      n.known = false;
    }
  } else {
    if (event.entry.revision <= n.floor) return;
    absl::StatusOr<GrantRecord> record = ParseGrantRecord(event.entry.value, "pushed lock record");
    if (record.ok()) {
      Adopt(n, *std::move(record), event.entry.revision, /*proof=*/false);
    } else {
      n.verify = true;
    }
    if (n.unsettled && event.entry.revision > n.unsettled_at) n.unsettled = false;
  }
  n.changed->NotifyAll();
  if (Interested(n) && (!n.pending.empty() || n.verify || OwnLeftovers(n) || n.retain)) Schedule(n, runtime_.Now());
}

// ---------------------------------------------------------------------------------------------- sessions, closing

std::vector<std::function<void()>> GrantEngine::SessionLost(const SessionLife& life) {
  std::vector<std::function<void()>> callbacks;
  MutexLock lock(mu_);
  for (auto& [name, n] : states_) {
    if (n->session != life.id) continue;
    for (auto& [id, ticket] : n->tickets) {
      for (auto& fn : LoseHolders(ticket)) callbacks.push_back(std::move(fn));
    }
    n->tickets.clear();
    n->session.clear();
    n->want_value.reset();
    for (const std::shared_ptr<Request>& request : n->pending) request->ticket = 0;
    n->changed->NotifyAll();
  }
  unsettled_.clear();
  return callbacks;
}

void GrantEngine::SessionJoined() {
  MutexLock lock(mu_);
  for (auto& [name, n] : states_) {
    n->backoff_until = absl::InfinitePast();
    if (Interested(*n)) Schedule(*n, runtime_.Now());
  }
}

// Runs `callbacks` on the thread of losses and waits for them, for half of the time until `until` at most: nobody is
// to own what this copy still believes to hold.
void GrantEngine::TellLosses(std::vector<std::function<void()>> callbacks, absl::Time until) {
  if (callbacks.empty()) return;
  const auto told = std::make_shared<bool>(false);
  callbacks.push_back([this, core = core_->shared_from_this(), told] {
    MutexLock lock(mu_);
    *told = true;
    work_->NotifyAll();
  });
  core_->session->PostLoss(std::move(callbacks));
  if (core_->session->OnLossThread()) return;
  MutexLock lock(mu_);
  const absl::Time patience = runtime_.Now() + (until - runtime_.Now()) / 2;
  while (!*told && runtime_.Now() < patience) work_->Wait(mu_, patience);
}

// On the store's watch thread: who waits behind that session may take it out now.
void GrantEngine::SessionEnded(std::string_view session) {
  MutexLock lock(mu_);
  for (auto& [name, n] : states_) {
    if (n->pending.empty() || !n->record) continue;
    if (FindOwner(*n->record, session) != nullptr || FindWaiter(*n->record, session) != nullptr) {
      Schedule(*n, runtime_.Now());
    }
  }
}

absl::Status GrantEngine::Close(absl::Time until) {
  std::vector<std::function<void()>> callbacks;
  std::vector<std::shared_ptr<NameState>> dirty;
  size_t left = 0;
  {
    MutexLock lock(mu_);
    closing_ = true;
    for (auto& [name, n] : states_) {
      FinishAll(*n, Left(), /*try_only=*/false);
      for (auto& [id, ticket] : n->tickets) {
        for (auto& fn : LoseHolders(ticket)) callbacks.push_back(std::move(fn));
      }
      n->tickets.clear();
      if (n->want_capacity || n->want_value) n->refused = Left();
      n->want_capacity.reset();
      n->want_value.reset();
      n->leader = nullptr;
      n->verify = false;
      n->changed->NotifyAll();
      if (n->busy || n->unsettled || OwnLeftovers(*n)) dirty.push_back(n);
    }
  }
  TellLosses(std::move(callbacks), until);
  MutexLock lock(mu_);
  losses_told_ = true;
  for (const std::shared_ptr<NameState>& n : dirty) {
    n->backoff_until = absl::InfinitePast();
    // Those that others wait for come first.
    const bool wanted = n->record && OthersWait(*n->record, n->session);
    Schedule(*n, runtime_.Now() - (wanted ? absl::Seconds(1) : absl::ZeroDuration()));
  }
  const auto clean = [&](const NameState& n) {
    mu_.AssertHeld();
    return !n.busy && !n.unsettled && !OwnLeftovers(n);
  };
  for (const std::shared_ptr<NameState>& n : dirty) {
    while (!clean(*n) && runtime_.Now() < until && core_->session->State() != SessionState::kLost) {
      n->changed->Wait(mu_, std::min(until, runtime_.Now() + ttl_ / 8));
    }
    if (!clean(*n)) ++left;
  }
  stopped_ = true;
  work_->NotifyAll();
  for (auto& [name, n] : states_) n->changed->NotifyAll();
  const absl::Time patience = std::max(until, runtime_.Now()) + absl::Milliseconds(50);
  while (workers_running_ > 0 && runtime_.Now() < patience) work_->Wait(mu_, patience);
  const bool stuck = workers_running_ > 0;
  lock.Unlock();
  registrations_.clear();
  for (std::unique_ptr<Thread>& worker : workers_) {
    if (stuck) worker->Detach();
  }
  workers_.clear();
  if (left == 0) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(left, " locks could not be handed over in the store; others take them once the session has ended"));
}

std::vector<std::pair<std::string, kv::Revision>> GrantEngine::TakeIdle(absl::Time unused_since) {
  std::vector<std::pair<std::string, kv::Revision>> idle;
  MutexLock lock(mu_);
  for (auto it = states_.begin(); it != states_.end();) {
    const std::shared_ptr<NameState> n = it->second;
    const bool unused = !n->busy && !Interested(*n) && std::max(n->used_at, n->changed_at) < unused_since;
    if (!unused) {
      ++it;
      continue;
    }
    const bool free = n->record && n->record->owners.empty() && n->record->queue.empty() && n->kind != "semaphore";
    if (free && n->epoch == core_->EpochId()) idle.emplace_back(n->key, n->revision);
    Schedule(*n, absl::InfiniteFuture());
    unsettled_.erase(n.get());
    it = states_.erase(it);
  }
  return idle;
}

}  // namespace coord::internal
