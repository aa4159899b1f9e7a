// The database file of a SQLite store over its whole life: made, opened, lost, replaced. Gives out connections to the
// present file, each checked to be ours and of a known incarnation.
//
// Schema 1:
//   meta(name, value)             'incarnation': random; 'file': FileIdentity of the file it was made in
//   entries(key, value, revision, written, clock)
//                                 written: nanoseconds of CLOCK_BOOTTIME; clock: which such clock, 0 for none
//   changes(revision, key, op)    one row for each commit, numbered without gaps: the revision counter, the log for
//                                 watches, and the tombstones in one. op: 0 put, 1 delete, 2 a new incarnation

#ifndef KV_INTERNAL_SQLITE_DATABASE_H_
#define KV_INTERNAL_SQLITE_DATABASE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/internal/sqlite_connection.h"
#include "kv/sqlite_store.h"

namespace kv::internal {

enum class ChangeOp { kPut = 0, kDelete = 1, kIncarnation = 2 };

// Thread-safe.
class Database {
 public:
  Database(std::string path, SqliteStoreOptions options);

  // A connection to the file that is at the path now, which is made if it is absent for long enough.
  absl::StatusOr<std::unique_ptr<Connection>> Connect(SteadyTime deadline);

  // The incarnation that `connection` is to.
  absl::StatusOr<std::string> Incarnation(Connection& connection) const;

  // Remembers that the revision was seen, so that a store that has forgotten is recognised.
  void Saw(int64_t revision);
  int64_t newest_seen() const { return newest_seen_.load(std::memory_order_relaxed); }

  // Makes what the file holds another incarnation: a new id, and every revision above all that was seen. To be called
  // in a transaction of the caller's.
  absl::Status StartIncarnation(Connection& connection);

  const std::string& path() const { return path_; }
  const SqliteStoreOptions& options() const { return options_; }
  std::string bell_path() const { return path_ + "-bell"; }
  BlockerNote& note() { return note_; }

 private:
  enum class Content { kOurs, kNothing };

  absl::Status EnsureFile(SteadyTime deadline);
  absl::StatusOr<std::unique_ptr<Connection>> TryConnect(SteadyTime deadline);
  absl::StatusOr<Content> Classify(Connection& connection) const;
  absl::Status Initialise(Connection& connection, SteadyTime deadline);
  absl::Status CreateSchema(Connection& connection);
  absl::Status UseWal(Connection& connection, SteadyTime deadline) const;
  absl::Status Configure(Connection& connection) const;
  absl::Status CheckIncarnation(Connection& connection);

  const std::string path_;
  const SqliteStoreOptions options_;
  BlockerNote note_;
  std::atomic<int64_t> newest_seen_{0};
  Mutex mutex_;
  bool opened_once_ KV_GUARDED_BY(mutex_) = false;
  std::optional<SteadyTime> absent_since_ KV_GUARDED_BY(mutex_);
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_SQLITE_DATABASE_H_
