#include "coord/internal/nats_event_wire.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "coord/internal/event_record.h"

namespace coord::internal {
namespace {

constexpr int kMajor = 1;
constexpr char kVersion[] = "1.0";
constexpr char kVersionHeader[] = "Coord-V";
constexpr char kBusHeader[] = "Coord-Bus";
constexpr char kFromHeader[] = "Coord-From";
constexpr char kToHeader[] = "Coord-To";
constexpr char kPublisherHeader[] = "Coord-Pub";
constexpr char kNumberHeader[] = "Coord-N";
constexpr char kLowHeader[] = "Coord-Low";
constexpr char kVoidHeader[] = "Coord-Void";
// The server's own name for it.
constexpr char kMessageIdHeader[] = "Nats-Msg-Id";

constexpr char kHex[] = "0123456789ABCDEF";

// Not isalnum: that depends on the locale.
bool IsPlain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsLowerHex(std::string_view text, size_t size) {
  return text.size() == size &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

absl::Status Bad(const char* name) {
  return absl::InvalidArgumentError(absl::StrCat("its header ", name, " is missing or is none of an event"));
}

absl::Status CheckVersion(const std::optional<std::string>& version) {
  const size_t dot = version.has_value() ? version->find('.') : std::string::npos;
  int major = 0;
  if (dot == std::string::npos || !absl::SimpleAtoi(version->substr(0, dot), &major) || major < 1) {
    return Bad(kVersionHeader);
  }
  if (major <= kMajor) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("it was published by a newer version (", major,
                                                    ") of this library, and this copy reads ", kMajor,
                                                    ".x: upgrade this copy"));
}

}  // namespace

std::string EscapeToken(std::string_view name) {
  std::string token;
  token.reserve(name.size());
  for (const char c : name) {
    if (IsPlain(c)) {
      token.push_back(c);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    token.push_back('=');
    token.push_back(kHex[byte >> 4]);
    token.push_back(kHex[byte & 15]);
  }
  return token;
}

std::optional<std::string> UnescapeToken(std::string_view token) {
  std::string name;
  name.reserve(token.size());
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] != '=') {
      if (!IsPlain(token[i])) return std::nullopt;
      name.push_back(token[i]);
      continue;
    }
    if (i + 2 >= token.size()) return std::nullopt;
    const int high = HexDigit(token[i + 1]);
    const int low = HexDigit(token[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    const char c = static_cast<char>(high * 16 + low);
    if (IsPlain(c)) return std::nullopt;
    name.push_back(c);
    i += 2;
  }
  return name;
}

NatsEventSubjects::NatsEventSubjects(std::string_view space, std::string_view plugin)
    : space_(space), plugin_(EscapeToken(plugin)) {}

std::string NatsEventSubjects::Of(char kind) const {
  return absl::StrCat("coord.", space_, ".", std::string(1, kind), ".", plugin_);
}

std::string NatsEventSubjects::ForAll(Kind kind, std::string_view topic) const {
  return absl::StrCat(Of(static_cast<char>(kind)), ".", EscapeToken(topic), ".all");
}

std::string NatsEventSubjects::For(Kind kind, std::string_view topic, std::string_view label) const {
  return absl::StrCat(Of(static_cast<char>(kind)), ".", EscapeToken(topic), ".to.", EscapeToken(label));
}

std::string NatsEventSubjects::Reliable(std::string_view topic) const {
  return absl::StrCat(Of('r'), ".", EscapeToken(topic));
}

std::string NatsEventSubjects::Hints() const { return Of('h'); }

kv::NatsHeaders Format(const NatsEventHeaders& headers) {
  kv::NatsHeaders lines = {{kVersionHeader, kVersion}, {kBusHeader, headers.bus}};
  lines.emplace_back(kFromHeader, EscapeToken(headers.from));
  if (!headers.to.empty()) lines.emplace_back(kToHeader, EscapeToken(headers.to));
  if (headers.number == 0) return lines;
  lines.emplace_back(kPublisherHeader, headers.publisher);
  lines.emplace_back(kNumberHeader, absl::StrCat(headers.number));
  if (headers.low != 0 && headers.low != headers.number) lines.emplace_back(kLowHeader, absl::StrCat(headers.low));
  if (headers.is_void) lines.emplace_back(kVoidHeader, "1");
  if (headers.call == 0) return lines;
  lines.emplace_back(kMessageIdHeader, absl::StrCat(headers.publisher, ".", headers.number, ".",
                                                    headers.is_void ? "void" : absl::StrCat(headers.call)));
  return lines;
}

absl::StatusOr<NatsEventHeaders> ParseNatsEventHeaders(
    const std::function<std::optional<std::string>(const char* name)>& header, bool reliable) {
  if (absl::Status status = CheckVersion(header(kVersionHeader)); !status.ok()) return status;
  NatsEventHeaders headers;
  headers.bus = header(kBusHeader).value_or("");
  if (!IsEventBusId(headers.bus)) return Bad(kBusHeader);
  std::optional<std::string> from = UnescapeToken(header(kFromHeader).value_or(""));
  if (!from.has_value() || from->empty()) return Bad(kFromHeader);
  headers.from = *std::move(from);
  std::optional<std::string> to = UnescapeToken(header(kToHeader).value_or(""));
  if (!to.has_value()) return Bad(kToHeader);
  headers.to = *std::move(to);
  if (!reliable) return headers;
  headers.publisher = header(kPublisherHeader).value_or("");
  if (!IsLowerHex(headers.publisher, kEventPublisherBytes)) return Bad(kPublisherHeader);
  if (!absl::SimpleAtoi(header(kNumberHeader).value_or(""), &headers.number) || headers.number == 0) {
    return Bad(kNumberHeader);
  }
  headers.low = headers.number;
  if (const std::optional<std::string> low = header(kLowHeader); low.has_value()) {
    if (!absl::SimpleAtoi(*low, &headers.low) || headers.low == 0 || headers.low > headers.number) {
      return Bad(kLowHeader);
    }
  }
  headers.is_void = header(kVoidHeader).value_or("") == "1";
  return headers;
}

absl::StatusOr<NatsEventHeaders> ParseNatsEventHeaders(const kv::NatsMessage& message, bool reliable) {
  return ParseNatsEventHeaders([&message](const char* name) { return message.Header(name); }, reliable);
}

bool IsReplySubject(std::string_view subject) {
  constexpr std::string_view kInbox = "_INBOX.";
  return subject.substr(0, kInbox.size()) == kInbox &&
         std::all_of(subject.begin(), subject.end(), [](char c) { return IsPlain(c) || c == '.'; });
}

}  // namespace coord::internal
