// What one write does inside its transaction.

#ifndef KV_INTERNAL_SQLITE_TRANSACTION_H_
#define KV_INTERNAL_SQLITE_TRANSACTION_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "kv/internal/boot_clock.h"
#include "kv/internal/sqlite_connection.h"
#include "kv/internal/sqlite_database.h"
#include "kv/store.h"

namespace kv::internal {

// One conditional write.
struct Write {
  enum class Kind { kCreate, kUpdate, kDelete, kPut };
  Kind kind;
  std::string_view key;
  std::string_view value;
  Revision expected;
};

// NotFound where there is none.
absl::StatusOr<Entry> ReadEntry(Connection& connection, std::string_view key, const BootClock& clock);

// For one write. The connection has begun a transaction that may write, to the file that is at the path; it is ended,
// one way or the other.
class Transaction {
 public:
  Transaction(Database* database, Connection* connection, const BootClock* clock)
      : database_(*database), connection_(*connection), clock_(*clock) {}

  WriteResult Run(const Write& write);

 private:
  WriteResult Forgotten();
  WriteResult Commit(int64_t revision);
  WriteResult Explain(const Write& write);
  // Each returns SQLite's code.
  int LogChange(const Write& write);
  int ChangeEntry(const Write& write, int64_t revision);
  int Trim(int64_t newest);

  Database& database_;
  Connection& connection_;
  const BootClock& clock_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_SQLITE_TRANSACTION_H_
