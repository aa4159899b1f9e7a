// Feeds a file of posts to copies of the plugin, as a load balancer would: each line to the next copy.

#ifndef EXAMPLES_TRIGGER_WORDS_FEED_H_
#define EXAMPLES_TRIGGER_WORDS_FEED_H_

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "examples/trigger_words/deployment.h"

namespace trigger_words {

struct Fed {
  size_t posts = 0;    // accepted
  size_t alerts = 0;   // of them, those with a trigger word
  size_t refused = 0;  // for example not UTF-8
  std::map<std::string, size_t> by_word;
};

// `say` gets a line now and then, and one for each of the first refused posts. Empty lines are skipped. An error: the
// file cannot be read, or a copy did not take a post for 10 s.
absl::StatusOr<Fed> FeedPosts(const std::vector<Copy*>& copies, const std::string& path,
                              const std::function<void(const std::string&)>& say);

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_FEED_H_
