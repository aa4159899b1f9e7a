// Gives internal code what NatsMessage keeps to itself.

#ifndef KV_INTERNAL_NATS_MESSAGE_H_
#define KV_INTERNAL_NATS_MESSAGE_H_

#include "kv/nats_connection.h"
#include "nats/nats.h"

namespace kv::internal {

struct NatsMessageAccess {
  // Takes the message over.
  static NatsMessage Make(natsMsg* message) { return NatsMessage(message); }
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_MESSAGE_H_
