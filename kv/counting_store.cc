#include "kv/counting_store.h"

#include <utility>

namespace kv {
namespace {

// Every counter of CallCounts, so that sums and texts cannot forget one.
struct Field {
  const char* name;
  int64_t CallCounts::*value;
};
constexpr Field kFields[] = {
    {"gets", &CallCounts::gets},
    {"creates", &CallCounts::creates},
    {"updates", &CallCounts::updates},
    {"deletes", &CallCounts::deletes},
    {"puts", &CallCounts::puts},
    {"lists", &CallCounts::lists},
    {"watches", &CallCounts::watches},
    {"failed", &CallCounts::failed},
    {"events", &CallCounts::events},
    {"bytes written", &CallCounts::bytes_written},
    {"bytes read", &CallCounts::bytes_read},
};

CallCounts One(int64_t CallCounts::*kind, size_t bytes_written = 0) {
  CallCounts counts;
  counts.*kind = 1;
  counts.bytes_written = static_cast<int64_t>(bytes_written);
  return counts;
}

}  // namespace

CallCounts& CallCounts::operator+=(const CallCounts& other) {
  for (const Field& field : kFields) this->*field.value += other.*field.value;
  return *this;
}

CallCounts operator-(CallCounts a, const CallCounts& b) {
  for (const Field& field : kFields) a.*field.value -= b.*field.value;
  return a;
}

std::string ToString(const CallCounts& counts) {
  std::string text;
  for (const Field& field : kFields) {
    if (counts.*field.value == 0) continue;
    if (!text.empty()) text += ", ";
    text += std::to_string(counts.*field.value) + " " + field.name;
  }
  return text.empty() ? "no calls" : text;
}

CallCounts CountingStore::Snapshot() const { return Snapshot(""); }

CallCounts CountingStore::Snapshot(std::string_view prefix) const {
  internal::MutexLock lock(mutex_);
  CallCounts sum;
  for (auto it = by_key_.lower_bound(prefix); it != by_key_.end(); ++it) {
    if (it->first.compare(0, prefix.size(), prefix) != 0) break;
    sum += it->second;
  }
  return sum;
}

void CountingStore::Reset() {
  internal::MutexLock lock(mutex_);
  by_key_.clear();
}

void CountingStore::Add(std::string_view key, const CallCounts& counts) const {
  internal::MutexLock lock(mutex_);
  auto it = by_key_.find(key);
  if (it == by_key_.end()) it = by_key_.emplace(key, CallCounts()).first;
  it->second += counts;
}

WriteResult CountingStore::Finish(std::string_view key, WriteResult result) const {
  if (!result.ok()) Add(key, One(&CallCounts::failed));
  return result;
}

absl::StatusOr<Entry> CountingStore::Get(std::string_view key, absl::Time deadline) {
  Add(key, One(&CallCounts::gets));
  absl::StatusOr<Entry> entry = StoreWrapper::Get(key, deadline);
  CallCounts after;
  if (entry.ok()) after.bytes_read = static_cast<int64_t>(entry->value.size());
  if (!entry.ok()) after.failed = 1;
  Add(key, after);
  return entry;
}

WriteResult CountingStore::Create(std::string_view key, std::string_view value, absl::Time deadline) {
  Add(key, One(&CallCounts::creates, key.size() + value.size()));
  return Finish(key, StoreWrapper::Create(key, value, deadline));
}

WriteResult CountingStore::Update(std::string_view key, std::string_view value, Revision expected,
                                  absl::Time deadline) {
  Add(key, One(&CallCounts::updates, key.size() + value.size()));
  return Finish(key, StoreWrapper::Update(key, value, expected, deadline));
}

WriteResult CountingStore::Delete(std::string_view key, Revision expected, absl::Time deadline) {
  Add(key, One(&CallCounts::deletes, key.size()));
  return Finish(key, StoreWrapper::Delete(key, expected, deadline));
}

WriteResult CountingStore::Put(std::string_view key, std::string_view value, absl::Time deadline) {
  Add(key, One(&CallCounts::puts, key.size() + value.size()));
  return Finish(key, StoreWrapper::Put(key, value, deadline));
}

absl::StatusOr<std::vector<KeyedEntry>> CountingStore::List(std::string_view prefix, absl::Time deadline) {
  Add(prefix, One(&CallCounts::lists));
  absl::StatusOr<std::vector<KeyedEntry>> entries = StoreWrapper::List(prefix, deadline);
  CallCounts after;
  if (!entries.ok()) after.failed = 1;
  if (entries.ok()) {
    for (const KeyedEntry& each : *entries) after.bytes_read += static_cast<int64_t>(each.entry.value.size());
  }
  Add(prefix, after);
  return entries;
}

absl::StatusOr<std::unique_ptr<Watch>> CountingStore::WatchPrefix(std::string_view prefix, WatchCallback callback) {
  Add(prefix, One(&CallCounts::watches));
  // The watch ends before this store does, so that `this` is safe in its callback.
  auto counted = [this, key = std::string(prefix), callback = std::move(callback)](const WatchEvent& event) {
    Add(key, One(&CallCounts::events));
    callback(event);
  };
  absl::StatusOr<std::unique_ptr<Watch>> watch = StoreWrapper::WatchPrefix(prefix, std::move(counted));
  if (!watch.ok()) Add(prefix, One(&CallCounts::failed));
  return watch;
}

}  // namespace kv
