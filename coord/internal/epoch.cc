#include "coord/internal/epoch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coord/internal/revision_guard.h"

namespace coord::internal {

namespace {

constexpr char kWhat[] = "epoch record";
std::string Key(const Core& core) { return core.options.plugin + "/epoch"; }

}  // namespace

EpochRecord EpochKeeper::Fresh(bool settled) const {
  EpochRecord record;
  record.id = absl::StrFormat("%016x", core_->runtime->Random());
  record.created_us = static_cast<uint64_t>(std::max<int64_t>(absl::ToUnixMicros(core_->runtime->WallNow()), 1));
  if (newest_created_us_ != 0) record.created_us = std::max(record.created_us, HighestFence() + Headroom() + 1);
  record.settled = settled;
  // The deployment's, not this copy's own: a copy with a longer ttl than this one's limit may still be valid.
  record.max_ttl = std::max(record_.max_ttl, core_->options.max_ttl);
  return record;
}

// No fence that was given out under an epoch that this copy has known lies above this; where fences count by
// themselves, none that this copy has seen.
uint64_t EpochKeeper::HighestFence() const {
  if (core_->store->traits().monotonic_revisions) return newest_created_us_ + core_->guard->highest_ever();
  return std::max(newest_created_us_, core_->highest_fence.load(std::memory_order_acquire));
}

// Other copies have seen somewhat more than this one, be it the very write of the new record; they must not find it too
// low as well, or they would replace each other's epochs for ever.
uint64_t EpochKeeper::Headroom() const {
  return core_->store->traits().monotonic_revisions ? core_->guard->highest_ever() + 1000 : 0;
}

// Fences that were given out under an earlier epoch could be above those of `record`. Then what takes its place must be
// above those of `record` too.
bool EpochKeeper::TooLow(const EpochRecord& record) {
  if (record_.id.empty() || record.id == record_.id || record.created_us > HighestFence()) return false;
  newest_created_us_ = std::max(newest_created_us_, record.created_us);
  return true;
}

absl::StatusOr<std::optional<kv::Entry>> EpochKeeper::Read(absl::Time until) {
  absl::StatusOr<kv::Entry> entry = core_->store->Get(Key(*core_), core_->CallDeadline(until));
  if (entry.ok()) return std::optional<kv::Entry>(*std::move(entry));
  if (absl::IsNotFound(entry.status())) return std::optional<kv::Entry>();
  return entry.status();
}

absl::Status EpochKeeper::Adopt(const kv::Entry& entry) {
  absl::StatusOr<EpochRecord> record = ParseEpochRecord(entry.value, kWhat);
  if (!record.ok()) return record.status();
  if (core_->options.ttl > record->max_ttl) {
    return absl::FailedPreconditionError(
        absl::StrCat("a ttl of ", absl::FormatDuration(core_->options.ttl), " is above this deployment's max_ttl of ",
                     absl::FormatDuration(record->max_ttl), ", which its first copy fixed: join with a shorter ttl"));
  }
  if (entry.revision != revision_ || record->id != record_.id) first_seen_ = core_->runtime->Now();
  if (record->id != record_.id && !record_.id.empty()) core_->guard->Reset();
  record_ = *std::move(record);
  revision_ = entry.revision;
  newest_created_us_ = std::max(newest_created_us_, record_.created_us);
  return absl::OkStatus();
}

// Leaves the record adopted that is in the store afterwards, one's own or the winner's.
absl::Status EpochKeeper::Write(const std::optional<kv::Entry>& over, EpochRecord record, absl::Time until) {
  record.nonce = core_->Nonce();
  const absl::Time deadline = core_->CallDeadline(until);
  const kv::WriteResult result = over ? core_->store->Update(Key(*core_), Format(record), over->revision, deadline)
                                      : core_->store->Create(Key(*core_), Format(record), deadline);
  if (result.ok()) return Adopt({Format(record), result.revision, std::nullopt});
  const bool lost_race =
      absl::IsAborted(result.status) || absl::IsAlreadyExists(result.status) || absl::IsDeadlineExceeded(result.status);
  if (!lost_race) return result.status;
  absl::StatusOr<std::optional<kv::Entry>> now = Read(until);
  if (!now.ok()) return now.status();
  if (!*now) return absl::UnavailableError("the epoch record is being made by another copy: try again");
  absl::StatusOr<EpochRecord> winner = ParseEpochRecord((*now)->value, kWhat);
  if (!winner.ok()) return winner.status();
  if (TooLow(*winner)) return absl::UnavailableError("another copy made an epoch that must be replaced: try again");
  return Adopt(**now);
}

absl::Status EpochKeeper::Join(absl::Time until) {
  absl::StatusOr<std::optional<kv::Entry>> entry = Read(until);
  if (!entry.ok()) return entry.status();
  const kv::Traits& traits = core_->store->traits();
  if (!*entry) {
    // It may take the place of one that was lost with the store: then somebody who is cut off may still hold grants.
    return Write(std::nullopt, Fresh(/*settled=*/!traits.volatile_storage && record_.id.empty()), until);
  }
  absl::StatusOr<EpochRecord> record = ParseEpochRecord((*entry)->value, kWhat);
  if (!record.ok()) return record.status();
  if (TooLow(*record)) return Write(**entry, Fresh(/*settled=*/false), until);
  return Adopt(**entry);
}

absl::Status EpochKeeper::Check(absl::Time until) {
  absl::StatusOr<std::optional<kv::Entry>> entry = Read(until);
  if (!entry.ok()) return entry.status();
  const bool may_lag = !core_->store->traits().linearizable_reads;
  if (may_lag && (!*entry || (*entry)->revision < revision_)) {
    return absl::NotFoundError("the store answers from before its present epoch, or has lost it");
  }
  if (!*entry) return absl::AbortedError("the store has lost its epoch record: it begins anew");
  absl::StatusOr<EpochRecord> record = ParseEpochRecord((*entry)->value, kWhat);
  if (!record.ok()) return record.status();
  if (record->id != record_.id) return absl::AbortedError("the store has begun a new epoch");
  if (absl::Status adopted = Adopt(**entry); !adopted.ok()) return adopted;
  return record_.settled ? absl::OkStatus() : SettleIfDue(until);
}

absl::Status EpochKeeper::SettleIfDue(absl::Time until) {
  const absl::Duration wait = record_.max_ttl * (core_->store->traits().linearizable_reads ? 1 : 2);
  if (core_->runtime->Now() < first_seen_ + wait) return absl::OkStatus();
  EpochRecord settled = record_;
  settled.settled = true;
  const std::string id = record_.id;
  absl::Status written = Write(kv::Entry{"", revision_, std::nullopt}, std::move(settled), until);
  if (!written.ok()) return written;
  return record_.id == id ? absl::OkStatus() : absl::AbortedError("the store has begun a new epoch");
}

absl::Status EpochKeeper::Replace(absl::Time until) {
  absl::StatusOr<std::optional<kv::Entry>> entry = Read(until);
  if (!entry.ok()) return entry.status();
  if (*entry) {
    absl::StatusOr<EpochRecord> record = ParseEpochRecord((*entry)->value, kWhat);
    if (!record.ok()) return record.status();
    if (record->id != record_.id) return absl::OkStatus();  // somebody has
  }
  const std::string old = record_.id;
  if (absl::Status written = Write(*entry, Fresh(/*settled=*/false), until); !written.ok()) return written;
  // An unknown outcome may have left the old one.
  return record_.id != old ? absl::OkStatus() : absl::UnavailableError("the epoch is not replaced yet: try again");
}

}  // namespace coord::internal
