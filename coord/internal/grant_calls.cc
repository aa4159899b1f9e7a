// GrantEngine's store calls, each made without the mutex, and what their outcomes mean.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/grant_engine.h"
#include "coord/names.h"

namespace coord::internal {

void GrantEngine::Execute(const std::shared_ptr<NameState>& n, Action action, absl::Time until) {
  switch (action.todo) {
    case Todo::kNothing:
      return;
    case Todo::kRead:
      return Read(*n, until);
    case Todo::kReadSession:
      return ReadSession(*n, action, until);
    case Todo::kEvict:
      return Evict(*n, action, until);
    case Todo::kCheckEpoch:
      return CheckEpoch(*n, until);
    case Todo::kWrite:
      return Write(*n, action.change, until);
  }
}

void GrantEngine::CameThrough(NameState& n) {
  n.failures = 0;
  n.last_error = absl::OkStatus();
}

// 2 ms at first, doubling to a sixteenth of the ttl, each time somewhere between half of it and all.
void GrantEngine::BackOff(NameState& n) {
  n.failures = std::min(n.failures + 1, 16);
  const int times = std::max(n.failures, std::min(n.conflicts, 16));
  const absl::Duration bound = std::min(absl::Milliseconds(1) * (1 << times), ttl_ / 16);
  const double share = 0.5 + static_cast<double>(runtime_.Random() % 1024) / 2048.0;
  n.backoff_until = runtime_.Now() + bound * share;
}

void GrantEngine::Failed(NameState& n, const absl::Status& status) {
  n.last_error = status;
  BackOff(n);
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
    FinishAll(n, status, /*try_only=*/true);
    return;
  }
  // Somebody must act; waiting does not help, but a standing candidate has nothing else to do.
  const std::deque<std::shared_ptr<Request>> requests = n.pending;
  for (const std::shared_ptr<Request>& request : requests) {
    if (!request->ask.standing) Finish(n, request, status, nullptr);
  }
  n.want_capacity.reset();
  n.want_value.reset();
  n.refused = status;
  if (n.failures <= 1) Warn(n, std::string(status.message()));
}

// Not at once, for this is under the mutex.
void GrantEngine::Warn(const NameState& n, const std::string& text) {
  const std::string line = absl::StrCat(What(n), ": ", text);
  core_->callbacks->Post([core = core_->shared_from_this(), line] { core->Log(LogLevel::kWarning, line); });
}

// ---------------------------------------------------------------------------------------------- the record

// False if it told nothing: then the next look waits.
bool GrantEngine::AdoptEntry(NameState& n, const kv::Entry& entry, absl::Time looked_at) {
  const bool moved = monotonic_ ? entry.revision > n.unsettled_at : entry.revision != n.unsettled_at;
  if (n.unsettled && moved) n.unsettled = false;
  if (monotonic_ && entry.revision < n.floor) {  // a reader that lags; what is known is newer
    BackOff(n);
    return false;
  }
  n.looked_at = std::max(n.looked_at, looked_at);
  if (linear_) n.proved_at = n.looked_at;
  n.answered_at = runtime_.Now();
  n.poll_jitter = 0.75 + static_cast<double>(runtime_.Random() % 1024) / 4096.0;
  n.verify = n.touch = false;
  if (entry.revision == n.revision && n.known && n.record) {
    Adopt(n, std::move(n.record), n.revision, /*proof=*/true);  // what a push had said is certain now
    return true;
  }
  absl::StatusOr<GrantRecord> record = ParseGrantRecord(entry.value, absl::StrCat("record of ", What(n)));
  if (record.ok()) {
    Adopt(n, *std::move(record), entry.revision, /*proof=*/true);
    return true;
  }
  // Whatever it says, it does not name this copy.
  for (auto& [id, ticket] : n.tickets) core_->session->PostLoss(LoseHolders(ticket));
  n.tickets.clear();
  n.record.reset();
  n.known = false;
  Failed(n, record.status());
  return false;
}

