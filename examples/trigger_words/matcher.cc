#include "examples/trigger_words/matcher.h"

#include <unicode/brkiter.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace trigger_words {
namespace {

// The byte at which `text` stops being UTF-8, or nullopt; calls `visit` with each code point.
template <typename Visit>
std::optional<size_t> ForEachCodePoint(std::string_view text, Visit visit) {
  const int32_t length = static_cast<int32_t>(text.size());
  for (int32_t i = 0; i < length;) {
    const int32_t start = i;
    UChar32 c;
    U8_NEXT(text.data(), i, length, c);
    if (c < 0) return static_cast<size_t>(start);
    visit(c);
  }
  return std::nullopt;
}

absl::Status NotUtf8(const char* what, size_t byte) {
  return absl::InvalidArgumentError(absl::StrCat("the ", what, " is not valid UTF-8 from byte ", byte, " on"));
}

icu::UnicodeString ToUnicode(std::string_view text) {
  return icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

struct Normalizers {
  const icu::Normalizer2* nfd;
  const icu::Normalizer2* nfc;
};

// Made once, by one thread, so that ThreadSanitizer sees it although the distribution's ICU is not built for it.
const Normalizers& GetNormalizers() {
  static const Normalizers normalizers = [] {
    UErrorCode error = U_ZERO_ERROR;
    Normalizers made{icu::Normalizer2::getNFDInstance(error), icu::Normalizer2::getNFCInstance(error)};
    return U_SUCCESS(error) ? made : Normalizers{nullptr, nullptr};
  }();
  return normalizers;
}

// Canonical caseless form: decompose, fold, compose (Unicode D145), without variation selectors of symbols.
icu::UnicodeString Fold(std::string_view text) {
  icu::UnicodeString plain;
  const icu::UnicodeString original = ToUnicode(text);
  for (int32_t i = 0; i < original.length(); ++i) {
    const char16_t c = original.charAt(i);
    if (c != 0xFE0E && c != 0xFE0F) plain.append(c);
  }
  const Normalizers& normalizers = GetNormalizers();
  UErrorCode error = U_ZERO_ERROR;
  if (normalizers.nfd == nullptr || normalizers.nfc == nullptr) return plain.foldCase();  // ICU's own data is missing
  icu::UnicodeString folded = normalizers.nfd->normalize(plain, error).foldCase(U_FOLD_CASE_DEFAULT);
  return normalizers.nfc->normalize(folded, error);
}

bool IsWordCharacter(UChar32 c) {
  return (U_GET_GC_MASK(c) & (U_GC_L_MASK | U_GC_N_MASK | U_GC_M_MASK)) != 0 || c == '_';
}

// Of a script that puts no spaces between words.
bool IsUnspaced(UChar32 c) {
  UErrorCode error = U_ZERO_ERROR;
  const UScriptCode script = uscript_getScript(c, &error);
  return U_SUCCESS(error) && uscript_breaksBetweenLetters(script);
}

// Boundaries in one text. The iterators are made when they are first needed, for most posts contain no word.
class Boundaries {
 public:
  explicit Boundaries(const icu::UnicodeString& text) : text_(text) {}

  // True if [begin, end) stands as a word of its own.
  bool Whole(int32_t begin, int32_t end) {
    return Edge(begin, begin > 0 ? text_.char32At(text_.moveIndex32(begin, -1)) : ' ', text_.char32At(begin)) &&
           Edge(end, end < text_.length() ? text_.char32At(end) : ' ', text_.char32At(text_.moveIndex32(end, -1))) &&
           IsBoundary(graphemes_, &icu::BreakIterator::createCharacterInstance, begin) &&
           IsBoundary(graphemes_, &icu::BreakIterator::createCharacterInstance, end);
  }

 private:
  using Factory = icu::BreakIterator* (*)(const icu::Locale&, UErrorCode&);

  bool Edge(int32_t at, UChar32 outside, UChar32 inside) {
    if (!IsWordCharacter(outside)) return true;
    if (!IsUnspaced(outside) && !IsUnspaced(inside)) return false;
    return IsBoundary(words_, &icu::BreakIterator::createWordInstance, at);
  }

  bool IsBoundary(std::unique_ptr<icu::BreakIterator>& iterator, Factory make, int32_t at) {
    if (iterator == nullptr) {
      UErrorCode error = U_ZERO_ERROR;
      iterator.reset(make(icu::Locale::getRoot(), error));
      if (U_FAILURE(error) || iterator == nullptr) return true;  // without ICU's data the neighbours alone decide
      iterator->setText(text_);
    }
    return iterator->isBoundary(at);
  }

  const icu::UnicodeString& text_;
  std::unique_ptr<icu::BreakIterator> graphemes_;
  std::unique_ptr<icu::BreakIterator> words_;
};

bool Contains(const icu::UnicodeString& post, const std::u16string& word, Boundaries& boundaries) {
  const int32_t length = static_cast<int32_t>(word.size());
  for (int32_t at = 0; (at = post.indexOf(word.data(), length, at)) >= 0; ++at) {
    if (boundaries.Whole(at, at + length)) return true;
  }
  return false;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// Control characters, and those that nobody sees. The joiners stay: emoji and some scripts are spelled with them.
bool IsForbiddenInWord(UChar32 c) {
  const bool joiner = c == 0x200C || c == 0x200D;
  return (U_GET_GC_MASK(c) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_ZL_MASK | U_GC_ZP_MASK | U_GC_CN_MASK)) != 0 &&
         !joiner;
}

std::string CodePointName(UChar32 c) { return absl::StrFormat("U+%04X", static_cast<unsigned>(c)); }

}  // namespace

absl::StatusOr<Word> ParseWord(std::string_view text) {
  if (text.size() > 4 * kMaxPostBytes) text = text.substr(0, 4 * kMaxPostBytes);
  const std::string_view trimmed = Trim(text);
  size_t characters = 0;
  bool space = false;
  UChar32 forbidden = 0;
  bool has_forbidden = false;
  const std::optional<size_t> bad = ForEachCodePoint(trimmed, [&](UChar32 c) {
    ++characters;
    if (u_isUWhiteSpace(c)) {
      space = true;
    } else if (IsForbiddenInWord(c) && !has_forbidden) {
      has_forbidden = true;
      forbidden = c;
    }
  });
  if (bad.has_value()) return NotUtf8("word", *bad);
  if (characters == 0) return absl::InvalidArgumentError("the word is empty; send one word, for example: hello");
  if (has_forbidden) {
    return absl::InvalidArgumentError(
        absl::StrCat("the word contains ", CodePointName(forbidden), ", a control or invisible character; remove it"));
  }
  if (space) return absl::InvalidArgumentError("a trigger is a single word without spaces; set each word by itself");
  if (characters > kMaxWordCharacters) {
    return absl::InvalidArgumentError(
        absl::StrCat("the word has ", characters, " characters; at most ", kMaxWordCharacters, " are allowed"));
  }
  Word word;
  word.given = std::string(trimmed);
  Fold(trimmed).toUTF8String(word.folded);
  if (word.folded.size() > kMaxWordBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the word takes ", word.folded.size(), " bytes; at most ", kMaxWordBytes, " are allowed"));
  }
  if (word.folded.empty()) return absl::InvalidArgumentError("the word has no visible character; send a word");
  return word;
}

absl::Status CheckPost(std::string_view post) {
  if (post.size() > kMaxPostBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the post has ", post.size(), " bytes; at most ", kMaxPostBytes, " are allowed"));
  }
  UChar32 control = 0;
  bool has_control = false;
  const std::optional<size_t> bad = ForEachCodePoint(post, [&](UChar32 c) {
    if (u_charType(c) != U_CONTROL_CHAR || c == '\t' || c == '\n' || c == '\r' || has_control) return;
    has_control = true;
    control = c;
  });
  if (bad.has_value()) return NotUtf8("post", *bad);
  if (Trim(post).empty()) return absl::InvalidArgumentError("the post is empty; send its text as the body");
  if (has_control) {
    return absl::InvalidArgumentError(
        absl::StrCat("the post contains the control character ", CodePointName(control), "; send plain text"));
  }
  return absl::OkStatus();
}

Matcher::Matcher(const std::vector<Word>& words) {
  words_.reserve(words.size());
  for (const Word& word : words) {
    const icu::UnicodeString folded = ToUnicode(word.folded);
    if (folded.isEmpty()) continue;
    words_.push_back({word.given, std::u16string(folded.getBuffer(), static_cast<size_t>(folded.length()))});
  }
}

std::vector<std::string> Matcher::Match(std::string_view post) const {
  std::vector<std::string> found;
  if (words_.empty()) return found;
  const icu::UnicodeString folded = Fold(post);
  Boundaries boundaries(folded);
  for (const Prepared& word : words_) {
    if (Contains(folded, word.folded, boundaries)) found.push_back(word.given);
  }
  return found;
}

std::string Excerpt(std::string_view text, size_t characters) {
  const icu::UnicodeString all = ToUnicode(text);
  const int32_t wanted = static_cast<int32_t>(characters);
  if (all.countChar32() <= wanted) return std::string(text);
  int32_t end = all.moveIndex32(0, wanted);
  UErrorCode error = U_ZERO_ERROR;
  std::unique_ptr<icu::BreakIterator> graphemes(
      icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), error));
  if (U_SUCCESS(error) && graphemes != nullptr) {
    graphemes->setText(all);
    if (!graphemes->isBoundary(end)) end = graphemes->preceding(end);
  }
  std::string excerpt;
  all.tempSubString(0, end).toUTF8String(excerpt);
  return excerpt + "…";
}

}  // namespace trigger_words
