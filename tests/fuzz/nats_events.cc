// Events as they come from NATS: lines of "name: value" are headers, and everything is a token and a subject as well.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "coord/internal/nats_event_wire.h"
#include "tests/fuzz/check.h"

namespace {

using coord::internal::Format;
using coord::internal::NatsEventHeaders;
using coord::internal::ParseNatsEventHeaders;
using Lines = std::map<std::string, std::string>;

Lines Split(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    lines.emplace(line.substr(0, colon), line.substr(colon + 2));
  }
  return lines;
}

absl::StatusOr<NatsEventHeaders> Parse(const Lines& lines, bool reliable) {
  return ParseNatsEventHeaders(
      [&lines](const char* name) {
        const auto found = lines.find(name);
        return found == lines.end() ? std::nullopt : std::optional(found->second);
      },
      reliable);
}

void RunHeaders(const Lines& lines, bool reliable) {
  const auto headers = Parse(lines, reliable);
  if (!headers.ok()) {
    const auto code = headers.status().code();
    fuzz::Check(code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kFailedPrecondition,
                "an error is InvalidArgument or FailedPrecondition", headers.status().ToString());
    return;
  }
  Lines again;
  for (const auto& [name, value] : Format(*headers)) {
    fuzz::Check(!value.empty() && value.find_first_of(" \r\n") == std::string::npos, "a header's value is a token",
                name + ": " + value);
    again.emplace(name, value);
  }
  const auto twice = Parse(again, reliable);
  fuzz::Check(twice.ok(), "what was read can be written and read", twice.status().ToString());
  fuzz::Check(Format(*twice) == Format(*headers), "a rewrite changes nothing");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Lines lines = Split(text);
  RunHeaders(lines, false);
  RunHeaders(lines, true);
  fuzz::Check(coord::internal::UnescapeToken(coord::internal::EscapeToken(text)) == text, "every name has a token");
  if (const auto name = coord::internal::UnescapeToken(text); name.has_value()) {
    fuzz::Check(coord::internal::EscapeToken(*name) == text, "a name has one token", *name);
  }
  if (coord::internal::IsReplySubject(text)) {
    fuzz::Check(text.find_first_of("*> \r\n") == std::string_view::npos, "a reply subject has no wildcard");
  }
  return 0;
}
