#include "coord/internal/event_cursor.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "coord/internal/revision_guard.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

// What has no comment is guarded by EventCursors::mu_.
struct EventCursors::Place {
  std::string key;   // const
  std::string what;  // const: for messages
  EventCursor record;
  std::map<std::string, uint64_t> heard;  // by publisher: when it was last heard of, as the revision then
  bool in_use = true;
  bool dirty = false;
  int moves = 0;           // since the last write
  bool writing = false;    // the worker is at it
  bool write_due = false;  // a write is queued for later
  bool write_now = false;  // a write is queued for now
  int failures = 0;
  absl::Time written;       // steady
  kv::Revision stored = 0;  // of the entry; 0: to be read first. Worker's thread only, once opened
  bool warned = false;      // worker's thread only
};

EventCursors::EventCursors(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                           std::shared_ptr<kv::Store> store)
    : core_(std::move(core)), worker_(std::move(worker)), store_(std::move(store)) {}

absl::StatusOr<EventCursors::Opened> EventCursors::Open(const std::string& topic, const std::string& name,
                                                        const Present& present, absl::Time until) {
  Opened opened;
  const std::string key = absl::StrCat(core_->CellKey("cursor", topic), "/", EscapeName(name));
  if (absl::Status status = kv::CheckKey(key, store_->traits()); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("cursor ", QuoteName(name), " of topic ", QuoteName(topic),
                                                   " makes too long a key: shorten one of them (",
                                                   std::string(status.message()), ")"));
  }
  {
    MutexLock lock(mu_);
    std::shared_ptr<Place>& place = places_[key];
    if (place != nullptr && place->in_use) {
      return absl::FailedPreconditionError(
          absl::StrCat("cursor ", QuoteName(name), " of topic ", QuoteName(topic),
                       " is in use by another subscription of this copy: end that one first, or use another name"));
    }
    if (place != nullptr) {  // not written yet: nothing in the store is newer
      place->in_use = true;
      opened.place = place;
      opened.at = place->record;
      return opened;
    }
    place = std::make_shared<Place>();
    place->key = key;
    place->what = absl::StrCat("cursor ", QuoteName(name), " of topic ", QuoteName(topic));
    opened.place = place;
  }
  const absl::Status status = Load(opened.place.get(), present, &opened, until);
  MutexLock lock(mu_);
  if (!status.ok()) {
    places_.erase(key);
    return status;
  }
  opened.place->record = opened.at;
  opened.place->written = core_->runtime->Now();
  return opened;
}

absl::Status EventCursors::Load(Place* place, const Present& present, Opened* opened, absl::Time until) {
  opened->at.nonce = core_->Nonce();
  absl::Status status;
  for (int attempt = 0; !TryLoad(place, present, opened, until, &status); ++attempt) {
    const absl::Time again = core_->runtime->Now() + RetryDelay(*core_->runtime, attempt);
    if (again >= until) return status;
    if (absl::Status open = core_->CheckOpen(); !open.ok()) return open;
    Pause(*core_->runtime, again);
  }
  return status;
}

