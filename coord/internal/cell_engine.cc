#include "coord/internal/cell_engine.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/internal/cell_write.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

absl::Status Moved(const Cell& cell) {
  return absl::AbortedError(
      absl::StrCat(cell.what(), " is not in the expected revision any more: read it again, and decide anew"));
}

}  // namespace

CellEngine::CellEngine(Core* core) : core_(core), stopping_(core->runtime->NewCondition()), refresher_(core) {}

CellEngine::~CellEngine() { Stop(absl::InfinitePast()); }

void CellEngine::Stop(absl::Time until) {
  std::vector<std::shared_ptr<Cell>> cells;
  {
    MutexLock lock(mu_);
    stopping_->NotifyAll();
    for (auto& [key, weak] : cells_) {
      if (std::shared_ptr<Cell> cell = weak.lock()) cells.push_back(std::move(cell));
    }
  }
  for (const std::shared_ptr<Cell>& cell : cells) cell->WakeLane();
  refresher_.Stop(until);
}

void CellEngine::EpochChanged() { refresher_.EpochChanged(); }

std::shared_ptr<Cell> CellEngine::FindCell(const std::string& key, const std::string& what) {
  MutexLock lock(mu_);
  if (cells_.size() >= sweep_at_) {
    for (auto it = cells_.begin(); it != cells_.end();) it = it->second.expired() ? cells_.erase(it) : std::next(it);
    sweep_at_ = std::max<size_t>(1024, 2 * cells_.size());
  }
  std::weak_ptr<Cell>& slot = cells_[key];
  std::shared_ptr<Cell> cell = slot.lock();
  if (cell == nullptr) slot = cell = std::make_shared<Cell>(core_, key, what);
  return cell;
}

void CellEngine::SweepShared() {
  for (auto it = shared_.begin(); it != shared_.end();) it = it->second.expired() ? shared_.erase(it) : std::next(it);
}

absl::Status CellEngine::CheckDeadline(const std::string& what, absl::Time steady) const {
  absl::Status open = core_->CheckOpen();
  if (!open.ok()) return open;
  if (core_->runtime->Now() < steady) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat("the deadline had passed before the call; nothing was sent for ", what));
}

absl::StatusOr<CellStatePtr> CellEngine::Parse(Cell& cell, const kv::Entry& entry, std::string epoch) {
  absl::StatusOr<CellRecord> record = ParseCellRecord(entry.value, cell.what());
  if (!record.ok()) {
    if (cell.LearnDamaged(entry.revision)) core_->Log(LogLevel::kWarning, std::string(record.status().message()));
    return record.status();
  }
  auto state = std::make_shared<CellState>();
  state->record = *std::move(record);
  state->revision = entry.revision;
  state->epoch = std::move(epoch);
  return state;
}

absl::StatusOr<CellStatePtr> CellEngine::Read(Cell& cell, absl::Time deadline, bool absence_counts) {
  const absl::Time steady = core_->runtime->SteadyDeadline(deadline);
  absl::Status status = CheckDeadline(cell.what(), steady);
  if (!status.ok()) return status;
  return ReadUntil(cell, steady, absence_counts);
}

absl::StatusOr<CellStatePtr> CellEngine::ReadUntil(Cell& cell, absl::Time steady, bool absence_counts) {
  absl::StatusOr<CellStatePtr> state;
  absl::Status status = RetryRead(cell.what(), steady, [&] {
    const Cell::Mark mark = cell.Now();
    const std::string epoch = core_->EpochId();  // before the read: a change meanwhile can only make it too old
    absl::StatusOr<kv::Entry> entry = core_->store->Get(cell.key(), core_->CallDeadline(steady));
    if (!entry.ok() && !absl::IsNotFound(entry.status())) return entry.status();
    auto absent = std::make_shared<CellState>();
    absent->epoch = epoch;
    state = entry.ok() ? Parse(cell, *entry, epoch) : CellStatePtr(std::move(absent));
    if (!state.ok()) return absl::OkStatus();
    cell.LearnRead(mark, *state, absence_counts);
    if (CellStatePtr newer = cell.NewerThanRead(**state)) state = std::move(newer);
    return absl::OkStatus();
  });
  return status.ok() ? state : status;
}

