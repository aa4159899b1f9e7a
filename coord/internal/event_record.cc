#include "coord/internal/event_record.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coord/internal/json_fields.h"

namespace coord::internal {
namespace {

constexpr int kEventMajor = 1;
constexpr std::string_view kVersion = "1.0";
constexpr size_t kNumberDigits = 20;
constexpr size_t kMaxRecordBytes = 1 << 20;  // a payload does not count
constexpr size_t kMaxTextBytes = 1024;
constexpr size_t kMaxPublishers = 4096;

absl::Status Damaged(std::string_view what, std::string_view why) {
  return absl::DataLossError(absl::StrCat(std::string(what), " in the store is damaged (", std::string(why),
                                          "): find out who writes there besides this library; it is skipped"));
}

// The fields of one record. What is wrong is kept, the first thing of it.
class Reader {
 public:
  Reader(std::string_view text, std::string_view what) : what_(what) {
    Problem problem;
    json_ = ParseJson(text, kMaxRecordBytes, problem);
    if (!problem.empty() || !json_.is_object()) {
      json_ = Json::object();
      Fail(problem.empty() ? "it does not begin with a JSON object" : problem.why());
      return;
    }
    const std::string version = Text("v", "");
    const size_t dot = version.find('.');
    int major = 0;
    int minor = 0;
    if (dot == std::string::npos || !absl::SimpleAtoi(version.substr(0, dot), &major) ||
        !absl::SimpleAtoi(version.substr(dot + 1), &minor) || major < 1 || minor < 0) {
      Fail("it has no version");
    } else if (major > kEventMajor && status_.ok()) {
      status_ = absl::FailedPreconditionError(absl::StrCat(std::string(what), " was written by a newer version (",
                                                           major, ".", minor, ") of this library, and ",
                                                           "this copy reads ", kEventMajor, ".x: upgrade this copy"));
    }
  }

  std::string Text(const char* name, std::optional<std::string> fallback = std::nullopt) {
    const Json* field = Find(name);
    if (field == nullptr && fallback.has_value()) return *fallback;
    const auto* text = field == nullptr ? nullptr : field->get_ptr<const Json::string_t*>();
    if (text != nullptr && text->size() <= kMaxTextBytes) return *text;
    Fail(absl::StrCat("\"", name, "\" is not a text of up to ", kMaxTextBytes, " bytes"));
    return "";
  }

  uint64_t Number(const char* name, std::optional<uint64_t> fallback = std::nullopt) {
    const Json* field = Find(name);
    if (field == nullptr && fallback.has_value()) return *fallback;
    const auto* number = field == nullptr ? nullptr : field->get_ptr<const Json::number_unsigned_t*>();
    if (number != nullptr) return *number;
    Fail(absl::StrCat("\"", name, "\" is not a whole number"));
    return 0;
  }

  absl::Time Micros(const char* name) {
    const uint64_t micros = Number(name);
    // Year 9999: beyond it absl::Time still works, but nobody means it.
    if (micros > uint64_t{253402300799} * 1000000) Fail(absl::StrCat("\"", name, "\" is no time"));
    return absl::FromUnixMicros(static_cast<int64_t>(std::min(micros, uint64_t{1} << 62)));
  }

  bool Flag(const char* name) {
    const Json* field = Find(name);
    if (field == nullptr) return false;
    if (!field->is_boolean()) Fail(absl::StrCat("\"", name, "\" is neither true nor false"));
    return field->is_boolean() && field->get<bool>();
  }

  std::map<std::string, uint64_t> Numbers(const char* name) {
    std::map<std::string, uint64_t> numbers;
    const Json* field = Find(name);
    if (field == nullptr) return numbers;
    if (!field->is_object() || field->size() > kMaxPublishers) {
      Fail(absl::StrCat("\"", name, "\" is not an object of numbers"));
      return numbers;
    }
    for (auto item = field->begin(); item != field->end(); ++item) {
      const auto* number = item.value().get_ptr<const Json::number_unsigned_t*>();
      if (number == nullptr) {
        Fail(absl::StrCat("\"", name, "\" is not an object of numbers"));
        return {};
      }
      numbers[item.key()] = *number;
    }
    return numbers;
  }

  // What nobody asked for.
  std::string Extra() const {
    Json extra = Json::object();
    for (auto item = json_.begin(); item != json_.end(); ++item) {
      if (std::find(known_.begin(), known_.end(), item.key()) == known_.end()) extra[item.key()] = item.value();
    }
    return extra.empty() ? "" : Dump(extra);
  }

  const absl::Status& status() const { return status_; }

  static std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

 private:
  const Json* Find(const char* name) {
    known_.push_back(name);
    const auto found = json_.find(name);
    return found == json_.end() ? nullptr : &*found;
  }
  void Fail(std::string_view why) {
    if (status_.ok()) status_ = Damaged(what_, why);
  }

