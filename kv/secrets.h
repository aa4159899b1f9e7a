// Secrets in URLs, and how to keep them to oneself.
//
// A URL gives a password, or a token, in one of these ways; the first three are for every day:
//
//   nats://user@host?password_file=PATH      the first line of a file
//   nats://user@host?password_env=NAME       a variable of the environment
//   nats://user@host?password_file=-         the first line of the standard input, which is read once per process
//   nats://user:password@host                in the URL itself
//
// and token_file, token_env and token likewise. A secret in a URL on the command line can be seen by every user of the
// machine, with `ps`, until WipeSecrets has overwritten it. Errors, logs and status pages show no secret.

#ifndef KV_SECRETS_H_
#define KV_SECRETS_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace kv {

// `url`, well-formed or not, in the form that may be printed: with the password, and every query parameter whose name
// suggests a secret, replaced by "***". Where it cannot tell what is secret it hides too much.
std::string RedactUrl(std::string_view url);

// Overwrites the secrets in the words of a command line that are URLs or --flag=URL, in place: call it at the start of
// main, once the flags are parsed and before any thread looks at them. True if there was one; then say
// kSecretOnCommandLine. What was seen before the call, and what the shell remembers, is out of reach.
bool WipeSecrets(int argc, char** argv);

inline constexpr char kSecretOnCommandLine[] =
    "a secret was given on the command line, where every user of this machine could read it until now; it has been "
    "overwritten. Give it by password_file=PATH or password_env=NAME in the URL, and take this one out of use";

// For a program that hands its URL to others: moves the secret into the environment of this process, which they
// inherit and other users cannot read, as <prefix>_PASSWORD or <prefix>_TOKEN, and returns the URL that refers to it.
// A URL without a secret of its own, and one whose secret is in a file or a variable, is returned as it is. Reads the
// standard input where the URL says so. InvalidArgument: it is malformed. Not thread-safe, as setenv is not.
absl::StatusOr<std::string> SecretsToEnvironment(std::string_view url, const std::string& prefix);

}  // namespace kv

#endif  // KV_SECRETS_H_
