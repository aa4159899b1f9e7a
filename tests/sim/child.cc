#include "tests/sim/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace sim {
namespace {

void Send(int pipe, char type, const std::string& text) {
  const auto size = static_cast<uint32_t>(text.size());
  std::string message(1, type);
  message.append(reinterpret_cast<const char*>(&size), sizeof size).append(text);
  for (size_t at = 0; at < message.size();) {
    const ssize_t written = write(pipe, message.data() + at, message.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) _exit(3);
    at += static_cast<size_t>(written);
  }
}

}  // namespace

Child::Child(const std::function<void(const Sink&)>& body) {
  int ends[2];
  std::fflush(nullptr);
  if (pipe2(ends, O_CLOEXEC) != 0 || (pid_ = fork()) < 0) {
    std::perror("a child process cannot be started");
    std::abort();
  }
  if (pid_ == 0) {
    close(ends[0]);
    body([&](char type, const std::string& text) { Send(ends[1], type, text); });
    std::fflush(nullptr);
    _exit(0);
  }
  close(ends[1]);
  pipe_ = ends[0];
  fcntl(pipe_, F_SETFL, O_NONBLOCK);
}

Child::~Child() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, &status_, 0);
  }
  if (pipe_ >= 0) close(pipe_);
}

void Child::WaitForAny(std::list<Child>& children) {
  std::vector<pollfd> fds;
  for (const Child& child : children) fds.push_back({child.pipe_, POLLIN, 0});
  poll(fds.data(), fds.size(), 1000);
}

std::vector<std::pair<char, std::string>> Child::Take() {
  char bytes[65536];
  ssize_t got = 0;
  while ((got = read(pipe_, bytes, sizeof bytes)) > 0) buffer_.append(bytes, static_cast<size_t>(got));
  if (got == 0 && pid_ > 0) {
    waitpid(pid_, &status_, 0);
    pid_ = 0;
  }
  std::vector<std::pair<char, std::string>> messages;
  size_t at = 0;
  uint32_t size = 0;
  while (buffer_.size() - at >= 1 + sizeof size) {
    std::memcpy(&size, buffer_.data() + at + 1, sizeof size);
    if (buffer_.size() - at < 1 + sizeof size + size) break;
    messages.emplace_back(buffer_[at], buffer_.substr(at + 1 + sizeof size, size));
    at += 1 + sizeof size + size;
  }
  buffer_.erase(0, at);
  return messages;
}

std::string Child::HowItEnded() const {
  if (WIFSIGNALED(status_)) return absl::StrCat("it was ended by signal ", WTERMSIG(status_));
  return absl::StrCat("it exited with ", WEXITSTATUS(status_), " before it was through");
}

}  // namespace sim
