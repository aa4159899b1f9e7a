#include "tests/servers/child.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kv/internal/mutex.h"

namespace servers::internal {
namespace {

using kv::internal::CondVar;
using kv::internal::Mutex;
using kv::internal::MutexLock;

constexpr int kReport = 3;  // where a child reports that it could not become the program

// Of a child before it becomes the program: nothing here may lock or allocate.
void CloseFrom(int first) {
  if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  for (int fd = first; fd < static_cast<int>(limit.rlim_cur); ++fd) close(fd);
}

[[noreturn]] void Report(int report, int error) {
  [[maybe_unused]] const ssize_t written = write(report, &error, sizeof(error));
  _exit(127);
}

[[noreturn]] void BecomeProgram(char* const* arguments, pid_t parent, int network, int null, int log, int report) {
  if (network >= 0 && setns(network, CLONE_NEWNET) != 0) Report(report, errno);
  // Above all that is about to be replaced.
  null = fcntl(null, F_DUPFD, 10);
  log = fcntl(log, F_DUPFD, 10);
  report = fcntl(report, F_DUPFD, 10);
  dup2(null, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  dup2(report, kReport);
  fcntl(kReport, F_SETFD, FD_CLOEXEC);
  CloseFrom(kReport + 1);

  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it ended before it could be asked to tell
  execv(arguments[0], arguments);
  Report(kReport, errno);
}

absl::StatusOr<pid_t> ForkAndExec(const std::vector<std::string>& command, const std::string& log_path, int network) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);

  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  int report[2] = {-1, -1};
  if (log < 0 || null < 0 || pipe2(report, O_CLOEXEC) != 0) {
    const int error = errno;
    for (int fd : {null, log}) close(fd);
    return absl::ErrnoToStatus(error, absl::StrCat("no log at ", log_path, " for ", command[0]));
  }
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) BecomeProgram(arguments.data(), parent, network, null, log, report[1]);
  int error = child < 0 ? errno : 0;
  for (int fd : {null, log, report[1]}) close(fd);
  if (child > 0) {
    ssize_t got = 0;
    do got = read(report[0], &error, sizeof(error));
    while (got < 0 && errno == EINTR);
    if (got != sizeof(error)) error = 0;
    if (error != 0) AwaitEnd(child);
  }
  close(report[0]);
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat("cannot run ", command[0]));
  return child;
}

// A child is told of the end of the thread that forked it, so that one thread, which lasts as long as the process,
// forks all of them.
class Spawner {
 public:
  Spawner() {
    std::thread([this] { Run(); }).detach();
  }

  absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& command, const std::string& log, int network) {
    Request request{&command, &log, network, absl::UnknownError(""), false};
    MutexLock lock(mutex_);
    requests_.push_back(&request);
    changed_.NotifyAll();
    while (!request.done) changed_.Wait(mutex_);
    return request.result;
  }

 private:
  struct Request {
    const std::vector<std::string>* command;
    const std::string* log;
    int network;
    absl::StatusOr<pid_t> result;
    bool done;
  };

  [[noreturn]] void Run() {
    MutexLock lock(mutex_);
    while (true) {
      while (requests_.empty()) changed_.Wait(mutex_);
      Request* request = requests_.front();
      requests_.pop_front();
      lock.Unlock();
      absl::StatusOr<pid_t> result = ForkAndExec(*request->command, *request->log, request->network);
      lock.Lock();
      request->result = std::move(result);
      request->done = true;
      changed_.NotifyAll();
    }
  }

  Mutex mutex_;
  CondVar changed_;
  std::deque<Request*> requests_ KV_GUARDED_BY(mutex_);
};

bool IsProgram(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error) && access(path.c_str(), X_OK) == 0;
}

}  // namespace

absl::StatusOr<std::string> FindProgram(const std::string& name, const std::string& variable,
                                        const std::string& package) {
  if (const char* said = std::getenv(variable.c_str()); said != nullptr && *said != '\0') {
    if (IsProgram(said)) return std::string(said);
    return absl::NotFoundError(absl::StrCat("$", variable, " is ", said, ", which is not a program that can be run"));
  }
  const char* path = std::getenv("PATH");
  std::vector<std::string> folders = absl::StrSplit(path == nullptr ? "" : path, ':', absl::SkipEmpty());
  folders.insert(folders.end(), {"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"});
  for (const std::string& folder : folders) {
    std::string program = absl::StrCat(folder, "/", name);
    if (IsProgram(program)) return program;
  }
  return absl::NotFoundError(absl::StrCat("There is no program ", name, ": install the Debian package ", package,
                                          ", or set $", variable, " to its path"));
}

absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& command, const std::string& log, int network) {
  static Spawner& spawner = *new Spawner;
  return spawner.Spawn(command, log, network);
}

bool HasEnded(pid_t child) {
  siginfo_t info = {};
  if (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) != 0) return errno == ECHILD;
  return info.si_pid == child;
}

void AwaitEnd(pid_t child) {
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) continue;
}

std::string ThreadStates(pid_t process) {
  std::string states;
  std::error_code error;
  const std::filesystem::path tasks = absl::StrCat("/proc/", process, "/task");
  for (std::filesystem::directory_iterator task(tasks, error), end; !error && task != end; task.increment(error)) {
    std::ostringstream stat;
    stat << std::ifstream(task->path() / "stat").rdbuf();
    // The name, in parentheses, may itself have spaces and parentheses.
    const std::string text = stat.str();
    const size_t name_end = text.rfind(") ");
    if (name_end != std::string::npos && name_end + 2 < text.size()) states += text[name_end + 2];
  }
  return states;
}

}  // namespace servers::internal
