#include "kv/internal/nats_metadata.h"

#include <charconv>
#include <vector>

namespace kv::internal {
namespace {

constexpr size_t kShortTokens = 9;
constexpr size_t kLongTokens = 11;  // or one more
// Where the numbers begin, at the count of deliveries.
constexpr size_t kShortFirst = 4;
constexpr size_t kLongFirst = 6;

std::vector<std::string_view> Split(std::string_view subject) {
  std::vector<std::string_view> tokens;
  while (true) {
    const size_t dot = subject.find('.');
    tokens.push_back(subject.substr(0, dot));
    if (dot == std::string_view::npos) return tokens;
    subject.remove_prefix(dot + 1);
  }
}

template <typename Number>
bool Parse(std::string_view token, Number* number) {
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), *number);
  return error == std::errc() && end == token.data() + token.size();
}

}  // namespace

std::optional<NatsMetadata> ParseNatsMetadata(std::string_view reply) {
  const std::vector<std::string_view> tokens = Split(reply);
  if (tokens.size() != kShortTokens && tokens.size() < kLongTokens) return std::nullopt;
  if (tokens[0] != "$JS" || tokens[1] != "ACK") return std::nullopt;
  const size_t first = tokens.size() == kShortTokens ? kShortFirst : kLongFirst;
  NatsMetadata metadata;
  int64_t nanos = 0;
  if (!Parse(tokens[first + 1], &metadata.stream_sequence) || !Parse(tokens[first + 2], &metadata.consumer_sequence) ||
      !Parse(tokens[first + 3], &nanos) || !Parse(tokens[first + 4], &metadata.pending)) {
    return std::nullopt;
  }
  metadata.stored_at = absl::FromUnixNanos(nanos);
  return metadata;
}

}  // namespace kv::internal
