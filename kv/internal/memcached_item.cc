#include "kv/internal/memcached_item.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kv/internal/sha256.h"

namespace kv::internal {
namespace {

constexpr std::string_view kMagic = "coord-kv/";
constexpr int kMajor = 1;
constexpr int kMinor = 0;
constexpr size_t kMaxHeader = 200;
constexpr size_t kMaxEscapedPrefix = 64;
// Beyond any wall clock; what lies above was not written by us.
constexpr Revision kMaxRevision = Revision{1} << 62;

// `special` is escaped too.
std::string Escape(std::string_view text, char special) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > ' ' && byte < 0x7F && c != '%' && c != special) {
      escaped += c;
    } else {
      escaped += '%';
      escaped += kHex[byte >> 4];
      escaped += kHex[byte & 0xF];
    }
  }
  return escaped;
}

// 43 characters of base64 for URLs.
std::string HashText(std::string_view key) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  uint32_t bits = 0;
  int count = 0;
  for (const uint8_t byte : Sha256(key)) {
    bits = (bits << 8) | byte;
    for (count += 8; count >= 6; count -= 6) text += kDigits[(bits >> (count - 6)) & 0x3F];
  }
  text += kDigits[(bits << (6 - count)) & 0x3F];
  return text;
}

absl::Status Foreign(const ItemName& name, std::string_view why) {
  return absl::DataLossError(absl::StrCat("memcached: the item \"", name.text, "\" is not one of this store's (",
                                          std::string(why),
                                          "); another program uses the prefix: delete the item or change the prefix"));
}

}  // namespace

absl::StatusOr<std::string> EscapeItemPrefix(std::string_view prefix) {
  // The first ':' of a name ends the prefix.
  std::string escaped = Escape(prefix, ':');
  if (escaped.size() <= kMaxEscapedPrefix) return escaped;
  return absl::InvalidArgumentError(absl::StrCat("memcached: the prefix has ", escaped.size(),
                                                 " bytes, escaped ones counted as three; the limit is ",
                                                 kMaxEscapedPrefix));
}

ItemName NameItem(const std::string& escaped_prefix, std::string_view key) {
  ItemName name;
  name.text = absl::StrCat(escaped_prefix, ":", Escape(key, '%'));
  if (name.text.size() <= kMaxItemName) return name;
  // "%#" is in no escaped text.
  const std::string tail = "%#" + HashText(key);
  name.text.resize(kMaxItemName - tail.size());
  name.text += tail;
  name.hashed_key = std::string(key);
  return name;
}

std::string EncodeItem(const ItemName& name, Revision revision, std::string_view value) {
  std::string bytes = absl::StrCat(std::string(kMagic), kMajor, ".", kMinor, " ", revision, " ", name.hashed_key.size(),
                                   "\n", name.hashed_key);
  bytes.append(value);
  return bytes;
}

absl::StatusOr<Entry> DecodeItem(const ItemName& name, std::string bytes) {
  const std::string head = bytes.substr(0, kMaxHeader);
  if (head.compare(0, kMagic.size(), kMagic) != 0) return Foreign(name, "it has no header");
  const std::string version = head.substr(kMagic.size(), head.find_first_of(" \n") - kMagic.size());
  const std::pair<std::string, std::string> numbers = absl::StrSplit(version, absl::MaxSplits('.', 1));
  int major = 0;
  int minor = 0;
  if (!absl::SimpleAtoi(numbers.first, &major) || !absl::SimpleAtoi(numbers.second, &minor) || major < 1 || minor < 0) {
    return Foreign(name, "its header has no version");
  }
  if (major > kMajor) {
    return absl::FailedPreconditionError(absl::StrCat("memcached: the item \"", name.text, "\" has version ", major,
                                                      ".", minor, ", which a newer version of this library wrote; ",
                                                      "this one reads up to ", kMajor, ": update it"));
  }
  const size_t line_end = head.find('\n');
  if (line_end == std::string::npos) return Foreign(name, "its header has no end");
  // A minor version may add fields behind these.
  const std::vector<std::string> fields = absl::StrSplit(head.substr(0, line_end), ' ');
  Entry entry;
  uint64_t key_size = 0;
  if (fields.size() < 3 || !absl::SimpleAtoi(fields[1], &entry.revision) || !absl::SimpleAtoi(fields[2], &key_size) ||
      entry.revision == 0 || entry.revision > kMaxRevision || key_size > bytes.size() - line_end - 1) {
    return Foreign(name, "its header is damaged");
  }
  if (bytes.compare(line_end + 1, key_size, name.hashed_key) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "memcached: the item \"", name.text, "\" belongs to another key of the same hash; rename one of them"));
  }
  bytes.erase(0, line_end + 1 + key_size);
  entry.value = std::move(bytes);
  return entry;
}

}  // namespace kv::internal
