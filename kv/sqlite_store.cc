#include "kv/sqlite_store.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/internal/boot_clock.h"
#include "kv/internal/deadline.h"
#include "kv/internal/doorbell.h"
#include "kv/internal/mutex.h"
#include "kv/internal/sqlite_connection.h"
#include "kv/internal/sqlite_database.h"
#include "kv/internal/sqlite_files.h"
#include "kv/internal/sqlite_transaction.h"
#include "kv/internal/sqlite_watcher.h"

namespace kv {
namespace {

using internal::Connection;
using internal::Database;
using internal::Statement;
using internal::SteadyTime;
using internal::TimedMutex;
using internal::Write;

// Rows that a List reads between two looks at its deadline.
constexpr int kRowsPerCheck = 64;

// How often this process image has come out of a fork: the locks of the parent's connections do not exist in the child.
std::atomic<int> forks{0};

int ForkCount() {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1); }); });
  return forks.load(std::memory_order_relaxed);
}

// A connection that is opened when it is needed, and who may use it. SQLite locks out writers among processes, the
// mutex those of this one.
struct Lane {
  TimedMutex mutex;
  std::unique_ptr<Connection> connection KV_GUARDED_BY(mutex);
};

WriteResult Failed(absl::Status status) { return {std::move(status), 0, std::nullopt}; }

class SqliteStore : public Store {
 public:
  // `connection` is the one that proved that the file can be used.
  SqliteStore(std::unique_ptr<Database> database, std::unique_ptr<Connection> connection)
      : database_(std::move(database)),
        bell_(database_->bell_path()),
        watcher_(database_.get(), &bell_, &clock_),
        forks_(ForkCount()) {
    writer_.connection = std::move(connection);
    traits_.name = "sqlite";
    traits_.durable = database_->options().sync_full;
    traits_.watch = true;
    traits_.age = true;
    traits_.proves_incarnation = true;
  }

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override;
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Apply({Write::Kind::kCreate, key, value, 0}, deadline);
  }
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override {
    return Apply({Write::Kind::kUpdate, key, value, expected}, deadline);
  }
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override {
    return Apply({Write::Kind::kDelete, key, "", expected}, deadline);
  }
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Apply({Write::Kind::kPut, key, value, 0}, deadline);
  }
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override {
    if (absl::Status status = CheckFork(); !status.ok()) return status;
    return watcher_.Add(prefix, std::move(callback));
  }
  const Traits& traits() const override { return traits_; }

 private:
  absl::Status CheckFork() const;
  absl::StatusOr<SteadyTime> Begin(absl::Time deadline) const;
  absl::Status Busy();
  absl::Status Ready(Lane& lane, SteadyTime deadline) KV_REQUIRES(lane.mutex);
  absl::Status ReadyToRead(SteadyTime deadline) KV_REQUIRES(reader_.mutex);

  absl::StatusOr<Entry> LockedGet(std::string_view key, SteadyTime deadline) KV_REQUIRES(reader_.mutex);
  absl::StatusOr<std::vector<KeyedEntry>> LockedList(std::string_view prefix, SteadyTime deadline)
      KV_REQUIRES(reader_.mutex);

  WriteResult Apply(const Write& write, absl::Time deadline);
  WriteResult LockedApply(const Write& write, SteadyTime deadline) KV_REQUIRES(writer_.mutex);

  Traits traits_;
  const std::unique_ptr<Database> database_;
  internal::Doorbell bell_;
  const internal::BootClock clock_;
  Lane writer_;
  Lane reader_;  // of its own, so that reads go on while a writer waits for the lock of another process
  internal::Watcher watcher_;
  const int forks_;
};

absl::Status SqliteStore::CheckFork() const {
  if (forks.load(std::memory_order_relaxed) == forks_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "sqlite: this store was opened before a fork and cannot be used in the child process; open it anew there");
}

absl::StatusOr<SteadyTime> SqliteStore::Begin(absl::Time deadline) const {
  if (absl::Status status = CheckFork(); !status.ok()) return status;
  const std::optional<SteadyTime> until = internal::SteadyDeadline(deadline);
  if (!until.has_value()) return absl::DeadlineExceededError("sqlite: the deadline had passed before the call");
  return *until;
}

absl::Status SqliteStore::Busy() {
  const std::string blocker = database_->note().Get();
  std::string text = absl::StrCat("sqlite: ", database_->path(), " is busy: earlier calls of this process still wait");
  if (!blocker.empty()) absl::StrAppend(&text, " for the lock that ", blocker, " holds");
  return absl::UnavailableError(text);
}

absl::Status SqliteStore::Ready(Lane& lane, SteadyTime deadline) {
  if (lane.connection != nullptr && lane.connection->broken()) lane.connection.reset();
  if (lane.connection == nullptr) {
    absl::StatusOr<std::unique_ptr<Connection>> connection = database_->Connect(deadline);
    if (!connection.ok()) return connection.status();
    lane.connection = *std::move(connection);
  }
  lane.connection->SetDeadline(deadline);
  return absl::OkStatus();
}

absl::Status SqliteStore::ReadyToRead(SteadyTime deadline) {
  if (reader_.connection != nullptr && reader_.connection->HasMoved()) reader_.connection.reset();
  return Ready(reader_, deadline);
}

