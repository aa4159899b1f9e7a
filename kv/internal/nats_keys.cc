#include "kv/internal/nats_keys.h"

namespace kv::internal {
namespace {

constexpr char kEscape = '=';
constexpr std::string_view kDigits = "0123456789ABCDEF";

bool IsPlain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

void AppendLevel(std::string_view level, std::string* subject) {
  if (level.empty()) subject->push_back(kEscape);
  for (const char c : level) {
    if (IsPlain(c)) {
      subject->push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      subject->push_back(kEscape);
      subject->push_back(kDigits[byte >> 4]);
      subject->push_back(kDigits[byte & 15]);
    }
  }
}

// False for what AppendLevel never appends.
bool ParseToken(std::string_view token, std::string* key) {
  if (token.empty()) return false;
  if (token.size() == 1 && token[0] == kEscape) return true;
  for (size_t i = 0; i < token.size(); ++i) {
    if (IsPlain(token[i])) {
      key->push_back(token[i]);
      continue;
    }
    if (token[i] != kEscape || i + 2 >= token.size()) return false;
    const size_t high = kDigits.find(token[i + 1]);
    const size_t low = kDigits.find(token[i + 2]);
    if (high == std::string_view::npos || low == std::string_view::npos) return false;
    const char c = static_cast<char>(high << 4 | low);
    if (IsPlain(c) || c == '/') return false;
    key->push_back(c);
    i += 2;
  }
  return true;
}

}  // namespace

std::string EncodeKey(std::string_view key) {
  std::string subject;
  subject.reserve(key.size() + 16);
  while (true) {
    const size_t slash = key.find('/');
    AppendLevel(key.substr(0, slash), &subject);
    if (slash == std::string_view::npos) return subject;
    subject.push_back('.');
    key.remove_prefix(slash + 1);
  }
}

std::optional<std::string> DecodeKey(std::string_view subject) {
  std::string key;
  key.reserve(subject.size());
  while (true) {
    const size_t dot = subject.find('.');
    if (!ParseToken(subject.substr(0, dot), &key)) return std::nullopt;
    if (dot == std::string_view::npos) break;
    key.push_back('/');
    subject.remove_prefix(dot + 1);
  }
  // The empty key has an encoding, which is also that of no other.
  return key;
}

std::string EncodePrefix(std::string_view prefix) {
  const size_t slash = prefix.rfind('/');
  if (slash == std::string_view::npos) return ">";
  return EncodeKey(prefix.substr(0, slash)) + ".>";
}

}  // namespace kv::internal
