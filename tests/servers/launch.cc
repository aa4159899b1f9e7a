#include "tests/servers/launch.h"

#include <errno.h>
#include <stdlib.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace servers::internal {
namespace {

constexpr size_t kLogTail = 2000;

std::string LogTail(const Server& server) {
  const std::string log = server.Log();
  return log.substr(log.size() - std::min(log.size(), kLogTail));
}

}  // namespace

absl::StatusOr<std::string> MakeFolder(const std::string& prefix) {
  const char* parent = getenv("TEST_TMPDIR");
  if (parent == nullptr || *parent == '\0') parent = getenv("TMPDIR");
  if (parent == nullptr || *parent == '\0') parent = "/tmp";
  std::string folder = absl::StrCat(parent, "/", prefix, "-XXXXXX");
  if (mkdtemp(folder.data()) == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("no folder ", folder));
  return folder;
}

absl::Status AwaitUp(const Server& server, const std::string& program, absl::Time deadline,
                     const std::function<absl::Status()>& answers) {
  while (true) {
    const bool runs = server.running();
    const absl::Status status = answers();
    if (status.ok()) return status;
    if (!runs) {
      return absl::UnavailableError(absl::StrCat(program, " ended when it was started; its log:\n", LogTail(server)));
    }
    if (absl::Now() >= deadline) {
      return absl::UnavailableError(
          absl::StrCat(program, " did not come up: ", status.message(), "; its log:\n", LogTail(server)));
    }
    absl::SleepFor(kPoll);
  }
}

bool PortWasTaken(const absl::Status& status) { return absl::StrContains(status.message(), "ddress already in use"); }

}  // namespace servers::internal