absl::StatusOr<std::vector<kv::KeyedEntry>> CellEngine::List(const std::string& prefix, const std::string& what,
                                                             absl::Time deadline) {
  const absl::Time steady = core_->runtime->SteadyDeadline(deadline);
  absl::Status status = CheckDeadline(what, steady);
  if (!status.ok()) return status;
  std::vector<kv::KeyedEntry> entries;
  status = RetryRead(what, steady, [&] {
    absl::StatusOr<std::vector<kv::KeyedEntry>> listed = core_->store->List(prefix, core_->CallDeadline(steady));
    if (listed.ok()) entries = *std::move(listed);
    return listed.status();
  });
  if (!status.ok()) return status;
  return entries;
}

absl::Status CellEngine::RetryRead(const std::string& what, absl::Time steady,
                                   const std::function<absl::Status()>& read) {
  Backoff backoff(*this);
  absl::Status last = absl::UnavailableError("the deadline passed before it could be asked");
  while (core_->runtime->Now() < steady) {
    absl::Status open = core_->CheckOpen();
    if (!open.ok()) return open;
    core_->counters.cell_reads.fetch_add(1, std::memory_order_relaxed);
    absl::Status status = read();
    if (status.ok()) return status;
    last = std::move(status);
    if (!absl::IsUnavailable(last) && !absl::IsDeadlineExceeded(last)) {
      return absl::Status(last.code(), absl::StrCat("cannot read ", what, ": ", std::string(last.message())));
    }
    if (!backoff.Wait(steady)) break;
  }
  absl::Status open = core_->CheckOpen();
  if (!open.ok()) return open;
  return absl::UnavailableError(
      absl::StrCat("cannot read ", what, ": the store did not answer: ", std::string(last.message())));
}

absl::StatusOr<CellEngine::Write> CellEngine::Prepare(const Cell& cell, const CellState& base, CellRecord record,
                                                      const CellCheck& check) {
  record.nonce = core_->Nonce();
  Write write;
  write.text = Format(record);
  const kv::Traits& traits = core_->store->traits();
  if (write.text.size() > traits.max_value_bytes) {
    const size_t header = write.text.size() - record.value.size();
    return absl::InvalidArgumentError(
        absl::StrCat(cell.what(), " cannot be ", record.value.size(), " bytes: the store \"", traits.name, "\" takes ",
                     traits.max_value_bytes, ", of which ", header, " are for coord; keep large data elsewhere"));
  }
  write.record = std::move(record);
  write.expected = base.revision;
  write.epoch = base.epoch;
  write.check = check;
  return write;
}

absl::StatusOr<CellStatePtr> CellEngine::Modify(Cell& cell, const CellFunction& fn, absl::Time deadline,
                                                const CellCheck& check) {
  const absl::Time steady = core_->runtime->SteadyDeadline(deadline);
  absl::Status status = CheckDeadline(cell.what(), steady);
  if (!status.ok()) return status;
  Backoff backoff(*this);
  Cell::Mark mark = cell.Now();
  CellStatePtr base = cell.Known();
  bool fresh = false;  // `base` was read in this call
  int conflicts = 0;
  for (;;) {
    if (base == nullptr) {
      mark = cell.Now();
      absl::StatusOr<CellStatePtr> read = ReadUntil(cell, steady, false);
      if (!read.ok()) return read.status();
      base = *std::move(read);
      fresh = true;
    }
    absl::StatusOr<std::optional<CellRecord>> next = fn(base->record);
    if (!next.ok() || !next->has_value()) {
      if (fresh) return next.ok() ? absl::StatusOr<CellStatePtr>(base) : next.status();
      base = nullptr;
      continue;
    }
    absl::StatusOr<Write> write = Prepare(cell, *base, **std::move(next), check);
    if (!write.ok()) return write.status();
    Outcome outcome;
    {
      Turn turn(cell, steady);
      if (!turn.status().ok()) return turn.status();
      const Cell::Mark now = cell.Now();
      if (CellStatePtr newer = cell.NewerThan(*base, mark)) {  // another thread was faster: no need to ask the store
        base = std::move(newer);
        mark = now;
        fresh = false;
        continue;
      }
      mark = now;
      outcome = Send(cell, *write, steady);
    }
    if (outcome.status.ok()) return outcome.state;
    if (!absl::IsAborted(outcome.status)) return outcome.status;
    core_->counters.cell_conflicts.fetch_add(1, std::memory_order_relaxed);
    // What the first conflict shows is not old yet when it is used. Later waits are longer: a write over what was there
    // before one would lose again, and the copy that has lost most often would never come through.
    base = ++conflicts == 1 ? outcome.state : nullptr;
    fresh = base != nullptr;
    if (!backoff.Wait(steady) && core_->CheckOpen().ok()) {
      return absl::UnavailableError(
          absl::StrCat(cell.what(), " was not written: others changed it again and again until the deadline"));
    }
  }
}