bool EventCursors::TryLoad(Place* place, const Present& present, Opened* opened, absl::Time until,
                           absl::Status* status) {
  const absl::StatusOr<kv::Entry> entry = store_->Get(place->key, core_->CallDeadline(until));
  if (absl::IsNotFound(entry.status()) && !present.lost.empty()) {
    opened->gap = absl::StrCat(place->what, " may have been lost: ", present.lost);
    opened->at.epoch = present.epoch;
    opened->at.revision = present.revision.value_or(core_->guard->highest());
    *status = absl::OkStatus();
    return true;
  }
  if (absl::IsNotFound(entry.status())) return Begin(place, present, opened, until, status);
  if (!entry.ok()) {
    *status = entry.status();
    return !absl::IsUnavailable(*status) && !absl::IsDeadlineExceeded(*status);
  }
  absl::StatusOr<EventCursor> cursor = ParseEventCursor(entry->value, place->what);
  if (absl::IsFailedPrecondition(cursor.status())) {
    *status = cursor.status();
    return true;
  }
  if (cursor.ok() && cursor->nonce == opened->at.nonce) {  // written by us, only the reply was lost
    place->stored = entry->revision;
    opened->at.revision = present.revision.value_or(entry->revision);
    *status = absl::OkStatus();
    return true;
  }
  if (!cursor.ok() || cursor->expired) {
    opened->gap = cursor.ok() ? absl::StrCat(place->what, " was not used for long and was forgotten")
                              : std::string(cursor.status().message());
    if (cursor.ok()) opened->at.extra = cursor->extra;
    opened->at.epoch = present.epoch;
    // As with no cursor at all. The record stays as it is until the gap was told.
    opened->at.revision = present.revision.value_or(std::max(entry->revision, core_->guard->highest()));
    place->stored = entry->revision;
    *status = absl::OkStatus();
    return true;
  }
  opened->at = *std::move(cursor);
  opened->fresh = false;
  if (opened->at.revision == 0 && !present.revision.has_value()) opened->at.revision = entry->revision;
  place->stored = entry->revision;
  *status = absl::OkStatus();
  return true;
}

// Stores a place that means "from now on": the revision of this very write, unless the present has one of its own.
bool EventCursors::Begin(Place* place, const Present& present, Opened* opened, absl::Time until, absl::Status* status) {
  opened->at.epoch = present.epoch;
  opened->at.revision = present.revision.value_or(0);
  opened->at.at = core_->runtime->WallNow();
  opened->fresh = true;
  const kv::WriteResult result = store_->Create(place->key, Format(opened->at), core_->CallDeadline(until));
  *status = result.status;
  if (result.ok()) {
    place->stored = result.revision;
    opened->at.revision = present.revision.value_or(result.revision);
    return true;
  }
  return result.status.code() != absl::StatusCode::kAlreadyExists && !absl::IsUnavailable(result.status) &&
         !absl::IsDeadlineExceeded(result.status);
}

void EventCursors::Advance(const std::shared_ptr<Place>& place, uint64_t revision, const std::string& publisher,
                           uint64_t number) {
  MutexLock lock(mu_);
  EventCursor& record = place->record;
  record.revision = std::max(record.revision, revision);
  if (!publisher.empty()) {
    record.last[publisher] = std::max(record.last[publisher], number);
    place->heard[publisher] = revision;
    if (record.last.size() > kMaxPublishers) {
      auto oldest = record.last.begin();
      for (auto it = record.last.begin(); it != record.last.end(); ++it) {
        if (place->heard[it->first] < place->heard[oldest->first]) oldest = it;
      }
      place->heard.erase(oldest->first);
      record.last.erase(oldest);
    }
  }
  Changed(place, 1);
}

void EventCursors::Restart(const std::shared_ptr<Place>& place, const std::string& epoch, uint64_t revision) {
  MutexLock lock(mu_);
  place->record.epoch = epoch;
  place->record.revision = revision;
  place->heard.clear();
  Changed(place, kMaxUnwritten);
}

void EventCursors::Release(const std::shared_ptr<Place>& place) {
  MutexLock lock(mu_);
  place->in_use = false;
  Changed(place, place->dirty ? kMaxUnwritten : 0);
}

void EventCursors::Changed(const std::shared_ptr<Place>& place, int moves) {
  auto found = places_.find(place->key);
  if (found == places_.end()) {
    found = places_.emplace(place->key, place).first;
  } else if (found->second != place) {
    return;  // a subscription that began after this one has ended; what it reads is what counts
  }
  place->dirty = place->dirty || moves > 0;
  place->moves += moves;
  if (!place->dirty) {
    if (!place->in_use && !place->writing) places_.erase(found);
    return;
  }
  const bool now = place->moves >= kMaxUnwritten && !place->write_now;
  if (!now && (place->write_due || place->write_now)) return;
  (now ? place->write_now : place->write_due) = true;
  const absl::Time due = core_->runtime->Now() + (now ? absl::ZeroDuration() : kLag);
  worker_->Post(due, [self = shared_from_this(), place, now] {
    {
      MutexLock lock(self->mu_);
      (now ? place->write_now : place->write_due) = false;
    }
    self->Write(place, absl::InfiniteFuture());
  });
}

