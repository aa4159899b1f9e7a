// URLs as a person could have written them. A secret that stands in its place never gets into an error, nor what may be
// printed.

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "kv/internal/memcached_address.h"
#include "kv/internal/nats_url.h"
#include "kv/secrets.h"
#include "kv/url.h"
#include "tests/fuzz/check.h"

namespace {

constexpr char kSecret[] = "xyZZy";

void CheckError(const absl::Status& status, const std::string& url, bool has_secret) {
  if (status.ok()) return;
  fuzz::Check(status.code() == absl::StatusCode::kInvalidArgument, "an error is InvalidArgument", status.ToString());
  fuzz::Check(!status.message().empty(), "an error is a sentence");
  const bool shown = std::string(status.message()).find(kSecret) != std::string::npos;
  fuzz::Check(!has_secret || !shown, "no error shows a secret", url + "\n" + status.ToString());
}

void Run(const std::string& text, bool has_secret) {
  const std::string redacted = kv::RedactUrl(text);
  fuzz::Check(!has_secret || redacted.find(kSecret) == std::string::npos, "what may be printed shows no secret",
              text + "\n" + redacted);
  const auto url = kv::ParseUrl(text);
  CheckError(url.status(), text, has_secret);
  if (!url.ok()) return;
  const auto authority = kv::ParseAuthority(*url, 4222);
  CheckError(authority.status(), text, has_secret);
  if (authority.ok()) {
    fuzz::Check(!authority->servers.empty(), "an authority names a server");
    fuzz::Check(!authority->password.has_value() || authority->user.has_value(), "a password has a user");
  }
  const auto nats = kv::ParseNatsUrl(*url);
  CheckError(nats.status(), text, has_secret);
  if (nats.ok()) fuzz::Check(!nats->connection.servers.empty(), "a NATS URL names a server");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  Run(text, false);
  if (text.find(kSecret) == std::string::npos) {
    Run("nats://u:" + std::string(kSecret) + text + "@h", true);
    Run("nats://u:" + text + kSecret + "@h", true);
    Run("nats://u:" + text + kSecret + "=b@h", true);
    Run("nats://h?token=" + std::string(kSecret) + text, true);
  }
  if (const auto address = kv::internal::ParseMemcachedAddress(text); address.ok()) {
    const auto again = kv::internal::ParseMemcachedAddress(address->Text());
    fuzz::Check(again.ok() && again->Text() == address->Text(), "an address has one form", address->Text());
  } else {
    CheckError(address.status(), text, false);
  }
  return 0;
}
