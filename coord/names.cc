#include "coord/names.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "coord/internal/utf8.h"

namespace coord {
namespace {

using internal::DecodeUtf8;
using internal::IsControl;

constexpr size_t kMaxPluginBytes = 64;
constexpr size_t kMaxNameBytes = 128;
constexpr size_t kMaxEscapedBytes = 192;  // so that plugin, epoch, kind and two levels fit any store's key
constexpr size_t kMaxQuotedBytes = 80;
constexpr char kHex[] = "0123456789ABCDEF";

bool IsReserved(char32_t code) { return code == '*' || code == '>' || code == '?' || code == '\\' || code == '"'; }

void AppendHex(char byte, std::string& out) {
  out += kHex[static_cast<unsigned char>(byte) >> 4];
  out += kHex[static_cast<unsigned char>(byte) & 15];
}

// Characters that a reader of a log does not see, or that change how the rest of the line looks.
bool IsInvisible(char32_t code) {
  return (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

absl::Status Refuse(std::string_view what, std::string_view text, std::string_view why) {
  const std::string name = text.empty() ? std::string() : " " + QuoteName(text);
  return absl::InvalidArgumentError(absl::StrCat(std::string(what), name, " ", std::string(why)));
}

// What names and map keys have in common.
absl::Status CheckText(std::string_view what, std::string_view text) {
  if (text.empty()) return Refuse(what, text, "is empty: give it 1 to 128 bytes of UTF-8");
  if (text.size() > kMaxNameBytes) {
    return Refuse(what, text, absl::StrCat("has ", text.size(), " bytes: at most ", kMaxNameBytes, " are allowed"));
  }
  for (std::string_view rest = text; !rest.empty();) {
    char32_t code = 0;
    const size_t length = DecodeUtf8(rest, code);
    if (length == 0) return Refuse(what, text, "is not valid UTF-8: encode it as UTF-8");
    if (IsControl(code)) return Refuse(what, text, "has a control character: remove it");
    rest.remove_prefix(length);
  }
  const size_t escaped = EscapeName(text).size();
  if (escaped <= kMaxEscapedBytes) return absl::OkStatus();
  return Refuse(what, text,
                absl::StrCat("takes ", escaped, " bytes in the store, where % / * > ? \\ \" take three each: at most ",
                             kMaxEscapedBytes, " are allowed"));
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

absl::Status CheckPluginId(std::string_view plugin) {
  constexpr std::string_view kAllowed = "1 to 64 of the characters A-Z a-z 0-9 . _ -";
  if (plugin.empty()) return Refuse("plugin id", plugin, absl::StrCat("is empty: use ", std::string(kAllowed)));
  if (plugin.size() > kMaxPluginBytes) {
    return Refuse("plugin id", plugin, absl::StrCat("has ", plugin.size(), " bytes: use ", std::string(kAllowed)));
  }
  for (const char c : plugin) {
    const bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (letter || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-') continue;
    return Refuse("plugin id", plugin,
                  absl::StrCat("has a character that is not allowed: use ", std::string(kAllowed)));
  }
  return absl::OkStatus();
}

absl::Status CheckName(std::string_view what, std::string_view name) {
  if (absl::Status status = CheckText(what, name); !status.ok()) return status;
  for (const char c : name) {
    if (!IsReserved(static_cast<unsigned char>(c))) continue;
    return Refuse(what, name, absl::StrCat("has the character ", std::string(1, c), ": * > ? \\ \" are not allowed"));
  }
  for (std::string_view rest = name;;) {
    const size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    if (part.empty()) return Refuse(what, name, "has an empty part: no / at the ends, and no two in a row");
    if (part == "." || part == "..")
      return Refuse(what, name, "has a part that is . or ..: give the part another name");
    if (slash == std::string_view::npos) return absl::OkStatus();
    rest.remove_prefix(slash + 1);
  }
}

absl::Status CheckMapKey(std::string_view what, std::string_view key) { return CheckText(what, key); }

std::string EscapeName(std::string_view name) {
  std::string out;
  out.reserve(name.size());
  while (!name.empty()) {
    char32_t code = 0;
    const size_t length = DecodeUtf8(name, code);
    const std::string_view bytes = name.substr(0, length == 0 ? 1 : length);
    if (length == 0 || IsControl(code) || IsReserved(code) || code == '%' || code == '/') {
      for (const char byte : bytes) {
        out += '%';
        AppendHex(byte, out);
      }
    } else {
      out.append(bytes);
    }
    name.remove_prefix(bytes.size());
  }
  return out;
}

absl::StatusOr<std::string> UnescapeName(std::string_view escaped) {
  std::string out;
  out.reserve(escaped.size());
  bool valid = true;
  for (size_t i = 0; i < escaped.size() && valid; ++i) {
    if (escaped[i] != '%') {
      out += escaped[i];
      continue;
    }
    const int high = i + 2 < escaped.size() ? HexDigit(escaped[i + 1]) : -1;
    const int low = i + 2 < escaped.size() ? HexDigit(escaped[i + 2]) : -1;
    valid = high >= 0 && low >= 0;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  // One text for every name: what escapes too much, or too little, was not made by EscapeName.
  if (valid && EscapeName(out) == escaped) return out;
  return absl::InvalidArgumentError(
      absl::StrCat("key level ", QuoteName(escaped), " is not an escaped name: it was not written by coord"));
}

std::string QuoteName(std::string_view name) {
  std::string out = "\"";
  while (!name.empty()) {
    char32_t code = 0;
    const size_t length = DecodeUtf8(name, code);
    std::string_view bytes = name.substr(0, length == 0 ? 1 : length);
    std::string shown;
    if (length == 0 || IsControl(code) || IsInvisible(code)) {
      for (const char byte : bytes) {
        shown += "\\x";
        AppendHex(byte, shown);
      }
    } else {
      if (code == '"' || code == '\\') shown += '\\';
      shown += bytes;
    }
    if (out.size() + shown.size() > kMaxQuotedBytes + 1) return out + "\"...";
    out += shown;
    name.remove_prefix(bytes.size());
  }
  return out + '"';
}

}  // namespace coord
