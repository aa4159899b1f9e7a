// Child processes of the story and of the tests: started, watched, and never left behind.

#ifndef EXAMPLES_TRIGGER_WORDS_PROCESS_H_
#define EXAMPLES_TRIGGER_WORDS_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace trigger_words {

// One copy of the plugin. It is killed when this object or the thread that started it ends. Not thread-safe.
class PluginProcess {
 public:
  // Starts `binary` with `flags`, in its own process. Its standard error goes to `log`, or to ours if `log` is empty.
  static absl::StatusOr<PluginProcess> Start(const std::string& binary, const std::vector<std::string>& flags,
                                             const std::string& log = "");
  PluginProcess(PluginProcess&& other) noexcept;
  PluginProcess& operator=(PluginProcess&& other) noexcept;
  ~PluginProcess();

  // Waits for the line that says that it is ready, and gives the port in it. Unavailable: it ended, or did not say so
  // in time.
  absl::StatusOr<int> WaitReady(absl::Duration timeout);

  void Signal(int signal);
  // Waits for its end. DeadlineExceeded: it still runs; else as waitpid: WIFEXITED and so on tell.
  absl::StatusOr<int> Wait(absl::Duration timeout);
  // Kills it and waits.
  void Kill();
  // Kills the copies of all objects of this process, from any thread.
  static void KillAll();

  pid_t pid() const { return pid_; }

 private:
  PluginProcess(pid_t pid, int output) : pid_(pid), output_(output) {}
  pid_t pid_ = -1;   // -1: none, or its end was waited for
  int output_ = -1;  // its standard output
};

// A folder under the system's temporary one, removed with all in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The folder of the running program's file.
std::string ProgramFolder();

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_PROCESS_H_
