// The inside of the worker program: a copy of a plugin that does what the lines on its standard input say, each command
// on a thread of its own.
//
//   input    TAG COMMAND ARGUMENT...
//   output   TAG CODE MICROSECONDS TEXT   the command has returned: its status code as a word, how long it took
//            * EVENT                      something happened by itself
//
// Every line leaves in one write, so that a kill cuts none in half.

#ifndef TESTS_PROCESS_SESSION_H_
#define TESTS_PROCESS_SESSION_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/coord.h"
#include "kv/store.h"

namespace process_test {

// The arguments of one command. A missing or malformed one ends the worker: a mistake in the test.
class Arguments {
 public:
  explicit Arguments(std::vector<std::string> words) : words_(std::move(words)) {}
  const std::string& Text(size_t index) const;
  int64_t Number(size_t index) const;
  absl::Duration Milliseconds(size_t index) const { return absl::Milliseconds(Number(index)); }
  // So many milliseconds from now.
  absl::Time Deadline(size_t index) const;
  size_t size() const { return words_.size(); }

 private:
  std::vector<std::string> words_;
};

// CLOCK_BOOTTIME in nanoseconds: one clock for all processes.
int64_t BootNanos();

// Appends `line`, padded with spaces to 64 bytes, newline included: records that lie within a page are written whole or
// not at all, whenever the writer is killed.
void AppendRecord(const std::string& file, std::string line);

struct Flags {
  std::string store;
  std::string events;  // empty: the store's own
  std::string plugin = "process-test";
  std::string instance = "worker";
  absl::Duration ttl = absl::Seconds(10);
  absl::Duration call_timeout = absl::Seconds(2);
  absl::Duration max_ttl;  // zero: a minute, or `ttl` if that is longer
  bool accept_weaker = false;
};

// What all commands of one worker share.
class Session {
 public:
  using Handler = std::function<absl::StatusOr<std::string>(const Arguments&)>;

  explicit Session(Flags flags) : flags_(std::move(flags)) {}

  const Flags& flags() const { return flags_; }
  void Add(const std::string& command, Handler handler) { handlers_[command] = std::move(handler); }
  // Commands that need the cluster.
  void AddJoined(const std::string& command,
                 std::function<absl::StatusOr<std::string>(coord::Cluster&, const Arguments&)> handler);

  absl::StatusOr<std::shared_ptr<kv::Store>> Store();
  coord::JoinOptions Options(std::shared_ptr<kv::Store> store) const;
  std::shared_ptr<coord::Cluster> cluster() const;

  void Event(const std::string& text) { WriteLine("* " + text); }

  // Grants by the name that the test gives them.
  void Keep(const std::string& slot, coord::Grant grant);
  std::shared_ptr<coord::Grant> Find(const std::string& slot) const;  // ends the worker if there is none

  // Does what the lines say until the end of the input or `quit`, then leaves.
  void Run();

 private:
  void AddOwnCommands();
  void Execute(const std::vector<std::string>& words);
  void WriteLine(const std::string& line);

  const Flags flags_;
  std::map<std::string, Handler> handlers_;
  std::mutex output_;
  mutable std::mutex mutex_;
  std::shared_ptr<kv::Store> store_;
  std::shared_ptr<coord::EventDriver> events_;  // null: the store's own
  std::shared_ptr<coord::Cluster> cluster_;
  std::map<std::string, std::shared_ptr<coord::Grant>> grants_;
};

// Acquires `mutex`, appends the copy's label to `file`, releases: FENCE, and the times of both.
absl::StatusOr<std::string> TakeTurn(coord::Cluster& cluster, const std::string& mutex, absl::Time deadline,
                                     const std::string& file);

// What adds one to a value.
absl::StatusOr<std::string> PlusOne(const std::optional<std::string>& now);

// The families of commands, each listed at the top of its file.
void AddGrantCommands(Session& session);
void AddCellCommands(Session& session);
void AddCopiesCommands(Session& session);
void AddEventCommands(Session& session);
void AddElectionCommands(Session& session);
void AddFaultCommands(Session& session);
void AddLoadCommands(Session& session);
void AddWaitCommands(Session& session);

}  // namespace process_test

#endif  // TESTS_PROCESS_SESSION_H_
