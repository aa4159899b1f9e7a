// How the store's keys become subjects, and back.
//
// A level of a key is a token of the subject, so that all keys under "a/b/" are the subjects under "a.b.": "a/b" is
// written as "a.b". In a level a byte other than a letter, a digit, '-' and '_' is "=" and its two upper-case hex
// digits, and an empty level is the token "=". So every key has one subject, no two keys have the same, and no key can
// hold a wildcard, an empty token or a line end. What EncodeKey never gives is nobody's key: DecodeKey refuses it.

#ifndef KV_INTERNAL_NATS_KEYS_H_
#define KV_INTERNAL_NATS_KEYS_H_

#include <optional>
#include <string>
#include <string_view>

namespace kv::internal {

// Any bytes are taken; at most three times as many, and one, are returned.
std::string EncodeKey(std::string_view key);

// The key whose encoding is `subject`; nothing if there is none.
std::optional<std::string> DecodeKey(std::string_view subject);

// A filter that matches every key beginning with `prefix`, and as few others as a filter can: its whole levels and
// ">". "a/bc" gives "a.>", as "a/" does; "bc" gives ">".
std::string EncodePrefix(std::string_view prefix);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_KEYS_H_
