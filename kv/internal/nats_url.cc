#include "kv/internal/nats_url.h"

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/internal/secret_source.h"

namespace kv {
namespace {

constexpr int kDefaultPort = 4222;

absl::Status Wrong(const std::string& sentence) { return absl::InvalidArgumentError("the nats URL: " + sentence); }

bool IsBucketName(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(),
                                      [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '_'; });
}

absl::Status ParseBucket(const Url& url, NatsStoreOptions* store) {
  store->bucket = url.Parameter("bucket").value_or(store->bucket);
  if (!IsBucketName(store->bucket)) return Wrong("a bucket's name has letters, digits, '-' and '_'");
  const std::string replicas = url.Parameter("replicas").value_or("1");
  if (replicas != "1" && replicas != "3" && replicas != "5") return Wrong("the parameter replicas is 1, 3 or 5");
  store->replicas = replicas[0] - '0';
  const std::string storage = url.Parameter("storage").value_or("file");
  if (storage != "file" && storage != "memory") {
    return Wrong("the parameter storage is \"file\" (the default) or \"memory\"");
  }
  store->file_storage = storage == "file";
  const std::optional<std::string> sync = url.Parameter("sync");
  if (sync.has_value() && sync != "always") {
    return Wrong("the parameter sync is \"always\", where every server has sync_interval: always; else leave it away");
  }
  store->sync_always = sync.has_value();
  if (store->sync_always && !store->file_storage) return Wrong("sync=always means nothing with storage=memory");
  if (const auto linger = url.Parameter("delete_linger"); linger.has_value()) {
    const bool parsed = absl::ParseDuration(*linger, &store->delete_linger);
    if (!parsed || store->delete_linger < absl::Milliseconds(1) || store->delete_linger > absl::Hours(24)) {
      return Wrong("the parameter delete_linger is a time from 1ms to 24h, for example 30s");
    }
  }
  return absl::OkStatus();
}

// password_file and password_env, or token_file and token_env. `given`: the secret itself is in the URL.
absl::Status ParseSource(const Url& url, const std::string& kind, bool given, SecretSource* source) {
  const auto file = url.Parameter(kind + "_file");
  const auto variable = url.Parameter(kind + "_env");
  if ((given ? 1 : 0) + (file.has_value() ? 1 : 0) + (variable.has_value() ? 1 : 0) > 1) {
    return Wrong(absl::StrCat("it gives the ", kind, " in more than one way; keep one"));
  }
  if (file == "") return Wrong(absl::StrCat("the parameter ", kind, "_file names no file; '-' is the standard input"));
  if (variable == "") return Wrong(absl::StrCat("the parameter ", kind, "_env names no variable"));
  source->file = file.value_or("");
  source->variable = variable.value_or("");
  return absl::OkStatus();
}

absl::Status ParseCredentials(const Url& url, const Authority& authority, NatsUrl* parsed) {
  NatsOptions& options = parsed->connection;
  options.user = authority.user.value_or("");
  options.password = authority.password.value_or("");
  options.token = url.Parameter("token").value_or("");
  options.credentials_file = url.Parameter("creds").value_or("");
  absl::Status status = ParseSource(url, "password", authority.password.has_value(), &parsed->password);
  status.Update(ParseSource(url, "token", url.Parameter("token").has_value(), &parsed->token));
  if (!status.ok()) return status;
  const bool token = !options.token.empty() || !parsed->token.empty();
  const bool credentials = !options.credentials_file.empty();
  if (url.Parameter("token") == "") return Wrong("the parameter token is empty");
  if (url.Parameter("creds") == "") return Wrong("the parameter creds names no file");
  if (!parsed->password.empty() && options.user.empty()) {
    return Wrong("a password needs a user: write nats://USER@HOST");
  }
  if (authority.user.has_value() && !authority.password.has_value() && parsed->password.empty()) {
    return Wrong(
        "a user needs a password: add password_file=PATH or password_env=NAME. Is it a token? Give it by "
        "token_file=PATH or token_env=NAME instead");
  }
  if ((authority.user.has_value() ? 1 : 0) + (token ? 1 : 0) + (credentials ? 1 : 0) > 1) {
    return Wrong("user, token and creds exclude each other; keep one");
  }
  return absl::OkStatus();
}

absl::Status ParseTls(const Url& url, NatsOptions* options) {
  options->tls_ca_file = url.Parameter("tls_ca").value_or("");
  options->tls_cert_file = url.Parameter("tls_cert").value_or("");
  options->tls_key_file = url.Parameter("tls_key").value_or("");
  bool files = false;
  for (const char* name : {"tls_ca", "tls_cert", "tls_key"}) {
    const auto file = url.Parameter(name);
    if (file == "") return Wrong(absl::StrCat("the parameter ", name, " names no file"));
    files = files || file.has_value();
  }
  const std::string tls = url.Parameter("tls").value_or(files ? "on" : "off");
  if (tls != "on" && tls != "off") return Wrong("the parameter tls is \"on\" or \"off\"");
  options->tls = tls == "on";
  if (files && !options->tls) return Wrong("tls_ca, tls_cert and tls_key mean nothing with tls=off");
  if (options->tls_cert_file.empty() != options->tls_key_file.empty()) {
    return Wrong("tls_cert and tls_key come together: a certificate and the key to it");
  }
  return absl::OkStatus();
}

absl::Status ReadSecret(const std::string& kind, const SecretSource& source, absl::Time deadline, std::string* secret) {
  if (source.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> read = !source.variable.empty() ? ReadSecretVariable(kind, source.variable)
                                     : source.file == "-"     ? ReadStandardInputLine(deadline)
                                                              : ReadSecretFile(kind, source.file);
  if (!read.ok()) return read.status();
  *secret = *std::move(read);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NatsUrl> ParseNatsUrl(const Url& url) {
  // First, for a password with a '?' in it puts a piece of itself among the parameters.
  absl::StatusOr<Authority> authority = ParseAuthority(url, kDefaultPort);
  if (!authority.ok()) return authority.status();
  absl::Status status =
      url.CheckParameters({"bucket", "replicas", "storage", "sync", "delete_linger", "password_file", "password_env",
                           "token", "token_file", "token_env", "creds", "tls", "tls_ca", "tls_cert", "tls_key"});
  NatsUrl parsed;
  parsed.connection.servers = authority->servers;
  if (status.ok()) status = ParseBucket(url, &parsed.store);
  if (status.ok()) status = ParseCredentials(url, *authority, &parsed);
  if (status.ok()) status = ParseTls(url, &parsed.connection);
  if (!status.ok()) return status;
  return parsed;
}

absl::StatusOr<NatsUrl> ReadNatsUrl(const Url& url, absl::Time deadline) {
  absl::StatusOr<NatsUrl> parsed = ParseNatsUrl(url);
  if (!parsed.ok()) return parsed;
  absl::Status status = ReadSecret("password", parsed->password, deadline, &parsed->connection.password);
  status.Update(ReadSecret("token", parsed->token, deadline, &parsed->connection.token));
  if (!status.ok()) return status;
  return parsed;
}

}  // namespace kv
