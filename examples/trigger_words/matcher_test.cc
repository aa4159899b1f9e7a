#include "examples/trigger_words/matcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace trigger_words {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

bool Matches(const std::string& word, const std::string& post) {
  const absl::StatusOr<Word> parsed = ParseWord(word);
  EXPECT_TRUE(parsed.ok()) << word << ": " << parsed.status();
  if (!parsed.ok()) return false;
  EXPECT_TRUE(CheckPost(post).ok()) << CheckPost(post);
  return !Matcher({*parsed}).Match(post).empty();
}

struct MatchCase {
  const char* word;
  const char* post;
  bool matches;
  const char* why;
};

TEST(Matcher, Table) {
  const std::vector<MatchCase> cases = {
      {"hello", "hello", true, "the whole post"},
      {"hello", "Well, HELLO there", true, "case"},
      {"HeLLo", "hello", true, "case of the word"},
      {"hello", "say \"hello\"!", true, "punctuation beside it"},
      {"hello", "hello\nworld", true, "a line end"},
      {"hello", "othello", false, "inside a word, at its end"},
      {"hello", "hellos", false, "inside a word, at its start"},
      {"hello", "hello_world", false, "underscore"},
      {"hello", "hello2", false, "digit"},
      {"hello", "othello hello", true, "the second occurrence"},
      {"aa", "aaa aa", true, "overlapping occurrences"},
      {"cat", "the cat's tail", true, "apostrophe"},
      {"e-mail", "(E-Mail)", true, "a word with a hyphen"},
      {"mail", "e-mail", true, "a part beside a hyphen"},
      {"c++", "I like C++.", true, "a word that ends in punctuation"},
      {"c++", "c++11", false, "a digit beside punctuation"},
      {"c", "c++", true, "punctuation is no part of a word"},
      {".net", "use .NET here", true, "a word that begins with punctuation"},
      {".net", "asp.net", false, "a letter beside its punctuation"},
      // Case folding.
      {"straße", "STRASSE", true, "sharp s folds to ss"},
      {"STRASSE", "Straße", true, "and the other way round"},
      {"STRAẞE", "strasse", true, "capital sharp s"},
      {"ΟΔΟΣ", "οδος", true, "final sigma"},
      {"οδός", "ΟΔΌΣ", true, "final sigma and an accent"},
      {"ﬁsh", "FISH", true, "a ligature folds to its letters"},
      {"i", "I", true, "plain i"},
      {"istanbul", "İstanbul", false, "the Turkish dotted capital is a letter of its own"},
      {"İstanbul", "i\u0307stanbul", true, "it folds to i and a dot"},
      {"ılık", "ILIK", false, "the Turkish dotless i is a letter of its own"},
      {"привет", "ПРИВЕТ!", true, "Cyrillic"},
      // Composition and marks.
      {"café", "cafe\u0301", true, "composed and decomposed are the same"},
      {"cafe\u0301", "CAFÉ", true, "the other way round, with case"},
      {"cafe", "café", false, "another letter"},
      {"cafe", "cafe\u0301", false, "a mark after the match"},
      {"x", "x\u0308", false, "a mark that composes with nothing"},
      // Emoji.
      {"👍", "nice 👍 work", true, "emoji"},
      {"👍", "👍👍", true, "emoji beside emoji"},
      {"👍", "👍🏽", false, "inside a grapheme: skin tone"},
      {"👩", "👩‍💻", false, "inside a grapheme: joiner"},
      {"👩‍💻", "a 👩‍💻!", true, "a joined emoji"},
      {"🇩🇪", "🇩🇪🇫🇷", true, "a flag beside a flag"},
      {"❤", "❤️", true, "emoji and text variants are the same"},
      {"❤️", "I ❤ it", true, "the other way round"},
      // Scripts without spaces.
      {"東京", "東京に行きます", true, "Japanese: a word of the dictionary"},
      {"京", "東京に行きます", false, "Japanese: inside a word of the dictionary"},
      {"東京", "東京", true, "alone"},
      {"coord", "coordを使う", true, "Latin beside Japanese"},
      {"แมว", "ฉันรักแมว", true, "Thai"},
      {"서울", "서울에", false, "Korean is written with spaces"},
  };
  for (const MatchCase& c : cases) {
    EXPECT_EQ(Matches(c.word, c.post), c.matches) << c.why << ": '" << c.word << "' in '" << c.post << "'";
  }
}