void GrantEngine::AdoptAbsence(NameState& n, absl::Time looked_at) {
  // A write that expected a revision of a record that is gone can never be applied: revisions do not return.
  if (n.unsettled && n.unsettled_at != 0) n.unsettled = false;
  n.touch = false;
  n.looked_at = std::max(n.looked_at, looked_at);
  if (linear_) n.proved_at = n.looked_at;
  n.answered_at = runtime_.Now();
  n.verify = false;
  Adopt(n, std::nullopt, 0, /*proof=*/true);
}

void GrantEngine::Read(NameState& n, absl::Time until) {
  const std::string key = n.key;
  const absl::Time sent = runtime_.Now();
  const bool hinted = sent >= n.hint_due;
  n.hint_due = absl::InfiniteFuture();  // one that comes from now on may be of a later change
  const kv::Revision before = n.revision;
  mu_.Unlock();
  absl::StatusOr<kv::Entry> entry = core_->store->Get(key, core_->CallDeadline(until));
  mu_.Lock();
  if (n.key != key) return;
  if (entry.ok()) {
    if (AdoptEntry(n, *entry, sent)) CameThrough(n);
  } else if (!absl::IsNotFound(entry.status())) {
    Failed(n, entry.status());
    if (hinted) n.hint_due = sent;
    return;
  } else if (!linear_ && n.record) {
    // It may be a reader from before the record. A conditional write tells.
    CameThrough(n);
    n.answered_at = runtime_.Now();
    n.verify = false;
    n.touch = true;
  } else {
    CameThrough(n);
    AdoptAbsence(n, sent);
  }
  const absl::Duration wider = std::min(std::max(n.hint_gap * 2, absl::Milliseconds(1)), ttl_ / 8);
  if (n.revision != before) n.hint_gap = absl::ZeroDuration();
  if (hinted && n.revision == before) n.hint_gap = wider;
}

void GrantEngine::CheckEpoch(NameState& n, absl::Time until) {
  const std::string epoch = n.epoch;
  const absl::Time sent = runtime_.Now();
  mu_.Unlock();
  const absl::Status stands = core_->session->EpochStands(epoch, until);
  mu_.Lock();
  if (n.epoch != epoch) return;
  if (!stands.ok()) return Failed(n, stands);
  CameThrough(n);
  n.epoch_at = sent;
}

void GrantEngine::Write(NameState& n, const GrantChange& wanted, absl::Time until) {
  const std::shared_ptr<const Attachment> attachment = core_->session->Current();
  if (attachment == nullptr || attachment->life->id != n.session) return;
  GrantChange change = wanted;
  change.nonce = core_->Nonce();
  absl::StatusOr<GrantRecord> next = Apply(n.record, n.revision, attachment->fence_base, change);
  if (!next.ok()) return Failed(n, next.status());
  const std::string key = n.key;
  const std::string value = Format(*next);
  if (value.size() > core_->store->traits().max_value_bytes) {
    return Failed(n, absl::ResourceExhaustedError(
                         absl::StrCat("the record would have ", value.size(), " bytes; the store takes ",
                                      core_->store->traits().max_value_bytes, ": fewer copies at a time must wait")));
  }
  const kv::Revision expected = n.revision;
  const bool hint = WorthAHint(n.record, *next);
  const absl::Time sent = runtime_.Now();
  n.written_at = sent;
  n.epoch_at = absl::InfinitePast();
  n.hint_due = absl::InfiniteFuture();  // what it hinted at is what this write expects, or the write fails
  mu_.Unlock();
  const absl::Time deadline = core_->CallDeadline(until);
  kv::WriteResult result =
      expected == 0 ? core_->store->Create(key, value, deadline) : core_->store->Update(key, value, expected, deadline);
  if (result.ok() && hint) core_->hints->Wrote(key);
  mu_.Lock();
  if (n.key != key) return;
  if (result.ok()) {
    CameThrough(n);
    n.conflicts = 0;
    n.unsettled = n.touch = false;
    n.answered_at = runtime_.Now();
    if (change.set_capacity) CapacityIs(n, *change.set_capacity);
    if (monotonic_ && result.revision < n.revision) return;  // a push has overtaken the reply
    n.looked_at = n.proved_at = std::max(n.looked_at, sent);
    if (result.revision != n.revision) Adopt(n, *std::move(next), result.revision, /*proof=*/true);
    return;
  }
  if (absl::IsAborted(result.status) || absl::IsAlreadyExists(result.status) || absl::IsNotFound(result.status)) {
    return Conflict(n, result, expected, sent);
  }
  if (absl::IsDeadlineExceeded(result.status)) {
    core_->counters.unknown_outcomes.fetch_add(1, std::memory_order_relaxed);
    n.unsettled = n.unsettled || n.revision == expected;
    n.unsettled_at = expected;
    n.verify = true;
  }
  Failed(n, result.status);
}

