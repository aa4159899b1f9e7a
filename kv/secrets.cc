#include "kv/secrets.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "kv/internal/percent.h"
#include "kv/internal/secret_source.h"
#include "kv/url.h"

namespace kv {
namespace {

constexpr absl::Duration kInputTimeout = absl::Minutes(1);

absl::string_view Absl(std::string_view text) { return absl::string_view(text.data(), text.size()); }

// A part of a text.
struct Span {
  size_t begin;
  size_t size;
};

// Says where a secret is, and is none.
bool IsPlace(absl::string_view name) {
  return absl::EndsWith(name, "_file") || absl::EndsWith(name, "_env") || name == "creds" || name == "tls_ca" ||
         name == "tls_cert" || name == "tls_key";
}

bool SuggestsSecret(std::string_view name) {
  const std::string lower = absl::AsciiStrToLower(Absl(name));
  if (IsPlace(lower)) return false;
  for (const char* word : {"pass", "pwd", "secret", "token", "key", "cred", "auth", "jwt", "seed", "sig"}) {
    if (absl::StrContains(lower, word)) return true;
  }
  return false;
}

// Whether a user alone may be one, for the password comes from elsewhere; else it can be a token.
bool NamesPasswordElsewhere(std::string_view url) {
  const size_t mark = url.find('?');
  if (mark == std::string_view::npos) return false;
  for (const absl::string_view part : absl::StrSplit(Absl(url.substr(mark + 1)), '&')) {
    if (absl::StartsWith(part, "password_file=") || absl::StartsWith(part, "password_env=")) return true;
  }
  return false;
}

// Where user and password stand, as far as they are to be hidden; nothing where there are none.
std::vector<Span> UserSpan(std::string_view url, size_t start) {
  const size_t at = url.rfind('@');
  if (at == std::string_view::npos || at < start) return {};
  // Only one plain user before one password, or before '@' itself if the password is elsewhere, may stay.
  const std::string_view before = url.substr(start, at - start);
  const bool plain = before.find_first_of("@,/?") == std::string_view::npos;
  const size_t colon = before.find(':');
  if (plain && colon != std::string_view::npos) return {{start + colon + 1, before.size() - colon - 1}};
  if (plain && NamesPasswordElsewhere(url)) return {};
  return {{start, before.size()}};
}

std::vector<Span> SecretSpans(std::string_view url) {
  size_t start = url.find(':');
  start = start == std::string_view::npos ? 0 : start + 1;
  // The path of a local store may hold an '@' and holds no password.
  const std::string_view scheme = url.substr(0, start);
  const bool local = (scheme == "sqlite:" || scheme == "memory:") && url.substr(start, 2) != "//";
  if (url.substr(start, 2) == "//") start += 2;
  std::vector<Span> spans;
  if (!local) spans = UserSpan(url, start);
  size_t part = url.find('?', spans.empty() ? start : spans[0].begin + spans[0].size);
  while (part != std::string_view::npos) {
    ++part;
    const size_t end = std::min(url.find('&', part), url.size());
    const size_t equals = url.find('=', part);
    if (equals < end && SuggestsSecret(url.substr(part, equals - part))) {
      spans.push_back({equals + 1, end - equals - 1});
    }
    part = end < url.size() ? end : std::string_view::npos;
  }
  return spans;
}

bool LooksLikeServerUrl(std::string_view word) {
  const size_t colon = word.find(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const bool scheme = std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(colon),
                                  [](unsigned char c) { return std::isalnum(c) != 0 || c == '+' || c == '-'; });
  const std::string lower = absl::AsciiStrToLower(Absl(word.substr(0, colon)));
  if (lower == "sqlite" || lower == "memory") return false;  // what is before an '@' there is a path
  return scheme && (word.substr(colon, 3) == "://" || lower == "nats" || lower == "memcached");
}

std::string Encode(const std::string& text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '.') {
      encoded += c;
    } else {
      encoded += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return encoded;
}

absl::Status SetVariable(const std::string& name, const std::string& value) {
  if (setenv(name.c_str(), value.c_str(), 1) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" cannot be the name of a variable"));
}

// The words of the query, as written, that are not replaced.
std::vector<std::string> OtherParameters(std::string_view url, const std::vector<std::string>& replaced) {
  std::vector<std::string> kept;
  const size_t mark = url.find('?');
  if (mark == std::string_view::npos) return kept;
  for (const absl::string_view part : absl::StrSplit(Absl(url.substr(mark + 1)), '&', absl::SkipEmpty())) {
    const absl::StatusOr<std::string> name = PercentDecode({part.data(), part.substr(0, part.find('=')).size()});
    const bool is_replaced = name.ok() && std::find(replaced.begin(), replaced.end(), *name) != replaced.end();
    if (!is_replaced) kept.emplace_back(part);
  }
  return kept;
}

}  // namespace

std::string RedactUrl(std::string_view url) {
  std::string redacted;
  size_t end = 0;
  for (const Span& span : SecretSpans(url)) {
    absl::StrAppend(&redacted, Absl(url.substr(end, span.begin - end)), "***");
    end = span.begin + span.size;
  }
  absl::StrAppend(&redacted, Absl(url.substr(end)));
  return redacted;
}

bool WipeSecrets(int argc, char** argv) {
  bool found = false;
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    size_t skipped = 0;
    if (!word.empty() && word[0] == '-') {
      const size_t equals = word.find('=');
      if (equals == std::string_view::npos) continue;
      skipped = equals + 1;
      word.remove_prefix(skipped);
    }
    if (!LooksLikeServerUrl(word)) continue;
    for (const Span& span : SecretSpans(word)) {
      std::fill_n(argv[i] + skipped + span.begin, span.size, '*');
      found = found || span.size > 0;
    }
  }
  return found;
}

absl::StatusOr<std::string> SecretsToEnvironment(std::string_view text, const std::string& prefix) {
  const absl::StatusOr<Url> url = ParseUrl(text);
  if (!url.ok()) return url.status();
  if (url->scheme != "nats") return std::string(text);
  const absl::StatusOr<Authority> authority = ParseAuthority(*url, 4222);
  if (!authority.ok()) return authority.status();
  std::vector<std::string> replaced;
  std::vector<std::string> added;
  const auto move = [&](const std::string& kind, const std::string& suffix, const std::string& secret) {
    added.push_back(absl::StrCat(kind, "_env=", prefix, suffix));
    return SetVariable(prefix + suffix, secret);
  };
  absl::Status status;
  if (authority->password.has_value()) status = move("password", "_PASSWORD", *authority->password);
  if (const auto token = url->Parameter("token"); token.has_value()) {
    replaced.push_back("token");
    status.Update(move("token", "_TOKEN", *token));
  }
  for (const std::string kind : {"password", "token"}) {
    if (url->Parameter(kind + "_file") != "-") continue;
    const absl::StatusOr<std::string> line = ReadStandardInputLine(absl::Now() + kInputTimeout);
    if (!line.ok()) return line.status();
    replaced.push_back(kind + "_file");
    status.Update(move(kind, kind == "token" ? "_TOKEN" : "_PASSWORD", *line));
  }
  if (!status.ok()) return status;
  if (added.empty()) return std::string(text);
  std::vector<std::string> parameters = OtherParameters(text, replaced);
  parameters.insert(parameters.end(), added.begin(), added.end());
  const std::string user = authority->user.has_value() ? Encode(*authority->user) + "@" : "";
  return absl::StrCat("nats://", user, absl::StrJoin(authority->servers, ","), "?", absl::StrJoin(parameters, "&"));
}

}  // namespace kv
