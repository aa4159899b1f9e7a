// A connection to a NATS server or cluster, shared by what uses it in one process: the store (kv/nats_store.h) and the
// event bus (coord/nats_events.h).
//
// What differs from the client library's own ways, and why:
//   * Nothing is buffered while there is no connection. A publish that cannot be sent is Unavailable and is never sent
//     later; the client library by itself would keep it and send it after a reconnect.
//   * Every publish goes out at once, not after a millisecond.
//   * It reconnects for ever, to any server of the cluster, with jitter. A server that has fallen silent is noticed
//     after two to three seconds.
//   * Before the first connection to a server the first line that it sends is read and checked, so that another
//     protocol on that port is an error and not a hang. (A server that wants to begin with TLS, `handshake_first`, is
//     not supported.)
//   * Requests under way when the connection is lost are told so at once.
//   * A subscription may be destroyed while messages for it arrive.
//
// Thread safety: all methods, from any thread, callbacks included; the last owner of a connection may let go of it
// inside of a callback. Blocking: as each method says; where the network does not take what is sent, a publish may
// block for up to kWriteDeadline for each thread that publishes at that moment. Name resolution is the system's.
//
// Each connection has threads of its own: two, those of the client library, and one for each subscription with a
// callback. Not fork-safe: fork before connecting. The client library reseeds rand() when it is first used.

#ifndef KV_NATS_CONNECTION_H_
#define KV_NATS_CONNECTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kv {
namespace internal {
struct NatsMessageAccess;
}

// How to reach the servers. At most one of user, token and credentials_file.
struct NatsOptions {
  std::vector<std::string> servers;  // "host:port"; at least one. Those that a cluster announces are used as well.
  std::string user;
  std::string password;
  std::string token;
  std::string credentials_file;  // a file as `nsc` makes it: a JWT and a seed
  bool tls = false;              // the server's certificate is always verified, its name included
  std::string tls_ca_file;       // empty: the certificates that the system trusts
  std::string tls_cert_file;     // the client's own certificate and its key, where the server asks for one
  std::string tls_key_file;

  friend bool operator==(const NatsOptions& a, const NatsOptions& b);
};

enum class NatsState {
  kConnected,
  kReconnecting,  // no connection at present; calls are Unavailable
  kClosed,        // for good: the last owner has gone, or a server refused the credentials twice at a reconnect
};

// Names without blanks and colons; values not empty, and without blanks at their ends, for those would be lost.
using NatsHeaders = std::vector<std::pair<std::string, std::string>>;

// A message that has arrived. Movable. The views live as long as it does.
class NatsMessage {
 public:
  std::string_view subject() const;
  std::string_view reply() const;  // where to answer; empty if no answer is wanted
  std::string_view data() const;
  // The value of a header, whose name is compared with its case. Not for two threads at a time on one message.
  std::optional<std::string> Header(const char* name) const;
  // The answer of a server to a request on a subject that nobody listens to.
  bool IsNoResponders() const;

 private:
  friend struct internal::NatsMessageAccess;
  struct Free {
    void operator()(void* message) const;
  };
  explicit NatsMessage(void* message) : message_(message) {}
  std::unique_ptr<void, Free> message_;
};

// A subscription. It outlives reconnects; what is sent meanwhile is missed. Destroying it waits until its callback has
// ended (not from inside it) and does not wait for the server. The connection must outlive it.
class NatsSubscription {
 public:
  struct Impl;
  explicit NatsSubscription(std::unique_ptr<Impl> impl);
  ~NatsSubscription();
  NatsSubscription(const NatsSubscription&) = delete;
  NatsSubscription& operator=(const NatsSubscription&) = delete;

  // The next message, of a subscription without a callback. DeadlineExceeded: none came in `timeout` (at least a
  // millisecond). Unavailable: the connection is closed.
  absl::StatusOr<NatsMessage> Next(absl::Duration timeout);

  // Messages dropped so far because `max_pending` were waiting.
  uint64_t dropped() const;

 private:
  const std::unique_ptr<Impl> impl_;
};

class NatsConnection {
 public:
  static constexpr absl::Duration kWriteDeadline = absl::Milliseconds(500);