TEST(Matcher, EveryAcceptedWordMatchesItself) {
  for (const char* word :
       {"hello", "c++", "...", "👩‍💻", "ß", "İ", "\u0301", "日本語", "a\u0308\u0301", "﷽", "_"}) {
    EXPECT_TRUE(Matches(word, word)) << word;
  }
}

TEST(Matcher, FoundWordsKeepTheirSpellingAndOrder) {
  const std::vector<Word> words = {*ParseWord("Zebra"), *ParseWord("apple"), *ParseWord("absent")};
  EXPECT_THAT(Matcher(words).Match("APPLE and zebra, zebra and apple"), ElementsAre("Zebra", "apple"));
  EXPECT_THAT(Matcher({}).Match("anything"), IsEmpty());
}

TEST(ParseWord, TrimsAndFolds) {
  const absl::StatusOr<Word> word = ParseWord("  Straße\r\n");
  ASSERT_TRUE(word.ok());
  EXPECT_EQ(word->given, "Straße");
  EXPECT_EQ(word->folded, "strasse");
  EXPECT_EQ(ParseWord("CAFE\u0301")->folded, ParseWord("café")->folded);
}

struct RefusedCase {
  std::string text;
  const char* sentence;
};

TEST(ParseWord, RefusesWithASentence) {
  std::string long_word;
  for (int i = 0; i < 65; ++i) long_word += "é";
  std::string many_bytes;
  for (int i = 0; i < 40; ++i) many_bytes += "👍";
  const std::vector<RefusedCase> cases = {
      {"", "the word is empty; send one word, for example: hello"},
      {" \n", "the word is empty; send one word, for example: hello"},
      {"two words", "a trigger is a single word without spaces; set each word by itself"},
      {"two\u00a0words", "a trigger is a single word without spaces; set each word by itself"},
      {long_word, "the word has 65 characters; at most 64 are allowed"},
      {many_bytes, "the word takes 160 bytes; at most 128 are allowed"},
      {"he\x01llo", "the word contains U+0001, a control or invisible character; remove it"},
      {std::string("he\0llo", 6), "the word contains U+0000, a control or invisible character; remove it"},
      {"he\u200bllo", "the word contains U+200B, a control or invisible character; remove it"},
      {"\u202eolleh", "the word contains U+202E, a control or invisible character; remove it"},
      {"caf\xe9", "the word is not valid UTF-8 from byte 3 on"},
      {"\xed\xa0\x80", "the word is not valid UTF-8 from byte 0 on"},
      {"\xc0\xaf", "the word is not valid UTF-8 from byte 0 on"},
      {"\ufe0f", "the word has no visible character; send a word"},
  };
  for (const RefusedCase& c : cases) {
    const absl::StatusOr<Word> word = ParseWord(c.text);
    EXPECT_EQ(word.status().code(), absl::StatusCode::kInvalidArgument) << c.sentence;
    EXPECT_EQ(word.status().message(), c.sentence);
  }
}

TEST(ParseWord, AcceptsTheLongest) {
  EXPECT_TRUE(ParseWord(std::string(64, 'a')).ok());
  std::string bytes;
  for (int i = 0; i < 32; ++i) bytes += "👍";
  EXPECT_TRUE(ParseWord(bytes).ok());
}

TEST(CheckPost, RefusesWithASentence) {
  EXPECT_EQ(CheckPost("").message(), "the post is empty; send its text as the body");
  EXPECT_EQ(CheckPost(" \n").message(), "the post is empty; send its text as the body");
  EXPECT_EQ(CheckPost("a\xff").message(), "the post is not valid UTF-8 from byte 1 on");
  EXPECT_EQ(CheckPost("a\x1b[1m").message(), "the post contains the control character U+001B; send plain text");
  EXPECT_EQ(CheckPost(std::string(65537, 'a')).message(), "the post has 65537 bytes; at most 65536 are allowed");
  EXPECT_TRUE(CheckPost(std::string(65536, 'a')).ok());
  EXPECT_TRUE(CheckPost("tabs\tand\r\nlines\n").ok());
}

TEST(Excerpt, CutsAtAGrapheme) {
  EXPECT_EQ(Excerpt("short", 5), "short");
  EXPECT_EQ(Excerpt("longer", 4), "long…");
  EXPECT_EQ(Excerpt("ab👍🏽cd", 3), "ab…");
  EXPECT_THAT(Excerpt("cafe\u0301s", 4), HasSubstr("caf…"));
}

}  // namespace
}  // namespace trigger_words
