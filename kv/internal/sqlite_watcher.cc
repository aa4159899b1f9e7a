#include "kv/internal/sqlite_watcher.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

// One look reads at most this much before it delivers, so that a burst takes bounded memory.
constexpr int kMaxChanges = 512;
constexpr size_t kMaxBatchBytes = 8 << 20;

// How long the thread waits for locks at a time: short, for it must also notice that it is to stop.
constexpr std::chrono::milliseconds kLockWait(200);

// Between tries while the database cannot be used.
constexpr absl::Duration kRetryPeriod = absl::Milliseconds(50);

bool HasPrefix(std::string_view key, std::string_view prefix) { return key.substr(0, prefix.size()) == prefix; }

WatchEvent Signal(WatchKind kind) {
  WatchEvent event;
  event.kind = kind;
  return event;
}

}  // namespace

struct Watcher::Subscription {
  Subscription(std::string_view watched, WatchCallback function) : prefix(watched), callback(std::move(function)) {}

  const std::string prefix;
  const WatchCallback callback;
  bool cancelled = false;  // guarded by the watcher's mutex

  // Of the thread alone.
  bool needs_snapshot = true;
  std::optional<WatchKind> before_snapshot;  // kResync or kEpochChanged
  Revision from = 0;                         // changes up to here are in the snapshot
};

class Watcher::Handle : public Watch {
 public:
  Handle(Watcher* watcher, std::shared_ptr<Subscription> subscription)
      : watcher_(watcher), subscription_(std::move(subscription)) {}
  ~Handle() override { watcher_->Remove(subscription_); }

 private:
  Watcher* const watcher_;
  const std::shared_ptr<Subscription> subscription_;
};

Watcher::Watcher(Database* database, Doorbell* bell, const BootClock* clock)
    : database_(database), bell_(bell), clock_(clock) {}

Watcher::~Watcher() {
  std::thread thread;
  {
    MutexLock lock(mutex_);
    stop_ = true;
    thread.swap(thread_);
  }
  if (!thread.joinable()) return;
  bell_->Ring();
  thread.join();
}

std::unique_ptr<Watch> Watcher::Add(std::string_view prefix, WatchCallback callback) {
  auto subscription = std::make_shared<Subscription>(prefix, std::move(callback));
  {
    MutexLock lock(mutex_);
    subscriptions_.push_back(subscription);
    if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  }
  bell_->Ring();
  return std::make_unique<Handle>(this, std::move(subscription));
}

void Watcher::Remove(const std::shared_ptr<Subscription>& subscription) {
  MutexLock lock(mutex_);
  subscription->cancelled = true;
  subscriptions_.erase(std::remove(subscriptions_.begin(), subscriptions_.end(), subscription), subscriptions_.end());
  const bool inside = thread_.get_id() == std::this_thread::get_id();
  while (running_ == subscription.get() && !inside) finished_.Wait(mutex_);
}

Watcher::Subscriptions Watcher::Current() const {
  MutexLock lock(mutex_);
  return subscriptions_;
}

void Watcher::Run() {
  while (true) {
    const uint32_t heard = bell_->Value();
    {
      MutexLock lock(mutex_);
      if (stop_) break;
    }
    const absl::Status status = CatchUp();
    absl::Duration wait = database_->options().safety_poll;
    if (!status.ok()) {
      // The next try opens the file anew, whatever was wrong with it.
      connection_.reset();
      wait = std::min(wait, kRetryPeriod);
    }
    bell_->Wait(heard, wait);
    bell_->Refresh();
  }
  connection_.reset();
}

