#include "coord/internal/json_fields.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"

namespace coord::internal {
namespace {

constexpr int kMaxDepth = 16;
constexpr uint64_t kMaxTtlMs = 24 * 60 * 60 * 1000;
constexpr int64_t kEndOfCalendar = 253402300800;  // the first second of the year 10000

}  // namespace

Json ParseJson(std::string_view text, size_t max_bytes, Problem& problem) {
  if (text.size() > max_bytes) {
    problem.Set(absl::StrCat("it has ", text.size(), " bytes, the limit is ", max_bytes));
    return Json();
  }
  std::vector<std::set<std::string>> names;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key && !names.back().insert(*parsed.get_ptr<const std::string*>()).second) {
      problem.Set("a field stands twice in one object");
    }
    if (depth > kMaxDepth) problem.Set(absl::StrCat("it is nested deeper than ", kMaxDepth));
    return depth <= kMaxDepth;
  };
  Json json = Json::parse(text.data(), text.data() + text.size(), check, /*allow_exceptions=*/false);
  if (json.is_discarded()) problem.Set("it is not JSON");
  return json;
}

Fields::Fields(const Json& object, std::string path, Problem& problem)
    : object_(object), path_(std::move(path)), problem_(problem) {
  if (!object.is_object()) problem.Set(absl::StrCat(path_.empty() ? "the whole" : path_, " is not a JSON object"));
}

const Json* Fields::Find(const char* name) {
  known_.push_back(name);
  if (!object_.is_object()) return nullptr;
  const auto found = object_.find(name);
  return found == object_.end() ? nullptr : &*found;
}

std::string Fields::Path(const char* name) const { return path_.empty() ? name : absl::StrCat(path_, ".", name); }

uint64_t Fields::Number(const char* name, uint64_t low, uint64_t high, std::optional<uint64_t> fallback) {
  const Json* field = Find(name);
  if (field == nullptr && fallback.has_value()) return *fallback;
  const auto* number = field == nullptr ? nullptr : field->get_ptr<const Json::number_unsigned_t*>();
  if (number != nullptr && *number >= low && *number <= high) return *number;
  problem_.Set(absl::StrCat(Path(name), " is not a whole number from ", low, " to ", high));
  return low;
}

std::string Fields::Text(const char* name, size_t min_bytes, size_t max_bytes, std::optional<std::string> fallback) {
  const Json* field = Find(name);
  if (field == nullptr && fallback.has_value()) return *fallback;
  const auto* text = field == nullptr ? nullptr : field->get_ptr<const Json::string_t*>();
  if (text != nullptr && text->size() >= min_bytes && text->size() <= max_bytes) return *text;
  problem_.Set(absl::StrCat(Path(name), " is not a text of ", min_bytes, " to ", max_bytes, " bytes"));
  return std::string();
}

bool Fields::Bool(const char* name) {
  const Json* field = Find(name);
  if (field != nullptr && field->is_boolean()) return *field->get_ptr<const Json::boolean_t*>();
  problem_.Set(absl::StrCat(Path(name), " is not true or false"));
  return false;
}

absl::Duration Fields::Ttl(const char* name) {
  return absl::Milliseconds(static_cast<int64_t>(Number(name, 1, kMaxTtlMs)));
}

absl::Time Fields::Time(const char* name) {
  const std::string text = Text(name, 1, 64);
  absl::Time time;
  std::string error;
  const bool valid = absl::ParseTime(absl::RFC3339_full, text, &time, &error);
  if (valid && time >= absl::UnixEpoch() && time < absl::FromUnixSeconds(kEndOfCalendar)) return time;
  problem_.Set(absl::StrCat(Path(name), " is not a time such as 2026-11-23T10:00:00.000Z"));
  return absl::UnixEpoch();
}

const Json* Fields::Array(const char* name, size_t max_size) {
  const Json* field = Find(name);
  if (field != nullptr && field->is_array() && field->size() <= max_size) return field;
  problem_.Set(absl::StrCat(Path(name), " is not an array of at most ", max_size, " elements"));
  return nullptr;
}

void Fields::Refuse(const char* name) {
  if (Find(name) != nullptr) problem_.Set(absl::StrCat(Path(name), " must not be there"));
}

std::string Fields::Extra() const {
  Json extra;
  if (!object_.is_object()) return std::string();
  for (const auto& [name, value] : object_.items()) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) extra[name] = value;
  }
  return extra.is_null() ? std::string() : extra.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace coord::internal
