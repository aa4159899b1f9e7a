// Who holds SQLite's write lock on a database, as the kernel tells.

#ifndef KV_INTERNAL_LOCK_HOLDER_H_
#define KV_INTERNAL_LOCK_HOLDER_H_

#include <sys/types.h>

#include <optional>
#include <string>

namespace kv::internal {

struct LockHolder {
  pid_t pid = 0;         // 0: a process outside of this pid namespace
  std::string name;      // as /proc/PID/comm gives it; may be empty
  bool stopped = false;  // by SIGSTOP or a debugger
};

// Reads /proc/locks, for asking fcntl needs a descriptor whose close would drop this process's own locks. Nothing when
// nobody holds the lock at this moment or /proc does not tell.
std::optional<LockHolder> FindWriteLockHolder(const std::string& database_path);

// "process 1234 (plugin)".
std::string ToString(const LockHolder& holder);

}  // namespace kv::internal

#endif  // KV_INTERNAL_LOCK_HOLDER_H_