absl::Status Watcher::CatchUp() {
  Batch batch;
  do {
    if (absl::Status status = EnsureConnection(); !status.ok()) return status;
    const Subscriptions subscriptions = Current();
    batch = Batch();
    if (absl::Status status = connection_->Execute("BEGIN"); !status.ok()) return status;
    const Revision before = position_;
    absl::Status status = Read(subscriptions, &batch);
    connection_->Rollback();
    if (!status.ok()) {
      // What was read is not delivered, and so is read again. Nought stands for a new beginning.
      if (position_ != 0) position_ = before;
      return status;
    }
    database_->Saw(static_cast<int64_t>(position_));
    Deliver(subscriptions, batch);
    MutexLock lock(mutex_);
    if (stop_) return absl::OkStatus();
  } while (batch.more);
  return absl::OkStatus();
}

absl::Status Watcher::EnsureConnection() {
  const auto deadline = steady_clock::now() + kLockWait;
  if (connection_ != nullptr && connection_->HasMoved()) connection_.reset();
  if (connection_ == nullptr) {
    absl::StatusOr<std::unique_ptr<Connection>> connection = database_->Connect(deadline);
    if (!connection.ok()) return connection.status();
    connection_ = *std::move(connection);
  }
  connection_->SetDeadline(deadline);
  return absl::OkStatus();
}

absl::Status Watcher::Read(const Subscriptions& subscriptions, Batch* batch) {
  absl::StatusOr<std::string> incarnation = database_->Incarnation(*connection_);
  if (!incarnation.ok()) return incarnation.status();
  if (*incarnation != incarnation_) {
    if (!incarnation_.empty()) Restart(WatchKind::kEpochChanged);
    incarnation_ = *std::move(incarnation);
    position_ = 0;
  }
  if (position_ != 0) {
    if (absl::Status status = ReadChanges(subscriptions, batch); !status.ok()) return status;
  }
  const bool begins =
      std::any_of(subscriptions.begin(), subscriptions.end(), [](const auto& each) { return each->needs_snapshot; });
  if (!begins && position_ != 0) return absl::OkStatus();
  const auto newest = connection_->QueryInt("SELECT max(revision) FROM changes");
  if (!newest.ok()) return newest.status();
  for (const auto& subscription : subscriptions) {
    if (!subscription->needs_snapshot) continue;
    if (absl::Status status = ReadSnapshot(subscription, batch); !status.ok()) return status;
    batch->snapshots.back().revision = static_cast<Revision>(newest->value_or(0));
  }
  if (position_ == 0) position_ = static_cast<Revision>(newest->value_or(0));
  return absl::OkStatus();
}

absl::Status Watcher::ReadChanges(const Subscriptions& subscriptions, Batch* batch) {
  size_t bytes = 0;
  int rows = 0;
  Revision position = position_;
  Statement changes(*connection_, "SELECT revision, key, op FROM changes WHERE revision > ?1 ORDER BY revision");
  changes.BindInt(1, static_cast<int64_t>(position_));
  int code = SQLITE_ROW;
  while ((code = changes.Step()) == SQLITE_ROW) {
    const auto revision = static_cast<Revision>(changes.Int(0));
    if (revision != position + 1) {
      // The log is numbered without gaps: what is missing has been trimmed.
      batch->changes.clear();
      position_ = 0;
      Restart(WatchKind::kResync);
      return absl::OkStatus();
    }
    position = revision;
    const std::string_view key = changes.Text(1);
    const bool watched = std::any_of(subscriptions.begin(), subscriptions.end(),
                                     [key](const auto& each) { return HasPrefix(key, each->prefix); });
    if (watched && changes.Int(2) == static_cast<int64_t>(ChangeOp::kDelete)) {
      WatchEvent event;
      event.kind = WatchKind::kDelete;
      event.key = std::string(key);
      event.entry.revision = revision;
      batch->changes.push_back(std::move(event));
    } else if (watched) {
      const size_t before = batch->changes.size();
      if (absl::Status status = ReadChanged(key, revision, batch); !status.ok()) return status;
      if (batch->changes.size() > before) bytes += batch->changes.back().entry.value.size();
    }
    batch->more = ++rows == kMaxChanges || bytes >= kMaxBatchBytes;
    if (batch->more) break;
  }
  if (code != SQLITE_ROW && code != SQLITE_DONE) return connection_->Error(code);
  position_ = position;
  return absl::OkStatus();
}

