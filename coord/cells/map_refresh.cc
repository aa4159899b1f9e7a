// How a map catches up by reading: by a listing, or key by key where the store cannot list.

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "coord/cells/map_state.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

// While one lives no cell is forgotten.
class MapState::Refreshing {
 public:
  explicit Refreshing(MapState& state) : state_(state) {
    MutexLock lock(state_.mu_);
    ++state_.refreshing_;
  }
  ~Refreshing() {
    MutexLock lock(state_.mu_);
    --state_.refreshing_;
  }
  Refreshing(const Refreshing&) = delete;
  Refreshing& operator=(const Refreshing&) = delete;

 private:
  MapState& state_;
};

absl::Status MapState::Refresh(absl::Time deadline) {
  const Refreshing refreshing(*this);
  return index_ == nullptr ? RefreshByList(deadline) : RefreshByIndex(deadline);
}

absl::Status MapState::RefreshByList(absl::Time deadline) {
  std::map<std::string, Cell::Mark> marks;  // of the cells that there were before the listing
  for (const auto& [key, cell] : AllCells()) marks[key] = cell->Now();
  const std::string epoch = core_->EpochId();
  absl::StatusOr<std::vector<kv::KeyedEntry>> listed = core_->cells->List(prefix_, what_, deadline);
  if (!listed.ok()) return listed.status();
  for (const kv::KeyedEntry& entry : *listed) {
    std::optional<std::string> key = MapKey(entry.key);
    if (!key.has_value()) continue;
    std::shared_ptr<Cell> cell = FindOrMake(*key);
    auto mark = marks.find(*key);
    absl::StatusOr<CellStatePtr> state = core_->cells->Parse(*cell, entry.entry, epoch);
    if (state.ok()) cell->LearnRead(mark != marks.end() ? mark->second : Cell::Mark(), *state, true);
    if (mark != marks.end()) marks.erase(mark);
  }
  auto absent = std::make_shared<CellState>();
  absent->epoch = epoch;
  for (const auto& [key, mark] : marks) FindOrMake(key)->LearnRead(mark, absent, true);
  return absl::OkStatus();
}

MapState::Keys MapState::PresentKeys() const {
  MutexLock lock(mu_);
  Keys keys;
  for (const auto& [key, now] : working_) keys.insert(key);
  return keys;
}

absl::Status MapState::Announce(std::string_view key, absl::Time deadline) {
  if (index_ == nullptr || index_->Names(key)) return absl::OkStatus();
  const Keys one = {std::string(key)};
  absl::Status added = index_->Change(one, {}, deadline);
  if (!absl::IsResourceExhausted(added)) return added;
  // What is gone makes room, however short a time ago it went.
  {
    MutexLock lock(mu_);
    read_all_ = true;
  }
  if (absl::Status read = Refresh(deadline); !read.ok()) return read;
  Keys absent;
  {
    MutexLock lock(mu_);
    for (const auto& [gone, since] : absent_since_) absent.insert(gone);
  }
  absent.erase(std::string(key));
  if (absl::Status forgotten = Forget(absent, deadline); !forgotten.ok()) return forgotten;
  return index_->Change(one, {}, deadline);
}

// All keys that are new, or all at all; else the next ones after those of the last time.
MapState::Keys MapState::Due(const Keys& named, bool all) {
  MutexLock lock(mu_);
  Keys known, due;
  for (const std::string& key : named) {
    const bool seen = cells_.count(key) != 0 || absent_since_.count(key) != 0;
    (seen ? known : due).insert(key);
  }
  for (const auto& [key, now] : working_) known.insert(key);
  if (all || known.size() <= kReadsPerRefresh) {
    due.merge(known);
    return due;
  }
  auto next = known.upper_bound(read_up_to_);
  for (size_t i = 0; i < kReadsPerRefresh; ++i, ++next) {
    if (next == known.end()) next = known.begin();
    read_up_to_ = *next;
    due.insert(*next);
  }
  return due;
}

absl::Status MapState::ReadKeys(const Keys& keys, absl::Time deadline) {
  for (const std::string& key : keys) {
    const std::shared_ptr<Cell> cell = FindOrMake(key);
    const absl::StatusOr<CellStatePtr> read = core_->cells->Read(*cell, deadline, /*absence_counts=*/true);
    // A damaged entry was reported, and must not spoil the others.
    const absl::Status& status = read.status();
    if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsCancelled(status)) return status;
  }
  return absl::OkStatus();
}

