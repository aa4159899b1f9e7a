#include "kv/store.h"

#include <cstdio>

#include "absl/strings/str_cat.h"

namespace kv {
namespace {

// The length of the well-formed UTF-8 sequence at the front of `text`, or 0. Refuses overlong forms, surrogates and
// everything above U+10FFFF.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto tail = [&](size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;
  if (lead < 0xE0) return tail(1) ? 2 : 0;
  if (lead < 0xF0) {
    if (lead == 0xE0 && byte(1) < 0xA0) return 0;
    if (lead == 0xED && byte(1) > 0x9F) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (lead > 0xF4) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) > 0x8F) return 0;
  return tail(1) && tail(2) && tail(3) ? 4 : 0;
}

// C0, DEL and C1 (which UTF-8 writes as C2 80 to C2 9F).
bool IsControl(std::string_view sequence) {
  const auto lead = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return lead < 0x20 || lead == 0x7F;
  return sequence.size() == 2 && lead == 0xC2 && static_cast<unsigned char>(sequence[1]) < 0xA0;
}

}  // namespace

absl::Status CheckKey(std::string_view key, const Traits& traits) {
  if (key.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key is empty; a key has 1 to ", traits.max_key_bytes, " bytes"));
  }
  if (key.size() > traits.max_key_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("the key has ", key.size(), " bytes; the limit of the ", traits.name,
                                                   " store is ", traits.max_key_bytes));
  }
  for (size_t at = 0; at < key.size();) {
    const size_t length = Utf8Length(key.substr(at));
    if (length == 0) {
      return absl::InvalidArgumentError(absl::StrCat("the key is not valid UTF-8 at byte ", at));
    }
    if (IsControl(key.substr(at, length))) {
      char hex[8];
      std::snprintf(hex, sizeof(hex), "0x%02x", static_cast<unsigned char>(key[at + length - 1]));
      return absl::InvalidArgumentError(
          absl::StrCat("the key has the control character ", hex, " at byte ", at, "; keys are printable text"));
    }
    at += length;
  }
  return absl::OkStatus();
}

absl::Status CheckValue(std::string_view value, const Traits& traits) {
  if (value.size() <= traits.max_value_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the value has ", value.size(), " bytes; the limit of the ",
                                                 traits.name, " store is ", traits.max_value_bytes));
}

}  // namespace kv
