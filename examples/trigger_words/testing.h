// Three copies of the plugin on a sqlite store in a folder of the test's own.

#ifndef EXAMPLES_TRIGGER_WORDS_TESTING_H_
#define EXAMPLES_TRIGGER_WORDS_TESTING_H_

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "examples/trigger_words/deployment.h"
#include "examples/trigger_words/process.h"

namespace trigger_words {

// For what takes milliseconds on an idle machine.
inline constexpr absl::Duration kSoon = absl::Seconds(20);

inline std::string Runfile(const std::string& path) {
  return absl::StrCat(std::getenv("TEST_SRCDIR"), "/", std::getenv("TEST_WORKSPACE"), "/", path);
}

struct Ran {
  int exit_code = -1;
  std::string output;  // and errors
};

// Runs a program of this folder to its end; `flags` as the shell reads them.
inline Ran RunProgram(const std::string& program, const std::string& flags) {
  FILE* const pipe = popen((Runfile("examples/trigger_words/" + program) + " " + flags + " 2>&1").c_str(), "r");
  Ran ran;
  char buffer[4096];
  while (const size_t size = fread(buffer, 1, sizeof buffer, pipe)) ran.output.append(buffer, size);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) ran.exit_code = WEXITSTATUS(status);
  return ran;
}

// The command lines of all processes that have `text` in theirs, the words separated by NULs; or, with "environ", the
// environments.
inline std::vector<std::string> CommandLinesWith(const std::string& text, const std::string& what = "cmdline") {
  std::vector<std::string> found;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(process.path() / what, std::ios::binary);
    std::string words{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (words.find(text) != std::string::npos) found.push_back(std::move(words));
  }
  return found;
}

class PluginTest : public ::testing::Test {
 protected:
  PluginTest() : store_("sqlite:" + folder_.path() + "/words.db"), copies_(3) {}

  void TearDown() override {
    if (!HasFailure()) return;
    std::ifstream log(folder_.path() + "/log");
    for (std::string line; std::getline(log, line);) std::fprintf(stderr, "log: %s\n", line.c_str());
  }

  std::string DigestPath() const { return folder_.path() + "/digest.jsonl"; }

  CopyOptions Options(size_t i) const {
    CopyOptions options;
    options.binary = Runfile("examples/trigger_words/plugin");
    options.name = absl::StrCat("server-", i + 1);
    options.store = store_;
    options.digest = DigestPath();
    options.ttl = ttl_;
    options.log = folder_.path() + "/log";
    return options;
  }

  // Starts a copy, at the port that it had before if it had one.
  void Start(size_t i) {
    CopyOptions options = Options(i);
    if (copies_[i].has_value()) options.port = copies_[i]->port();
    copies_[i].reset();
    absl::StatusOr<Copy> copy = Copy::Start(options);
    ASSERT_TRUE(copy.ok()) << copy.status();
    copies_[i].emplace(*std::move(copy));
  }

  void StartAll() {
    for (size_t i = 0; i < copies_.size(); ++i) ASSERT_NO_FATAL_FAILURE(Start(i));
  }

  std::vector<Copy*> Running() {
    std::vector<Copy*> running;
    for (std::optional<Copy>& copy : copies_) {
      if (copy.has_value()) running.push_back(&*copy);
    }
    return running;
  }

  size_t IndexOf(const std::string& name) const {
    for (size_t i = 0; i < copies_.size(); ++i) {
      if (copies_[i].has_value() && copies_[i]->name() == name) return i;
    }
    ADD_FAILURE() << "no copy '" << name << "'";
    return 0;
  }
  Copy& ByName(const std::string& name) { return *copies_[IndexOf(name)]; }
  void Forget(const std::string& name) { copies_[IndexOf(name)].reset(); }

  HttpReply Get(size_t i, const std::string& target) const {
    const absl::StatusOr<HttpReply> reply = copies_[i]->Call("GET", target);
    if (!reply.ok()) return Sentence(0, reply.status().ToString());
    return *reply;
  }

  std::vector<std::string> Post(size_t i, const std::string& text) const {
    const absl::StatusOr<std::vector<std::string>> alerts = copies_[i]->Post(text);
    EXPECT_TRUE(alerts.ok()) << alerts.status();
    return alerts.ok() ? *alerts : std::vector<std::string>{};
  }

  static std::vector<std::string> Flags(const CopyOptions& options) {
    return {"--port", absl::StrCat(options.port), "--store", options.store, "--instance", options.name};
  }

  // What the plugin says when it ends by itself; it must do so with an exit code other than 0.
  std::string EndOf(const std::vector<std::string>& flags) const {
    const std::string log = folder_.path() + "/end";
    std::ofstream(log, std::ios::trunc);
    absl::StatusOr<PluginProcess> process = PluginProcess::Start(Options(0).binary, flags, log);
    if (!process.ok()) return process.status().ToString();
    const absl::StatusOr<int> status = process->Wait(kSoon);
    EXPECT_TRUE(status.ok()) << status.status();
    EXPECT_TRUE(status.ok() && WIFEXITED(*status) && WEXITSTATUS(*status) == 1);
    std::ifstream file(log);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  const TemporaryFolder folder_;
  const std::string store_;
  absl::Duration ttl_ = absl::Seconds(2);
  std::vector<std::optional<Copy>> copies_;
};

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_TESTING_H_
