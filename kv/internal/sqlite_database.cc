#include "kv/internal/sqlite_database.h"

#include <algorithm>
#include <cstdio>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/internal/sqlite_files.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

constexpr int64_t kApplicationId = 0x636f7264;  // "cord"
constexpr int64_t kSchema = 1;

std::string NewId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) id += absl::StrCat(absl::Hex(random(), absl::kZeroPad8));
  return id;
}

// A file that changes under the hands of its opener is opened anew, this often at most.
constexpr int kMaxTries = 5;

}  // namespace

Database::Database(std::string path, SqliteStoreOptions options)
    : path_(std::move(path)), options_(std::move(options)) {}

void Database::Saw(int64_t revision) {
  int64_t seen = newest_seen_.load(std::memory_order_relaxed);
  while (seen < revision && !newest_seen_.compare_exchange_weak(seen, revision, std::memory_order_relaxed)) {
  }
}

absl::StatusOr<std::unique_ptr<Connection>> Database::Connect(SteadyTime deadline) {
  for (int tries = 1;; ++tries) {
    absl::StatusOr<std::unique_ptr<Connection>> connection = TryConnect(deadline);
    if (!connection.ok()) return connection;
    // The file may have been replaced while it was being opened.
    if (!(*connection)->HasMoved()) {
      RecordLog(path_, bell_path(), deadline);
      MutexLock lock(mutex_);
      opened_once_ = true;
      return connection;
    }
    if (tries == kMaxTries || steady_clock::now() >= deadline) {
      return absl::UnavailableError(absl::StrCat("sqlite: ", path_, " is being replaced again and again"));
    }
  }
}

