#include "kv/internal/sqlite_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kv/sqlite_store.h"

namespace kv {

absl::StatusOr<std::string> DefaultSqlitePath() {
  // The base directory specification: a relative path there is to be ignored.
  const char* state = getenv("XDG_STATE_HOME");
  if (state != nullptr && state[0] == '/') return absl::StrCat(state, "/coord/coord.db");
  const char* home = getenv("HOME");
  if (home != nullptr && home[0] == '/') return absl::StrCat(home, "/.local/state/coord/coord.db");
  return absl::FailedPreconditionError(
      "sqlite: no default path, for neither XDG_STATE_HOME nor HOME is set to an absolute path; name one: sqlite:PATH");
}

namespace internal {
namespace {

struct NamedType {
  uint64_t type;
  const char* name;
};

// From linux/magic.h and the file systems' own sources; not all headers have all of them.
constexpr NamedType kRefused[] = {
    {0x6969, "NFS"},
    {0x517B, "SMB"},
    {0xFF534D42, "CIFS"},
    {0xFE534D42, "SMB2"},
    {0x01021997, "9P"},
    {0x5346414F, "AFS"},
    {0x6B414653, "AFS"},
    {0x73757245, "Coda"},
    {0x00C36400, "Ceph"},
    {0x65735546, "FUSE"},
    {0x0BD00BD0, "Lustre"},
    {0x47504653, "GPFS"},
    {0x7461636F, "OCFS2"},
    {0x01161970, "GFS2"},
    {0x786F4256, "VirtualBox shared folder"},
    {0xBACBACBC, "VMware shared folder"},
};

// The record of the log lies in the bell's page, behind the bell's word.
constexpr off_t kRecordOffset = 64;
constexpr size_t kRecordBytes = 512;

absl::Status FileError(const std::string& path, int error, std::string_view what) {
  const std::string text =
      absl::StrCat("sqlite: ", path, absl::string_view(what.data(), what.size()), " (", std::strerror(error), ")");
  if (error == EACCES || error == EPERM || error == EROFS) {
    return absl::PermissionDeniedError(absl::StrCat(text, "; give this user the right to its file and folder"));
  }
  if (error == ENOSPC || error == EDQUOT) return absl::UnavailableError(absl::StrCat(text, "; make room"));
  return absl::UnavailableError(text);
}

// The identities of a database, its log and the log's index.
struct LogRecord {
  std::string database;
  std::string log;
  std::string index;