absl::StatusOr<CellStatePtr> CellEngine::Replace(Cell& cell, kv::Revision expected, std::string_view value,
                                                 absl::Time deadline) {
  const absl::Time steady = core_->runtime->SteadyDeadline(deadline);
  absl::Status status = CheckDeadline(cell.what(), steady);
  if (!status.ok()) return status;
  CellStatePtr base;
  if (expected == 0) {
    auto absent = std::make_shared<CellState>();
    absent->epoch = core_->EpochId();
    base = std::move(absent);
  } else {
    base = cell.Known();
    if (base == nullptr || base->revision != expected) {
      absl::StatusOr<CellStatePtr> read = ReadUntil(cell, steady, false);
      if (!read.ok()) return read.status();
      base = *std::move(read);
    }
    if (base->revision != expected) return Moved(cell);
  }
  CellRecord record = base->record.value_or(CellRecord());
  record.value.assign(value);
  absl::StatusOr<Write> write = Prepare(cell, *base, std::move(record), nullptr);
  if (!write.ok()) return write.status();
  Turn turn(cell, steady);
  if (!turn.status().ok()) return turn.status();
  Outcome outcome = Send(cell, *write, steady);
  if (outcome.status.ok()) return outcome.state;
  if (!absl::IsAborted(outcome.status)) return outcome.status;
  core_->counters.cell_conflicts.fetch_add(1, std::memory_order_relaxed);
  return Moved(cell);
}

absl::Status CellEngine::EraseInTurn(Cell& cell, kv::Revision expected, absl::Time steady, bool* absent) {
  *absent = false;
  Write write;
  write.expected = expected;
  write.epoch = core_->EpochId();
  Turn turn(cell, steady);
  if (!turn.status().ok()) return turn.status();
  Outcome outcome = Send(cell, write, steady);
  *absent = outcome.state != nullptr && !outcome.state->record.has_value();
  if (absl::IsAborted(outcome.status)) core_->counters.cell_conflicts.fetch_add(1, std::memory_order_relaxed);
  return outcome.status;
}

absl::Status CellEngine::Erase(Cell& cell, kv::Revision expected, absl::Time deadline) {
  const absl::Time steady = core_->runtime->SteadyDeadline(deadline);
  absl::Status status = CheckDeadline(cell.what(), steady);
  if (!status.ok()) return status;
  bool absent = false;
  status = EraseInTurn(cell, expected, steady, &absent);
  if (!absl::IsAborted(status)) return status;
  return absent ? absl::NotFoundError(absl::StrCat(cell.what(), " does not exist")) : Moved(cell);
}

absl::Status CellEngine::Remove(Cell& cell, absl::Time deadline) {
  const absl::Time steady = core_->runtime->SteadyDeadline(deadline);
  absl::Status status = CheckDeadline(cell.what(), steady);
  if (!status.ok()) return status;
  Backoff backoff(*this);
  CellStatePtr base = cell.Known();
  bool fresh = false;
  for (;;) {
    if (base == nullptr || (!base->record.has_value() && !fresh)) {
      absl::StatusOr<CellStatePtr> read = ReadUntil(cell, steady, false);
      if (!read.ok()) return read.status();
      base = *std::move(read);
      fresh = true;
    }
    if (!base->record.has_value()) return absl::OkStatus();
    bool absent = false;
    status = EraseInTurn(cell, base->revision, steady, &absent);
    // Who removed it does not matter here.
    if (status.ok() || absent) return absl::OkStatus();
    if (!absl::IsAborted(status)) return status;
    base = nullptr;
    backoff.Wait(steady);
  }
}

}  // namespace coord::internal
