// Opens a store by URL.
//
//   memory:                        a private store in this process, for tests; nothing outlives it
//   sqlite:                        the embedded default, at $XDG_STATE_HOME/coord/coord.db
//   sqlite:PATH[?sync=full]        the same at PATH; a relative PATH is taken from the working directory
//   nats://HOST[:PORT],...         a bucket of a NATS server or of a cluster of them; port 4222
//   memcached://HOST[:PORT]        one memcached server; port 11211. Several are refused: their revisions are unrelated
//
// Parameters of nats:, each once, after a '?' and separated by '&':
//   bucket=NAME                    coord; letters, digits, '-' and '_'
//   replicas=1|3|5                 1
//   storage=file|memory            file
//   sync=always                    says that every server has sync_interval: always
//   delete_linger=DURATION         30s: how long the marker of a delete stays
//   tls=on|off                     off; on if one of these is given
//   tls_ca=FILE                    certificates to trust instead of the system's
//   tls_cert=FILE&tls_key=FILE     a certificate of one's own, and its key
//   creds=FILE                     a credentials file as `nsc` makes it
//   password_file=, password_env=, token_file=, token_env=, token=     see kv/secrets.h
// The user stands before the host: nats://USER@HOST?password_file=PATH.
//
// Parameters of memcached:
//   prefix=TEXT                    coord: before every key, so that deployments can share a server
//
// An IPv6 address stands in brackets, and what is special in a user, a password or a value is written as %XX. A URL may
// carry a secret; every error message has it in the form of RedactUrl (kv/secrets.h).

#ifndef KV_OPEN_H_
#define KV_OPEN_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/secrets.h"
#include "kv/store.h"

namespace kv {

// InvalidArgument for a malformed URL or an unknown scheme (the message lists the known ones); else what the backend
// says. Blocks for at most `timeout`.
absl::StatusOr<std::shared_ptr<Store>> Open(std::string_view url, absl::Duration timeout = absl::Seconds(5));

}  // namespace kv

#endif  // KV_OPEN_H_
