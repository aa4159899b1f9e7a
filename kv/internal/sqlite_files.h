// What a SQLite store does to files itself: where they are, whether they may be used, making an empty one.
//
// None of this opens the database, its -wal or its -shm file: closing a descriptor of them would drop the locks that
// SQLite holds in this process.

#ifndef KV_INTERNAL_SQLITE_FILES_H_
#define KV_INTERNAL_SQLITE_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"

namespace kv::internal {

// Makes `folder` and the missing ones above it, with mode 0700.
absl::Status MakePrivateFolders(const std::string& folder);

// `path` as an absolute one without symbolic links; the file itself need not exist, its folder must.
absl::StatusOr<std::string> ResolvePath(std::string_view path);

std::string FolderOf(const std::string& path);

// The type of the file system of `folder` as statfs gives it, 0 where it cannot be told.
uint64_t FileSystemType(const std::string& folder);

// FailedPrecondition for a network or FUSE file system.
absl::Status CheckFileSystemType(uint64_t type, const std::string& path);

enum class FileState { kRegular, kAbsent };

// Unavailable or PermissionDenied, with a sentence, where something else is at `path` or its folder cannot be used.
absl::StatusOr<FileState> LookAtFile(const std::string& path);

// Tells a file from every other one, its copies included, also over renames: inode and time of birth. Empty where the
// file is absent.
std::string FileIdentity(const std::string& path);

// Held by whoever makes or initialises a database: flock of the file `path`, which is made where it is missing.
class FileLock {
 public:
  // Unavailable when it could not be had by `deadline`.
  static absl::StatusOr<FileLock> Acquire(const std::string& path, SteadyTime deadline);
  FileLock(FileLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

// Makes the empty file where there is none, with mode 0600. What a lost database left behind at that name would be
// taken for the new one's: its log is kept as -wal.orphan, the rest is removed. The caller holds the FileLock.
absl::Status MakeEmptyDatabaseFile(const std::string& path);

// SQLite finds the log of a database by its name alone, and would replay the log of one file into another that has been
// put in its place. Therefore it is recorded, in the file `record_path`, which log belongs to which database.
//
// To be called before the database is opened: moves the log aside (-wal.orphan) that is known to be another file's.
absl::Status PutForeignLogAside(const std::string& path, const std::string& record_path, SteadyTime deadline);
// To be called while it is open: records what is there now. Failing to is no error.
void RecordLog(const std::string& path, const std::string& record_path, SteadyTime deadline);

}  // namespace kv::internal

#endif  // KV_INTERNAL_SQLITE_FILES_H_