  std::string_view what_;
  Json json_;
  std::vector<std::string> known_;
  absl::Status status_;
};

uint64_t ToMicros(absl::Time at) { return static_cast<uint64_t>(std::max<int64_t>(0, absl::ToUnixMicros(at))); }

Json Begin(const std::string& nonce) {
  Json json = Json::object();
  json["v"] = std::string(kVersion);
  json["w"] = nonce;
  return json;
}

std::string Finish(Json json, const std::string& extra) {
  if (!extra.empty()) {
    const Json more = Json::parse(extra, nullptr, /*allow_exceptions=*/false);
    if (more.is_object()) {
      for (auto item = more.begin(); item != more.end(); ++item) json[item.key()] = item.value();
    }
  }
  return Reader::Dump(json);
}

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

bool IsEventBusId(std::string_view id) { return id.size() == kEventBusIdBytes && IsHex(id); }

std::string Format(const EventKey& key) {
  return absl::StrFormat("%s%c%020d", key.publisher, key.reliable ? '-' : '~', key.number);
}

std::optional<EventKey> ParseEventKey(std::string_view name) {
  if (name.size() != kEventPublisherBytes + 1 + kNumberDigits) return std::nullopt;
  const char mark = name[kEventPublisherBytes];
  const std::string digits(name.substr(kEventPublisherBytes + 1));
  EventKey key;
  key.publisher = std::string(name.substr(0, kEventPublisherBytes));
  key.reliable = mark == '-';
  if ((mark != '-' && mark != '~') || !IsHex(key.publisher)) return std::nullopt;
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  if (!absl::SimpleAtoi(digits, &key.number) || key.number == 0) return std::nullopt;
  return key;
}

absl::StatusOr<EventEnvelope> ParseEventEnvelope(std::string_view text, std::string_view what) {
  const size_t newline = text.substr(0, kMaxEventHeaderBytes).find('\n');
  if (newline == std::string_view::npos) return Damaged(what, "it has no header line");
  Reader reader(text.substr(0, newline), what);
  EventEnvelope envelope;
  envelope.nonce = reader.Text("w");
  envelope.from = reader.Text("from");
  envelope.to = reader.Text("to", "");
  envelope.at = reader.Micros("at_us");
  envelope.reply_to = reader.Text("reply", "");
  envelope.ask = reader.Number("ask", 0);
  if (!reader.status().ok()) return reader.status();
  envelope.payload = std::string(text.substr(newline + 1));
  return envelope;
}

std::string Format(const EventEnvelope& envelope) {
  Json json = Begin(envelope.nonce);
  json["from"] = envelope.from;
  if (!envelope.to.empty()) json["to"] = envelope.to;
  json["at_us"] = ToMicros(envelope.at);
  if (!envelope.reply_to.empty()) json["reply"] = envelope.reply_to;
  if (envelope.ask != 0) json["ask"] = envelope.ask;
  return absl::StrCat(Finish(std::move(json), ""), "\n", envelope.payload);
}

absl::StatusOr<EventFloor> ParseEventFloor(std::string_view text, std::string_view what) {
  Reader reader(text, what);
  EventFloor floor;
  floor.nonce = reader.Text("w");
  floor.epoch = reader.Text("epoch");
  floor.revision = reader.Number("revision");
  floor.extra = reader.Extra();
  if (!reader.status().ok()) return reader.status();
  return floor;
}

std::string Format(const EventFloor& floor) {
  Json json = Begin(floor.nonce);
  json["epoch"] = floor.epoch;
  json["revision"] = floor.revision;
  return Finish(std::move(json), floor.extra);
}

absl::StatusOr<EventCursor> ParseEventCursor(std::string_view text, std::string_view what) {
  Reader reader(text, what);
  EventCursor cursor;
  cursor.nonce = reader.Text("w");
  cursor.epoch = reader.Text("epoch");
  cursor.revision = reader.Number("revision");
  cursor.last = reader.Numbers("last");
  cursor.at = reader.Micros("at_us");
  cursor.expired = reader.Flag("expired");
  cursor.extra = reader.Extra();
  if (!reader.status().ok()) return reader.status();
  return cursor;
}

std::string Format(const EventCursor& cursor) {
  Json json = Begin(cursor.nonce);
  json["epoch"] = cursor.epoch;
  json["revision"] = cursor.revision;
  Json last = Json::object();
  for (const auto& [publisher, number] : cursor.last) last[publisher] = number;
  if (!last.empty()) json["last"] = std::move(last);
  json["at_us"] = ToMicros(cursor.at);
  if (cursor.expired) json["expired"] = true;
  return Finish(std::move(json), cursor.extra);
}

}  // namespace coord::internal
