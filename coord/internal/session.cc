#include "coord/internal/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coord/internal/revision_guard.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

// A holder stops at 5/6 of the ttl: two clocks that are each 8 % off, and about 1 % for a late timer.
absl::Duration ValidFor(absl::Duration ttl) { return ttl - ttl / 6; }

// From here on a beat counts as overdue.
absl::Duration UncertainAfter(absl::Duration ttl) { return ttl / 2; }

absl::Time ValidUntil(const SessionLife& life) {
  return absl::FromUnixNanos(life.valid_until_ns.load(std::memory_order_acquire));
}

}  // namespace

SessionKeeper::SessionKeeper(Core* core, Events events)
    : core_(core),
      events_(std::move(events)),
      epoch_(core),
      table_(core->store->traits().monotonic_revisions),
      beat_wake_(core->runtime->NewCondition()),
      loss_wake_(core->runtime->NewCondition(Runtime::ConditionKind::kAlarm)),
      changed_(core->runtime->NewCondition()) {}

SessionKeeper::~SessionKeeper() = default;

std::string SessionKeeper::KeyOf(std::string_view epoch, std::string_view session) const {
  std::string key = core_->options.plugin;
  key.append("/session/").append(epoch).append("/").append(session);
  return key;
}

absl::Duration SessionKeeper::Jitter(absl::Duration base) const {
  return base * (0.75 + 0.5 * static_cast<double>(core_->runtime->Random() >> 11) / 9007199254740992.0);
}

std::shared_ptr<const Attachment> SessionKeeper::Current() const {
  MutexLock lock(mu_);
  return attachment_;
}

SessionState SessionKeeper::StateLocked(absl::Time now) const {
  if (session_ == nullptr || !session_->life->Valid(now)) return SessionState::kLost;
  if (now >= session_->last_beat + UncertainAfter(session_->life->ttl)) return SessionState::kUncertain;
  return SessionState::kAttached;
}

SessionState SessionKeeper::State() const {
  MutexLock lock(mu_);
  return StateLocked(core_->runtime->Now());
}

// ---------------------------------------------------------------------------------------------- joining

absl::Status SessionKeeper::Join(absl::Time until) {
  const std::string prefix = core_->options.plugin + "/session/";
  sessions_registration_ = core_->hub->Register(prefix, [this, prefix](const kv::WatchEvent& event) {
    if (event.kind == kv::WatchKind::kEpochChanged) {
      table_.Clear();
      CheckSoon();
      return;
    }
    const size_t slash = event.key.find('/', prefix.size());
    if (slash == std::string::npos) return;
    const std::string_view session = std::string_view(event.key).substr(slash + 1);
    if (event.kind == kv::WatchKind::kDelete) return table_.Forget(session);
    absl::StatusOr<SessionRecord> record = ParseSessionRecord(event.entry.value, "session record");
    if (!record.ok() || !table_.Observe(session, event.entry, *record, core_->runtime->Now())) return;
    if (record->mark == SessionMark::kEnded && events_.on_ended) events_.on_ended(session);
  });
  epoch_registration_ = core_->hub->Register(core_->options.plugin + "/epoch", [this](const kv::WatchEvent& event) {
    if (event.kind == kv::WatchKind::kPut || event.kind == kv::WatchKind::kDelete) CheckSoon();
  });
  if (absl::Status attached = Attach(until); !attached.ok()) return attached;
  {
    MutexLock lock(mu_);
    beat_done_ = loss_done_ = false;
  }
  beat_thread_ = core_->runtime->StartThread("coord-beat", [this, core = core_->shared_from_this()] { BeatThread(); });
  loss_thread_ = core_->runtime->StartThread("coord-loss", [this, core = core_->shared_from_this()] { LossThread(); });
  return absl::OkStatus();
}

