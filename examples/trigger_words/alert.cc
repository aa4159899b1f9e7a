#include "examples/trigger_words/alert.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace trigger_words {
namespace {

// In the order in which they are read best.
using Json = nlohmann::ordered_json;

Json AsJson(const Alert& alert) {
  return {
      {"time", alert.time}, {"alert", alert.id}, {"copy", alert.copy}, {"words", alert.words}, {"post", alert.post}};
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json Parse(std::string_view text) { return Json::parse(text, nullptr, /*allow_exceptions=*/false); }

bool HasString(const Json& json, const char* field) { return json.contains(field) && json[field].is_string(); }

}  // namespace

std::string MakeAlertId(absl::Time now, std::string_view incarnation, uint64_t number) {
  return absl::StrFormat("%016d-%s-%d", absl::ToUnixMicros(now),
                         absl::string_view(incarnation.data(), incarnation.size()), number);
}

std::string ToJson(const Alert& alert) { return Dump(AsJson(alert)); }

std::optional<Alert> AlertFromJson(std::string_view json) {
  const Json parsed = Parse(json);
  if (!parsed.is_object()) return std::nullopt;
  for (const char* field : {"time", "alert", "copy", "post"}) {
    if (!HasString(parsed, field)) return std::nullopt;
  }
  if (!parsed.contains("words") || !parsed["words"].is_array()) return std::nullopt;
  Alert alert{parsed["alert"], parsed["time"], parsed["copy"], {}, parsed["post"]};
  for (const Json& word : parsed["words"]) {
    if (!word.is_string()) return std::nullopt;
    alert.words.push_back(word);
  }
  return alert;
}

std::string DigestLine(const Alert& alert, uint64_t fence) {
  Json line = {{"fence", fence}};
  line.update(AsJson(alert));
  return Dump(line) + "\n";
}

std::string ToJson(const DigestRecord& record) {
  return Dump({{"term", record.term},
               {"takeover", record.takeover},
               {"file", record.file},
               {"offset", record.offset},
               {"alert", record.alert},
               {"line", record.line}});
}

std::optional<DigestRecord> RecordFromJson(std::string_view json) {
  const Json parsed = Parse(json);
  if (!parsed.is_object()) return std::nullopt;
  for (const char* field : {"file", "line", "alert"}) {
    if (!HasString(parsed, field)) return std::nullopt;
  }
  for (const char* field : {"term", "takeover", "offset"}) {
    if (!parsed.contains(field) || !parsed[field].is_number_integer()) return std::nullopt;
  }
  return DigestRecord{parsed["term"],   parsed["takeover"], parsed["file"],
                      parsed["offset"], parsed["line"],     parsed["alert"]};
}

}  // namespace trigger_words
