#include "coord/internal/revision_guard.h"

#include <algorithm>
#include <utility>

namespace coord::internal {

using kv::internal::MutexLock;

RevisionGuard::RevisionGuard(std::shared_ptr<kv::Store> store) : StoreWrapper(std::move(store)) {}

void RevisionGuard::Reset() {
  MutexLock lock(mu_);
  highest_ = pushed_ = 0;
  proved_ = false;
  ++epoch_;
}

uint64_t RevisionGuard::resets() const {
  MutexLock lock(mu_);
  return epoch_;
}

RevisionGuard::Before RevisionGuard::Now() const {
  MutexLock lock(mu_);
  return {highest_, epoch_};
}

void RevisionGuard::NoteEver(kv::Revision revision) {
  kv::Revision ever = ever_.load(std::memory_order_relaxed);
  while (ever < revision && !ever_.compare_exchange_weak(ever, revision, std::memory_order_acq_rel)) {
  }
}

void RevisionGuard::NotePush(const kv::WatchEvent& event) {
  NoteEver(event.entry.revision);
  MutexLock lock(mu_);
  pushed_ = event.kind == kv::WatchKind::kEpochChanged ? 0 : std::max(pushed_, event.entry.revision);
}

kv::Revision RevisionGuard::highest() const {
  MutexLock lock(mu_);
  return std::max(highest_, pushed_);
}

void RevisionGuard::Note(const Before& before, kv::Revision revision) {
  NoteEver(revision);
  MutexLock lock(mu_);
  if (before.epoch == epoch_) highest_ = std::max(highest_, revision);
}

kv::WriteResult RevisionGuard::Check(const Before& before, kv::WriteResult result) {
  const kv::Revision revision = result.current ? result.current->revision : result.revision;
  NoteEver(revision);
  bool proof = false;
  {
    MutexLock lock(mu_);
    if (before.epoch != epoch_) return result;
    const bool forgotten = result.ok() && revision != 0 && revision <= before.highest && traits().monotonic_revisions;
    if (forgotten && on_rollback_) proof = !std::exchange(proved_, true);
    highest_ = std::max(highest_, revision);
  }
  if (proof) on_rollback_(before.epoch);
  return result;
}

absl::StatusOr<kv::Entry> RevisionGuard::Get(std::string_view key, absl::Time deadline) {
  const Before before = Now();
  absl::StatusOr<kv::Entry> entry = StoreWrapper::Get(key, deadline);
  if (entry.ok()) Note(before, entry->revision);
  return entry;
}

kv::WriteResult RevisionGuard::Create(std::string_view key, std::string_view value, absl::Time deadline) {
  const Before before = Now();
  return Check(before, StoreWrapper::Create(key, value, deadline));
}

kv::WriteResult RevisionGuard::Update(std::string_view key, std::string_view value, kv::Revision expected,
                                      absl::Time deadline) {
  const Before before = Now();
  return Check(before, StoreWrapper::Update(key, value, expected, deadline));
}

kv::WriteResult RevisionGuard::Delete(std::string_view key, kv::Revision expected, absl::Time deadline) {
  const Before before = Now();
  return Check(before, StoreWrapper::Delete(key, expected, deadline));
}

kv::WriteResult RevisionGuard::Put(std::string_view key, std::string_view value, absl::Time deadline) {
  const Before before = Now();
  return Check(before, StoreWrapper::Put(key, value, deadline));
}

absl::StatusOr<std::vector<kv::KeyedEntry>> RevisionGuard::List(std::string_view prefix, absl::Time deadline) {
  const Before before = Now();
  absl::StatusOr<std::vector<kv::KeyedEntry>> entries = StoreWrapper::List(prefix, deadline);
  kv::Revision highest = 0;
  if (entries.ok()) {
    for (const kv::KeyedEntry& entry : *entries) highest = std::max(highest, entry.entry.revision);
  }
  Note(before, highest);
  return entries;
}

absl::StatusOr<std::unique_ptr<kv::Watch>> RevisionGuard::WatchPrefix(std::string_view prefix,
                                                                      kv::WatchCallback callback) {
  return StoreWrapper::WatchPrefix(prefix, [this, callback = std::move(callback)](const kv::WatchEvent& event) {
    NotePush(event);
    callback(event);
  });
}

}  // namespace coord::internal