void EventCursors::Write(const std::shared_ptr<Place>& place, absl::Time until) {
  EventCursor record;
  {
    MutexLock lock(mu_);
    if (!place->dirty) return;
    place->dirty = false;
    place->writing = true;
    place->moves = 0;
    record = place->record;
  }
  record.nonce = core_->Nonce();
  record.at = core_->runtime->WallNow();
  const absl::Status status = TryWrite(place.get(), record, until);
  MutexLock lock(mu_);
  place->writing = false;
  if (status.ok()) {
    place->failures = 0;
    place->written = core_->runtime->Now();
    if (!place->dirty && !place->in_use) places_.erase(place->key);
    return;
  }
  place->dirty = true;
  if (place->write_due || place->write_now) return;
  place->write_due = true;
  const absl::Duration wait = std::max(kLag, RetryDelay(*core_->runtime, place->failures++));
  worker_->Post(core_->runtime->Now() + wait, [self = shared_from_this(), place] {
    {
      MutexLock inner(self->mu_);
      place->write_due = false;
    }
    self->Write(place, absl::InfiniteFuture());
  });
}

absl::Status EventCursors::TryWrite(Place* place, const EventCursor& record, absl::Time until) {
  const std::string text = Format(record);
  for (int attempt = 0;; ++attempt) {
    if (place->stored == 0) {
      if (absl::Status status = Reread(place, until); !status.ok()) return status;
    }
    const kv::WriteResult result = place->stored == 0
                                       ? store_->Create(place->key, text, core_->CallDeadline(until))
                                       : store_->Update(place->key, text, place->stored, core_->CallDeadline(until));
    place->stored = result.ok() ? result.revision : 0;
    const bool conflict = absl::IsAborted(result.status) || absl::IsNotFound(result.status) ||
                          result.status.code() == absl::StatusCode::kAlreadyExists;
    if (!conflict || attempt == 2) return result.status;
  }
}

// Learns the revision that the entry has now: of a write of one's own whose reply was lost, or of somebody else's.
absl::Status EventCursors::Reread(Place* place, absl::Time until) {
  const absl::StatusOr<kv::Entry> entry = store_->Get(place->key, core_->CallDeadline(until));
  if (absl::IsNotFound(entry.status())) return absl::OkStatus();
  if (!entry.ok()) return entry.status();
  const absl::StatusOr<EventCursor> found = ParseEventCursor(entry->value, place->what);
  const bool own = found.ok() && absl::StartsWith(found->nonce, core_->nonce_prefix);
  if (!own && !std::exchange(place->warned, true)) {
    core_->Log(LogLevel::kWarning,
               absl::StrCat(place->what, " is written by somebody else too: give every subscriber a ",
                            "cursor of its own, or events are delivered to one of them alone"));
  }
  place->stored = entry->revision;
  return absl::OkStatus();
}

void EventCursors::Flush(absl::Time until) {
  std::vector<std::shared_ptr<Place>> dirty;
  {
    MutexLock lock(mu_);
    for (const auto& [key, place] : places_) {
      if (place->dirty) dirty.push_back(place);
    }
  }
  for (const std::shared_ptr<Place>& place : dirty) {
    if (core_->runtime->Now() >= until) return;
    Write(place, until);
  }
}

void EventCursors::Touch(absl::Duration idle) {
  const absl::Time before = core_->runtime->Now() - idle;
  std::vector<std::shared_ptr<Place>> still;
  {
    MutexLock lock(mu_);
    for (const auto& [key, place] : places_) {
      if (!place->in_use || place->written > before) continue;
      place->dirty = true;
      still.push_back(place);
    }
  }
  for (const std::shared_ptr<Place>& place : still) Write(place, absl::InfiniteFuture());
}

}  // namespace coord::internal
