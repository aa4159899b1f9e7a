#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/servers/child.h"
#include "tests/servers/exchange.h"
#include "tests/servers/launch.h"
#include "tests/servers/ports.h"
#include "tests/servers/servers.h"

namespace servers {
namespace {

class MemcachedProcess : public MemcachedServer {
 public:
  MemcachedProcess(const MemcachedOptions& options, std::string program)
      : options_(options), program_(std::move(program)) {}

  absl::Status Prepare() {
    absl::StatusOr<internal::HeldPort> held = internal::HeldPort::Hold();
    if (!held.ok()) return held.status();
    held_ = *std::move(held);
    port_ = held_.number();
    absl::StatusOr<std::string> folder = internal::MakeFolder("memcached");
    if (!folder.ok()) return folder.status();
    folder_ = *std::move(folder);
    return absl::OkStatus();
  }

  absl::Status Start() override {
    if (running()) return absl::OkStatus();
    Kill();  // what is left of one that ended by itself
    std::vector<std::string> command = {
        program_, "-l", "127.0.0.1", "-p", absl::StrCat(port_), "-U", "0", "-m", absl::StrCat(options_.megabytes)};
    if (options_.no_eviction) command.push_back("-M");
    command.insert(command.end(), options_.arguments.begin(), options_.arguments.end());
    if (geteuid() == 0) command.insert(command.end(), {"-u", "root"});
    const absl::StatusOr<pid_t> child = internal::Spawn(command, folder_ + "/log");
    if (!child.ok()) return child.status();
    pid_ = *child;
    return internal::AwaitUp(*this, program_, absl::Now() + internal::kStartPatience, [this] {
      return internal::Exchange("127.0.0.1", port_, "version\r\n", "\r\n", absl::Now() + internal::kAnswerPatience)
          .status();
    });
  }

 private:
  const MemcachedOptions options_;
  const std::string program_;
  internal::HeldPort held_;
};

absl::StatusOr<std::unique_ptr<MemcachedServer>> RunOnce(const MemcachedOptions& options) {
  absl::StatusOr<std::string> program = internal::FindProgram("memcached", "COORD_MEMCACHED", "memcached");
  if (!program.ok()) return program.status();
  auto server = std::make_unique<MemcachedProcess>(options, *std::move(program));
  if (absl::Status status = server->Prepare(); !status.ok()) return status;
  if (absl::Status status = server->Start(); !status.ok()) return status;
  return server;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MemcachedServer>> MemcachedServer::Run(const MemcachedOptions& options) {
  return internal::WithFreePorts<MemcachedServer>([&] { return RunOnce(options); });
}

std::string MemcachedServer::address() const { return absl::StrCat("127.0.0.1:", port()); }

absl::StatusOr<int64_t> MemcachedServer::Stat(const std::string& name) const {
  const absl::StatusOr<std::string> answer =
      internal::Exchange("127.0.0.1", port(), "stats\r\n", "END\r\n", absl::Now() + internal::kAnswerPatience);
  if (!answer.ok()) return answer.status();
  const std::vector<std::string> lines = absl::StrSplit(*answer, "\r\n");
  for (const std::string& line : lines) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    int64_t value = 0;
    if (words.size() == 3 && words[1] == name && absl::SimpleAtoi(words[2], &value)) return value;
  }
  return absl::NotFoundError(absl::StrCat("memcached's stats have no number ", name));
}

}  // namespace servers