  // The connection of this process with these options: an existing one, or a new one. Blocks until `deadline` (wall
  // time), or for two seconds more for each server that stalls in the middle of the handshake. No message contains a
  // secret.
  //   Unavailable         no server answers; each is named with its reason
  //   PermissionDenied    a server refuses the credentials
  //   InvalidArgument     an option is missing, malformed or contradicts another, or a file holds something else
  //   NotFound            a file cannot be read
  //   FailedPrecondition  the servers are not NATS, too old (2.9 is the oldest), do not take headers, or differ about
  //   TLS,
  //                       or a certificate is not trusted
  // A server's own address may be any of its names, but with TLS one that its certificate bears.
  static absl::StatusOr<std::shared_ptr<NatsConnection>> Connect(const NatsOptions& options, absl::Time deadline);

  // Flushes what was published, for 200 ms at most, and closes. Requests under way get DeadlineExceeded. It may wait
  // for an attempt to connect that is under way, two seconds; never inside of a callback.
  ~NatsConnection();
  NatsConnection(const NatsConnection&) = delete;
  NatsConnection& operator=(const NatsConnection&) = delete;

  NatsState state() const;

  // Changes whenever a connection is lost or established, so that between two equal values no message came over, and
  // none was taken by, another connection than before. A loss alone is told about a millisecond late.
  uint64_t generation() const;

  // The server that it is, or was last, connected to, as "host:port", and its version, as "2.9.10". After a reconnect
  // server() is up to date some milliseconds later than state(), and the version is empty until it is known.
  std::string server() const;
  std::string server_version() const;
  // Those of all servers that it knows of: the given ones and those that they name. Empty strings for those that have
  // not answered since it was connected; they are asked every few seconds.
  std::vector<std::string> server_versions() const;

  // The largest message that the server takes, headers included, in bytes.
  size_t max_payload() const;

  // Calls `callback` with every change of the state, on a thread of the client library, until the returned handle is
  // destroyed, which waits for a running call (not from inside it). It must not block: it holds up every other
  // connection of the process.
  std::shared_ptr<void> OnState(std::function<void(NatsState)> callback);

  // For the drivers.

  // Hands a message to the network; OK does not say that it arrives. Unavailable: not sent, and it will not be.
  // DeadlineExceeded: it may have been. InvalidArgument: a malformed subject (of at most 1024 bytes) or header, or too
  // large.
  absl::Status Publish(const std::string& subject, std::string_view data, const NatsHeaders& headers = {},
                       const std::string& reply = "");

  // Publishes and waits for the answer. Unavailable: not sent, or nobody listens on `subject`: it had no effect.
  // DeadlineExceeded: no answer came in time, or the connection was lost meanwhile: it may have had one. Where the
  // server does not permit it, it says so in the message of that. FailedPrecondition: called inside of `done` of
  // RequestAsync.
  absl::StatusOr<NatsMessage> Request(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                                      absl::Time deadline);

  // The same without waiting, for pipelining. OK: `done` is called exactly once, on a thread of the connection, with
  // what Request would return; it must not block. An error: not sent, and `done` is not called. Lost connections and
  // passed deadlines are told within 100 ms.
  absl::Status RequestAsync(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                            absl::Time deadline, std::function<void(absl::StatusOr<NatsMessage>)> done);

  // Where `callback` runs: on a thread of the subscription's own. At most `max_pending` messages, and 256 MB, wait;
  // what comes then is dropped and counted. Without a callback messages wait for Next(). A subject may have wildcards.
  // The server knows of it when a later Flush returns. While there is no connection it begins with the next one, and
  // the call may block for an attempt to connect, two seconds. Unavailable: closed.
  absl::StatusOr<std::unique_ptr<NatsSubscription>> Subscribe(const std::string& subject,
                                                              std::function<void(NatsMessage)> callback,
                                                              size_t max_pending = 65536);

  // Waits until the server has processed all that was published and subscribed before. Unavailable: there is no
  // connection, or it was lost. DeadlineExceeded.
  absl::Status Flush(absl::Time deadline);

  // A subject of this connection alone: answers to it come to nobody else. Append ".*" to subscribe to many.
  std::string NewInbox();

 private:
  struct Impl;
  explicit NatsConnection(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace kv

#endif  // KV_NATS_CONNECTION_H_