absl::StatusOr<std::unique_ptr<Connection>> Database::TryConnect(SteadyTime deadline) {
  if (absl::Status status = EnsureFile(deadline); !status.ok()) return status;
  if (absl::Status status = PutForeignLogAside(path_, bell_path(), deadline); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Connection>> opened = Connection::Open(path_, &note_);
  if (!opened.ok()) return opened;
  Connection& connection = **opened;
  connection.SetDeadline(deadline);
  // In one transaction: what is looked at is never half of what another process is making.
  absl::Status status = connection.Execute("BEGIN");
  absl::StatusOr<Content> content = status.ok() ? Classify(connection) : status;
  connection.Rollback();
  if (!content.ok()) return content.status();
  if (*content == Content::kNothing) status = Initialise(connection, deadline);
  if (status.ok()) status = UseWal(connection, deadline);
  if (status.ok()) status = Configure(connection);
  if (status.ok()) status = CheckIncarnation(connection);
  if (!status.ok()) return status;
  return opened;
}

absl::Status Database::EnsureFile(SteadyTime deadline) {
  absl::StatusOr<FileState> state = LookAtFile(path_);
  if (!state.ok()) return state.status();
  const std::string folder = FolderOf(path_);
  const uint64_t type = options_.file_system_type ? options_.file_system_type(folder) : FileSystemType(folder);
  if (absl::Status status = CheckFileSystemType(type, path_); !status.ok()) return status;
  {
    MutexLock lock(mutex_);
    if (*state == FileState::kRegular) {
      absent_since_.reset();
      return absl::OkStatus();
    }
    const SteadyTime now = steady_clock::now();
    if (!absent_since_.has_value()) absent_since_ = now;
    if (opened_once_ && now - *absent_since_ < absl::ToChronoNanoseconds(options_.recreate_after)) {
      return absl::UnavailableError(absl::StrCat("sqlite: ", path_, " is gone; unless it comes back, a new database is",
                                                 " made there after ", absl::FormatDuration(options_.recreate_after)));
    }
  }
  absl::StatusOr<FileLock> lock = FileLock::Acquire(bell_path(), deadline);
  if (!lock.ok()) return lock.status();
  return MakeEmptyDatabaseFile(path_);
}

// To be called in a transaction.
absl::StatusOr<Database::Content> Database::Classify(Connection& connection) const {
  // The first of these reads the file's header, and so tells what is no database.
  const auto application = connection.QueryInt("PRAGMA application_id");
  if (!application.ok()) return application.status();
  const auto schema = connection.QueryInt("PRAGMA user_version");
  if (!schema.ok()) return schema.status();
  const auto tables = connection.QueryInt("SELECT count(*) FROM sqlite_master");
  if (!tables.ok()) return tables.status();
  const int64_t id = application->value_or(0);
  const int64_t version = schema->value_or(0);
  if (id == 0 && version == 0 && tables->value_or(0) == 0) return Content::kNothing;
  if (id != kApplicationId) {
    return absl::FailedPreconditionError(absl::StrCat("sqlite: ", path_,
                                                      " belongs to another program (its application id is ", id,
                                                      "); nothing was changed in it; choose another path"));
  }
  if (version > kSchema) {
    return absl::FailedPreconditionError(absl::StrCat("sqlite: ", path_, " has schema ", version,
                                                      ", made by a newer version of this program, which knows schema ",
                                                      kSchema, "; upgrade this program or choose another path"));
  }
  return Content::kOurs;
}

absl::Status Database::UseWal(Connection& connection, SteadyTime deadline) const {
  while (true) {
    const auto mode = connection.QueryText("PRAGMA journal_mode=WAL");
    if (mode.ok() && mode->value_or("") == "wal") return absl::OkStatus();
    if (mode.ok()) {
      return absl::FailedPreconditionError(absl::StrCat("sqlite: ", path_, " cannot have a write-ahead log on its file",
                                                        " system; choose a path on a local disk"));
    }
    // The change of the mode does not always ask the busy handler.
    if (!absl::IsUnavailable(mode.status()) || steady_clock::now() >= deadline) return mode.status();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

absl::Status Database::Configure(Connection& connection) const {
  // Freed pages need not be zeroed: whoever can read the file can read the entries.
  absl::Status status = connection.Execute("PRAGMA secure_delete=OFF");
  if (status.ok()) {
    status = connection.Execute(options_.sync_full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
  }
  // A log that a long reader or a burst has let grow is cut back.
  if (status.ok()) status = connection.Execute("PRAGMA journal_size_limit=16777216");
  if (status.ok() && options_.max_pages > 0) status = connection.SetMaxPages(options_.max_pages);
  return status;
}

absl::Status Database::Initialise(Connection& connection, SteadyTime deadline) {
  absl::StatusOr<FileLock> lock = FileLock::Acquire(bell_path(), deadline);
  if (!lock.ok()) return lock.status();
  if (absl::Status status = UseWal(connection, deadline); !status.ok()) return status;
  if (absl::Status status = connection.Execute("BEGIN IMMEDIATE"); !status.ok()) return status;
  // Another process may have been first.
  absl::StatusOr<Content> content = Classify(connection);
  absl::Status status = content.status();
  if (status.ok() && *content == Content::kNothing) status = CreateSchema(connection);
  if (status.ok()) status = connection.Execute("COMMIT");
  if (!status.ok()) connection.Rollback();
  return status;
}

absl::Status Database::CreateSchema(Connection& connection) {
  static_assert(kApplicationId == 1668248164 && kSchema == 1, "the pragmas below name them");
  for (const char* sql : {
           "CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
           "CREATE TABLE entries(key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, "
           "written INTEGER NOT NULL, clock INTEGER NOT NULL) WITHOUT ROWID",
           "CREATE TABLE changes(revision INTEGER PRIMARY KEY, key TEXT NOT NULL, op INTEGER NOT NULL)",
           "PRAGMA application_id=1668248164",
           "PRAGMA user_version=1",
       }) {
    if (absl::Status status = connection.Execute(sql); !status.ok()) return status;
  }
  return StartIncarnation(connection);
}

absl::Status Database::StartIncarnation(Connection& connection) {
  const auto newest = connection.QueryInt("SELECT max(revision) FROM changes");
  if (!newest.ok()) return newest.status();
  // The clock keeps apart incarnations that know nothing of each other; the others keep apart those that do, should
  // the clock have been set back.
  const int64_t revision =
      std::max({absl::ToUnixMicros(absl::Now()), newest->value_or(0) + 1, newest_seen_.load() + 1});
  for (const auto& [name, value] : {std::pair<const char*, std::string>{"incarnation", NewId()},
                                    std::pair<const char*, std::string>{"file", FileIdentity(path_)}}) {
    Statement meta(connection, "INSERT OR REPLACE INTO meta(name, value) VALUES(?1, ?2)");
    meta.BindText(1, name);
    meta.BindText(2, value);
    if (const int code = meta.Step(); code != SQLITE_DONE) return connection.Error(code);
  }
  {
    Statement change(connection, "INSERT INTO changes(revision, key, op) VALUES(?1, '', 2)");
    change.BindInt(1, revision);
    if (const int code = change.Step(); code != SQLITE_DONE) return connection.Error(code);
  }
  Statement entries(connection, "UPDATE entries SET revision = ?1, clock = 0");
  entries.BindInt(1, revision);
  const int code = entries.Step();
  return code == SQLITE_DONE ? absl::OkStatus() : connection.Error(code);
}

absl::Status Database::CheckIncarnation(Connection& connection) {
  const char* const kFile = "SELECT value FROM meta WHERE name = 'file'";
  const std::string identity = FileIdentity(path_);
  auto recorded = connection.QueryText(kFile);
  if (!recorded.ok()) return recorded.status();
  // A path that changes right now is found out by the caller.
  if (identity.empty() || recorded->value_or("") == identity) return absl::OkStatus();

  // A copy of the file is here, such as a backup.
  if (absl::Status status = connection.Execute("BEGIN IMMEDIATE"); !status.ok()) return status;
  recorded = connection.QueryText(kFile);
  absl::Status status = recorded.status();
  const bool moved = connection.HasMoved();
  if (status.ok() && !moved && recorded->value_or("") != identity) status = StartIncarnation(connection);
  if (status.ok()) status = connection.Execute("COMMIT");
  if (!status.ok()) connection.Rollback();
  return status;
}

absl::StatusOr<std::string> Database::Incarnation(Connection& connection) const {
  const auto id = connection.QueryText("SELECT value FROM meta WHERE name = 'incarnation'");
  if (!id.ok()) return id.status();
  return id->value_or("");
}

}  // namespace kv::internal
