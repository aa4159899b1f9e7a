// Starts workers, gives them commands, and leaves none behind.

#ifndef TESTS_PROCESS_PROCESS_H_
#define TESTS_PROCESS_PROCESS_H_

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace process_test {

struct Reply {
  absl::Status status;
  std::string text;     // with OK
  absl::Duration took;  // inside the worker

  bool ok() const { return status.ok(); }
  // Word `index` of the text as a number.
  int64_t Number(size_t index) const;
  std::string Word(size_t index) const;
};

// Longer than anything takes that is not stuck.
constexpr absl::Duration kPatience = absl::Seconds(60);

// One worker (worker.cc). Killed when this object ends, or the thread that started it. One thread uses it.
class Process {
 public:
  struct Options {
    std::string store;
    std::string events;  // empty: the store's own
    std::string instance = "worker";
    absl::Duration ttl = absl::Seconds(10);
    absl::Duration call_timeout = absl::Seconds(2);
    absl::Duration max_ttl;  // zero: a minute, or `ttl` if that is longer
    bool accept_weaker = false;
  };

  explicit Process(const Options& options);
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  // Begins `command` and gives its tag.
  int Send(const std::string& command);
  // Unknown: the worker ended before it replied. Internal: it did not reply in time.
  Reply Await(int tag, absl::Duration patience = kPatience);
  Reply Call(const std::string& command) { return Await(Send(command)); }

  // The rest of the next event that begins with `prefix`; nothing if none comes in time, or the worker ended before.
  // Events that came before and did not match stay for later calls.
  std::optional<std::string> AwaitEvent(const std::string& prefix, absl::Duration patience = kPatience);
  // All events so far that no call took, those that match, which are taken.
  std::vector<std::string> TakeEvents(const std::string& prefix);

  void Signal(int signal);
  // Waits until a SIGSTOP has stopped all of it.
  bool AwaitStopped();
  // SIGKILL, and waits for the end. Gives the time of the signal, as BootNanos.
  int64_t Kill();
  // Ends it by the command quit; its exit status as waitpid gives it, or -1 when it had to be killed.
  int Quit();
  // Waits for an end of its own; as Quit.
  int AwaitEnd();

  pid_t pid() const { return pid_; }
  const std::string& instance() const { return instance_; }

 private:
  void ReadOutput(int output);
  void TakeLine(const std::string& line);

  const std::string instance_;
  pid_t pid_ = -1;
  int input_ = -1;
  int last_tag_ = 0;
  std::thread reader_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::map<int, Reply> replies_;
  std::deque<std::string> events_;
};

// CLOCK_BOOTTIME in nanoseconds, as workers stamp.
int64_t BootNanos();

// Words between spaces.
std::vector<std::string> Words(const std::string& text);

// The lines of a file, without the spaces at their ends; none if it is absent.
std::vector<std::string> Lines(const std::string& file);

// A folder of its own, removed with all in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Waits until `holds`, looking every few milliseconds; false if it does not come to hold in time.
template <typename Condition>
bool Eventually(const Condition& holds, absl::Duration patience = kPatience) {
  const int64_t until = BootNanos() + absl::ToInt64Nanoseconds(patience);
  while (!holds()) {
    if (BootNanos() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace process_test

#endif  // TESTS_PROCESS_PROCESS_H_
