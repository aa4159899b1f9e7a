// What the starts of all kinds of servers share.

#ifndef TESTS_SERVERS_LAUNCH_H_
#define TESTS_SERVERS_LAUNCH_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/servers/servers.h"

namespace servers::internal {

// Longer than a server takes to come up on a machine that is busy.
constexpr absl::Duration kStartPatience = absl::Seconds(60);
// How long a server that runs may take for an answer.
constexpr absl::Duration kAnswerPatience = absl::Seconds(10);
constexpr absl::Duration kPoll = absl::Milliseconds(5);

// A new folder under $TEST_TMPDIR, $TMPDIR or /tmp.
absl::StatusOr<std::string> MakeFolder(const std::string& prefix);

// Asks `answers` until it says OK, until `deadline`, or until the server has ended. The error holds what `answers` said
// last and the end of the log.
absl::Status AwaitUp(const Server& server, const std::string& program, absl::Time deadline,
                     const std::function<absl::Status()>& answers);

// Whether a server did not come up because something listens at its port.
bool PortWasTaken(const absl::Status& status);

// What `run` makes, or another of its kind, with other ports, as long as somebody takes the ports first.
template <typename T>
absl::StatusOr<std::unique_ptr<T>> WithFreePorts(const std::function<absl::StatusOr<std::unique_ptr<T>>()>& run) {
  constexpr int kTries = 5;
  absl::StatusOr<std::unique_ptr<T>> made = run();
  for (int i = 1; i < kTries && !made.ok() && PortWasTaken(made.status()); ++i) made = run();
  return made;
}

}  // namespace servers::internal

#endif  // TESTS_SERVERS_LAUNCH_H_
