#include "kv/url.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kv/internal/percent.h"

namespace kv {
namespace {

absl::string_view Absl(std::string_view text) { return absl::string_view(text.data(), text.size()); }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool IsScheme(std::string_view text) {
  return !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) != 0 &&
         std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '+' || c == '-' || c == '.'; });
}

constexpr char kNotShown[] =
    ", which is not shown, for it may be a piece of a password, where a '?' is written as '%3F'";

// A '?' in a password that is not escaped makes a query of what comes after it, up to the '@' and beyond.
bool MayBePassword(const Url& url, std::string_view query) {
  return url.authority.has_value() && query.find('@') != std::string_view::npos;
}

absl::Status ParseQuery(const std::string_view whole, Url* url) {
  std::string_view query = whole;
  while (!query.empty()) {
    const std::string_view part = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), part.size() + 1));
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return absl::InvalidArgumentError("the URL has a query parameter that is not of the form name=value");
    }
    absl::StatusOr<std::string> name = PercentDecode(part.substr(0, equals));
    if (!name.ok()) return name.status();
    absl::StatusOr<std::string> value = PercentDecode(part.substr(equals + 1));
    if (!value.ok()) return value.status();
    if (url->Parameter(*name).has_value() && MayBePassword(*url, whole)) {
      return absl::InvalidArgumentError(absl::StrCat("the URL gives a parameter twice", kNotShown));
    }
    if (url->Parameter(*name).has_value()) {
      return absl::InvalidArgumentError(absl::StrCat("the URL gives the parameter \"", *name, "\" twice"));
    }
    url->query.emplace_back(*std::move(name), *std::move(value));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> PercentDecode(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return absl::InvalidArgumentError("the URL has a '%' that no two hexadecimal digits follow; write '%25'");
    }
    const char byte = static_cast<char>(high * 16 + low);
    if (byte == '\0') return absl::InvalidArgumentError("the URL has an escaped NUL character");
    decoded += byte;
    i += 2;
  }
  return decoded;
}

std::optional<std::string> Url::Parameter(std::string_view name) const {
  for (const auto& [key, value] : query) {
    if (key == name) return value;
  }
  return std::nullopt;
}

absl::Status Url::CheckParameters(const std::vector<std::string>& known) const {
  for (const auto& parameter : query) {
    if (std::find(known.begin(), known.end(), parameter.first) != known.end()) continue;
    const std::string all = known.empty() ? "none" : absl::StrJoin(known, ", ");
    const auto has_at = [this](const auto& other) {
      return MayBePassword(*this, other.first) || MayBePassword(*this, other.second);
    };
    if (std::any_of(query.begin(), query.end(), has_at)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the URL has an unknown parameter", kNotShown, "; known for ", scheme, ": ", all));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the URL has the unknown parameter \"", parameter.first, "\"; known for ", scheme, ": ", all));
  }
  return absl::OkStatus();
}

absl::StatusOr<Url> ParseUrl(std::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("the URL is empty; a simple one is sqlite:");
  for (const unsigned char c : text) {
    if (c < 0x20 || c == 0x7F) return absl::InvalidArgumentError("the URL has a control character");
  }
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || !IsScheme(text.substr(0, colon))) {
    return absl::InvalidArgumentError("the URL has no scheme; write, for example, sqlite:PATH");
  }
  if (text.find('#') != std::string_view::npos) {
    return absl::InvalidArgumentError("the URL has a '#'; in a path write it as '%23'");
  }
  Url url;
  url.scheme = absl::AsciiStrToLower(Absl(text.substr(0, colon)));
  std::string_view rest = text.substr(colon + 1);
  std::string_view query;
  if (const size_t mark = rest.find('?'); mark != std::string_view::npos) {
    query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  if (rest.substr(0, 2) == "//") {
    rest.remove_prefix(2);
    const size_t slash = std::min(rest.find('/'), rest.size());
    url.authority = std::string(rest.substr(0, slash));
    rest.remove_prefix(slash);
  }
  absl::StatusOr<std::string> path = PercentDecode(rest);
  if (!path.ok()) return path.status();
  url.path = *std::move(path);
  if (absl::Status status = ParseQuery(query, &url); !status.ok()) return status;
  return url;
}

}  // namespace kv
