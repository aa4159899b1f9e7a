// URLs of NATS servers, for the store and for events:
//
//   nats://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][?NAME=VALUE[&NAME=VALUE...]]
//
// The parameters are listed in kv/open.h, the ways to give a secret in kv/secrets.h.

#ifndef KV_INTERNAL_NATS_URL_H_
#define KV_INTERNAL_NATS_URL_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/nats_connection.h"
#include "kv/nats_store.h"
#include "kv/url.h"

namespace kv {

// Where a password or a token is to be read; all empty: nowhere.
struct SecretSource {
  std::string file;  // "-": the standard input
  std::string variable;

  bool empty() const { return file.empty() && variable.empty(); }
};

struct NatsUrl {
  NatsOptions connection;  // without what `password` and `token` refer to
  NatsStoreOptions store;
  SecretSource password;
  SecretSource token;
};

// Pure. InvalidArgument with a sentence that says what to write instead; it contains no secret.
absl::StatusOr<NatsUrl> ParseNatsUrl(const Url& url);

// The same, and reads the secrets into `connection`.
absl::StatusOr<NatsUrl> ReadNatsUrl(const Url& url, absl::Time deadline);

}  // namespace kv

#endif  // KV_INTERNAL_NATS_URL_H_
