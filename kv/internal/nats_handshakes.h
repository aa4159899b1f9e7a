// Ends those TLS handshakes of the client library that stall.
//
// nats.c shakes hands without a limit of time, and at a reconnect it holds its lock meanwhile: a server or a network
// that stops in the middle would hang the connection for good, and whoever calls the library. It does not tell its
// socket. But OpenSSL tells of each TLS connection that is made in the process, and nats.c notes there whose it is: so
// the ones of our connections are found whose handshake is not finished when it should be, and their sockets are shut
// down. Then the library goes on to the next server.

#ifndef KV_INTERNAL_NATS_HANDSHAKES_H_
#define KV_INTERNAL_NATS_HANDSHAKES_H_

#include "absl/time/time.h"
#include "nats/nats.h"

namespace kv::internal {

// How long a handshake may take.
inline constexpr absl::Duration kHandshakeTimeout = absl::Seconds(2);

// While it lives, handshakes that the calling thread begins are ours. One at a time for each thread.
class NatsHandshakesHere {
 public:
  NatsHandshakesHere();
  ~NatsHandshakesHere();
  NatsHandshakesHere(const NatsHandshakesHere&) = delete;
  NatsHandshakesHere& operator=(const NatsHandshakesHere&) = delete;
};

// Between the two, handshakes of this connection are ours. Thread-safe.
void WatchNatsHandshakes(natsConnection* connection);
void ForgetNatsHandshakes(natsConnection* connection);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_HANDSHAKES_H_
