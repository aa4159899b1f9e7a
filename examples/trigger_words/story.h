// The story of the trigger words, with three real processes, as a timeline on the standard output. Every step is
// checked.

#ifndef EXAMPLES_TRIGGER_WORDS_STORY_H_
#define EXAMPLES_TRIGGER_WORDS_STORY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "examples/trigger_words/deployment.h"

namespace trigger_words {

struct StoryOptions {
  std::string binary;  // the plugin's
  std::string folder;  // for the digest and for what the copies say
  std::string store;   // without a secret: the copies have it on their command lines
  std::string events;  // the same; empty: --events is not given to the copies
  absl::Duration ttl = absl::Seconds(2);
  absl::Duration max_ttl = absl::Seconds(60);
  bool accept_weaker = false;
};

// For one thread, which must outlive the copies. An error of Play and Feed says what should have been.
class Story {
 public:
  explicit Story(StoryOptions options) : options_(std::move(options)), copies_(3) {}

  // Sets a word, kills the leader, starts it again, lets one step down and one leave, restarts all, and counts the
  // lines of the digest.
  absl::Status Play();

  // Sets `words`, gives the lines of the file at `path` to the copies in turn, and counts the alerts and the lines of
  // the digest.
  absl::Status Feed(const std::string& path, const std::vector<std::string>& words);

 private:
  static constexpr absl::Duration kSoon = absl::Seconds(5);  // for what takes milliseconds on an idle machine
  static std::string Ms(absl::Duration d);
  static std::string Name(size_t i);

  void Say(const std::string& who, const std::string& what) const;
  std::string DigestPath() const { return options_.folder + "/digest.jsonl"; }

  void Introduce() const;
  void RepeatWarning() const;
  CopyOptions Options(size_t i) const;
  std::vector<Copy*> Running();
  std::optional<Copy>& ByName(const std::string& name);

  absl::Status StartAll();
  absl::Status StopAll();
  absl::Status ExpectPost(size_t i, const std::string& text, const std::vector<std::string>& expected);
  absl::Status AlertsElsewhere();
  absl::Status LeaderChanges(const std::string& how, absl::Time since, absl::Duration within);
  absl::Status KilledLeader();
  absl::Status StepDown();
  absl::Status Leave();
  absl::Status DigestHas(const std::string& writer);
  absl::Status EveryAlertOnce();

  const StoryOptions options_;
  const absl::Time begin_ = absl::Now();
  std::vector<std::optional<Copy>> copies_;
  std::string leader_;
  uint64_t fence_ = 0;
  size_t expected_alerts_ = 0;
};

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_STORY_H_
