// Copies of the plugin as the story and the tests see them: processes that answer HTTP, and the digest that they write.

#ifndef EXAMPLES_TRIGGER_WORDS_DEPLOYMENT_H_
#define EXAMPLES_TRIGGER_WORDS_DEPLOYMENT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "examples/trigger_words/http.h"
#include "examples/trigger_words/process.h"

namespace trigger_words {

struct CopyOptions {
  std::string binary;  // the plugin's
  std::string name;
  std::string store;
  std::string events;  // empty: --events is not given
  std::string digest;
  std::string plugin = "com.example.trigger-words";
  absl::Duration ttl = absl::Seconds(2);
  absl::Duration max_ttl = absl::Seconds(60);
  bool accept_weaker = false;
  int port = 0;
  std::string log;  // where its standard error goes; empty: ours
};

struct CopyStatus {
  std::string copy;
  std::string session;
  std::string state;
  std::string store;   // its connection
  std::string leader;  // empty: none
  uint64_t fence = 0;
  std::vector<std::string> triggers;
};

// Not thread-safe.
class Copy {
 public:
  // Starts it; it is not yet ready.
  static absl::StatusOr<Copy> Launch(const CopyOptions& options);
  // Starts it and waits until it is ready.
  static absl::StatusOr<Copy> Start(const CopyOptions& options);

  absl::Status WaitReady();
  absl::StatusOr<HttpReply> Call(const std::string& method, const std::string& target,
                                 const std::string& body = "") const;
  // OK for an answer of 2xx; else with its sentence.
  absl::Status Do(const std::string& method, const std::string& target, const std::string& body = "") const;
  absl::StatusOr<CopyStatus> Status() const;
  // The words that `text` alerted on.
  absl::StatusOr<std::vector<std::string>> Post(const std::string& text) const;
  // SIGTERM, and the exit code; DeadlineExceeded if it takes more than 2 s.
  absl::StatusOr<int> Stop();

  const std::string& name() const { return name_; }
  int port() const { return port_; }
  PluginProcess& process() { return process_; }

 private:
  Copy(std::string name, PluginProcess process) : name_(std::move(name)), process_(std::move(process)) {}
  std::string name_;
  int port_ = 0;
  PluginProcess process_;
};

struct DigestEntry {
  uint64_t fence = 0;
  std::string alert;
  std::string copy;
  std::vector<std::string> words;
  std::string post;
};

// The lines of the digest. DataLoss if one is damaged; a last line without its end is not counted.
absl::StatusOr<std::vector<DigestEntry>> ReadDigest(const std::string& path);

// Asks `condition` every few milliseconds until it is true; false once `timeout` has passed.
bool WaitUntil(absl::Duration timeout, const std::function<bool()>& condition);

// The leader that all copies name, as soon as they agree on one whose fence is above `above`. DeadlineExceeded: they do
// not.
absl::StatusOr<CopyStatus> WaitForLeader(const std::vector<Copy*>& copies, uint64_t above, absl::Duration timeout);

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_DEPLOYMENT_H_
