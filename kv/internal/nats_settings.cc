#include "kv/internal/nats_settings.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/internal/nats_probe.h"

namespace kv::internal {
namespace {

// Short waits with much jitter: many copies lose their server at the same moment.
constexpr int64_t kReconnectWaitMillis = 50;
constexpr int64_t kReconnectJitterMillis = 50;
constexpr int64_t kPingMillis = 1000;
constexpr int kMaxPingsOut = 2;

absl::Status CheckFile(const std::string& path, const char* what) {
  if (path.empty()) return absl::OkStatus();
  struct stat stat_buffer {};
  if (stat(path.c_str(), &stat_buffer) != 0) {
    return absl::NotFoundError(absl::StrCat("cannot read the ", what, " ", path, ": ", strerror(errno)));
  }
  if (!S_ISREG(stat_buffer.st_mode) && !S_ISFIFO(stat_buffer.st_mode)) {
    return absl::NotFoundError(absl::StrCat("cannot read the ", what, " ", path, ": it is not a file"));
  }
  if (access(path.c_str(), R_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("cannot read the ", what, " ", path, ": ", strerror(errno)));
  }
  return absl::OkStatus();
}

// The library puts these into the JSON of its first message as they are.
std::string JsonEscaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

bool HasControl(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

absl::Status CheckCredentials(const NatsOptions& options) {
  const int ways =
      (options.user.empty() ? 0 : 1) + (options.token.empty() ? 0 : 1) + (options.credentials_file.empty() ? 0 : 1);
  if (ways > 1) {
    return absl::InvalidArgumentError("more than one of user, token and credentials file is given; give one");
  }
  if (options.user.empty() && !options.password.empty()) {
    return absl::InvalidArgumentError("a password is given without a user");
  }
  if (!options.user.empty() && options.password.empty()) {
    return absl::InvalidArgumentError("a user is given without a password");
  }
  if (HasControl(options.user) || HasControl(options.password) || HasControl(options.token)) {
    return absl::InvalidArgumentError("a user, password or token has a control character, perhaps a line end");
  }
  return CheckFile(options.credentials_file, "credentials file");
}

absl::Status CheckTls(const NatsOptions& options) {
  const bool files = !options.tls_ca_file.empty() || !options.tls_cert_file.empty() || !options.tls_key_file.empty();
  if (files && !options.tls) {
    return absl::InvalidArgumentError("TLS files are given, but TLS is off; turn it on, or leave them out");
  }
  if (options.tls_cert_file.empty() != options.tls_key_file.empty()) {
    return absl::InvalidArgumentError("a client's TLS certificate and its key must be given together");
  }
  absl::Status status = CheckFile(options.tls_ca_file, "file of trusted certificates");
  if (status.ok()) status = CheckFile(options.tls_cert_file, "TLS certificate");
  if (status.ok()) status = CheckFile(options.tls_key_file, "TLS key");
  return status;
}

natsStatus SetTimes(natsOptions* settings) {
  natsStatus s = natsOptions_SetTimeout(settings, absl::ToInt64Milliseconds(kConnectTimeout));
  if (s == NATS_OK) s = natsOptions_SetAllowReconnect(settings, true);
  if (s == NATS_OK) s = natsOptions_SetMaxReconnect(settings, -1);
  if (s == NATS_OK) s = natsOptions_SetReconnectWait(settings, kReconnectWaitMillis);
  if (s == NATS_OK) s = natsOptions_SetReconnectJitter(settings, kReconnectJitterMillis, kReconnectJitterMillis);
  if (s == NATS_OK) s = natsOptions_SetPingInterval(settings, kPingMillis);
  if (s == NATS_OK) s = natsOptions_SetMaxPingsOut(settings, kMaxPingsOut);
  const int64_t write_deadline = absl::ToInt64Milliseconds(NatsConnection::kWriteDeadline);
  if (s == NATS_OK) s = natsOptions_SetWriteDeadline(settings, write_deadline);
  // By itself the library keeps what is published without a connection, and sends it with the next one, long after
  // its caller has been told that it failed.
  if (s == NATS_OK) s = natsOptions_SetReconnectBufSize(settings, 0);
  if (s == NATS_OK) s = natsOptions_SetFailRequestsOnDisconnect(settings, true);
  if (s == NATS_OK) s = natsOptions_SetSendAsap(settings, true);
  return s;
}

absl::Status SetTls(natsOptions* settings, const NatsOptions& options) {
  if (!options.tls) return absl::OkStatus();
  if (natsOptions_SetSecure(settings, true) != NATS_OK) {
    return absl::FailedPreconditionError("the NATS client library was built without TLS");
  }
  if (!options.tls_ca_file.empty() &&
      natsOptions_LoadCATrustedCertificates(settings, options.tls_ca_file.c_str()) != NATS_OK) {
    return absl::InvalidArgumentError(absl::StrCat(options.tls_ca_file, " holds no certificates in PEM format"));
  }
  if (!options.tls_cert_file.empty() && natsOptions_LoadCertificatesChain(settings, options.tls_cert_file.c_str(),
                                                                          options.tls_key_file.c_str()) != NATS_OK) {
    return absl::InvalidArgumentError(absl::StrCat(options.tls_cert_file, " and ", options.tls_key_file,
                                                   " are not a certificate and its key in PEM format"));
  }
  return absl::OkStatus();
}

absl::Status CheckCredentialsFile(const std::string& path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (text.find("USER JWT") == std::string::npos || text.find("NKEY SEED") == std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(path,
                                                   " is not a NATS credentials file: it lacks the user's JWT or the ",
                                                   "seed; `nsc generate creds` makes one"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string NatsToken(const NatsOptions& options) { return JsonEscaped(options.token); }

absl::Status CheckNatsOptions(const NatsOptions& options) {
  if (options.servers.empty()) return absl::InvalidArgumentError("no NATS server is given");
  for (const std::string& server : options.servers) {
    if (absl::StatusOr<HostPort> parts = SplitHostPort(server); !parts.ok()) return parts.status();
  }
  absl::Status status = CheckCredentials(options);
  if (status.ok()) status = CheckTls(options);
  return status;
}

absl::StatusOr<NatsSettings> MakeNatsSettings(const NatsOptions& options, const std::vector<std::string>& servers) {
  natsOptions* raw = nullptr;
  natsStatus s = natsOptions_Create(&raw);
  if (s != NATS_OK) return absl::ResourceExhaustedError("the NATS client library cannot be initialized");
  NatsSettings settings(raw);

  std::vector<std::string> urls;
  for (const std::string& server : servers) urls.push_back(absl::StrCat("nats://", server));
  std::vector<const char*> pointers;
  for (const std::string& url : urls) pointers.push_back(url.c_str());
  s = natsOptions_SetServers(raw, pointers.data(), static_cast<int>(pointers.size()));
  if (s == NATS_OK) s = natsOptions_SetNoRandomize(raw, true);
  if (s == NATS_OK) s = natsOptions_SetIgnoreDiscoveredServers(raw, false);
  if (s == NATS_OK) s = natsOptions_SetName(raw, "coord");
  if (s == NATS_OK) s = SetTimes(raw);
  // Never as a part of the URL: the library's error texts repeat that.
  if (s == NATS_OK && !options.user.empty()) {
    s = natsOptions_SetUserInfo(raw, JsonEscaped(options.user).c_str(), JsonEscaped(options.password).c_str());
  }
  if (s != NATS_OK) {
    return absl::InvalidArgumentError(
        absl::StrCat("the NATS client library refuses the options: ", natsStatus_GetText(s)));
  }
  if (!options.credentials_file.empty()) {
    if (absl::Status status = CheckCredentialsFile(options.credentials_file); !status.ok()) return status;
    if (natsOptions_SetUserCredentialsFromFiles(raw, options.credentials_file.c_str(), nullptr) != NATS_OK) {
      return absl::InvalidArgumentError(absl::StrCat("cannot use the credentials file ", options.credentials_file));
    }
  }
  if (absl::Status status = SetTls(raw, options); !status.ok()) return status;
  return settings;
}

}  // namespace kv::internal
