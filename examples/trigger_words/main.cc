// One copy of the trigger-words plugin: a process that an app server starts beside itself.

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coord/coord.h"
#include "coord/guarantees.h"
#include "examples/trigger_words/command_line.h"
#include "examples/trigger_words/digest.h"
#include "examples/trigger_words/digest_file.h"
#include "examples/trigger_words/http.h"
#include "examples/trigger_words/matcher.h"
#include "examples/trigger_words/service.h"

ABSL_FLAG(std::string, listen, "127.0.0.1", "address to listen on; 0.0.0.0 lets other machines in");
ABSL_FLAG(int, port, 0, "port to listen on; 0: any free one, printed when ready");
ABSL_FLAG(std::string, store,
          "sqlite:", "URL of the store that all copies share: sqlite:PATH, nats://HOST:PORT or memcached://HOST:PORT");
ABSL_FLAG(std::string, events, "",
          "URL of what carries events: nats://HOST:PORT; empty: the servers of a NATS store, else the store itself");
ABSL_FLAG(std::string, plugin, "com.example.trigger-words", "id of the plugin, the same for all copies");
ABSL_FLAG(std::string, instance, "", "name of this copy, for example the server's; required");
ABSL_FLAG(absl::Duration, ttl, absl::Seconds(10), "how long a silent copy is waited for before it is replaced");
ABSL_FLAG(absl::Duration, max_ttl, absl::Seconds(60),
          "the longest --ttl of any copy; a store that may lose all it holds is waited for so long after it did");
ABSL_FLAG(std::string, digest, "",
          "file that the leader writes alerts to, the same for all copies; empty: standard output");
ABSL_FLAG(bool, accept_weaker, false, "start even if the store cannot carry every promise; see --guarantees");
ABSL_FLAG(bool, guarantees, false,
          "print what each store promises, and under which settings, and end; with --store URL what that one does, "
          "which is opened for it, and made if it does not exist");