absl::Status MapState::RefreshByIndex(absl::Time deadline) {
  bool all;
  {
    MutexLock lock(mu_);
    all = std::exchange(read_all_, false);
  }
  const absl::StatusOr<std::optional<Keys>> index = index_->Read(deadline);
  // Without an index the store has dropped it, or everything.
  const Keys named = index.ok() && index->has_value() ? **index : Keys();
  const Keys due = Due(named, all || !index.ok() || !index->has_value());
  absl::Status status = index.status();
  if (status.ok()) status = ReadKeys(due, deadline);
  if (!status.ok()) {
    MutexLock lock(mu_);
    read_all_ = read_all_ || all;
    return status;
  }
  Keys missing;
  for (const std::string& key : PresentKeys()) {
    if (named.count(key) == 0) missing.insert(key);
  }
  if (!missing.empty()) {
    status = index_->Change(missing, {}, deadline);
    if (absl::IsUnavailable(status)) return status;
  }
  return Forget(LongAbsent(named, due), deadline);
}

// Notes which keys of the index have no entry. Of those just read, returns those that have had none for so long that
// their place in the index goes too.
MapState::Keys MapState::LongAbsent(const Keys& named, const Keys& read) {
  const absl::Time now = core_->runtime->Now();
  Keys keys, usable;
  for (const auto& [key, cell] : AllCells()) {
    if (cell->usable()) usable.insert(key);
  }
  MutexLock lock(mu_);
  std::map<std::string, absl::Time, std::less<>> before;
  before.swap(absent_since_);
  for (const std::string& key : named) {
    const auto since = before.find(key);
    const bool seen = usable.count(key) != 0 || (cells_.count(key) == 0 && since != before.end());
    if (working_.count(key) != 0 || !seen) continue;
    const absl::Time first = since == before.end() ? now : since->second;
    absent_since_[key] = first;
    if (first <= now - core_->options.idle_record_ttl && read.count(key) != 0) keys.insert(key);
  }
  return keys;
}

// Takes absent keys out of the index, and looks at them once more: one that somebody has created meanwhile, going by an
// index that named it still, is held from now on, and put back by the next refresh.
absl::Status MapState::Forget(const Keys& keys, absl::Time deadline) {
  if (keys.empty()) return absl::OkStatus();
  if (absl::Status dropped = index_->Change({}, keys, deadline); !dropped.ok()) return dropped;
  {
    MutexLock lock(mu_);
    for (const std::string& key : keys) absent_since_.erase(key);
  }
  return ReadKeys(keys, deadline);
}

// A key that is not known may be a new one, and then the index names it, or a listing: it is not read on the word of a
// hint alone, so that made-up ones cost one read for all of them.
void MapState::OnHint(std::string_view store_key) {
  const bool index = index_ != nullptr && store_key == index_->key();
  const std::optional<std::string> key = index ? std::nullopt : MapKey(std::string(store_key));
  if (!index && !key.has_value()) return;
  {
    MutexLock lock(mu_);
    if (key.has_value() && (cells_.count(*key) != 0 || absent_since_.count(*key) != 0)) {
      hinted_.insert(*key);
    } else {
      new_hinted_ = true;
    }
  }
  core_->cells->refresher().ScheduleHinted(weak_from_this());
}

// Reads the keys that hints have named, and finds new ones.
absl::Status MapState::RefreshHinted(absl::Time deadline) {
  const Refreshing refreshing(*this);
  Keys due;
  bool find = false;
  {
    MutexLock lock(mu_);
    due.swap(hinted_);
    find = std::exchange(new_hinted_, false);
  }
  if (find && index_ == nullptr) return RefreshByList(deadline);
  if (find) {
    const absl::StatusOr<std::optional<Keys>> index = index_->Read(deadline);
    if (!index.ok()) return index.status();
    MutexLock lock(mu_);
    for (const std::string& key : index->value_or(Keys())) {
      if (cells_.count(key) == 0 && absent_since_.count(key) == 0) due.insert(key);
    }
  }
  return ReadKeys(due, deadline);
}

}  // namespace coord::internal