absl::Status SessionKeeper::Attach(absl::Time until) {
  auto session = std::make_shared<Session>();
  session->epoch_read = core_->runtime->Now();
  if (absl::Status joined = epoch_.Join(until); !joined.ok()) return joined;
  session->epoch = epoch_.record().id;
  session->life = std::make_shared<SessionLife>();
  session->life->id = absl::StrFormat("%016x", core_->runtime->Random());
  session->life->ttl = core_->options.ttl;
  session->record.ttl = core_->options.ttl;
  session->record.instance = core_->options.instance;
  session->record.since = core_->runtime->WallNow();
  session->record.nonce = core_->Nonce();
  const absl::Time sent = core_->runtime->Now();
  // An unknown outcome leaves at worst a record that nobody renews; the next attempt has an id of its own.
  const kv::WriteResult created = core_->store->Create(KeyOf(session->epoch, session->life->id),
                                                       Format(session->record), core_->CallDeadline(until));
  if (!created.ok()) return created.status;
  const bool lasting = core_->store->traits().proves_incarnation && epoch_.record().settled;
  const absl::Time from = lasting ? sent : session->epoch_read;
  session->life->valid_until_ns.store(absl::ToUnixNanos(from + ValidFor(core_->options.ttl)));
  session->revision = created.revision;
  session->last_beat = sent;
  if (!session->life->Valid(core_->runtime->Now())) {
    return absl::UnavailableError("the store answered too slowly for this ttl: join with a longer one");
  }
  core_->SetEpochId(session->epoch);
  core_->counters.sessions.fetch_add(1, std::memory_order_relaxed);
  MutexLock lock(mu_);
  session_ = std::move(session);
  Publish();
  NoteState();
  loss_wake_->NotifyAll();
  return absl::OkStatus();
}

void SessionKeeper::Publish() {
  auto attachment = std::make_shared<Attachment>();
  attachment->life = session_->life;
  attachment->epoch = session_->epoch;
  attachment->fence_base = epoch_.record().created_us;
  attachment->settled = epoch_.record().settled;
  attachment_ = std::move(attachment);
}

// ---------------------------------------------------------------------------------------------- beating

void SessionKeeper::BeatThread() {
  Runtime& runtime = *core_->runtime;
  // Three beats or more fit into a ttl.
  absl::Time next = runtime.Now() + Jitter(core_->options.ttl / 3) * 0.8;
  MutexLock lock(mu_);
  while (!leaving_) {
    const std::shared_ptr<Session> session = session_;
    const bool alive = session->life->Valid(runtime.Now()) && !session->told;
    if (alive && !check_soon_ && !rollback_ && runtime.Now() < next) {
      beat_wake_->Wait(mu_, std::min(next, ValidUntil(*session->life)));
      continue;
    }
    const bool check_epoch = check_soon_ || check_at_next_;
    check_soon_ = check_at_next_ = false;
    const std::optional<uint64_t> rollback = std::exchange(rollback_, std::nullopt);
    if (!alive) loss_wake_->NotifyAll();
    lock.Unlock();
    absl::Status status;
    // Not if a new epoch has been adopted since: the very write that made it may be the proof.
    const bool replace = rollback == core_->guard->resets();
    if (replace) {
      status = epoch_.Replace(runtime.Now() + core_->options.ttl);
      // One that was joined after the proof is of the epoch that has been replaced.
      if (session->epoch != epoch_.record().id) Lose("the store has begun a new epoch");
    } else if (alive) {
      status = Beat(check_epoch);
    } else {
      const absl::Time until = WaitForSignal(*session);
      if (EndRecord(*session, until)) {
        status = Attach(runtime.Now() + core_->options.ttl);
        if (status.ok() && events_.on_join) events_.on_join();
      } else {
        status = absl::UnavailableError("the lost session could not be ended yet");
      }
    }
    lock.Lock();
    if (replace && !status.ok() && !rollback_) rollback_ = rollback;
    if (check_epoch && alive && !status.ok()) check_at_next_ = true;
    const absl::Duration ttl = core_->options.ttl;
    next = runtime.Now() + (status.ok() ? Jitter(ttl / 3) * 0.8 : Jitter(ttl / 24));
    if (!status.ok() && !alive) beat_wake_->Wait(mu_, next);
  }
  lock.Unlock();
  std::shared_ptr<Session> session;
  absl::Time until;
  {
    MutexLock again(mu_);
    session = session_;
    until = leave_until_;
  }
  const bool ended = EndRecord(*session, until);
  lock.Lock();
  if (!ended) {
    leave_status_ = absl::UnavailableError(
        "the session could not be marked ended in the store: others take over when its ttl has passed");
  }
  beat_done_ = true;
  changed_->NotifyAll();
}

// The end of what a holder may rely on: others act on its silence from then on, whatever this copy does.
absl::Time SessionKeeper::WaitForSignal(Session& session) {
  MutexLock lock(mu_);
  const absl::Time silent = session.last_beat + session.life->ttl;
  while (!session.signalled && !leaving_ && core_->runtime->Now() < silent) changed_->Wait(mu_, silent);
  if (!session.told && !leaving_) {
    // The thread of loss signals is held up by a user's callback: those of this loss come after it.
    for (auto& fn : MarkLost(session_)) posted_.push_back(std::move(fn));
    loss_wake_->NotifyAll();
  }
  return leaving_ ? leave_until_ : core_->runtime->Now() + core_->options.ttl;
}

