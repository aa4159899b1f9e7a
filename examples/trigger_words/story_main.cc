// Plays the story, or feeds a file of posts. What is not as it should be is said, and the exit code is 1.

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "examples/trigger_words/process.h"
#include "examples/trigger_words/story.h"

ABSL_FLAG(std::string, posts, "",
          "a file of posts, one a line: feeds them to the copies in turn instead of playing the story");
ABSL_FLAG(std::vector<std::string>, words, std::vector<std::string>({"hello"}),
          "with --posts: the trigger words, separated by commas");
ABSL_FLAG(std::string, store, "sqlite",
          "what the copies share: sqlite, in a temporary folder, or a URL such as sqlite:/tmp/words.db");
ABSL_FLAG(absl::Duration, ttl, absl::Seconds(2), "how long a killed copy is waited for before another takes over");

namespace trigger_words {
namespace {

absl::StatusOr<std::string> StoreUrl(const std::string& wanted, const std::string& folder) {
  if (wanted == "sqlite" || wanted == "sqlite:") return "sqlite:" + folder + "/words.db";
  if (absl::StartsWith(wanted, "sqlite:")) return wanted;
  if (absl::StartsWith(wanted, "memory")) {
    return absl::InvalidArgumentError("--store memory: is private to one process, and the story has three; use sqlite");
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--store ", wanted.substr(0, wanted.find(':')), " is not supported by this version; use sqlite"));
}

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
    PluginProcess::KillAll();
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    _exit(128 + signal);
  }).detach();
}

// absl's --help exits with 1, as if something had been wrong.
void ExitWell() {
  std::cout.flush();
  std::fflush(nullptr);
  _exit(0);
}

absl::Status ParseFlags(int argc, char** argv) {
  if (std::any_of(argv, argv + argc, [](const char* word) { return std::string_view(word) == "--help"; }))
    std::atexit(ExitWell);
  absl::SetProgramUsageMessage("plays the story of the trigger words with three processes\n\n  story [--posts FILE]");
  absl::FlagsUsageConfig config;
  config.contains_help_flags = [](absl::string_view file) {
    return absl::EndsWith(file, "trigger_words/story_main.cc");
  };
  config.contains_helpshort_flags = config.contains_help_flags;
  absl::SetFlagsUsageConfig(config);
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) return absl::InvalidArgumentError(absl::StrCat("'", rest[1], "' is no flag; see --help"));
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

int Run(int argc, char** argv) {
  if (absl::Status status = ParseFlags(argc, argv); !status.ok()) return Fail(status);
  const TemporaryFolder folder;
  if (folder.path().empty())
    return Fail(absl::UnavailableError("there is no temporary folder; set TMPDIR to one that can be written"));
  const absl::StatusOr<std::string> store = StoreUrl(absl::GetFlag(FLAGS_store), folder.path());
  if (!store.ok()) return Fail(store.status());
  CleanUpOnSignal(folder.path());
  const std::string posts = absl::GetFlag(FLAGS_posts);
  const absl::Time begin = absl::Now();
  Story story(ProgramFolder() + "/plugin", *store, folder.path(), absl::GetFlag(FLAGS_ttl));
  const absl::Status told = posts.empty() ? story.Play() : story.Feed(posts, absl::GetFlag(FLAGS_words));
  if (!told.ok()) {
    std::ifstream log(folder.path() + "/log");
    for (std::string line; std::getline(log, line);) std::fprintf(stderr, "  %s\n", line.c_str());
    return Fail(told);
  }
  std::printf("All as it should be, in %.1f s. Nothing is left running.\n", absl::ToDoubleSeconds(absl::Now() - begin));
  return 0;
}

}  // namespace
}  // namespace trigger_words

int main(int argc, char** argv) { return trigger_words::Run(argc, argv); }
