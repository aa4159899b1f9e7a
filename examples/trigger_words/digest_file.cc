#include "examples/trigger_words/digest_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace trigger_words {
namespace {

absl::Status Failed(const std::string& what, const std::string& path, int error) {
  return absl::UnavailableError(absl::StrCat("cannot ", what, " the digest ",
                                             path.empty() ? "on standard output" : path, ": ", std::strerror(error)));
}

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string FileId(const struct stat& file) { return absl::StrCat(HostName(), ":", file.st_dev, ":", file.st_ino); }

struct Opened {
  int fd;
  std::string id;
};

absl::StatusOr<Opened> OpenFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return Failed("open", path, errno);
  struct stat file;
  if (fstat(fd, &file) != 0) {
    const int error = errno;
    close(fd);
    return Failed("open", path, error);
  }
  if (!S_ISREG(file.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat("the digest ", path, " is not a regular file; name a file"));
  }
  return Opened{fd, FileId(file)};
}

}  // namespace

absl::StatusOr<DigestFile> DigestFile::Open(const std::string& path) {
  if (path.empty()) return DigestFile("", STDOUT_FILENO, absl::StrCat("stdout:", HostName(), ":", getpid()));
  absl::StatusOr<Opened> opened = OpenFile(path);
  if (!opened.ok()) return opened.status();
  return DigestFile(path, opened->fd, opened->id);
}

DigestFile::DigestFile(std::string path, int fd, std::string id)
    : path_(std::move(path)), fd_(fd), id_(std::move(id)) {}

DigestFile::DigestFile(DigestFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), id_(std::move(other.id_)) {}

DigestFile::~DigestFile() {
  if (fd_ >= 0 && fd_ != STDOUT_FILENO) close(fd_);
}

absl::Status DigestFile::Refresh() {
  if (!is_file()) return absl::OkStatus();
  struct stat file;
  if (stat(path_.c_str(), &file) == 0 && FileId(file) == id_) return absl::OkStatus();
  absl::StatusOr<Opened> opened = OpenFile(path_);
  if (!opened.ok()) return opened.status();
  close(fd_);
  fd_ = opened->fd;
  id_ = opened->id;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> DigestFile::End() const {
  if (!is_file()) return 0;
  struct stat file;
  if (fstat(fd_, &file) != 0) return Failed("look at", path_, errno);
  return file.st_size;
}

absl::Status DigestFile::WriteAt(int64_t offset, std::string_view line) {
  while (!line.empty()) {
    const ssize_t written =
        is_file() ? pwrite(fd_, line.data(), line.size(), offset) : write(fd_, line.data(), line.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Failed("write", path_, errno);
    line.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

}  // namespace trigger_words
