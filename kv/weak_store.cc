#include "kv/weak_store.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "kv/internal/mutex.h"

namespace kv {

using internal::Mutex;
using internal::MutexLock;

// What the entries' revisions are here and in the wrapped store. One that a lost reply or a late write has made there
// gets its number here when it is first seen.
struct WeakStore::Revisions {
  struct Pair {
    Revision real = 0;  // 0: gone
    Revision shown = 0;
  };
  // That of `real`, the next one after `pair`. None comes back at once, even if the clock stands still; and between two
  // there is room for those that were not seen.
  static Revision Next(const Pair& pair, Revision real, Revision now) {
    if (pair.real != 0) return std::max(pair.shown + (real - pair.real), now);
    return pair.shown == now ? now + 1 : now;
  }
  Mutex mutex;
  std::map<std::string, Pair, std::less<>> by_key KV_GUARDED_BY(mutex);
};

WeakStore::WeakStore(std::shared_ptr<Store> base, std::shared_ptr<Store> data, Clock clock)
    : WeakStore(std::move(base), std::move(data), std::move(clock), std::make_shared<Revisions>()) {}

WeakStore::WeakStore(std::shared_ptr<Store> base, std::shared_ptr<Store> data, Clock clock,
                     std::shared_ptr<Revisions> shared)
    : StoreWrapper(std::move(base)),
      data_(std::move(data)),
      clock_(std::move(clock)),
      revisions_(std::move(shared)),
      traits_(this->base()->traits()) {
  traits_.name = "weak";
  traits_.durable = traits_.monotonic_revisions = traits_.watch = traits_.list = traits_.age = false;
  traits_.proves_incarnation = false;
  traits_.evicting = traits_.volatile_storage = true;
}

WeakStore::~WeakStore() = default;

std::shared_ptr<WeakStore> WeakStore::View(Clock clock, std::shared_ptr<Store> base) const {
  if (base == nullptr) base = this->base();
  return std::shared_ptr<WeakStore>(new WeakStore(std::move(base), data_, std::move(clock), revisions_));
}

bool WeakStore::Evict(std::string_view key) {
  const absl::StatusOr<Entry> entry = data_->Get(key, absl::InfiniteFuture());
  const bool gone = entry.ok() && data_->Delete(key, entry->revision, absl::InfiniteFuture()).ok();
  MutexLock lock(revisions_->mutex);
  const auto found = revisions_->by_key.find(key);
  if (gone && found != revisions_->by_key.end()) found->second.real = 0;
  return gone;
}

int WeakStore::EvictAll(std::string_view prefix) {
  int count = 0;
  const absl::StatusOr<std::vector<KeyedEntry>> entries = data_->List(prefix, absl::InfiniteFuture());
  if (!entries.ok()) return 0;
  for (const KeyedEntry& entry : *entries) count += Evict(entry.key) ? 1 : 0;
  return count;
}

Revision WeakStore::Shown(std::string_view key, Revision real) const {
  if (real == 0) return 0;
  const Revision now = static_cast<Revision>(std::max<int64_t>(absl::ToUnixMicros(clock_()), 1));
  MutexLock lock(revisions_->mutex);
  Revisions::Pair& pair = revisions_->by_key[std::string(key)];
  if (pair.real == real) return pair.shown;
  if (pair.real > real) return pair.shown - (pair.real - real);  // overwritten meanwhile
  pair = {real, Revisions::Next(pair, real, now)};
  return pair.shown;
}

Entry WeakStore::Shown(std::string_view key, Entry entry) const {
  entry.revision = Shown(key, entry.revision);
  entry.age = std::nullopt;
  return entry;
}

WriteResult WeakStore::Shown(std::string_view key, WriteResult result) const {
  result.revision = result.ok() ? Shown(key, result.revision) : 0;
  if (result.current) result.current = Shown(key, *std::move(result.current));
  return result;
}

// A revision that no entry has ever had, where it is not that of the present one.
Revision WeakStore::Real(std::string_view key, Revision shown) const {
  if (shown == 0) return 0;
  MutexLock lock(revisions_->mutex);
  const auto found = revisions_->by_key.find(key);
  const bool present = found != revisions_->by_key.end() && found->second.real != 0;
  return present && found->second.shown == shown ? found->second.real : ~Revision{0};
}

absl::StatusOr<Entry> WeakStore::Get(std::string_view key, absl::Time deadline) {
  absl::StatusOr<Entry> entry = StoreWrapper::Get(key, deadline);
  if (entry.ok()) return Shown(key, *std::move(entry));
  return entry;
}

WriteResult WeakStore::Create(std::string_view key, std::string_view value, absl::Time deadline) {
  return Shown(key, StoreWrapper::Create(key, value, deadline));
}

WriteResult WeakStore::Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) {
  return Shown(key, StoreWrapper::Update(key, value, Real(key, expected), deadline));
}

WriteResult WeakStore::Delete(std::string_view key, Revision expected, absl::Time deadline) {
  WriteResult result = StoreWrapper::Delete(key, Real(key, expected), deadline);
  if (!result.ok()) return Shown(key, std::move(result));
  MutexLock lock(revisions_->mutex);
  const auto found = revisions_->by_key.find(key);
  if (found != revisions_->by_key.end() && found->second.real < result.revision) found->second.real = 0;
  result.revision = 0;
  return result;
}

WriteResult WeakStore::Put(std::string_view key, std::string_view value, absl::Time deadline) {
  return Shown(key, StoreWrapper::Put(key, value, deadline));
}

absl::StatusOr<std::vector<KeyedEntry>> WeakStore::List(std::string_view, absl::Time) {
  return absl::UnimplementedError("this store cannot list its keys");
}

absl::StatusOr<std::unique_ptr<Watch>> WeakStore::WatchPrefix(std::string_view, WatchCallback) {
  return absl::UnimplementedError("this store has no watch");
}

}  // namespace kv
