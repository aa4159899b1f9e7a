// The command lines of the programs here.

#ifndef EXAMPLES_TRIGGER_WORDS_COMMAND_LINE_H_
#define EXAMPLES_TRIGGER_WORDS_COMMAND_LINE_H_

#include <string>

#include "absl/status/status.h"

namespace trigger_words {

// Parses the flags that the file `main_file` defines, --accept-weaker as well as --accept_weaker; --help ends the
// program with 0. InvalidArgument: a word that is no flag. Secrets in the words are overwritten, with a warning on the
// standard error. Call it before any thread starts.
absl::Status ParseCommandLine(int argc, char** argv, const std::string& usage, const std::string& main_file);

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_COMMAND_LINE_H_
