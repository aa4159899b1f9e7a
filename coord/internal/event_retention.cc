#include "coord/internal/event_retention.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/internal/event_cursor_expiry.h"
#include "coord/internal/event_record.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

constexpr size_t kDeletesPerTrim = 1024;
constexpr absl::Duration kSweepEvery = absl::Hours(1);

struct Listed {
  EventKey key;
  const kv::KeyedEntry* entry = nullptr;
};

}  // namespace

EventRetention::EventRetention(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                               std::shared_ptr<EventCursors> cursors, StoreEventOptions options)
    : core_(std::move(core)), worker_(std::move(worker)), cursors_(std::move(cursors)), options_(options) {}

void EventRetention::Start() {
  {
    MutexLock lock(mu_);
    if (std::exchange(started_, true)) return;
  }
  QueueSweep(absl::Minutes(1) + absl::Milliseconds(core_->runtime->Random() % (9 * 60 * 1000)));
}

void EventRetention::QueueSweep(absl::Duration after) {
  worker_->Post(core_->runtime->Now() + after, [self = shared_from_this()] {
    self->Sweep();
    const double spread = static_cast<double>(self->core_->runtime->Random() % 1000) / 1000;
    self->QueueSweep(kSweepEvery * (0.9 + 0.2 * spread));
  });
}

void EventRetention::OnStored(const std::string& topic, uint64_t number) {
  Start();
  const uint64_t every = std::max<uint64_t>(kTrimEvery, options_.keep_events / 8);
  // Many programs that publish once each must trim too: now and then one of them does.
  const bool lucky = number == 1 && core_->runtime->Random() % 16 == 0;
  if (lucky || number == kTrimEvery || number % every == 0) QueueTrim(topic);
}

void EventRetention::QueueTrim(const std::string& topic) {
  {
    MutexLock lock(mu_);
    if (!queued_.insert(topic).second) return;
  }
  worker_->Post(core_->runtime->Now(), [self = shared_from_this(), topic] {
    {
      MutexLock lock(self->mu_);
      self->queued_.erase(topic);
    }
    self->Trim(topic);
  });
}

void EventRetention::Trim(const std::string& topic) {
  const std::string prefix = core_->CellKey("event", topic) + "/";
  const auto entries = core_->store->List(prefix, core_->CallDeadline(absl::InfiniteFuture()));
  // What fails now is done by the next trim.
  if (entries.ok() && !TrimListed(prefix, *entries)) QueueTrim(topic);
}

bool EventRetention::TrimListed(const std::string& prefix, const std::vector<kv::KeyedEntry>& entries) {
  std::optional<kv::Entry> floor;
  std::vector<Listed> reliable;
  for (const kv::KeyedEntry& entry : entries) {
    const std::string_view name = std::string_view(entry.key).substr(prefix.size());
    if (name == kEventFloorName) floor = entry.entry;
    const std::optional<EventKey> key = ParseEventKey(name);
    if (!key.has_value()) continue;
    if (key->reliable) {
      reliable.push_back({*key, &entry});
    } else if (EventAge(entry.entry) > kStale && !Delete(entry.key, entry.entry.revision)) {
      return true;
    }
  }
  std::sort(reliable.begin(), reliable.end(),
            [](const Listed& a, const Listed& b) { return a.entry->entry.revision < b.entry->entry.revision; });
  size_t doomed = reliable.size() > options_.keep_events ? reliable.size() - options_.keep_events : 0;
  while (doomed < reliable.size() && EventAge(reliable[doomed].entry->entry) > options_.keep_for) ++doomed;
  const bool more = doomed > kDeletesPerTrim;
  doomed = std::min(doomed, kDeletesPerTrim);
  if (doomed == 0) return true;
  const kv::Revision revision = reliable[doomed - 1].entry->entry.revision;
  const absl::Status raised = RaiseFloor(prefix + std::string(kEventFloorName), std::move(floor), revision);
  if (!raised.ok()) {
    if (absl::IsFailedPrecondition(raised)) core_->Log(LogLevel::kWarning, std::string(raised.message()));
    return true;
  }
  for (size_t i = 0; i < doomed; ++i) {
    if (!Delete(reliable[i].entry->key, reliable[i].entry->entry.revision)) return true;
  }
  return !more;
}

absl::Status EventRetention::RaiseFloor(const std::string& key, std::optional<kv::Entry> entry, uint64_t revision) {
  const std::string epoch = core_->EpochId();
  for (int attempt = 0;; ++attempt) {
    EventFloor floor;
    if (entry.has_value()) {
      absl::StatusOr<EventFloor> found =
          ParseEventFloor(entry->value, absl::StrCat("the floor of the events under ", key));
      if (absl::IsFailedPrecondition(found.status())) return found.status();
      if (found.ok()) floor = *std::move(found);
      if (floor.epoch == epoch && floor.revision >= revision) return absl::OkStatus();
    }
    floor.epoch = epoch;
    floor.revision = revision;
    floor.nonce = core_->Nonce();
    const absl::Time until = core_->CallDeadline(absl::InfiniteFuture());
    const kv::WriteResult result = entry.has_value() ? core_->store->Update(key, Format(floor), entry->revision, until)
                                                     : core_->store->Create(key, Format(floor), until);
    const bool conflict = absl::IsAborted(result.status) || absl::IsNotFound(result.status) ||
                          result.status.code() == absl::StatusCode::kAlreadyExists;
    if (!conflict || attempt == 2) return result.status;
    absl::StatusOr<kv::Entry> again = core_->store->Get(key, core_->CallDeadline(absl::InfiniteFuture()));
    if (!again.ok() && !absl::IsNotFound(again.status())) return again.status();
    entry = again.ok() ? std::optional<kv::Entry>(*std::move(again)) : std::nullopt;
  }
}

void EventRetention::Sweep() {
  cursors_->Touch(options_.keep_cursors / 4);
  SweepEvents("event");
  SweepEvents("ask");
  SweepEvents("reply");
  ExpireCursors(*core_, *core_->store, *worker_, options_.keep_cursors);
}

void EventRetention::SweepEvents(std::string_view kind) {
  const std::string root = absl::StrCat(core_->options.plugin, "/", std::string(kind), "/");
  auto entries = core_->store->List(root, core_->CallDeadline(absl::InfiniteFuture()));
  if (!entries.ok()) return;
  // Sorted by key: the entries of one topic stand together.
  for (size_t begin = 0; begin < entries->size() && !worker_->stopping();) {
    const std::string& first = (*entries)[begin].key;
    const size_t slash = first.find('/', root.size());
    const std::string prefix = first.substr(0, slash == std::string::npos ? first.size() : slash + 1);
    std::vector<kv::KeyedEntry> topic;
    for (; begin < entries->size() && (*entries)[begin].key.compare(0, prefix.size(), prefix) == 0; ++begin) {
      topic.push_back(std::move((*entries)[begin]));
    }
    TrimListed(prefix, topic);
  }
}

absl::Duration EventRetention::EventAge(const kv::Entry& entry) const {
  if (entry.age.has_value()) return *entry.age;
  const absl::StatusOr<EventEnvelope> envelope = ParseEventEnvelope(entry.value, "an event");
  return envelope.ok() ? core_->runtime->WallNow() - envelope->at : absl::ZeroDuration();
}

bool EventRetention::Delete(const std::string& key, kv::Revision revision) {
  if (worker_->stopping()) return false;
  const kv::WriteResult result = core_->store->Delete(key, revision, core_->CallDeadline(absl::InfiniteFuture()));
  return result.ok() || absl::IsNotFound(result.status) || absl::IsAborted(result.status);
}

}  // namespace coord::internal
