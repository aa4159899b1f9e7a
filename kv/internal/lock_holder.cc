#include "kv/internal/lock_holder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <fstream>

namespace kv::internal {
namespace {

struct Range {
  uint64_t first;
  uint64_t last;
};

// Where SQLite's file format puts its locks: in WAL mode the writer's is one byte of the -shm file; otherwise, and for
// exclusive access, a range of the database file itself.
constexpr Range kWalWriter = {120, 120};
constexpr Range kDatabase = {0x40000000, 0x40000000 + 511};

std::optional<pid_t> FindLock(uint64_t inode, Range range) {
  std::ifstream locks("/proc/locks");
  std::string line;
  while (std::getline(locks, line)) {
    int pid = 0;
    uint64_t number = 0;
    uint64_t first = 0;
    char last[32] = "";
    // "1: POSIX  ADVISORY  WRITE 5596 fe:00:9986049 120 120"; one that waits has "->" before POSIX and does not match.
    const int fields = std::sscanf(line.c_str(), "%*d: POSIX %*s WRITE %d %*x:%*x:%" SCNu64 " %" SCNu64 " %31s", &pid,
                                   &number, &first, last);
    if (fields != 4 || number != inode) continue;
    uint64_t end = UINT64_MAX;  // "EOF"
    std::sscanf(last, "%" SCNu64, &end);
    if (first <= range.last && end >= range.first) return pid;
  }
  return std::nullopt;
}

// The state letter of /proc/PID/stat stands behind the name, which may itself hold parentheses.
bool IsStopped(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t at = line.rfind(") ");
  return at != std::string::npos && at + 2 < line.size() && (line[at + 2] == 'T' || line[at + 2] == 't');
}

}  // namespace

std::optional<LockHolder> FindWriteLockHolder(const std::string& database_path) {
  std::optional<pid_t> pid;
  struct stat file;
  if (stat((database_path + "-shm").c_str(), &file) == 0) pid = FindLock(file.st_ino, kWalWriter);
  if (!pid.has_value() && stat(database_path.c_str(), &file) == 0) pid = FindLock(file.st_ino, kDatabase);
  if (!pid.has_value()) return std::nullopt;
  LockHolder holder;
  if (*pid <= 0) return holder;
  holder.pid = *pid;
  std::ifstream comm("/proc/" + std::to_string(*pid) + "/comm");
  std::getline(comm, holder.name);
  holder.stopped = IsStopped(*pid);
  return holder;
}

std::string ToString(const LockHolder& holder) {
  if (holder.pid == 0) return "a process of another container";
  if (holder.pid == getpid()) return "another store of this process";
  std::string text = "process " + std::to_string(holder.pid);
  if (!holder.name.empty()) text += " (" + holder.name + ")";
  return text;
}

}  // namespace kv::internal
