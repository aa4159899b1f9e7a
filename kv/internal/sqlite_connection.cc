#include "kv/internal/sqlite_connection.h"

#include <errno.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/internal/lock_holder.h"

namespace kv::internal {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// The waits between two tries for a lock, before jitter. A commit takes some 10 us, so that the first are short.
constexpr microseconds kFirstWait(100);
constexpr microseconds kLongestWait(3000);
// Who holds the lock is looked up when it has been held for a while: it costs as much as several commits.
constexpr milliseconds kFirstLook(20);
constexpr milliseconds kLookPeriod(100);

std::string Seconds(steady_clock::duration duration) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f s", std::chrono::duration<double>(duration).count());
  return text;
}

}  // namespace

void BlockerNote::Set(std::string blocker) {
  MutexLock lock(mutex_);
  blocker_ = std::move(blocker);
}

std::string BlockerNote::Get() const {
  MutexLock lock(mutex_);
  return blocker_;
}

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const std::string& path, BlockerNote* note) {
  std::unique_ptr<Connection> connection(new Connection(path, note));
  // NOMUTEX: a Connection serves one thread at a time. Without CREATE: making the file is somebody else's decision.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &connection->db_, flags, nullptr);
  if (connection->db_ == nullptr) return absl::ResourceExhaustedError("sqlite: out of memory");
  if (code != SQLITE_OK) return connection->Error(code);
  sqlite3_busy_handler(connection->db_, &Connection::OnBusy, connection.get());
  return connection;
}

Connection::~Connection() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  if (db_ == nullptr) return;
  // A file that somebody moved away leaves its log behind at the old path; without it the latest commits would be lost.
  if (HasMoved()) {
    deadline_ = steady_clock::now();
    sqlite3_wal_checkpoint_v2(db_, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  }
  sqlite3_close(db_);
}

bool Connection::HasMoved() const {
  int moved = 0;
  return sqlite3_file_control(db_, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved != 0;
}

int Connection::OnBusy(void* self, int count) { return static_cast<Connection*>(self)->WaitForLock(count) ? 1 : 0; }

bool Connection::WaitForLock(int count) {
  const SteadyTime now = steady_clock::now();
  if (count == 0) {
    wait_start_ = now;
    next_look_ = now + kFirstLook;
    holder_pid_.reset();
    holder_.clear();
  }
  if (now >= next_look_ || now >= deadline_) {
    LookForHolder(now);
    next_look_ = now + kLookPeriod;
    // The lock of a file that is gone from its path is not worth waiting for.
    if (HasMoved()) return false;
  }
  if (now >= deadline_) return false;
  const int step = std::min(count, 8);
  const auto longest = std::min<microseconds>(kFirstWait * (1 << step), kLongestWait);
  const auto half = longest.count() / 2;
  const microseconds wait(half + static_cast<int64_t>(random_() % static_cast<uint64_t>(longest.count())));
  std::this_thread::sleep_for(std::min<steady_clock::duration>(wait, deadline_ - now));
  return true;
}

void Connection::LookForHolder(SteadyTime now) {
  const std::optional<LockHolder> holder = FindWriteLockHolder(path_);
  if (!holder.has_value()) {
    holder_pid_.reset();
    return;
  }
  if (holder_pid_ != holder->pid) {
    holder_pid_ = holder->pid;
    // Nobody else was seen since the wait began: it is the one that was waited for from the start.
    holder_since_ = holder_.empty() ? wait_start_ : now;
  }
  holder_ = ToString(*holder);
  holder_stopped_ = holder->stopped;
  if (note_ == nullptr) return;
  note_->Set(holder_stopped_ ? absl::StrCat(holder_, ", stopped (kill -CONT ", *holder_pid_, " continues it),")
                             : holder_);
}

absl::Status Connection::BusyError() const {
  const SteadyTime now = steady_clock::now();
  if (!holder_pid_.has_value()) {
    return absl::UnavailableError(absl::StrCat(
        "sqlite: ", path_, " is locked by other writers; the lock was not had within ", Seconds(now - wait_start_)));
  }
  std::string text = absl::StrCat("sqlite: ", path_, " is locked by ", holder_, ", which has not committed for ",
                                  Seconds(now - holder_since_));
  if (holder_stopped_) {
    absl::StrAppend(&text, "; it is stopped: continue it (kill -CONT ", *holder_pid_, ") or end it");
  }
  return absl::UnavailableError(text);
}

absl::Status Connection::Error(int code) {
  broken_ = broken_ || ((code & 0xFF) != SQLITE_BUSY && (code & 0xFF) != SQLITE_FULL);
  // SQLite sets it with these two and does not clear it.
  const bool has_errno = (code & 0xFF) == SQLITE_IOERR || (code & 0xFF) == SQLITE_CANTOPEN;
  int system_errno = has_errno ? sqlite3_system_errno(db_) : 0;
  // SQLite 3.40 keeps none where a COMMIT fails.
  if (has_errno && system_errno == 0) system_errno = commit_errno_;
  std::string reason = sqlite3_errstr(code);
  if (system_errno != 0) absl::StrAppend(&reason, ", ", std::strerror(system_errno));
  const std::string file = absl::StrCat("sqlite: ", path_);
  switch (code & 0xFF) {
    case SQLITE_BUSY:
      return BusyError();
    case SQLITE_FULL:
      return absl::UnavailableError(absl::StrCat(file, " cannot grow: the disk is full (", reason, "); make room"));
    case SQLITE_NOTADB:
      return absl::FailedPreconditionError(
          absl::StrCat(file, " is not a SQLite database; choose another path, or move the file away"));
    case SQLITE_CORRUPT:
      return absl::DataLossError(
          absl::StrCat(file, " is damaged (", reason,
                       "); stop every program that uses it, keep a copy, then put a backup in its place",
                       " or remove it together with its -wal and -shm files, and a new empty one is made"));
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      if (code == SQLITE_READONLY_DBMOVED) break;
      return absl::PermissionDeniedError(absl::StrCat(file, " cannot be written (", reason,
                                                      "); give this user the right to write the file and its folder"));
    case SQLITE_CANTOPEN:
      if (system_errno == EACCES || system_errno == EPERM) {
        return absl::PermissionDeniedError(
            absl::StrCat(file, " cannot be opened (", reason, "); give this user the right to its file and folder"));
      }
      break;
    case SQLITE_IOERR:
      if (system_errno == ENOSPC || system_errno == EDQUOT || system_errno == EFBIG) {
        return absl::UnavailableError(absl::StrCat(file, " cannot grow: the disk is full (", reason, "); make room"));
      }
      break;
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError("sqlite: out of memory");
    default:
      break;
  }
  return absl::UnavailableError(absl::StrCat(file, " cannot be used now: ", reason));
}

sqlite3_stmt* Connection::Prepare(const char* sql) {
  const auto it = statements_.find(sql);
  if (it != statements_.end()) return it->second;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) != SQLITE_OK) return nullptr;
  statements_.emplace(sql, statement);
  return statement;
}