// The entry as it is now; if it has been written again since, then that later change is in the log too.
absl::Status Watcher::ReadChanged(std::string_view key, Revision revision, Batch* batch) {
  Statement get(*connection_, "SELECT value, written, clock FROM entries WHERE key = ?1 AND revision = ?2");
  get.BindText(1, key);
  get.BindInt(2, static_cast<int64_t>(revision));
  const int code = get.Step();
  if (code == SQLITE_DONE) return absl::OkStatus();
  if (code != SQLITE_ROW) return connection_->Error(code);
  WatchEvent event;
  event.key = std::string(key);
  event.entry = Entry{std::string(get.Blob(0)), revision, clock_->Since(get.Int(1), get.Int(2))};
  batch->changes.push_back(std::move(event));
  return absl::OkStatus();
}

absl::Status Watcher::ReadSnapshot(const std::shared_ptr<Subscription>& subscription, Batch* batch) {
  Batch::Snapshot snapshot;
  snapshot.subscription = subscription;
  if (subscription->before_snapshot.has_value()) snapshot.events.push_back(Signal(*subscription->before_snapshot));
  Statement list(*connection_, "SELECT key, value, revision, written, clock FROM entries WHERE key >= ?1 ORDER BY key");
  list.BindText(1, subscription->prefix);
  int code = SQLITE_ROW;
  while ((code = list.Step()) == SQLITE_ROW && HasPrefix(list.Text(0), subscription->prefix)) {
    WatchEvent event;
    event.key = std::string(list.Text(0));
    event.entry =
        Entry{std::string(list.Blob(1)), static_cast<Revision>(list.Int(2)), clock_->Since(list.Int(3), list.Int(4))};
    snapshot.events.push_back(std::move(event));
  }
  if (code != SQLITE_ROW && code != SQLITE_DONE) return connection_->Error(code);
  snapshot.events.push_back(Signal(WatchKind::kSynced));
  batch->snapshots.push_back(std::move(snapshot));
  return absl::OkStatus();
}

void Watcher::Deliver(const Subscriptions& subscriptions, const Batch& batch) {
  // Changes first: a snapshot of the same look is newer, and its watch takes none of them.
  for (const WatchEvent& event : batch.changes) {
    for (const auto& subscription : subscriptions) {
      if (subscription->needs_snapshot || event.entry.revision <= subscription->from) continue;
      if (HasPrefix(event.key, subscription->prefix)) Call(subscription, event);
    }
  }
  for (const Batch::Snapshot& snapshot : batch.snapshots) {
    const auto& subscription = snapshot.subscription;
    subscription->needs_snapshot = false;
    subscription->before_snapshot.reset();
    subscription->from = snapshot.revision;
    for (const WatchEvent& event : snapshot.events) {
      if (!Call(subscription, event)) break;
    }
  }
}

bool Watcher::Call(const std::shared_ptr<Subscription>& subscription, const WatchEvent& event) {
  {
    MutexLock lock(mutex_);
    if (subscription->cancelled || stop_) return false;
    running_ = subscription.get();
  }
  subscription->callback(event);
  MutexLock lock(mutex_);
  running_ = nullptr;
  finished_.NotifyAll();
  return true;
}

void Watcher::Restart(WatchKind kind) {
  for (const auto& subscription : Current()) {
    // One that has seen nothing yet has nothing to forget; of two reasons the stronger one stays.
    if (!subscription->needs_snapshot) subscription->before_snapshot = kind;
    if (subscription->before_snapshot.has_value() && kind == WatchKind::kEpochChanged) {
      subscription->before_snapshot = kind;
    }
    subscription->needs_snapshot = true;
  }
}

}  // namespace kv::internal
