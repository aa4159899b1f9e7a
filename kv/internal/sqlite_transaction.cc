#include "kv/internal/sqlite_transaction.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv::internal {
namespace {

// The trimming of the log is done by one write in so many.
constexpr int64_t kTrimPeriod = 256;

WriteResult Failed(absl::Status status) { return {std::move(status), 0, std::nullopt}; }

}  // namespace

absl::StatusOr<Entry> ReadEntry(Connection& connection, std::string_view key, const BootClock& clock) {
  Statement get(connection, "SELECT value, revision, written, clock FROM entries WHERE key = ?1");
  get.BindText(1, key);
  const int code = get.Step();
  if (code == SQLITE_DONE) return absl::NotFoundError("sqlite: no such key");
  if (code != SQLITE_ROW) return connection.Error(code);
  return Entry{std::string(get.Blob(0)), static_cast<Revision>(get.Int(1)), clock.Since(get.Int(2), get.Int(3))};
}

WriteResult Transaction::Run(const Write& write) {
  int code = LogChange(write);
  const int64_t revision = connection_.LastRow();
  if (code == SQLITE_DONE && revision <= database_.newest_seen()) return Forgotten();
  if (code == SQLITE_DONE) code = ChangeEntry(write, revision);
  if (code == SQLITE_DONE && connection_.Changes() == 0) {
    WriteResult lost = Explain(write);
    connection_.Rollback();
    return lost;
  }
  if (code == SQLITE_DONE && revision % kTrimPeriod == 0) code = Trim(revision);
  if (code == SQLITE_DONE) return Commit(revision);
  WriteResult failed = Failed(connection_.Error(code));
  connection_.Rollback();
  return failed;
}

WriteResult Transaction::Commit(int64_t revision) {
  const int code = connection_.Commit();
  if (code == SQLITE_DONE) return {absl::OkStatus(), static_cast<Revision>(revision), std::nullopt};
  absl::Status status = connection_.Error(code);
  // A log that could not be written holds no whole commit. After any other failure, of a sync or of the log's index,
  // the commit may be found there by a later recovery.
  const bool not_applied = (code & 0xFF) == SQLITE_FULL || (code & 0xFF) == SQLITE_BUSY || code == SQLITE_IOERR_WRITE;
  if (not_applied) return Failed(std::move(status));
  return Failed(
      absl::DeadlineExceededError(absl::StrCat(status.message(), "; whether the write was applied is unknown")));
}

// The number of the row is the revision of the write.
int Transaction::LogChange(const Write& write) {
  Statement change(connection_, "INSERT INTO changes(key, op) VALUES(?1, ?2)");
  change.BindText(1, write.key);
  change.BindInt(2, static_cast<int64_t>(write.kind == Write::Kind::kDelete ? ChangeOp::kDelete : ChangeOp::kPut));
  return change.Step();
}

// The file's counter is behind what this store has seen of it: its contents were put back to an earlier state.
WriteResult Transaction::Forgotten() {
  connection_.Rollback();
  absl::Status status = connection_.Execute("BEGIN IMMEDIATE");
  if (status.ok()) status = database_.StartIncarnation(connection_);
  if (status.ok()) status = connection_.Execute("COMMIT");
  if (status.ok()) {
    status = absl::UnavailableError(absl::StrCat(
        "sqlite: ", database_.path(), " has lost writes that were seen before (was a backup put in its place?)",
        "; it now counts as another store; try again"));
  }
  connection_.Rollback();
  return Failed(std::move(status));
}

int Transaction::ChangeEntry(const Write& write, int64_t revision) {
  const char* sql = nullptr;
  switch (write.kind) {
    case Write::Kind::kCreate:
      sql =
          "INSERT INTO entries(key, value, revision, written, clock) VALUES(?1, ?2, ?3, ?4, ?5) "
          "ON CONFLICT(key) DO NOTHING";
      break;
    case Write::Kind::kPut:
      sql = "REPLACE INTO entries(key, value, revision, written, clock) VALUES(?1, ?2, ?3, ?4, ?5)";
      break;
    case Write::Kind::kUpdate:
      sql = "UPDATE entries SET value = ?2, revision = ?3, written = ?4, clock = ?5 WHERE key = ?1 AND revision = ?6";
      break;
    case Write::Kind::kDelete:
      sql = "DELETE FROM entries WHERE key = ?1 AND revision = ?6";
      break;
  }
  Statement change(connection_, sql);
  change.BindText(1, write.key);
  if (write.kind != Write::Kind::kDelete) {
    change.BindBlob(2, write.value);
    change.BindInt(3, revision);
    change.BindInt(4, clock_.NowNanos());
    change.BindInt(5, clock_.id());
  }
  if (write.expected != 0) change.BindInt(6, static_cast<int64_t>(write.expected));
  return change.Step();
}

int Transaction::Trim(int64_t newest) {
  Statement trim(connection_, "DELETE FROM changes WHERE revision <= ?1");
  // The newest change stays whatever the option: it is the revision counter.
  trim.BindInt(1, newest - std::max<int64_t>(1, database_.options().change_log));
  return trim.Step();
}

// Why a conditional write changed nothing.
WriteResult Transaction::Explain(const Write& write) {
  absl::StatusOr<Entry> current = ReadEntry(connection_, write.key, clock_);
  if (!current.ok()) return Failed(current.status());
  WriteResult result;
  result.status = write.kind == Write::Kind::kCreate
                      ? absl::AlreadyExistsError("sqlite: the key exists")
                      : absl::AbortedError(absl::StrCat("sqlite: the key is at revision ", current->revision));
  result.current = *std::move(current);
  return result;
}

}  // namespace kv::internal