absl::Status Connection::Execute(const char* sql) {
  Statement statement(*this, sql);
  int code = statement.Step();
  while (code == SQLITE_ROW) code = statement.Step();
  return code == SQLITE_DONE ? absl::OkStatus() : Error(code);
}

absl::StatusOr<std::optional<int64_t>> Connection::QueryInt(const char* sql) {
  Statement statement(*this, sql);
  const int code = statement.Step();
  if (code == SQLITE_ROW) return std::optional<int64_t>(statement.Int(0));
  if (code == SQLITE_DONE) return std::optional<int64_t>();
  return Error(code);
}

absl::StatusOr<std::optional<std::string>> Connection::QueryText(const char* sql) {
  Statement statement(*this, sql);
  const int code = statement.Step();
  if (code == SQLITE_ROW) return std::optional<std::string>(std::string(statement.Text(0)));
  if (code == SQLITE_DONE) return std::optional<std::string>();
  return Error(code);
}

int Connection::Commit() {
  int code = SQLITE_DONE;
  {
    Statement commit(*this, "COMMIT");
    errno = 0;
    code = commit.Step();
    commit_errno_ = errno;
  }
  if (code != SQLITE_DONE) Rollback();
  return code;
}

absl::Status Connection::SetMaxPages(int64_t pages) {
  // A pragma takes no parameters.
  const std::string sql = absl::StrCat("PRAGMA max_page_count=", pages);
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code);
}

void Connection::Rollback() {
  if (sqlite3_get_autocommit(db_) == 0) (void)Execute("ROLLBACK");
}

Statement::~Statement() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void Statement::BindText(int index, std::string_view text) {
  // A null pointer would be NULL instead of the empty text.
  const char* data = text.data() == nullptr ? "" : text.data();
  sqlite3_bind_text64(statement_, index, data, text.size(), SQLITE_STATIC, SQLITE_UTF8);
}

void Statement::BindBlob(int index, std::string_view bytes) {
  const char* data = bytes.data() == nullptr ? "" : bytes.data();
  sqlite3_bind_blob64(statement_, index, data, bytes.size(), SQLITE_STATIC);
}

void Statement::BindInt(int index, int64_t value) { sqlite3_bind_int64(statement_, index, value); }

int Statement::Step() {
  if (statement_ == nullptr) {
    const int code = sqlite3_extended_errcode(db_);
    return code == SQLITE_OK ? SQLITE_MISUSE : code;
  }
  return sqlite3_step(statement_);
}

std::string_view Statement::Text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  return text == nullptr ? std::string_view() : std::string_view(text, sqlite3_column_bytes(statement_, column));
}

std::string_view Statement::Blob(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  return bytes == nullptr ? std::string_view() : std::string_view(bytes, sqlite3_column_bytes(statement_, column));
}

int64_t Statement::Int(int column) const { return sqlite3_column_int64(statement_, column); }

}  // namespace kv::internal
