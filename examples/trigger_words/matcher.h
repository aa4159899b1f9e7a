// Which trigger words a post contains. Pure: no state, no locale, no I/O.
//
// A word matches whole and without regard to case:
//   case      by full Unicode case folding of the canonically composed text: "STRASSE" is "straße", "ΟΔΟΣ" is "οδος",
//   and é is é however it is
//             encoded. The folding is that of no language: "I" is "i", and the Turkish "ı" and "İ" are letters of their
//             own. Emoji and text variants of one symbol (U+FE0E, U+FE0F) are the same.
//   whole     the characters next to the match are no letters, digits, marks or underscores: "cat" is in "(cat)" and in
//   "cat's", not in
//             "concatenate"; "c" is in "c++", "c++" is not in "c++11". A match never begins or ends inside a grapheme:
//             a thumb is not in a brown thumb. Where text is written without spaces (Chinese, Japanese, Thai and their
//             like) the word boundaries of ICU's dictionaries count too.
//
// Thread safety: all functions, from any thread.

#ifndef EXAMPLES_TRIGGER_WORDS_MATCHER_H_
#define EXAMPLES_TRIGGER_WORDS_MATCHER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trigger_words {

inline constexpr size_t kMaxWordCharacters = 64;
inline constexpr size_t kMaxWordBytes = 128;  // once folded
inline constexpr size_t kMaxPostBytes = 65536;

struct Word {
  std::string given;   // as it was set, without the white space around it
  std::string folded;  // what makes two words the same
};

// The word in `text`. InvalidArgument with a sentence: empty, more than one word, too long, not UTF-8, control or
// invisible characters.
absl::StatusOr<Word> ParseWord(std::string_view text);

// InvalidArgument with a sentence: empty, over kMaxPostBytes, not UTF-8, control characters other than tab and line
// ends.
absl::Status CheckPost(std::string_view post);

// Words prepared for matching. Immutable.
class Matcher {
 public:
  explicit Matcher(const std::vector<Word>& words);

  // The words, as given, that `post` (valid by CheckPost) contains, in the order of the constructor's.
  std::vector<std::string> Match(std::string_view post) const;

 private:
  struct Prepared {
    std::string given;
    std::u16string folded;
  };
  std::vector<Prepared> words_;
};

// The first `characters` of `text` (valid UTF-8), with an ellipsis if there were more, never cut inside a grapheme.
std::string Excerpt(std::string_view text, size_t characters);

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_MATCHER_H_
