// A store in one SQLite file: durable, for many processes of one machine. The embedded default.
//
// Storage. WAL mode. A commit costs about 15 us; by default it survives the crash of every process but the last ones
// may be lost with the machine (power, kernel); never is the file corrupt. `sync_full` syncs every commit
// (traits().durable) at the price of the disk's sync. Beside the file live FILE-wal and FILE-shm (SQLite's own) and
// FILE-bell (see below): move or remove them together, with no program running. Files are made with mode 0600. Network
// and FUSE file systems are refused: SQLite's locks do not hold there.
//
// Changes are pushed. After a commit the writer rings the bell, a futex in FILE-bell, and the watch thread of every
// store on the file reads what is new from a log of the last `change_log` changes; whoever is further behind gets
// kResync. A bell that was missed (a writer killed between commit and bell) is made up for by a look every
// `safety_poll`.
//
// Age comes from CLOCK_BOOTTIME and is absent for entries written before a reboot or in another time namespace.
//
// When the file is gone, replaced, locked or the disk full, calls return Unavailable with a sentence (a lock's holder
// is named), and go on by themselves when the cause is gone:
//   * A file that cannot be opened (a folder in its place, no folder, no right) stays Unavailable or PermissionDenied.
//   * The same file back at its path goes on as if nothing had been; watches too.
//   * Where the path has been absent for `recreate_after`, a new database is made: another incarnation, empty.
//   * Another file there, also a copy of the same (a restored backup), is another incarnation.
// A log (FILE-wal) that belongs to a file no longer there is not replayed into the one that is: it is kept as
// FILE-wal.orphan.
//
// Another incarnation gives watches kEpochChanged. Its revisions, those of restored entries included, begin at the time
// of its making in microseconds, above all that went before, so that a write that expects an older one is Aborted.
// Not noticed: contents overwritten in place while no program had it open.
//
// A damaged file gives DataLoss; one that is no database, belongs to another program or was made by a newer version of
// this library gives FailedPrecondition.
//
// Limits. One write at a time, over all processes. A process stopped inside a commit blocks the writes of all others
// (not the reads) until it goes on or dies; they end at their deadlines, Unavailable, and name it. A call that waits
// for the disk itself (a sync) cannot be cut short by its deadline.
//
// After a fork() the child must not use the store: calls return FailedPrecondition; open it anew there. A process that
// opens and closes FILE or FILE-shm by itself, or through a second copy of SQLite, loses the locks of its store.

#ifndef KV_SQLITE_STORE_H_
#define KV_SQLITE_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/store.h"

namespace kv {

struct SqliteStoreOptions {
  // True where an acknowledged write must survive a power failure.
  bool sync_full = false;

  // How often a store with watches looks for changes whose bell it missed. Infinite: never; for tests of the bell.
  absl::Duration safety_poll = absl::Milliseconds(50);

  // How long an open store waits before it makes a new database where its file is gone. Longer than it takes to move
  // a file away and back.
  absl::Duration recreate_after = absl::Seconds(1);

  // Changes kept for watches that lag.
  int64_t change_log = 16384;

  // The size limit of the file in pages of 4 KiB, for the connections of this store; 0 is none. Beyond it the store is
  // full: Unavailable.
  int64_t max_pages = 0;

  // For tests: stands for the type of the file system (statfs) of a folder.
  std::function<uint64_t(const std::string& folder)> file_system_type;
};

// The default path, $XDG_STATE_HOME/coord/coord.db or ~/.local/state/coord/coord.db. FailedPrecondition where neither
// variable nor home is known.
absl::StatusOr<std::string> DefaultSqlitePath();

// Opens the database at `path`, made if it does not exist. An empty path is the default one, whose folders are made
// with mode 0700; the folder of another must exist. Blocks until `deadline` at most, as far as the disk lets it.
absl::StatusOr<std::shared_ptr<Store>> OpenSqliteStore(std::string_view path, absl::Time deadline,
                                                       SqliteStoreOptions options = {});

}  // namespace kv

#endif  // KV_SQLITE_STORE_H_