absl::Status SessionKeeper::CheckEpoch(Session& session) {
  const bool settled = epoch_.record().settled;
  const absl::Time sent = core_->runtime->Now();
  absl::Status status = epoch_.Check(ValidUntil(*session.life));
  if (absl::IsAborted(status)) {
    Lose(std::string(status.message()));
    return status;
  }
  if (!status.ok()) return status;
  session.epoch_read = sent;
  if (!settled && epoch_.record().settled) {
    {
      MutexLock lock(mu_);
      Publish();
    }
    if (events_.on_join) events_.on_join();
  }
  return status;
}

absl::Status SessionKeeper::Beat(bool check_epoch) {
  std::shared_ptr<Session> shared;
  {
    MutexLock lock(mu_);
    shared = session_;
  }
  Session& session = *shared;
  const bool lasting = core_->store->traits().proves_incarnation && epoch_.record().settled;
  absl::Status epoch;
  if (!lasting || check_epoch) {
    epoch = CheckEpoch(session);
    // After an answer of long ago the write tells whether the store is the same: then the session's record is there.
    if (!epoch.ok() && !absl::IsNotFound(epoch)) {
      core_->counters.failed_beats.fetch_add(1, std::memory_order_relaxed);
      return epoch;
    }
  }
  SessionRecord next = session.record;
  ++next.beat;
  next.nonce = core_->Nonce();
  const absl::Time sent = core_->runtime->Now();
  session.attempts[next.nonce] = sent;
  // A reply that does not come leaves time for another attempt.
  const absl::Time until = std::min(ValidUntil(*session.life), sent + session.life->ttl / 3);
  const kv::WriteResult result = core_->store->Update(KeyOf(session.epoch, session.life->id), Format(next),
                                                      session.revision, core_->CallDeadline(until));
  session.record = std::move(next);
  if (result.ok()) {
    Renew(session, sent, result.revision);
    return epoch;
  }
  core_->counters.failed_beats.fetch_add(1, std::memory_order_relaxed);
  if (absl::IsNotFound(result.status)) {
    Lose("its record is gone from the store");
    return result.status;
  }
  if (absl::IsDeadlineExceeded(result.status)) {
    core_->counters.unknown_outcomes.fetch_add(1, std::memory_order_relaxed);
  } else if (!absl::IsAborted(result.status)) {
    session.attempts.erase(session.record.nonce);  // certainly not applied
    return result.status;
  }
  return Reconcile(session, result.status);
}

// What became of the beats whose outcome is open, and whether somebody else wrote the record.
absl::Status SessionKeeper::Reconcile(Session& session, const absl::Status& why) {
  absl::StatusOr<kv::Entry> entry =
      core_->store->Get(KeyOf(session.epoch, session.life->id), core_->CallDeadline(ValidUntil(*session.life)));
  if (absl::IsNotFound(entry.status())) {
    Lose("its record is gone from the store");
    return entry.status();
  }
  if (!entry.ok()) return entry.status();
  if (entry->revision == session.revision) return why;  // not settled: the next beat expects the same revision
  const bool lags = !core_->store->traits().linearizable_reads && entry->revision < session.revision;
  if (lags) return why;
  absl::StatusOr<SessionRecord> record = ParseSessionRecord(entry->value, "session record");
  if (!record.ok()) {
    Lose(std::string(record.status().message()));
    return record.status();
  }
  auto attempt = session.attempts.find(record->nonce);
  if (record->mark != SessionMark::kLive || attempt == session.attempts.end()) {
    Lose(record->mark == SessionMark::kEnded    ? "another copy ended it, since no beat was seen for its ttl"
         : record->mark == SessionMark::kBroken ? "somebody broke it"
                                                : "another process writes its record");
    return absl::AbortedError("the session was ended");
  }
  session.record = *std::move(record);
  Renew(session, attempt->second, entry->revision);
  return absl::OkStatus();
}

void SessionKeeper::Renew(Session& session, absl::Time sent, kv::Revision revision) {
  core_->counters.beats.fetch_add(1, std::memory_order_relaxed);
  session.revision = revision;
  session.attempts.clear();  // all expected a revision that is past
  const bool lasting = core_->store->traits().proves_incarnation && epoch_.record().settled;
  const absl::Time from = lasting ? sent : std::min(sent, session.epoch_read);
  MutexLock lock(mu_);
  SessionLife& life = *session.life;
  const absl::Time before = ValidUntil(life);
  const int64_t until = absl::ToUnixNanos(from + ValidFor(life.ttl));
  session.last_beat = std::max(session.last_beat, sent);
  if (until > absl::ToUnixNanos(before)) life.valid_until_ns.store(until, std::memory_order_release);
  // The clock is read after the store: whoever has seen the session past its old deadline saw it before, and is right.
  if (core_->runtime->Now() >= before) life.lost.store(true, std::memory_order_release);
  NoteState();
  loss_wake_->NotifyAll();
}

