// Reading JSON that nobody vouches for: bounded in size and depth, every field checked for its type and range.

#ifndef COORD_INTERNAL_JSON_FIELDS_H_
#define COORD_INTERNAL_JSON_FIELDS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace coord::internal {

using Json = nlohmann::ordered_json;

// What is wrong with a record, in words that never quote it. Only the first thing is kept.
class Problem {
 public:
  void Set(std::string why) {
    if (why_.empty()) why_ = std::move(why);
  }
  bool empty() const { return why_.empty(); }
  const std::string& why() const { return why_; }

 private:
  std::string why_;
};

// At most `max_bytes`, nested at most 16 deep, no name twice in one object. Never throws.
Json ParseJson(std::string_view text, size_t max_bytes, Problem& problem);

// The fields of one object. A field without fallback must be there; every field must be of its type and within its
// range. What is not sets the problem and gives some harmless value. `object` and `problem` must outlive this.
class Fields {
 public:
  // `path` names the object in problems; empty for the outermost.
  Fields(const Json& object, std::string path, Problem& problem);

  // Null if it is not there.
  const Json* Find(const char* name);
  // "owners[0].ttl_ms"
  std::string Path(const char* name) const;

  uint64_t Number(const char* name, uint64_t low, uint64_t high, std::optional<uint64_t> fallback = std::nullopt);
  std::string Text(const char* name, size_t min_bytes, size_t max_bytes,
                   std::optional<std::string> fallback = std::nullopt);
  bool Bool(const char* name);
  // A whole number of milliseconds, above 0 and at most 24 hours.
  absl::Duration Ttl(const char* name);
  // RFC 3339, from 1970 to 9999.
  absl::Time Time(const char* name);
  // Null if it is none, or has more elements.
  const Json* Array(const char* name, size_t max_size);
  // The field must not be there.
  void Refuse(const char* name);
  // The fields that nobody asked for, as an object; empty if there are none.
  std::string Extra() const;

 private:
  const Json& object_;
  std::string path_;
  Problem& problem_;
  std::vector<std::string_view> known_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_JSON_FIELDS_H_