// A conditional write lost to another.
void GrantEngine::Conflict(NameState& n, const kv::WriteResult& result, kv::Revision expected, absl::Time sent) {
  core_->counters.conflicts.fetch_add(1, std::memory_order_relaxed);
  n.last_error = absl::OkStatus();
  n.touch = false;
  if (++n.conflicts > 2) BackOff(n);  // the first two at once: one conflict is nothing unusual
  if (result.current) {
    AdoptEntry(n, *result.current, sent);
  } else if (n.revision == expected && absl::IsNotFound(result.status)) {
    AdoptAbsence(n, sent);
  } else if (n.revision == expected) {
    n.verify = true;
  }
}

// ---------------------------------------------------------------------------------------------- other copies' sessions

// What is wrong with another copy's session is no reason to end the waits here.
void GrantEngine::Inquired(NameState& n, const absl::Status& status) {
  if (status.ok()) return CameThrough(n);
  Failed(n, absl::IsDeadlineExceeded(status) ? status : absl::UnavailableError(std::string(status.message())));
}

void GrantEngine::ReadSession(NameState& n, const Action& action, absl::Time until) {
  const std::string key = core_->session->KeyOf(n.epoch, action.session);
  mu_.Unlock();
  absl::StatusOr<kv::Entry> entry = core_->store->Get(key, core_->CallDeadline(until));
  absl::Status status = entry.status();
  if (entry.ok()) {
    absl::StatusOr<SessionRecord> record = ParseSessionRecord(entry->value, "record of session " + action.session);
    status = record.status();
    // Since when it stands counts from the answer: the record may have been written just before it was sent.
    if (record.ok()) core_->session->table().Observe(action.session, *entry, *record, runtime_.Now());
  } else if (absl::IsNotFound(status)) {
    // A missing session proves nothing: it is written down as broken, with the ttl that its grant states, and waited
    // for.
    SessionRecord broken;
    broken.mark = SessionMark::kBroken;
    broken.ttl = action.ttl;
    broken.since = runtime_.WallNow();
    broken.nonce = core_->Nonce();
    kv::WriteResult created = core_->store->Create(key, Format(broken), core_->CallDeadline(until));
    status = created.status;
    if (absl::IsAlreadyExists(status)) {  // made meanwhile, or the reader lags: look again, a little later
      mu_.Lock();
      BackOff(n);
      return;
    }
    if (created.ok()) {
      core_->session->table().Observe(action.session, {"", created.revision, std::nullopt}, broken, runtime_.Now());
    }
  }
  mu_.Lock();
  Inquired(n, status);
}

void GrantEngine::Evict(NameState& n, const Action& action, absl::Time until) {
  const std::string key = core_->session->KeyOf(n.epoch, action.session);
  SessionRecord ended = action.sight->record;
  ended.mark = SessionMark::kEnded;
  ended.nonce = core_->Nonce();
  mu_.Unlock();
  // The check and the end are one: a session that has beaten meanwhile has another revision.
  kv::WriteResult result = core_->store->Update(key, Format(ended), action.sight->revision, core_->CallDeadline(until));
  SessionTable& table = core_->session->table();
  if (result.ok()) {
    core_->counters.evictions.fetch_add(1, std::memory_order_relaxed);
    table.Observe(action.session, {"", result.revision, std::nullopt}, ended, runtime_.Now());
    core_->Log(LogLevel::kInfo, absl::StrCat("session ", action.session, " of copy ", QuoteName(ended.instance),
                                             " was silent for its ttl and is ended"));
  } else {
    table.Forget(action.session);  // the next look reads it
  }
  mu_.Lock();
  const bool answered = absl::IsAborted(result.status) || absl::IsNotFound(result.status);
  Inquired(n, answered ? absl::OkStatus() : result.status);
}

}  // namespace coord::internal
