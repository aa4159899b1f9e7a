// Plays the story, or feeds a file of posts. What is not as it should be is said, and the exit code is 1.

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "examples/trigger_words/command_line.h"
#include "examples/trigger_words/process.h"
#include "examples/trigger_words/server.h"
#include "examples/trigger_words/story.h"
#include "kv/secrets.h"

ABSL_FLAG(std::string, posts, "",
          "a file of posts, one a line: feeds them to the copies in turn instead of playing the story");
ABSL_FLAG(std::vector<std::string>, words, std::vector<std::string>({"hello"}),
          "with --posts: the trigger words, separated by commas");
ABSL_FLAG(std::string, store, "sqlite",
          "what the copies share: sqlite, nats or memcached, each started or made for the story alone; or the URL of a "
          "store, such as sqlite:/tmp/words.db or nats://HOST:PORT");
ABSL_FLAG(std::string, events, "",
          "URL of what carries events; empty: the store, or a NATS server of the story's own for memcached");
ABSL_FLAG(absl::Duration, ttl, absl::Seconds(2), "how long a killed copy is waited for before another takes over");
ABSL_FLAG(absl::Duration, max_ttl, absl::ZeroDuration(),
          "the plugin's flag; 0: the ttl for a store of the story's own, else a minute");
ABSL_FLAG(bool, accept_weaker, false, "the plugin's flag; for memcached it is given anyway, with its warning");

namespace trigger_words {
namespace {

// The servers of the story's own, in the order of their starts.
using Servers = std::vector<Server>;

// For the copies: what is secret in the URL goes to the environment, for a command line is seen by all.
absl::Status HideSecret(const std::string& variables, std::string* url) {
  if (!absl::StrContains(*url, ":")) return absl::OkStatus();  // empty, or a name such as nats
  absl::StatusOr<std::string> hidden = kv::SecretsToEnvironment(*url, variables);
  if (!hidden.ok()) return hidden.status();
  *url = *std::move(hidden);
  return absl::OkStatus();
}

absl::StatusOr<StoryOptions> Options(const std::string& folder) {
  StoryOptions options;
  options.binary = ProgramFolder() + "/plugin";
  options.folder = folder;
  options.store = absl::GetFlag(FLAGS_store);
  options.events = absl::GetFlag(FLAGS_events);
  options.ttl = absl::GetFlag(FLAGS_ttl);
  if (absl::StartsWith(options.store, "memory")) {
    return absl::InvalidArgumentError("--store memory: is private to one process, and the story has three; use sqlite");
  }
  const bool url = absl::StrContains(options.store, ":") && options.store != "sqlite:";
  options.max_ttl = absl::GetFlag(FLAGS_max_ttl);
  // Shorter is sooner, but what the first copy says holds for all that ever use the store.
  if (options.max_ttl == absl::ZeroDuration()) options.max_ttl = url ? absl::Minutes(1) : options.ttl;
  options.accept_weaker = absl::GetFlag(FLAGS_accept_weaker) || absl::StartsWith(options.store, "memcached");
  absl::Status status = HideSecret("TRIGGER_WORDS_STORE", &options.store);
  if (status.ok()) status = HideSecret("TRIGGER_WORDS_EVENTS", &options.events);
  if (!status.ok()) return status;
  return options;
}

absl::Status StartNats(const std::string& folder, Servers* servers, std::string* url) {
  absl::StatusOr<Server> server = Server::StartNats(folder);
  if (!server.ok()) return server.status();
  std::printf("Started nats-server, process %d\n", server->pid());
  *url = server->url();
  servers->push_back(*std::move(server));
  return absl::OkStatus();
}

absl::Status StartMemcached(const std::string& folder, Servers* servers, std::string* url) {
  absl::StatusOr<Server> server = Server::StartMemcached(folder);
  if (!server.ok()) return server.status();
  std::printf("Started memcached, process %d\n", server->pid());
  *url = server->url();
  servers->push_back(*std::move(server));
  return absl::OkStatus();
}

// Makes the store that --store asks for by its name.
absl::Status MakeStore(StoryOptions* options, Servers* servers) {
  const std::string wanted = options->store;
  if (wanted == "sqlite" || wanted == "sqlite:") options->store = "sqlite:" + options->folder + "/words.db";
  if (wanted == "nats") return StartNats(options->folder, servers, &options->store);
  if (wanted == "memcached") {
    absl::Status status = StartMemcached(options->folder, servers, &options->store);
    if (!status.ok() || !options->events.empty()) return status;
    return StartNats(options->folder, servers, &options->events);
  }
  if (absl::StrContains(options->store, ":")) return absl::OkStatus();
  return absl::InvalidArgumentError("--store is sqlite, nats, memcached or the URL of a store; see --help");
}

std::atomic<bool> interrupted{false};

// Ctrl-C and its like: ends the copies and removes the folder. The copies of a story that ends in any other way end
// with it.
void CleanUpOnSignal(const std::string& folder) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals, folder] {
    int signal = 0;
    sigwait(&signals, &signal);
    interrupted = true;
    PluginProcess::KillAll();
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    _exit(128 + signal);
  }).detach();
}

absl::Status ParseFlags(int argc, char** argv) {
  absl::Status status = ParseCommandLine(
      argc, argv, "plays the story of the trigger words with three processes\n\n  story [--posts FILE] [--store STORE]",
      "trigger_words/story_main.cc");
  if (!status.ok()) return status;
  const std::string posts = absl::GetFlag(FLAGS_posts);
  if (!posts.empty() && !std::ifstream(posts)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--posts ", posts, " cannot be read; name a file of posts, one a line"));
  }
  return absl::OkStatus();
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "story: %s\n", std::string(status.message().data(), status.message().size()).c_str());
  return 1;
}

int Tell(StoryOptions options, const std::string& folder) {
  const absl::Time begin = absl::Now();
  Servers servers;
  if (absl::Status status = MakeStore(&options, &servers); !status.ok()) return Fail(status);
  const std::string posts = absl::GetFlag(FLAGS_posts);
  absl::Status told;
  {
    Story story(options);
    told = posts.empty() ? story.Play() : story.Feed(posts, absl::GetFlag(FLAGS_words));
  }
  for (Server& server : servers) told.Update(server.Stop());
  if (!told.ok()) {
    std::ifstream log(folder + "/log");
    for (std::string line; std::getline(log, line);) std::fprintf(stderr, "  %s\n", line.c_str());
    return Fail(told);
  }
  std::printf("All as it should be, in %.1f s. Nothing is left running.\n", absl::ToDoubleSeconds(absl::Now() - begin));
  return 0;
}

int Run(int argc, char** argv) {
  if (absl::Status status = ParseFlags(argc, argv); !status.ok()) return Fail(status);
  const TemporaryFolder folder;
  if (folder.path().empty())
    return Fail(absl::UnavailableError("there is no temporary folder; set TMPDIR to one that can be written"));
  // Before any thread starts, for it changes the environment.
  absl::StatusOr<StoryOptions> options = Options(folder.path());
  if (!options.ok()) return Fail(options.status());
  CleanUpOnSignal(folder.path());
  const int code = Tell(*std::move(options), folder.path());
  // Whoever cleans up ends the process, and must not meet another who removes the same folder.
  while (interrupted) pause();
  return code;
}

}  // namespace
}  // namespace trigger_words

int main(int argc, char** argv) { return trigger_words::Run(argc, argv); }