// True once the record is known to be ended, or gone, or never to matter again.
bool SessionKeeper::EndRecord(Session& session, absl::Time until) {
  const std::string key = KeyOf(session.epoch, session.life->id);
  SessionRecord ended = session.record;
  ended.mark = SessionMark::kEnded;
  bool first = true;
  while (first || core_->runtime->Now() < until) {
    if (!first) {
      MutexLock lock(mu_);
      beat_wake_->Wait(mu_, std::min(until, core_->runtime->Now() + Jitter(core_->options.ttl / 50)));
    }
    first = false;
    ended.nonce = core_->Nonce();
    const kv::WriteResult result =
        core_->store->Update(key, Format(ended), session.revision, core_->CallDeadline(until));
    if (result.ok() || absl::IsNotFound(result.status)) return true;
    absl::StatusOr<kv::Entry> now = core_->store->Get(key, core_->CallDeadline(until));
    if (absl::IsNotFound(now.status())) return true;
    if (!now.ok()) continue;
    absl::StatusOr<SessionRecord> record = ParseSessionRecord(now->value, "session record");
    if (!record.ok() || record->mark == SessionMark::kEnded) return true;
    session.revision = now->revision;
  }
  return false;
}

void SessionKeeper::CheckSoon() {
  MutexLock lock(mu_);
  check_soon_ = true;
  beat_wake_->NotifyAll();
}

absl::Status SessionKeeper::EpochStands(std::string_view epoch, absl::Time until) {
  absl::StatusOr<kv::Entry> entry = core_->store->Get(core_->options.plugin + "/epoch", core_->CallDeadline(until));
  if (!entry.ok() && !absl::IsNotFound(entry.status())) return entry.status();
  if (entry.ok()) {
    absl::StatusOr<EpochRecord> record = ParseEpochRecord(entry->value, "epoch record");
    if (!record.ok()) return record.status();
    if (record->id == epoch) return absl::OkStatus();
  }
  CheckSoon();
  return absl::UnavailableError("the store has begun anew, and this copy is joining again");
}

void SessionKeeper::OnRollback(uint64_t resets) {
  // Before the write that proves it returns: it must not become a grant itself.
  Lose("the store has forgotten acknowledged writes: a new epoch begins");
  MutexLock lock(mu_);
  rollback_ = resets;
  beat_wake_->NotifyAll();
}

// ---------------------------------------------------------------------------------------------- losing

void SessionKeeper::Lose(const std::string& why) {
  MutexLock lock(mu_);
  if (session_ == nullptr || session_->told) return;
  if (!session_->life->lost.exchange(true)) lost_because_ = why;
  loss_wake_->NotifyAll();
}

absl::Status SessionKeeper::Break(std::string_view session, absl::Time until) {
  const std::string key = KeyOf(Current()->epoch, session);
  for (;; Pause(*core_->runtime, std::min(until, core_->runtime->Now() + Jitter(core_->options.ttl / 100)))) {
    absl::StatusOr<kv::Entry> entry = core_->store->Get(key, core_->CallDeadline(until));
    if (absl::IsNotFound(entry.status())) {
      return absl::NotFoundError(absl::StrCat("there is no session ", QuoteName(session)));
    }
    if (!entry.ok()) return entry.status();
    absl::StatusOr<SessionRecord> record = ParseSessionRecord(entry->value, "session record");
    if (!record.ok()) return record.status();
    if (record->mark != SessionMark::kLive) return absl::OkStatus();
    record->mark = SessionMark::kBroken;
    record->nonce = core_->Nonce();
    const kv::WriteResult result =
        core_->store->Update(key, Format(*record), entry->revision, core_->CallDeadline(until));
    // The owner beats often; a beat in between only means to look again.
    const bool again = absl::IsAborted(result.status) || absl::IsNotFound(result.status);
    if (!again || core_->runtime->Now() >= until) return result.status;
  }
}

void SessionKeeper::PostLoss(std::vector<std::function<void()>> fns) {
  if (fns.empty()) return;
  MutexLock lock(mu_);
  for (auto& fn : fns) posted_.push_back(std::move(fn));
  loss_wake_->NotifyAll();
}

