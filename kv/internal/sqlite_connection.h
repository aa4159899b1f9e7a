// One connection to a SQLite database: prepared statements, waiting for locks with a deadline, and errors as sentences.

#ifndef KV_INTERNAL_SQLITE_CONNECTION_H_
#define KV_INTERNAL_SQLITE_CONNECTION_H_

#include <sqlite3.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"

namespace kv::internal {

// What the calls of one process that queue for a connection may know of the one that waits for the file's lock.
class BlockerNote {
 public:
  void Set(std::string blocker);
  std::string Get() const;

 private:
  mutable Mutex mutex_;
  std::string blocker_ KV_GUARDED_BY(mutex_);
};

// For one thread at a time.
class Connection {
 public:
  // The file must exist. Nothing is read from it yet. `note` may be null and must outlive the connection.
  static absl::StatusOr<std::unique_ptr<Connection>> Open(const std::string& path, BlockerNote* note);
  // Where the file has been moved from its path, what the write-ahead log holds is first written back into it.
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Until when the following statements wait for locks of others.
  void SetDeadline(SteadyTime deadline) { deadline_ = deadline; }

  // The file at the path is no longer the one that is open.
  bool HasMoved() const;

  // For statements without parameters and results.
  absl::Status Execute(const char* sql);
  // The first column of the first row, where there is one.
  absl::StatusOr<std::optional<int64_t>> QueryInt(const char* sql);
  absl::StatusOr<std::optional<std::string>> QueryText(const char* sql);

  // SQLite's code, SQLITE_DONE on success. On an error the transaction is rolled back.
  int Commit();

  // Of the last INSERT.
  int64_t LastRow() const { return sqlite3_last_insert_rowid(db_); }
  // Rows that the last statement changed.
  int Changes() const { return sqlite3_changes(db_); }

  absl::Status SetMaxPages(int64_t pages);

  // Ends a transaction if one is open.
  void Rollback();

  // `code` is what the last statement returned.
  absl::Status Error(int code);

  // After an error that is about more than a lock or a full disk: the file had better be opened anew.
  bool broken() const { return broken_; }

  const std::string& path() const { return path_; }

 private:
  friend class Statement;
  Connection(std::string path, BlockerNote* note) : path_(std::move(path)), note_(note) {}
  static int OnBusy(void* self, int count);
  bool WaitForLock(int count);
  void LookForHolder(SteadyTime now);
  absl::Status BusyError() const;
  // Null on failure; then sqlite3_errcode tells. `sql` must be a literal: its address is the key.
  sqlite3_stmt* Prepare(const char* sql);

  const std::string path_;
  BlockerNote* const note_;
  sqlite3* db_ = nullptr;
  std::map<const char*, sqlite3_stmt*> statements_;
  SteadyTime deadline_;
  bool broken_ = false;
  int commit_errno_ = 0;  // of the last COMMIT

  // The wait that goes on or was the last.
  SteadyTime wait_start_;
  SteadyTime next_look_;
  SteadyTime holder_since_;
  std::optional<int> holder_pid_;
  std::string holder_;
  bool holder_stopped_ = false;
  std::minstd_rand random_{std::random_device()()};
};

// One use of a prepared statement; reset at the end of the scope.
//
//   Statement get(connection, "SELECT value FROM entries WHERE key = ?1");
//   get.BindText(1, key);
//   if (get.Step() == SQLITE_ROW) use(get.Blob(0));
class Statement {
 public:
  // `sql` must be a string literal.
  Statement(Connection& connection, const char* sql) : statement_(connection.Prepare(sql)), db_(connection.db_) {}
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // Bound memory must live until the statement ends.
  void BindText(int index, std::string_view text);
  void BindBlob(int index, std::string_view bytes);
  void BindInt(int index, int64_t value);

  // SQLITE_ROW, SQLITE_DONE or an error.
  int Step();

  // Of the current row. Views end with the next Step.
  std::string_view Text(int column) const;
  std::string_view Blob(int column) const;
  int64_t Int(int column) const;

 private:
  sqlite3_stmt* const statement_;
  sqlite3* const db_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_SQLITE_CONNECTION_H_
