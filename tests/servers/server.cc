#include <signal.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "absl/time/clock.h"
#include "tests/servers/child.h"
#include "tests/servers/servers.h"

namespace servers {
namespace {

// A server that does not heed SIGTERM for so long is killed.
constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr absl::Duration kPoll = absl::Milliseconds(1);

}  // namespace

Server::~Server() {
  Kill();
  std::error_code error;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, error);
}

void Server::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  internal::AwaitEnd(pid_);
  pid_ = -1;
}

void Server::Terminate() {
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  kill(pid_, SIGCONT);
  const absl::Time deadline = absl::Now() + kPatience;
  while (!internal::HasEnded(pid_) && absl::Now() < deadline) absl::SleepFor(kPoll);
  Kill();
}

void Server::Stop() {
  if (!running()) return;
  kill(pid_, SIGSTOP);
  while (running() && !stopped()) absl::SleepFor(kPoll);
}

void Server::Continue() {
  if (pid_ > 0) kill(pid_, SIGCONT);
}

bool Server::running() const { return pid_ > 0 && !internal::HasEnded(pid_); }

bool Server::stopped() const {
  if (!running()) return false;
  const std::string states = internal::ThreadStates(pid_);
  return !states.empty() && states.find_first_not_of('T') == std::string::npos;
}

std::string Server::Log() const {
  std::ostringstream log;
  log << std::ifstream(folder_ + "/log").rdbuf();
  return log.str();
}

}  // namespace servers
