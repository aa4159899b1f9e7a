#include "coord/internal/revision_guard.h"

#include <utility>

namespace coord::internal {

RevisionGuard::RevisionGuard(std::shared_ptr<kv::Store> store) : StoreWrapper(std::move(store)) {}

void RevisionGuard::Reset() {
  highest_.store(0, std::memory_order_release);
  proved_.store(false, std::memory_order_release);
}

void RevisionGuard::Note(kv::Revision revision) {
  kv::Revision seen = highest_.load(std::memory_order_relaxed);
  while (seen < revision && !highest_.compare_exchange_weak(seen, revision, std::memory_order_acq_rel)) {
  }
}

kv::WriteResult RevisionGuard::Check(kv::WriteResult result, kv::Revision seen_before) {
  if (result.current) Note(result.current->revision);
  if (!result.ok() || result.revision == 0) return result;
  if (traits().monotonic_revisions && result.revision <= seen_before && on_rollback_ && !proved_.exchange(true)) {
    on_rollback_();
  }
  Note(result.revision);
  return result;
}

absl::StatusOr<kv::Entry> RevisionGuard::Get(std::string_view key, absl::Time deadline) {
  absl::StatusOr<kv::Entry> entry = StoreWrapper::Get(key, deadline);
  if (entry.ok()) Note(entry->revision);
  return entry;
}

kv::WriteResult RevisionGuard::Create(std::string_view key, std::string_view value, absl::Time deadline) {
  const kv::Revision before = highest();
  return Check(StoreWrapper::Create(key, value, deadline), before);
}

kv::WriteResult RevisionGuard::Update(std::string_view key, std::string_view value, kv::Revision expected,
                                      absl::Time deadline) {
  const kv::Revision before = highest();
  return Check(StoreWrapper::Update(key, value, expected, deadline), before);
}

kv::WriteResult RevisionGuard::Delete(std::string_view key, kv::Revision expected, absl::Time deadline) {
  const kv::Revision before = highest();
  return Check(StoreWrapper::Delete(key, expected, deadline), before);
}

kv::WriteResult RevisionGuard::Put(std::string_view key, std::string_view value, absl::Time deadline) {
  const kv::Revision before = highest();
  return Check(StoreWrapper::Put(key, value, deadline), before);
}

absl::StatusOr<std::vector<kv::KeyedEntry>> RevisionGuard::List(std::string_view prefix, absl::Time deadline) {
  absl::StatusOr<std::vector<kv::KeyedEntry>> entries = StoreWrapper::List(prefix, deadline);
  if (entries.ok()) {
    for (const kv::KeyedEntry& entry : *entries) Note(entry.entry.revision);
  }
  return entries;
}

absl::StatusOr<std::unique_ptr<kv::Watch>> RevisionGuard::WatchPrefix(std::string_view prefix,
                                                                      kv::WatchCallback callback) {
  return StoreWrapper::WatchPrefix(prefix, [this, callback = std::move(callback)](const kv::WatchEvent& event) {
    Note(event.entry.revision);
    callback(event);
  });
}

}  // namespace coord::internal
