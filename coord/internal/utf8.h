// UTF-8, one character at a time.

#ifndef COORD_INTERNAL_UTF8_H_
#define COORD_INTERNAL_UTF8_H_

#include <cstddef>
#include <string_view>

namespace coord::internal {

// The character at the start of `text` (not empty): its length in bytes, 0 where the bytes are not valid UTF-8
// (over-long forms, surrogates and numbers above U+10FFFF included), and its number in `code`.
inline size_t DecodeUtf8(std::string_view text, char32_t& code) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) {
    code = first;
    return 1;
  }
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  code = first & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = (code << 6) | (byte(i) & 0x3fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return overlong || surrogate || code > 0x10ffff ? 0 : length;
}

inline bool IsUtf8(std::string_view text) {
  char32_t code = 0;
  while (!text.empty()) {
    const size_t length = DecodeUtf8(text, code);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

// The control characters of Unicode: U+0000 to U+001F and U+007F to U+009F.
inline bool IsControl(char32_t code) { return code < 0x20 || (code >= 0x7f && code <= 0x9f); }

}  // namespace coord::internal

#endif  // COORD_INTERNAL_UTF8_H_
