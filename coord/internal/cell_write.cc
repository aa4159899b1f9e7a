#include "coord/internal/cell_write.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

absl::Status MayBeApplied(const Cell& cell, const std::string& why) {
  return absl::DeadlineExceededError(absl::StrCat("the write to ", cell.what(),
                                                  " may have been applied, or may still be: ", why,
                                                  "; read it again before you repeat the write"));
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

bool IsConflict(const absl::Status& status) {
  return absl::IsAborted(status) || absl::IsAlreadyExists(status) || absl::IsNotFound(status);
}

}  // namespace

bool CellEngine::Backoff::Wait(absl::Time steady) {
  Core& core = *engine_.core_;
  const double fraction = 0.5 + 0.5 * (static_cast<double>(core.runtime->Random() >> 11) * 0x1p-53);
  const absl::Time until = std::min(steady, core.runtime->Now() + next_ * fraction);
  next_ = std::min(next_ * 2, absl::Milliseconds(100));
  MutexLock lock(engine_.mu_);
  while (!core.closed.load(std::memory_order_acquire) && core.runtime->Now() < until) {
    engine_.stopping_->Wait(engine_.mu_, until);
  }
  return !core.closed.load(std::memory_order_acquire) && core.runtime->Now() < steady;
}

CellEngine::Outcome CellEngine::Send(Cell& cell, const Write& write, absl::Time steady) {
  const Cell::Mark mark = cell.Now();
  Backoff backoff(*this);
  absl::Status last;     // the newest reason why an attempt was not applied
  bool unknown = false;  // an attempt may have been applied, or may still be
  for (;;) {
    absl::Status may = MaySend(cell, write, steady, last);
    if (!may.ok() && unknown) return {MayBeApplied(cell, Text(may)), nullptr};
    if (absl::IsUnavailable(may))
      may = absl::UnavailableError(absl::StrCat(cell.what(), " was not written: ", Text(may)));
    if (!may.ok()) return {may, nullptr};
    const kv::WriteResult result = Attempt(cell, write, steady);
    if (result.ok()) return Applied(cell, write, mark, result.revision);
    if (absl::IsUnavailable(result.status)) {
      last = result.status;
      backoff.Wait(steady);
      continue;
    }
    if (absl::IsDeadlineExceeded(result.status)) {
      core_->counters.unknown_outcomes.fetch_add(1, std::memory_order_relaxed);
      last = result.status;
      unknown = true;
    } else if (!IsConflict(result.status)) {
      const std::string text = absl::StrCat("cannot write ", cell.what(), ": ", Text(result.status));
      return {unknown ? MayBeApplied(cell, text) : absl::Status(result.status.code(), text), nullptr};
    }
    Outcome seen = Settle(cell, write, steady, mark, result);
    if (seen.status.ok()) return Applied(cell, write, mark, seen.state->revision);
    if (!unknown) return seen;               // a plain conflict
    if (absl::IsUnavailable(seen.status)) {  // not settled: the same write again
      last = seen.status;
      backoff.Wait(steady);
      continue;
    }
    return {MayBeApplied(cell, Text(seen.status)), seen.state};
  }
}

absl::Status CellEngine::MaySend(const Cell& cell, const Write& write, absl::Time steady, const absl::Status& last) {
  absl::Status open = core_->CheckOpen();
  if (!open.ok()) return open;
  if (core_->runtime->Now() >= steady) {
    return absl::UnavailableError(last.ok() ? "the deadline passed before it could be sent" : Text(last));
  }
  if (core_->EpochId() != write.epoch) {
    return absl::AbortedError(absl::StrCat(cell.what(), " belongs to a store that has been replaced or reset since"));
  }
  return write.check ? write.check() : absl::OkStatus();
}

kv::WriteResult CellEngine::Attempt(const Cell& cell, const Write& write, absl::Time steady) {
  core_->counters.cell_writes.fetch_add(1, std::memory_order_relaxed);
  const absl::Time deadline = core_->CallDeadline(steady);
  if (!write.record.has_value()) return core_->store->Delete(cell.key(), write.expected, deadline);
  if (write.expected == 0) return core_->store->Create(cell.key(), write.text, deadline);
  return core_->store->Update(cell.key(), write.text, write.expected, deadline);
}

// Looks at what is there after an attempt that lost, or whose reply did not come. Ok: our own write, in `state`.
// Unavailable: still the state it was sent over. Aborted: another.
CellEngine::Outcome CellEngine::Settle(Cell& cell, const Write& write, absl::Time steady, const Cell::Mark& mark,
                                       const kv::WriteResult& result) {
  absl::StatusOr<CellStatePtr> seen;
  const bool plain_conflict = IsConflict(result.status);
  if (plain_conflict && (result.current.has_value() || absl::IsNotFound(result.status))) {
    auto absent = std::make_shared<CellState>();
    absent->epoch = write.epoch;
    seen = result.current.has_value() ? Parse(cell, *result.current, write.epoch) : CellStatePtr(absent);
    if (seen.ok()) cell.LearnRead(mark, *seen, false);
  } else {
    seen = ReadUntil(cell, steady, false);
  }
  if (!seen.ok()) {
    if (absl::IsUnavailable(seen.status())) return {absl::AbortedError(Text(seen.status())), nullptr};
    return {seen.status(), nullptr};
  }
  const CellState& state = **seen;
  if (state.record.has_value() && write.record.has_value() && state.record->nonce == write.record->nonce) {
    return {absl::OkStatus(), *seen};
  }
  if (state.record.has_value()) {
    // Of two writes over one revision at most one is applied, so that the same write may be sent again.
    const bool open = !plain_conflict && state.revision == write.expected;
    if (open) return {absl::UnavailableError("the store has not replied, and shows no trace of it"), *seen};
    return {absl::AbortedError("another write stands there now"), *seen};
  }
  // Of two creations both can be applied, with a delete of somebody else between them: never repeated.
  return {absl::AbortedError(write.expected == 0 ? "it is absent, not yet created or already removed again"
                                                 : "it was removed meanwhile, by this call or by another"),
          *seen};
}

CellEngine::Outcome CellEngine::Applied(Cell& cell, const Write& write, const Cell::Mark& mark, kv::Revision revision) {
  auto state = std::make_shared<CellState>();
  state->record = write.record;
  state->revision = write.record.has_value() ? revision : 0;
  state->epoch = write.epoch;
  cell.LearnWrite(mark, write.expected, state, revision);
  core_->hints->Wrote(cell.key());
  return {absl::OkStatus(), state};
}

}  // namespace coord::internal
