#include "coord/cells/map_state.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "coord/cells/map_subscriber.h"
#include "coord/cells/values.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

MapState::MapState(std::shared_ptr<Core> core, std::string prefix, std::string what, const std::shared_ptr<Cell>& index)
    : core_(std::move(core)), prefix_(std::move(prefix)), what_(std::move(what)) {
  if (index != nullptr) index_ = std::make_unique<MapIndex>(core_.get(), index, [this] { return PresentKeys(); });
}

MapState::~MapState() {
  registration_ = nullptr;  // no handler runs from here on
  index_registration_ = nullptr;
  for (const auto& [key, cell] : AllCells()) cell->ClearListener(this);
}

absl::Status MapState::Load(absl::Time deadline) {
  {
    MutexLock lock(mu_);
    if (loaded_) return absl::OkStatus();
    if (registration_ == nullptr) {
      registration_ = core_->hub->Register(
          prefix_, [this](const kv::WatchEvent& event) { OnEvent(event); },
          [this](std::string_view key) { OnHint(key); });
    }
    if (index_ != nullptr && index_registration_ == nullptr) {
      index_registration_ = core_->hub->Register(
          index_->key(), [](const kv::WatchEvent&) {}, [this](std::string_view key) { OnHint(key); });
    }
  }
  absl::Status status = Refresh(deadline);
  if (!status.ok()) return status;
  MutexLock lock(mu_);
  if (!std::exchange(loaded_, true)) core_->cells->refresher().Add(shared_from_this());
  return absl::OkStatus();
}

std::shared_ptr<const MapState::Snapshot> MapState::Get() const {
  return cache_.Get([this] { return Fresh(); });
}

std::shared_ptr<const MapState::Snapshot> MapState::Fresh() const {
  MutexLock lock(mu_);
  if (snapshot_ == nullptr) snapshot_ = std::make_shared<const Snapshot>(working_);
  return snapshot_;
}

absl::StatusOr<std::shared_ptr<Cell>> MapState::CellOf(std::string_view key) {
  absl::Status status = CheckMapKey("map key", key);
  if (!status.ok()) return status;
  status = kv::CheckKey(prefix_ + EscapeName(key), core_->store->traits());
  if (!status.ok()) return status;
  const std::string epoch = core_->EpochId();
  std::shared_ptr<Cell> cell = FindOrMake(std::string(key));
  // All that exists has been listed, or what was not is found by the creation: no read is needed.
  cell->AssumeAbsent(epoch);
  return cell;
}

std::shared_ptr<Cell> MapState::FindOrMake(const std::string& key) {
  bool full = false;
  {
    MutexLock lock(mu_);
    auto found = cells_.find(key);
    if (found != cells_.end()) return found->second;
    full = TooManyAbsent();
  }
  if (full) ForgetAbsent();
  std::shared_ptr<Cell> cell =
      core_->cells->FindCell(prefix_ + EscapeName(key), absl::StrCat("key ", QuoteName(key), " of ", what_));
  cell->SetListener(this);
  MutexLock lock(mu_);
  return cells_.emplace(key, cell).first->second;
}

std::optional<std::string> MapState::MapKey(const std::string& store_key) const {
  absl::StatusOr<std::string> key = UnescapeName(std::string_view(store_key).substr(prefix_.size()));
  if (!key.ok() || !CheckMapKey("map key", *key).ok()) return std::nullopt;
  return *std::move(key);
}

MapState::Cells MapState::AllCells() const {
  MutexLock lock(mu_);
  return cells_;
}

bool MapState::TooManyAbsent() const { return refreshing_ == 0 && cells_.size() - working_.size() >= forget_at_; }

// Forgets the cells of absent keys that nobody uses, and of which no push or listing under way can bring an old state.
void MapState::ForgetAbsent() {
  const bool watched = core_->hub->has_watch();
  std::vector<std::string> absent;
  kv::Revision pushed = 0;
  {
    MutexLock lock(mu_);
    pushed = pushed_;
  }
  for (const auto& [key, cell] : AllCells()) {
    if (!cell->present() && (!watched || cell->floor() <= pushed)) absent.push_back(key);
  }
  MutexLock lock(mu_);
  if (refreshing_ > 0) return;
  for (const std::string& key : absent) {
    auto found = cells_.find(key);
    if (found != cells_.end() && found->second.use_count() == 1) cells_.erase(found);
  }
  // What could not be forgotten is not looked at again with every new key.
  forget_at_ = std::max(kMaxAbsent, 2 * (cells_.size() - working_.size()));
}

