#include "examples/trigger_words/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace trigger_words {
namespace {

// The children, for KillAll. One is taken out before it is waited for, so that its id cannot be another's by then.
std::array<std::atomic<pid_t>, 64> children{};

void Remember(pid_t pid) {
  for (std::atomic<pid_t>& child : children) {
    pid_t none = 0;
    if (child.compare_exchange_strong(none, pid)) return;
  }
}

int WaitAndForget(pid_t pid) {
  for (std::atomic<pid_t>& child : children) {
    pid_t same = pid;
    child.compare_exchange_strong(same, 0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void Become(char* const* words, pid_t parent, int output, int errors) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it has ended already
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  dup2(output, STDOUT_FILENO);
  if (errors >= 0) dup2(errors, STDERR_FILENO);
  execv(words[0], words);
  _exit(127);
}

}  // namespace

absl::StatusOr<PluginProcess> PluginProcess::Start(const std::string& binary, const std::vector<std::string>& flags,
                                                   const std::string& log) {
  std::vector<std::string> words = {binary};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  int pipe[2];
  if (pipe2(pipe, O_CLOEXEC) != 0) return absl::UnavailableError(absl::StrCat("no pipe: ", std::strerror(errno)));
  const int errors = log.empty() ? -1 : open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) Become(pointers.data(), parent, pipe[1], errors);
  const int error = errno;
  close(pipe[1]);
  if (errors >= 0) close(errors);
  if (pid < 0) {
    close(pipe[0]);
    return absl::UnavailableError(absl::StrCat("cannot start ", binary, ": ", std::strerror(error)));
  }
  Remember(pid);
  return PluginProcess(pid, pipe[0]);
}

PluginProcess::PluginProcess(PluginProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), output_(std::exchange(other.output_, -1)) {}

PluginProcess& PluginProcess::operator=(PluginProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  return *this;
}

PluginProcess::~PluginProcess() {
  Kill();
  if (output_ >= 0) close(output_);
}

absl::StatusOr<int> PluginProcess::WaitReady(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  std::string said;
  for (;;) {
    pollfd output = {output_, POLLIN, 0};
    const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left <= 0)
      return absl::UnavailableError(absl::StrCat("a copy was not ready within ", absl::FormatDuration(timeout)));
    if (poll(&output, 1, static_cast<int>(left)) <= 0) continue;
    char buffer[1024];
    const ssize_t size = read(output_, buffer, sizeof buffer);
    if (size <= 0) return absl::UnavailableError("a copy ended before it was ready");
    said.append(buffer, static_cast<size_t>(size));
    if (said.find('\n') == std::string::npos) continue;
    const size_t colon = said.find(':', said.find("http://") + 7);
    if (said.rfind("ready on http://", 0) != 0 || colon == std::string::npos) {
      return absl::UnavailableError("a copy said something else than that it is ready: " + said);
    }
    return std::atoi(said.c_str() + colon + 1);
  }
}

void PluginProcess::Signal(int signal) {
  if (pid_ > 0) kill(pid_, signal);
}

absl::StatusOr<int> PluginProcess::Wait(absl::Duration timeout) {
  if (pid_ <= 0) return absl::FailedPreconditionError("the copy does not run");
  const int handle = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (handle < 0) return absl::UnavailableError(absl::StrCat("pidfd_open: ", std::strerror(errno)));
  pollfd end = {handle, POLLIN, 0};
  const int ended = poll(&end, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  close(handle);
  if (ended <= 0)
    return absl::DeadlineExceededError(absl::StrCat("the copy still runs after ", absl::FormatDuration(timeout)));
  return WaitAndForget(std::exchange(pid_, -1));
}

void PluginProcess::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  kill(pid_, SIGCONT);
  WaitAndForget(std::exchange(pid_, -1));
}

void PluginProcess::KillAll() {
  for (std::atomic<pid_t>& child : children) {
    const pid_t pid = child;
    if (pid > 0) kill(pid, SIGKILL);
  }
  // They write until they have ended. Whoever else waits for one may take its status.
  for (std::atomic<pid_t>& child : children) {
    const pid_t pid = child;
    siginfo_t info;
    if (pid > 0) waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT);
  }
}

TemporaryFolder::TemporaryFolder() {
  const char* base = std::getenv("TEST_TMPDIR");
  if (base == nullptr) base = std::getenv("TMPDIR");
  path_ = absl::StrCat(base != nullptr ? base : "/tmp", "/trigger_words.XXXXXX");
  if (mkdtemp(path_.data()) == nullptr) path_.clear();
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

std::string ProgramFolder() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path().string();
}

}  // namespace trigger_words
