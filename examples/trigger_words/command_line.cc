#include "examples/trigger_words/command_line.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string_view>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/secrets.h"

namespace trigger_words {
namespace {

std::vector<std::string> WithUnderscores(int argc, char** argv) {
  std::vector<std::string> words(argv, argv + argc);
  for (size_t i = 1; i < words.size() && words[i] != "--"; ++i) {
    if (!absl::StartsWith(words[i], "--")) continue;
    for (size_t c = 2; c < words[i].size() && words[i][c] != '='; ++c) {
      if (words[i][c] == '-') words[i][c] = '_';
    }
  }
  return words;
}

// absl's --help exits with 1, as if something had been wrong.
void ExitWell() {
  std::cout.flush();
  std::fflush(nullptr);
  _exit(0);
}

}  // namespace

absl::Status ParseCommandLine(int argc, char** argv, const std::string& usage, const std::string& main_file) {
  if (std::any_of(argv, argv + argc, [](const char* word) { return std::string_view(word) == "--help"; }))
    std::atexit(ExitWell);
  absl::SetProgramUsageMessage(usage);
  absl::FlagsUsageConfig config;
  config.contains_help_flags = [main_file](absl::string_view file) { return absl::EndsWith(file, main_file); };
  config.contains_helpshort_flags = config.contains_help_flags;
  absl::SetFlagsUsageConfig(config);
  std::vector<std::string> words = WithUnderscores(argc, argv);
  if (kv::WipeSecrets(argc, argv)) {
    std::fprintf(stderr, "%s: warning: %s\n", basename(argv[0]), kv::kSecretOnCommandLine);
  }
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  const std::vector<char*> rest = absl::ParseCommandLine(static_cast<int>(pointers.size()), pointers.data());
  if (rest.size() > 1) return absl::InvalidArgumentError(absl::StrCat("'", rest[1], "' is no flag; see --help"));
  return absl::OkStatus();
}

}  // namespace trigger_words
