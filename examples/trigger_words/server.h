// Servers that the story starts for itself: on free ports of the loopback, in its temporary folder, ended with it.
// Their programs are looked for in $COORD_NATS_SERVER or $COORD_MEMCACHED, then in PATH and in the folders for system
// programs.

#ifndef EXAMPLES_TRIGGER_WORDS_SERVER_H_
#define EXAMPLES_TRIGGER_WORDS_SERVER_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/trigger_words/process.h"

namespace trigger_words {

// Killed when this object or the thread that started it ends. Not thread-safe.
class Server {
 public:
  // nats-server with JetStream, or memcached. Returns once it listens. FailedPrecondition: it is not installed.
  static absl::StatusOr<Server> StartNats(const std::string& folder);
  static absl::StatusOr<Server> StartMemcached(const std::string& folder);

  const std::string& url() const { return url_; }
  pid_t pid() const { return process_.pid(); }

  // SIGTERM, and waits for its end.
  absl::Status Stop();

 private:
  Server(std::string url, PluginProcess process) : url_(std::move(url)), process_(std::move(process)) {}
  std::string url_;
  PluginProcess process_;
};

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_SERVER_H_