void MapState::OnCell(const std::string& store_key, const CellStatePtr& now) {
  std::optional<std::string> key = MapKey(store_key);
  if (!key.has_value()) return;
  MutexLock lock(mu_);
  if (now->record.has_value()) {
    working_.insert_or_assign(*key, *PublicValue(*now));
  } else if (working_.erase(*key) == 0) {
    return;
  }
  snapshot_ = nullptr;
  cache_.Changed();
  size_t kept = 0;
  for (std::weak_ptr<Subscriber>& weak : subscribers_) {
    std::shared_ptr<Subscriber> subscriber = weak.lock();
    if (subscriber == nullptr) continue;
    subscriber->news.insert(*key);
    Post(subscriber);
    subscribers_[kept++] = subscriber;
  }
  subscribers_.resize(kept);
}

void MapState::OnEvent(const kv::WatchEvent& event) {
  bool understood = true;
  switch (event.kind) {
    case kv::WatchKind::kPut:
    case kv::WatchKind::kDelete:
      understood = OnEntryEvent(event);
      break;
    case kv::WatchKind::kResync:
      for (const auto& [key, cell] : AllCells()) cell->Unconfirm();
      break;
    case kv::WatchKind::kEpochChanged:
      OnEpochChanged();
      break;
    case kv::WatchKind::kSynced:
      for (const auto& [key, cell] : AllCells()) understood = understood && cell->confirmed();
      break;
  }
  if (!understood) core_->cells->refresher().Schedule(weak_from_this());
}

bool MapState::OnEntryEvent(const kv::WatchEvent& event) {
  std::optional<std::string> key = MapKey(event.key);
  if (!key.has_value()) return true;
  std::shared_ptr<Cell> cell = FindOrMake(*key);
  bool understood = true;
  if (event.kind == kv::WatchKind::kPut) {
    absl::StatusOr<CellStatePtr> state = core_->cells->Parse(*cell, event.entry, core_->EpochId());
    if (state.ok()) understood = cell->LearnPush(*state, event.entry.revision);
  } else {
    auto absent = std::make_shared<CellState>();
    absent->epoch = core_->EpochId();
    understood = cell->LearnPush(absent, event.entry.revision);
  }
  MutexLock lock(mu_);
  pushed_ = std::max(pushed_, event.entry.revision);
  return understood;
}

void MapState::OnEpochChanged() {
  for (const auto& [key, cell] : AllCells()) cell->Reset();
  MutexLock lock(mu_);
  pushed_ = 0;
  absent_since_.clear();
  read_all_ = true;
}

void MapState::Post(const std::shared_ptr<Subscriber>& subscriber) {
  if (std::exchange(subscriber->pending, true)) return;
  const bool posted = core_->callbacks->Post([subscriber] {
    std::shared_ptr<MapState> self = subscriber->owner.lock();
    if (self == nullptr) return;
    for (const auto& [key, now] : self->TakeNews(*subscriber)) subscriber->slot.Run(key, now);
  });
  if (!posted) subscriber->pending = false;
}

std::vector<std::pair<std::string, std::optional<Versioned>>> MapState::TakeNews(Subscriber& subscriber) {
  std::vector<std::pair<std::string, std::optional<Versioned>>> news;
  MutexLock lock(mu_);
  subscriber.pending = false;
  for (const std::string& key : std::exchange(subscriber.news, {})) {
    auto now = working_.find(key);
    auto told = subscriber.told.find(key);
    if (now != working_.end()) {
      if (told != subscriber.told.end() && told->second == now->second.revision) continue;
      subscriber.told[key] = now->second.revision;
      news.emplace_back(key, now->second);
    } else if (told != subscriber.told.end()) {
      subscriber.told.erase(told);
      news.emplace_back(key, std::nullopt);
    }
  }
  return news;
}

Subscription MapState::OnChange(const std::shared_ptr<MapState>& self, OnChangeFunction fn) {
  auto subscriber = std::make_shared<Subscriber>(*self->core_->runtime, std::move(fn));
  subscriber->owner = self;
  {
    MutexLock lock(self->mu_);
    for (const auto& [key, now] : self->working_) subscriber->news.insert(key);
    self->subscribers_.push_back(subscriber);
    self->Post(subscriber);
  }
  return MakeSubscription(std::move(subscriber), self);  // follows on even if the SharedMap is gone
}

}  // namespace coord::internal
