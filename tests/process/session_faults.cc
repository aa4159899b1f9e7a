// These stand for other programs, and for mishaps of one's own.
//
// lock-database FILE      holds the write lock of the database FILE until unlock-database; use a worker that has not
//                         opened it
// unlock-database
// busy                    writes to the store without a pause until busy-stop, straight through kv
// busy-stop
// kv-get KEY MS           what the store has there: REVISION VALUE

#include <sqlite3.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/process/session.h"

namespace process_test {
namespace {

absl::StatusOr<std::string> Run(sqlite3* db, const char* sql) {
  const int code = sqlite3_exec(db, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return absl::InternalError(absl::StrCat(sql, ": ", sqlite3_errmsg(db)));
  return std::string("done");
}

absl::StatusOr<std::string> KeepWriting(Session& session, const std::atomic<bool>& stop) {
  absl::StatusOr<std::shared_ptr<kv::Store>> store = session.Store();
  if (!store.ok()) return store.status();
  int64_t written = 0;
  while (!stop) {
    if ((*store)->Put("busy", absl::StrCat(written), absl::Now() + absl::Milliseconds(100)).ok()) ++written;
  }
  return absl::StrCat(written);
}

}  // namespace

void AddFaultCommands(Session& session) {
  auto db = std::make_shared<sqlite3*>(nullptr);
  session.Add("lock-database", [db](const Arguments& arguments) -> absl::StatusOr<std::string> {
    if (sqlite3_open(arguments.Text(0).c_str(), db.get()) != SQLITE_OK) return absl::InternalError("cannot open");
    sqlite3_busy_timeout(*db, 10000);
    return Run(*db, "BEGIN IMMEDIATE");
  });
  session.Add("unlock-database", [db](const Arguments&) {
    absl::StatusOr<std::string> ended = Run(*db, "ROLLBACK");
    sqlite3_close(*db);
    return ended;
  });
  session.Add("kv-get", [&session](const Arguments& arguments) -> absl::StatusOr<std::string> {
    absl::StatusOr<std::shared_ptr<kv::Store>> store = session.Store();
    if (!store.ok()) return store.status();
    const absl::StatusOr<kv::Entry> entry = (*store)->Get(arguments.Text(0), arguments.Deadline(1));
    if (!entry.ok()) return entry.status();
    return absl::StrCat(entry->revision, " ", entry->value);
  });
  auto stop = std::make_shared<std::atomic<bool>>(false);
  session.Add("busy", [&session, stop](const Arguments&) { return KeepWriting(session, *stop); });
  session.Add("busy-stop", [stop](const Arguments&) -> absl::StatusOr<std::string> {
    *stop = true;
    return std::string("stopping");
  });
}

}  // namespace process_test