  static LogRecord Now(const std::string& path) {
    return {FileIdentity(path), FileIdentity(path + "-wal"), FileIdentity(path + "-shm")};
  }
  static LogRecord Read(const std::string& record_path) {
    char bytes[kRecordBytes + 1] = "";
    const int fd = open(record_path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0) {
      if (pread(fd, bytes, kRecordBytes, kRecordOffset) < 0) bytes[0] = '\0';
      close(fd);
    }
    const std::vector<std::string> parts = absl::StrSplit(bytes, ' ');
    if (parts.size() != 3) return {};
    return {parts[0], parts[1], parts[2]};
  }
  void Write(const std::string& record_path) const {
    std::string bytes = absl::StrCat(database, " ", log, " ", index);
    bytes.resize(kRecordBytes, '\0');
    const int fd = open(record_path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    if (pwrite(fd, bytes.data(), bytes.size(), kRecordOffset) < 0) {
      // Without a record nothing is put aside, as with SQLite alone.
    }
    close(fd);
  }
  bool operator==(const LogRecord& other) const {
    return database == other.database && log == other.log && index == other.index;
  }
};

}  // namespace

absl::Status MakePrivateFolders(const std::string& folder) {
  for (size_t at = 1; at <= folder.size(); ++at) {
    if (at != folder.size() && folder[at] != '/') continue;
    const std::string part = folder.substr(0, at);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST && errno != EISDIR) {
      return FileError(part, errno, ": the folder cannot be made");
    }
  }
  return absl::OkStatus();
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::StatusOr<std::string> ResolvePath(std::string_view given) {
  const std::string path(given);
  if (path.find('\0') != std::string::npos) return absl::InvalidArgumentError("sqlite: the path has a NUL character");
  if (path.empty() || path.back() == '/') {
    return absl::InvalidArgumentError(absl::StrCat("sqlite: \"", path, "\" names a folder; name the database file"));
  }
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) return std::string(resolved);
  struct stat link;
  if (lstat(path.c_str(), &link) == 0 && S_ISLNK(link.st_mode)) {
    return absl::UnavailableError(absl::StrCat("sqlite: ", path, " is a symbolic link that leads nowhere"));
  }
  const std::string folder = FolderOf(path);
  if (realpath(folder.c_str(), resolved) == nullptr) {
    return FileError(path, errno, ": its folder cannot be used; make it or choose another path");
  }
  const std::string name = path.substr(path.rfind('/') + 1);  // npos + 1 is 0
  return std::strcmp(resolved, "/") == 0 ? absl::StrCat("/", name) : absl::StrCat(resolved, "/", name);
}

uint64_t FileSystemType(const std::string& folder) {
  struct statfs info;
  if (statfs(folder.c_str(), &info) != 0) return 0;
  return static_cast<uint32_t>(info.f_type);
}

absl::Status CheckFileSystemType(uint64_t type, const std::string& path) {
  for (const NamedType& refused : kRefused) {
    if (refused.type != type) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("sqlite: ", path, " is on a file system of type ", refused.name,
                     ", where locks between processes do not hold; choose a path on a local disk"));
  }
  return absl::OkStatus();
}

absl::StatusOr<FileState> LookAtFile(const std::string& path) {
  struct stat file;
  if (stat(path.c_str(), &file) != 0) {
    if (errno != ENOENT) return FileError(path, errno, " cannot be reached");
    if (stat(FolderOf(path).c_str(), &file) == 0) return FileState::kAbsent;
    return FileError(path, errno, ": its folder cannot be used; make it or choose another path");
  }
  if (S_ISREG(file.st_mode)) return FileState::kRegular;
  return absl::UnavailableError(absl::StrCat("sqlite: ", path, S_ISDIR(file.st_mode) ? " is a folder" : " is no file",
                                             ", not a database; move it away or choose another path"));
}

std::string FileIdentity(const std::string& path) {
  struct statx file;
  if (statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_BTIME, &file) != 0) return "";
  std::string identity = absl::StrCat(file.stx_ino);
  if ((file.stx_mask & STATX_BTIME) != 0) {
    absl::StrAppend(&identity, ":", file.stx_btime.tv_sec, ".", file.stx_btime.tv_nsec);
  }
  return identity;
}

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path, SteadyTime deadline) {
  while (true) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return FileError(path, errno, " cannot be made");
    FileLock lock(fd);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
      struct stat held;
      struct stat named;
      // Only the file at the path counts: one that was removed meanwhile locks out nobody.
      const bool same = fstat(fd, &held) == 0 && stat(path.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
                        held.st_ino == named.st_ino;
      if (same) return lock;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return absl::UnavailableError(
          absl::StrCat("sqlite: ", path, " is held by another process that is making the database"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

FileLock::~FileLock() {
  if (fd_ >= 0) close(fd_);
}

absl::Status MakeEmptyDatabaseFile(const std::string& path) {
  struct stat file;
  if (stat(path.c_str(), &file) == 0) return absl::OkStatus();
  const std::string wal = absl::StrCat(path, "-wal");
  if (rename(wal.c_str(), absl::StrCat(wal, ".orphan").c_str()) != 0 && errno != ENOENT) {
    return FileError(wal, errno, " cannot be moved aside");
  }
  for (const char* suffix : {"-shm", "-journal"}) {
    const std::string leftover = absl::StrCat(path, suffix);
    if (unlink(leftover.c_str()) != 0 && errno != ENOENT) return FileError(leftover, errno, " cannot be removed");
  }
  // mknod leaves no descriptor whose close would drop locks.
  if (mknod(path.c_str(), S_IFREG | 0600, 0) != 0 && errno != EEXIST) return FileError(path, errno, " cannot be made");
  const int folder = open(FolderOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
  return absl::OkStatus();
}

absl::Status PutForeignLogAside(const std::string& path, const std::string& record_path, SteadyTime deadline) {
  const auto is_foreign = [&] {
    const LogRecord recorded = LogRecord::Read(record_path);
    const LogRecord now = LogRecord::Now(path);
    return !recorded.database.empty() && !now.database.empty() && recorded.database != now.database &&
           !now.log.empty() && recorded.log == now.log;
  };
  if (!is_foreign()) return absl::OkStatus();
  absl::StatusOr<FileLock> lock = FileLock::Acquire(record_path, deadline);
  if (!lock.ok()) return lock.status();
  if (!is_foreign()) return absl::OkStatus();
  const std::string log = absl::StrCat(path, "-wal");
  const std::string index = absl::StrCat(path, "-shm");
  // The index first: with a log but without an index SQLite only rebuilds it.
  if (LogRecord::Read(record_path).index == FileIdentity(index) && unlink(index.c_str()) != 0 && errno != ENOENT) {
    return FileError(index, errno, " cannot be removed");
  }
  if (rename(log.c_str(), absl::StrCat(log, ".orphan").c_str()) != 0 && errno != ENOENT) {
    return FileError(log, errno, " cannot be moved aside");
  }
  return absl::OkStatus();
}

void RecordLog(const std::string& path, const std::string& record_path, SteadyTime deadline) {
  if (LogRecord::Read(record_path) == LogRecord::Now(path)) return;
  absl::StatusOr<FileLock> lock = FileLock::Acquire(record_path, deadline);
  if (lock.ok()) LogRecord::Now(path).Write(record_path);
}

}  // namespace internal
}  // namespace kv
