// What the trigger words example reads: words and posts of requests, and its own records in the store.

#include <cstdint>
#include <string>
#include <string_view>

#include "examples/trigger_words/alert.h"
#include "examples/trigger_words/http.h"
#include "examples/trigger_words/matcher.h"
#include "tests/fuzz/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trigger_words;  // NOLINT(build/namespaces)
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  const auto encoded = PercentEncode(text);
  const auto decoded = PercentDecode(encoded);
  fuzz::Check(decoded.ok() && *decoded == text, "every text can be a path", encoded);
  if (const auto path = PercentDecode(text); path.ok()) ParseWord(*path).status().IgnoreError();

  // The first line is a word, the whole is a post.
  const auto word = ParseWord(text.substr(0, text.find('\n')));
  if (word.ok()) {
    const auto again = ParseWord(word->given);
    fuzz::Check(again.ok() && again->given == word->given && again->folded == word->folded, "a word is itself",
                word->given);
    fuzz::Check(!Matcher({*word}).Match(word->given).empty(), "a word matches itself", word->given);
  }
  if (CheckPost(text).ok()) {
    if (word.ok()) Matcher({*word}).Match(text);
    Alert alert{"id", "time", "copy", {"word"}, Excerpt(text, 20)};
    const auto back = AlertFromJson(ToJson(alert));
    fuzz::Check(back.has_value() && back->post == alert.post, "an alert comes back", alert.post);
    const std::string line = DigestLine(alert, 7);
    fuzz::Check(line.find('\n') == line.size() - 1, "an alert is one line", line);
  }
  if (const auto alert = AlertFromJson(text); alert.has_value()) {
    const std::string json = ToJson(*alert);
    fuzz::Check(ToJson(AlertFromJson(json).value()) == json, "a rewrite changes nothing", json);
  }
  if (const auto record = RecordFromJson(text); record.has_value()) {
    const std::string json = ToJson(*record);
    fuzz::Check(ToJson(RecordFromJson(json).value()) == json, "a rewrite changes nothing", json);
  }
  return 0;
}
