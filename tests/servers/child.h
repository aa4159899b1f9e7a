// Programs that run beside a test and never outlive it.

#ifndef TESTS_SERVERS_CHILD_H_
#define TESTS_SERVERS_CHILD_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace servers::internal {

// Where the program `name` is: what the environment's `variable` says, else the first in PATH or in the folders for
// system programs. NotFound names the Debian package that has it.
absl::StatusOr<std::string> FindProgram(const std::string& name, const std::string& variable,
                                        const std::string& package);

// Starts command[0], a path, with everything it prints appended to the file `log`, and without any open file of this
// process. It is killed when this process ends, however it ends. `network` is a file descriptor of the network
// namespace that it is to live in; -1: that of the thread that was the first to call this. Thread-safe.
absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& command, const std::string& log, int network = -1);

// Whether a child has ended. It stays a zombie, so that its id is nobody else's, until AwaitEnd.
bool HasEnded(pid_t child);

// Waits for the end of a child, and forgets it.
void AwaitEnd(pid_t child);

// The state letter of each thread of a process, as /proc has them: "TTTT" for one that is stopped, empty if it is gone.
std::string ThreadStates(pid_t process);

}  // namespace servers::internal

#endif  // TESTS_SERVERS_CHILD_H_
