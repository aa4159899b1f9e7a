#include "kv/internal/secret_source.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/internal/mutex.h"

namespace kv {
namespace {

constexpr size_t kMaxBytes = 4096;

absl::StatusOr<std::string> FirstLine(const std::string& where, std::string text) {
  text.resize(std::min(text.find('\n'), text.size()));
  if (!text.empty() && text.back() == '\r') text.pop_back();
  if (text.empty()) return absl::FailedPreconditionError(absl::StrCat(where, " begins with an empty line"));
  if (text.size() > kMaxBytes) {
    return absl::FailedPreconditionError(absl::StrCat(where, " begins with more than ", kMaxBytes, " bytes in a line"));
  }
  if (text.find('\0') != std::string::npos) {
    return absl::FailedPreconditionError(absl::StrCat(where, " holds a NUL character in its first line"));
  }
  return text;
}

// Waits until the standard input has something, or has ended.
absl::Status AwaitInput(absl::Time deadline) {
  for (;;) {
    pollfd input = {STDIN_FILENO, POLLIN, 0};
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    const int ready = left <= 0 ? 0 : poll(&input, 1, static_cast<int>(std::min<int64_t>(left, 3600 * 1000)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return absl::FailedPreconditionError(absl::StrCat("the standard input: ", std::strerror(errno)));
    return absl::DeadlineExceededError("no line with the secret came on the standard input in time");
  }
}

absl::StatusOr<std::string> ReadLine(absl::Time deadline) {
  if (isatty(STDIN_FILENO) != 0) {
    return absl::FailedPreconditionError(
        "the standard input is a terminal, which would show the secret: send it through a pipe, or name a file");
  }
  std::string line;
  char byte = 0;
  // One by one, for what follows is not ours.
  while (byte != '\n' && line.size() <= kMaxBytes + 1) {
    if (absl::Status status = AwaitInput(deadline); !status.ok()) return status;
    const ssize_t size = read(STDIN_FILENO, &byte, 1);
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (size < 0) return absl::FailedPreconditionError(absl::StrCat("the standard input: ", std::strerror(errno)));
    if (size == 0) break;
    line += byte;
  }
  return FirstLine("the standard input", line);
}

}  // namespace

absl::StatusOr<std::string> ReadSecretFile(const std::string& what, const std::string& path) {
  const std::string where = absl::StrCat("the ", what, " file \"", path, "\"");
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  const auto unreadable = [&](int error) {
    return absl::FailedPreconditionError(absl::StrCat(where, " cannot be read: ", std::strerror(error)));
  };
  if (file < 0) return unreadable(errno);
  std::string text(kMaxBytes + 2, '\0');
  size_t used = 0;
  while (used < text.size()) {
    const ssize_t size = read(file, text.data() + used, text.size() - used);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      const int error = errno;
      close(file);
      return unreadable(error);
    }
    if (size == 0) break;
    used += static_cast<size_t>(size);
  }
  close(file);
  text.resize(used);
  return FirstLine(where, std::move(text));
}

absl::StatusOr<std::string> ReadSecretVariable(const std::string& what, const std::string& name) {
  const bool is_name =
      !name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) == 0 &&
      std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
  if (!is_name) {
    return absl::InvalidArgumentError(absl::StrCat("the parameter ", what, "_env takes the name of a variable"));
  }
  const char* value = std::getenv(name.c_str());
  if (value == nullptr || *value == '\0') {
    return absl::FailedPreconditionError(absl::StrCat("the environment variable ", name, ", which should hold the ",
                                                      what, ", is ", value == nullptr ? "not set" : "empty"));
  }
  return std::string(value);
}

absl::StatusOr<std::string> ReadStandardInputLine(absl::Time deadline) {
  static internal::Mutex& mutex = *new internal::Mutex;
  static std::optional<std::string>& remembered = *new std::optional<std::string>;
  internal::MutexLock lock(mutex);  // held while it reads, for a second caller waits for the same line
  if (remembered.has_value()) return *remembered;
  absl::StatusOr<std::string> line = ReadLine(deadline);
  if (line.ok()) remembered = *line;
  return line;
}

}  // namespace kv