bool SessionKeeper::LossDue(absl::Time now) const { return !session_->told && !session_->life->Valid(now); }

void SessionKeeper::NoteState() {
  const SessionState state = StateLocked(core_->runtime->Now());
  if (state == told_state_) return;
  told_state_ = state;
  if (core_->options.on_state) core_->callbacks->Post([fn = core_->options.on_state, state] { fn(state); });
}

void SessionKeeper::LossThread() {
  Runtime& runtime = *core_->runtime;
  loss_thread_id_.store(runtime.CurrentThread(), std::memory_order_release);
  MutexLock lock(mu_);
  while (!stop_loss_) {
    if (!posted_.empty()) {
      RunPosted();
      continue;
    }
    const absl::Time now = runtime.Now();
    if (LossDue(now)) {
      SignalLoss();
      continue;
    }
    NoteState();
    absl::Time wake = absl::InfiniteFuture();
    if (!session_->told) {
      const absl::Time uncertain = session_->last_beat + UncertainAfter(session_->life->ttl);
      wake = now < uncertain ? std::min(uncertain, ValidUntil(*session_->life)) : ValidUntil(*session_->life);
    }
    loss_wake_->Wait(mu_, wake);
  }
  RunPosted();
  loss_thread_id_.store(0, std::memory_order_release);
  loss_done_ = true;
  changed_->NotifyAll();
}

void SessionKeeper::RunPosted() {
  while (!posted_.empty()) {
    std::function<void()> fn = std::move(posted_.front());
    posted_.pop_front();
    mu_.Unlock();
    fn();
    fn = nullptr;
    mu_.Lock();
  }
}

// Once for each session: what hangs on it is lost. Returns the users' callbacks. Releases the mutex in between.
std::vector<std::function<void()>> SessionKeeper::MarkLost(const std::shared_ptr<Session>& session) {
  session->told = true;
  session->life->lost.store(true, std::memory_order_release);
  const std::string why =
      lost_because_.empty() ? "no beat reached the store in time" : std::exchange(lost_because_, "");
  NoteState();
  mu_.Unlock();
  core_->counters.sessions_lost.fetch_add(1, std::memory_order_relaxed);
  std::vector<std::function<void()>> callbacks;
  if (events_.on_loss) callbacks = events_.on_loss(*session->life);
  core_->Log(LogLevel::kWarning,
             absl::StrCat("plugin ", core_->options.plugin, ", copy ", QuoteName(core_->options.instance), ": session ",
                          session->life->id, " is lost: ", why, "; joining again"));
  mu_.Lock();
  return callbacks;
}

void SessionKeeper::SignalLoss() {
  const std::shared_ptr<Session> session = session_;
  std::vector<std::function<void()>> callbacks = MarkLost(session);
  mu_.Unlock();
  for (auto& fn : callbacks) fn();
  callbacks.clear();
  mu_.Lock();
  session->signalled = true;
  beat_wake_->NotifyAll();
  changed_->NotifyAll();
}

// ---------------------------------------------------------------------------------------------- leaving

bool SessionKeeper::OnLossThread() const {
  return core_->runtime->CurrentThread() == loss_thread_id_.load(std::memory_order_acquire);
}

absl::Status SessionKeeper::Leave(absl::Time until) {
  if (beat_thread_ == nullptr) return absl::OkStatus();
  const bool on_loss_thread = loss_thread_->IsCurrent();
  MutexLock lock(mu_);
  leaving_ = true;
  leave_until_ = until;
  beat_wake_->NotifyAll();
  changed_->NotifyAll();
  // The store may take a little longer than its deadline to come back.
  const absl::Time patience = until + absl::Milliseconds(100);
  while (!beat_done_ && core_->runtime->Now() < patience) changed_->Wait(mu_, patience);
  stop_loss_ = true;
  loss_wake_->NotifyAll();
  while (!loss_done_ && !on_loss_thread && core_->runtime->Now() < patience) changed_->Wait(mu_, patience);
  absl::Status status = leave_status_;
  if (!beat_done_) {
    status = absl::DeadlineExceededError("a call of the store has not come back in time; it ends in the background");
    beat_thread_->Detach();
  }
  if (!loss_done_) loss_thread_->Detach();
  lock.Unlock();
  beat_thread_ = nullptr;
  if (!on_loss_thread) loss_thread_ = nullptr;
  sessions_registration_ = nullptr;
  epoch_registration_ = nullptr;
  return status;
}

}  // namespace coord::internal
