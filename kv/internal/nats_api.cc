#include "kv/internal/nats_api.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace kv::internal {
namespace {

using nlohmann::json;

constexpr std::string_view kIncarnation = "coord incarnation ";
constexpr char kMarkerReason[] = "Nats-Marker-Reason";

absl::Status NotAnAnswer(const char* to) {
  return absl::InternalError(absl::StrCat("nats: the answer to ", to, " cannot be understood"));
}

// Discarded if it is not JSON. No answer is nested so deeply; what is would end the process in a recursion.
json Parse(std::string_view text) {
  constexpr int kMaxDepth = 16;
  return json::parse(
      text, [](int depth, json::parse_event_t, json&) { return depth <= kMaxDepth; }, /*allow_exceptions=*/false);
}

// Members; one of another type counts as absent.
uint64_t Number(const json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_number_integer() && *it >= 0 ? it->get<uint64_t>() : 0;
}

std::string Text(const json& object, const char* name) {
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

const json& Object(const json& object, const char* name) {
  static const json* const kNone = new json(json::object());
  const auto it = object.find(name);
  return it != object.end() && it->is_object() ? *it : *kNone;
}

std::optional<NatsApiError> ErrorOf(const json& answer) {
  const auto it = answer.find("error");
  if (it == answer.end() || !it->is_object()) return std::nullopt;
  return NatsApiError{static_cast<int>(Number(*it, "code")), static_cast<int>(Number(*it, "err_code")),
                      Text(*it, "description")};
}

// "wrong last sequence: 30"
std::optional<Revision> TrailingNumber(std::string_view text) {
  const size_t colon = text.rfind(": ");
  uint64_t number = 0;
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string digits(text.substr(colon + 2));
  if (!absl::SimpleAtoi(digits, &number)) return std::nullopt;
  return number;
}

std::string Dump(const json& body) { return body.dump(-1, ' ', false, json::error_handler_t::replace); }

// What kind of failure a code means. Listed are those that the class of HTTP (code) does not tell.
absl::StatusCode CodeOf(const NatsApiError& error) {
  switch (error.err_code) {
    case kErrWrongSequence:
    case kErrWrongSequenceInDoubt:
    case kErrDuplicateInDoubt:
      return absl::StatusCode::kAborted;
    case kErrNoMessage:
    case kErrDeleteFailed:
    case kErrNoStream:
      return absl::StatusCode::kNotFound;
    case 10005:  // no suitable peers: a cluster that is still gathering
    case 10118:  // the stream's only server is away
      return absl::StatusCode::kUnavailable;
    case 10054:  // the message is larger than the stream takes
      return absl::StatusCode::kInvalidArgument;
    case 10023:  // limits of the server or of the account: any, memory, storage
    case 10028:
    case 10047:
      return absl::StatusCode::kResourceExhausted;
    case kErrOtherSettings:
    case 10039:  // JetStream is off for the account
      return absl::StatusCode::kFailedPrecondition;
    default:
      break;
  }
  switch (error.code) {
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 408:
    case 429:
    case 503:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kFailedPrecondition;
  }
}

// What to do, where the server's text leaves that open.
const char* Hint(const NatsApiError& error) {
  switch (error.err_code) {
    case 10039:
    case 10076:
      return "; JetStream must be on: the server's configuration needs \"jetstream {}\"";
    case 10074:
      return "; a bucket with replicas needs a cluster: open it with one replica, or connect to a cluster";
    case 10065:
      return "; another stream takes the subjects of this bucket: choose another name";
    default:
      return "";
  }
}

}  // namespace

absl::Status ToStatus(const NatsApiError& error, std::string_view what) {
  return absl::Status(CodeOf(error), absl::StrCat("nats: ", std::string(what), ": ", error.description, " (",
                                                  error.err_code, ")", Hint(error)));
}

absl::StatusOr<NatsPublished> ParsePublished(std::string_view text) {
  const json answer = Parse(text);
  if (!answer.is_object()) return NotAnAnswer("a publish");
  NatsPublished published;
  published.error = ErrorOf(answer);
  if (published.error.has_value()) {
    if (published.error->err_code == kErrWrongSequence)
      published.present = TrailingNumber(published.error->description);
    return published;
  }
  published.sequence = Number(answer, "seq");
  const auto duplicate = answer.find("duplicate");
  published.duplicate = duplicate != answer.end() && duplicate->is_boolean() && duplicate->get<bool>();
  // A duplicate of what is still under way has none.
  if (published.sequence == 0 && !published.duplicate) return NotAnAnswer("a publish");
  return published;
}

absl::StatusOr<NatsStored> ParseStored(std::string_view text) {
  const json answer = Parse(text);
  if (!answer.is_object()) return NotAnAnswer("a read");
  NatsStored stored;
  stored.error = ErrorOf(answer);
  if (stored.error.has_value()) return stored;
  const json& message = Object(answer, "message");
  stored.sequence = Number(message, "seq");
  std::string headers;
  if (stored.sequence == 0 || !absl::Base64Unescape(Text(message, "data"), &stored.value) ||
      !absl::Base64Unescape(Text(message, "hdrs"), &headers)) {
    return NotAnAnswer("a read");
  }
  stored.marker = IsMarker(headers);
  return stored;
}

absl::StatusOr<NatsStreamInfo> ParseStreamInfo(std::string_view text) {
  const json answer = Parse(text);
  if (!answer.is_object()) return NotAnAnswer("a look at the stream");
  NatsStreamInfo info;
  info.error = ErrorOf(answer);
  if (info.error.has_value()) return info;
  const std::string created = Text(answer, "created");
  if (created.empty()) return NotAnAnswer("a look at the stream");
  const json& config = Object(answer, "config");
  info.incarnation = IncarnationOf(Text(config, "description"), created);
  info.settings = Dump(config);
  const json& state = Object(answer, "state");
  info.messages = Number(state, "messages");
  info.last_sequence = Number(state, "last_seq");
  info.total_subjects = Number(answer, "total");
  for (const auto& [subject, count] : Object(state, "subjects").items()) info.subjects.push_back(subject);
  std::sort(info.subjects.begin(), info.subjects.end());
  return info;
}

absl::StatusOr<NatsDone> ParseDone(std::string_view text) {
  const json answer = Parse(text);
  if (!answer.is_object()) return NotAnAnswer("a request");
  return NatsDone{ErrorOf(answer)};
}

std::string NewStreamDescription() {
  std::random_device random;
  const uint64_t number = static_cast<uint64_t>(random()) << 32 | random();
  return absl::StrCat(std::string(kIncarnation), absl::Hex(number, absl::kZeroPad16));
}

std::string IncarnationOf(std::string_view description, std::string_view created) {
  const bool named = description.substr(0, kIncarnation.size()) == kIncarnation;
  if (!named) return std::string(created);
  const std::string_view rest = description.substr(kIncarnation.size());
  return std::string(rest.substr(0, rest.find(' ')));
}

std::string LastOnSubjectRequest(std::string_view subject) { return Dump({{"last_by_subj", std::string(subject)}}); }

// Without no_erase the server overwrites the message with noise, which costs time, and there is nothing in it.
std::string DeleteMessageRequest(Revision sequence) { return Dump({{"seq", sequence}, {"no_erase", true}}); }

std::string SubjectsRequest(std::string_view filter, uint64_t offset) {
  return Dump({{"subjects_filter", std::string(filter)}, {"offset", offset}});
}

bool IsMarker(const NatsMessage& message) {
  const auto operation = message.Header(kOperation);
  if (operation.has_value() && (*operation == kOperationDelete || *operation == "PURGE")) return true;
  return message.Header(kMarkerReason).has_value();
}

bool IsMarker(std::string_view header_block) {
  while (!header_block.empty()) {
    const size_t end = header_block.find("\r\n");
    const std::string_view line = header_block.substr(0, end);
    header_block.remove_prefix(end == std::string_view::npos ? header_block.size() : end + 2);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string name(line.substr(0, colon));
    const std::string value(absl::StripAsciiWhitespace(std::string(line.substr(colon + 1))));
    if (name == kMarkerReason) return true;
    if (name == kOperation && (value == kOperationDelete || value == "PURGE")) return true;
  }
  return false;
}

}  // namespace kv::internal