namespace trigger_words {
namespace {

constexpr absl::Duration kOpenTimeout = absl::Seconds(5);
// A signal ends the process within 2 s: this long may leaving take, and this long everything.
constexpr absl::Duration kLeaveTimeout = absl::Milliseconds(1000);
constexpr absl::Duration kShutdownTimeout = absl::Milliseconds(1500);

void Say(const std::string& line) { std::fprintf(stderr, "plugin: %s\n", line.c_str()); }

int Fail(const absl::Status& status) {
  Say(std::string(status.message().data(), status.message().size()));
  return 1;
}

absl::Status ParseFlags(int argc, char** argv) {
  absl::Status status = ParseCommandLine(
      argc, argv,
      "one copy of the trigger-words plugin\n\n  plugin --instance NAME [--store URL] [--port P] [--digest FILE]",
      "trigger_words/main.cc");
  if (!status.ok() || absl::GetFlag(FLAGS_guarantees)) return status;
  if (absl::GetFlag(FLAGS_instance).empty()) {
    return absl::InvalidArgumentError("--instance is missing: name this copy, for example --instance server-1");
  }
  if (absl::GetFlag(FLAGS_port) < 0 || absl::GetFlag(FLAGS_port) > 65535) {
    return absl::InvalidArgumentError("--port must be 0 to 65535");
  }
  return absl::OkStatus();
}

// Of all stores, or of the one that --store names.
int PrintGuarantees() {
  const absl::CommandLineFlag* const flag = absl::FindCommandLineFlag("store");
  if (flag->CurrentValue() == flag->DefaultValue()) {
    std::fputs(coord::GuaranteesText(coord::AllGuarantees()).c_str(), stdout);
    return 0;
  }
  const absl::StatusOr<std::shared_ptr<kv::Store>> store = kv::Open(absl::GetFlag(FLAGS_store), kOpenTimeout);
  if (!store.ok()) return Fail(store.status());
  const coord::Guarantees* const row = coord::FindGuarantees((*store)->traits());
  if (row == nullptr) return Fail(absl::NotFoundError("nothing is known of the store " + (*store)->traits().name));
  std::fputs(coord::GuaranteesText({*row}).c_str(), stdout);
  return 0;
}

sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// Ends the process if it does not end by itself. The session then expires in the store, as after a crash.
void EndAnyway() {
  std::thread([] {
    absl::SleepFor(kShutdownTimeout);
    Say("the store does not answer; leaving without its confirmation");
    _exit(0);
  }).detach();
}

absl::StatusOr<coord::JoinOptions> Options() {
  absl::StatusOr<coord::Backends> backends =
      coord::OpenBackends(absl::GetFlag(FLAGS_store), absl::GetFlag(FLAGS_events), kOpenTimeout);
  if (!backends.ok()) return backends.status();
  const kv::Traits& traits = backends->store->traits();
  if (!traits.watch && backends->events == nullptr) {
    Say(absl::StrCat("the ", traits.name, " store pushes no changes and carries no events, so that words and leaders ",
                     "are heard of late; give --events nats://HOST:PORT"));
  }
  coord::JoinOptions options;
  options.store = std::move(backends->store);
  options.events = std::move(backends->events);
  options.plugin = absl::GetFlag(FLAGS_plugin);
  options.instance = absl::GetFlag(FLAGS_instance);
  options.ttl = absl::GetFlag(FLAGS_ttl);
  options.max_ttl = absl::GetFlag(FLAGS_max_ttl);
  options.accept_weaker = absl::GetFlag(FLAGS_accept_weaker);
  return options;
}

int Run(int argc, char** argv) {
  // Before any thread starts, so that all inherit it: the signals wait for sigwait below.
  const sigset_t end_signals = EndSignals();
  pthread_sigmask(SIG_BLOCK, &end_signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  if (absl::Status status = ParseFlags(argc, argv); !status.ok()) return Fail(status);
  if (absl::GetFlag(FLAGS_guarantees)) return PrintGuarantees();

  // What can be refused without the store comes first.
  absl::StatusOr<DigestFile> file = DigestFile::Open(absl::GetFlag(FLAGS_digest));
  if (!file.ok()) return Fail(file.status());
  std::unique_ptr<Service> service;
  absl::StatusOr<std::unique_ptr<HttpServer>> server =
      HttpServer::Bind(absl::GetFlag(FLAGS_listen), absl::GetFlag(FLAGS_port), kMaxPostBytes,
                       [&](const HttpRequest& request) { return service->Handle(request); });
  if (!server.ok()) return Fail(server.status());

  absl::StatusOr<coord::JoinOptions> options = Options();
  if (!options.ok()) return Fail(options.status());
  absl::StatusOr<std::unique_ptr<coord::Cluster>> cluster = coord::Cluster::Join(*std::move(options));
  if (!cluster.ok()) return Fail(cluster.status());
  const absl::Time deadline = absl::Now() + kOpenTimeout;
  absl::StatusOr<std::shared_ptr<coord::SharedMap>> words = (*cluster)->SharedMap("triggers", deadline);
  if (!words.ok()) return Fail(words.status());
  absl::StatusOr<std::unique_ptr<Digest>> digest = Digest::Start(cluster->get(), *std::move(file), Say, deadline);
  if (!digest.ok()) return Fail(digest.status());
  service = std::make_unique<Service>(cluster->get(), words->get(), digest->get());
  (*server)->Start();
  std::printf("ready on http://%s:%d copy=%s session=%s\n", absl::GetFlag(FLAGS_listen).c_str(), (*server)->port(),
              (*cluster)->instance().c_str(), (*cluster)->session().c_str());
  std::fflush(stdout);

  int signal = 0;
  sigwait(&end_signals, &signal);
  EndAnyway();
  // First the session, so that the others take over at once and whatever waits for the store here ends.
  if (absl::Status left = (*cluster)->Leave(absl::Now() + kLeaveTimeout); !left.ok()) Say(left.ToString());
  (*server)->Stop();
  return 0;
}

}  // namespace
}  // namespace trigger_words

int main(int argc, char** argv) { return trigger_words::Run(argc, argv); }
