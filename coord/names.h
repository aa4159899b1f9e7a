// Names and the store keys that are made of them.
//
// A plugin id is 1 to 64 of [A-Za-z0-9._-]. A name (of a lock, an election, a cell, a topic, a copy) is 1 to 128 bytes
// of valid UTF-8 without control characters and without any of * > ? \ " and none of its '/'-separated parts is empty,
// "." or
// "..". A map key may be any valid UTF-8 of 1 to 128 bytes without control characters. Names and map keys are escaped
// so that each is one level of a store key: nothing that a caller passes can reach the keys of another plugin, kind or
// name.

#ifndef COORD_NAMES_H_
#define COORD_NAMES_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace coord {

// InvalidArgument with a sentence that begins with `what` ("lock name"), says what is wrong and what is allowed.
absl::Status CheckPluginId(std::string_view plugin);
absl::Status CheckName(std::string_view what, std::string_view name);
absl::Status CheckMapKey(std::string_view what, std::string_view key);

// One level of a store key: '%', '/', control characters and * > ? \ " become %XX. Unescape reverses it; it returns
// InvalidArgument for what Escape never makes.
std::string EscapeName(std::string_view name);
absl::StatusOr<std::string> UnescapeName(std::string_view escaped);

// `name` as it may stand in a message: valid UTF-8 without control characters, cut at 80 bytes, in quotes.
std::string QuoteName(std::string_view name);

}  // namespace coord

#endif  // COORD_NAMES_H_
