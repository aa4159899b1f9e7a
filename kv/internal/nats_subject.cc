#include "kv/internal/nats_subject.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace kv::internal {
namespace {

// A server reads 4096 bytes of a line: subject, reply, sizes.
constexpr size_t kMaxSubjectBytes = 2048;
constexpr size_t kHeaderFrameBytes = sizeof("NATS/1.0\r\n\r\n") - 1;
constexpr size_t kHeaderLineBytes = sizeof(": \r\n") - 1;

bool HasLineEnd(const std::string& text) { return text.find_first_of(std::string("\r\n\0", 3)) != std::string::npos; }

}  // namespace

absl::Status CheckNatsSubject(std::string_view subject, bool wildcards) {
  const auto refuse = [&](const char* why) {
    return absl::InvalidArgumentError(
        absl::StrCat("the NATS subject '", std::string(subject.substr(0, 80)), "' ", why));
  };
  if (subject.empty()) return refuse("is empty");
  if (subject.size() > kMaxSubjectBytes) return refuse("is longer than 2048 bytes");
  bool begins = true;
  for (size_t i = 0; i < subject.size(); ++i) {
    const unsigned char c = subject[i];
    if (c <= ' ' || c == 0x7f) return refuse("has a blank or a control character");
    const bool last = i + 1 == subject.size();
    if (c == '.' && (begins || last)) return refuse("has an empty part");
    const bool whole_part = begins && (last || subject[i + 1] == '.');
    if (!wildcards && whole_part && (c == '*' || c == '>')) return refuse("has a wildcard");
    begins = c == '.';
  }
  return absl::OkStatus();
}

absl::Status CheckNatsMessage(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                              size_t max_payload) {
  if (absl::Status status = CheckNatsSubject(subject, false); !status.ok()) return status;
  size_t size = data.size();
  if (!headers.empty()) size += kHeaderFrameBytes;
  for (const auto& [name, value] : headers) {
    if (name.empty() || name.find_first_of(": ") != std::string::npos || HasLineEnd(name)) {
      return absl::InvalidArgumentError("a header's name must not be empty, nor hold a colon, a blank or a line end");
    }
    // nats.c 3.4.1 takes the line after an empty value for the value.
    if (value.empty() || absl::ascii_isspace(value.front()) || absl::ascii_isspace(value.back()) || HasLineEnd(value)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the value of the header ", name,
          " must not be empty, nor hold a line end, nor begin or end with a blank: it would change on the way"));
    }
    size += name.size() + value.size() + kHeaderLineBytes;
  }
  if (size > max_payload) {
    return absl::InvalidArgumentError(absl::StrCat("the message to ", subject, " has ", size,
                                                   " bytes with its headers; the NATS server takes ", max_payload));
  }
  return absl::OkStatus();
}

}  // namespace kv::internal
