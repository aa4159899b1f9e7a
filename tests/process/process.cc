#include "tests/process/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

extern char** environ;

namespace process_test {
namespace {

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", what.c_str(), strerror(errno));
  abort();
}

std::string WorkerPath() {
  const char* named = getenv("COORD_TEST_WORKER");
  if (named != nullptr) return named;
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "worker";
}

// Starts `words` with pipes as its standard input and output.
pid_t Spawn(const std::vector<std::string>& words, int* input, int* output) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) Die("pipe");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, words[0].c_str(), &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  errno = error;
  if (error != 0) Die("cannot start " + words[0]);
  *input = in[1];
  *output = out[0];
  return pid;
}

}  // namespace

std::string Reply::Word(size_t index) const {
  const std::vector<std::string> words = Words(text);
  return index < words.size() ? words[index] : "";
}

int64_t Reply::Number(size_t index) const {
  int64_t number = -1;
  return absl::SimpleAtoi(Word(index), &number) ? number : -1;
}

Process::Process(const Options& options) : instance_(options.instance) {
  // A worker that has ended is noticed by its output; writing to it must not end the test.
  signal(SIGPIPE, SIG_IGN);
  int output = -1;
  pid_ = Spawn(
      {WorkerPath(), "--store=" + options.store, "--events=" + options.events, "--instance=" + options.instance,
       "--ttl=" + absl::FormatDuration(options.ttl), "--call_timeout=" + absl::FormatDuration(options.call_timeout),
       absl::StrCat("--accept_weaker=", options.accept_weaker ? "true" : "false"),
       "--max_ttl=" + absl::FormatDuration(options.max_ttl), absl::StrCat("--parent=", getpid())},
      &input_, &output);
  reader_ = std::thread([this, output] { ReadOutput(output); });
}

Process::~Process() {
  Kill();
  close(input_);
  reader_.join();
}

void Process::ReadOutput(int output) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(output, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
    for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1))
      TakeLine(text.substr(0, end));
  }
  close(output);
  std::lock_guard<std::mutex> lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void Process::TakeLine(const std::string& line) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (line.rfind("* ", 0) == 0) {
    events_.push_back(line.substr(2));
  } else {
    std::istringstream stream(line);
    int tag = 0, code = 0;
    int64_t micros = 0;
    std::string text;
    stream >> tag >> code >> micros;
    stream.get();
    std::getline(stream, text);
    Reply reply;
    reply.status = absl::Status(static_cast<absl::StatusCode>(code), code == 0 ? "" : text);
    if (code == 0) reply.text = text;
    reply.took = absl::Microseconds(micros);
    replies_[tag] = std::move(reply);
  }
  changed_.notify_all();
}

int Process::Send(const std::string& command) {
  const std::string line = absl::StrCat(++last_tag_, " ", command, "\n");
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t wrote = write(input_, line.data() + sent, line.size() - sent);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) break;  // it has ended; Await says so
    sent += static_cast<size_t>(wrote);
  }
  return last_tag_;
}

Reply Process::Await(int tag, absl::Duration patience) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, absl::ToChronoNanoseconds(patience), [&] { return ended_ || replies_.count(tag) != 0; });
  const auto found = replies_.find(tag);
  if (found == replies_.end()) {
    Reply none;
    none.status = ended_ ? absl::UnknownError(instance_ + " ended before it replied")
                         : absl::InternalError(instance_ + " did not reply in time");
    return none;
  }
  Reply reply = std::move(found->second);
  replies_.erase(found);
  return reply;
}

std::optional<std::string> Process::AwaitEvent(const std::string& prefix, absl::Duration patience) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto matches = [&](const std::string& event) { return event.rfind(prefix, 0) == 0; };
  auto found = events_.end();
  changed_.wait_for(lock, absl::ToChronoNanoseconds(patience), [&] {
    found = std::find_if(events_.begin(), events_.end(), matches);
    return found != events_.end() || ended_;
  });
  if (found == events_.end()) return std::nullopt;
  std::string rest = found->substr(prefix.size());
  events_.erase(found);
  return rest;
}

std::vector<std::string> Process::TakeEvents(const std::string& prefix) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::string> taken;
  std::deque<std::string> others;
  for (std::string& event : events_) {
    const bool matches = event.rfind(prefix, 0) == 0;
    if (matches) {
      taken.push_back(event.substr(prefix.size()));
    } else {
      others.push_back(std::move(event));
    }
  }
  events_.swap(others);
  return taken;
}

void Process::Signal(int signal) {
  if (pid_ > 0) kill(pid_, signal);
}

bool Process::AwaitStopped() {
  siginfo_t info = {};
  return Eventually([&] {
    info.si_pid = 0;
    return waitid(P_PID, static_cast<id_t>(pid_), &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == pid_;
  });
}

int64_t Process::Kill() {
  if (pid_ <= 0) return BootNanos();
  // Read before the signal: what happened after it happened after this time.
  const int64_t now = BootNanos();
  kill(pid_, SIGKILL);
  waitpid(std::exchange(pid_, -1), nullptr, 0);
  return now;
}

int Process::AwaitEnd() {
  if (pid_ <= 0) return -1;
  int status = -1;
  if (!Eventually([&] { return waitpid(pid_, &status, WNOHANG) == pid_; })) {
    Kill();
    return -1;
  }
  pid_ = -1;
  return status;
}

int Process::Quit() {
  Call("quit");
  return AwaitEnd();
}

int64_t BootNanos() {
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::vector<std::string> Words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::vector<std::string> Lines(const std::string& file) {
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(line);
  }
  return lines;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = std::filesystem::temp_directory_path() / "process-XXXXXX";
  if (const char* given = getenv("TEST_TMPDIR"); given != nullptr) name = absl::StrCat(given, "/process-XXXXXX");
  if (mkdtemp(name.data()) == nullptr) Die("mkdtemp");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace process_test