absl::StatusOr<Entry> SqliteStore::Get(std::string_view key, absl::Time deadline) {
  if (absl::Status status = CheckKey(key, traits_); !status.ok()) return status;
  const absl::StatusOr<SteadyTime> until = Begin(deadline);
  if (!until.ok()) return until.status();
  if (!reader_.mutex.TryLockUntil(*until)) return Busy();
  absl::StatusOr<Entry> entry = LockedGet(key, *until);
  reader_.mutex.Unlock();
  if (entry.ok()) database_->Saw(static_cast<int64_t>(entry->revision));
  return entry;
}

absl::StatusOr<Entry> SqliteStore::LockedGet(std::string_view key, SteadyTime deadline) {
  if (absl::Status status = ReadyToRead(deadline); !status.ok()) return status;
  return internal::ReadEntry(*reader_.connection, key, clock_);
}

absl::StatusOr<std::vector<KeyedEntry>> SqliteStore::List(std::string_view prefix, absl::Time deadline) {
  const absl::StatusOr<SteadyTime> until = Begin(deadline);
  if (!until.ok()) return until.status();
  if (!reader_.mutex.TryLockUntil(*until)) return Busy();
  absl::StatusOr<std::vector<KeyedEntry>> entries = LockedList(prefix, *until);
  reader_.mutex.Unlock();
  return entries;
}

absl::StatusOr<std::vector<KeyedEntry>> SqliteStore::LockedList(std::string_view prefix, SteadyTime deadline) {
  if (absl::Status status = ReadyToRead(deadline); !status.ok()) return status;
  std::vector<KeyedEntry> entries;
  Statement list(*reader_.connection,
                 "SELECT key, value, revision, written, clock FROM entries WHERE key >= ?1 ORDER BY key");
  list.BindText(1, prefix);
  int code = SQLITE_ROW;
  while ((code = list.Step()) == SQLITE_ROW) {
    const std::string_view key = list.Text(0);
    if (key.substr(0, prefix.size()) != prefix) return entries;
    Entry entry{std::string(list.Blob(1)), static_cast<Revision>(list.Int(2)), clock_.Since(list.Int(3), list.Int(4))};
    entries.push_back({std::string(key), std::move(entry)});
    if (entries.size() % kRowsPerCheck == 0 && std::chrono::steady_clock::now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("sqlite: the deadline passed after ", entries.size(), " entries of the list"));
    }
  }
  if (code != SQLITE_DONE) return reader_.connection->Error(code);
  return entries;
}

WriteResult SqliteStore::Apply(const Write& write, absl::Time deadline) {
  absl::Status status = CheckKey(write.key, traits_);
  if (status.ok()) status = CheckValue(write.value, traits_);
  if (status.ok() && write.expected == 0 &&
      (write.kind == Write::Kind::kUpdate || write.kind == Write::Kind::kDelete)) {
    status = absl::InvalidArgumentError("sqlite: 0 is not a revision; use Create for an absent key");
  }
  if (!status.ok()) return Failed(std::move(status));
  const absl::StatusOr<SteadyTime> until = Begin(deadline);
  if (!until.ok()) return Failed(until.status());
  if (!writer_.mutex.TryLockUntil(*until)) return Failed(Busy());
  WriteResult result = LockedApply(write, *until);
  writer_.mutex.Unlock();
  if (result.ok()) {
    database_->Saw(static_cast<int64_t>(result.revision));
    bell_.Refresh();
    bell_.Ring();
  }
  return result;
}

WriteResult SqliteStore::LockedApply(const Write& write, SteadyTime deadline) {
  for (int tries = 1;; ++tries) {
    if (absl::Status status = Ready(writer_, deadline); !status.ok()) return Failed(std::move(status));
    Connection& connection = *writer_.connection;
    absl::Status status = connection.Execute("BEGIN IMMEDIATE");
    // Under the lock, so that a commit goes to the file that everybody else sees.
    const bool moved = connection.HasMoved();
    if (status.ok() && !moved) return internal::Transaction(database_.get(), &connection, &clock_).Run(write);
    connection.Rollback();
    if (!moved) return Failed(std::move(status));
    writer_.connection.reset();
    if (tries == 2) return Failed(absl::UnavailableError(absl::StrCat("sqlite: ", database_->path(), " was replaced")));
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenSqliteStore(std::string_view path, absl::Time deadline,
                                                       SqliteStoreOptions options) {
  std::string chosen(path);
  if (chosen == ":memory:") {
    return absl::InvalidArgumentError("sqlite: a database in memory cannot be shared; use the store memory:");
  }
  if (chosen.empty()) {
    absl::StatusOr<std::string> standard = DefaultSqlitePath();
    if (!standard.ok()) return standard.status();
    if (absl::Status status = internal::MakePrivateFolders(internal::FolderOf(*standard)); !status.ok()) return status;
    chosen = *std::move(standard);
  }
  absl::StatusOr<std::string> resolved = internal::ResolvePath(chosen);
  if (!resolved.ok()) return resolved.status();
  const std::optional<SteadyTime> until = internal::SteadyDeadline(deadline);
  if (!until.has_value()) return absl::DeadlineExceededError("sqlite: the deadline had passed before the call");

  auto database = std::make_unique<Database>(*std::move(resolved), std::move(options));
  absl::StatusOr<std::unique_ptr<internal::Connection>> connection = database->Connect(*until);
  if (!connection.ok()) return connection.status();
  return std::make_shared<SqliteStore>(std::move(database), *std::move(connection));
}

}  // namespace kv
