// What JetStream says about a message that it delivers, in the subject of its reply:
//   $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>
//   $JS.ACK.<domain>.<account>.<the same>[.<random>]          (announced for later servers)

#ifndef KV_INTERNAL_NATS_METADATA_H_
#define KV_INTERNAL_NATS_METADATA_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/time/time.h"

namespace kv::internal {

struct NatsMetadata {
  uint64_t stream_sequence = 0;
  uint64_t consumer_sequence = 0;  // counts the deliveries of the consumer
  uint64_t pending = 0;            // messages that match, beyond this one
  absl::Time stored_at;
};

// Nothing if `reply` is not such a subject.
std::optional<NatsMetadata> ParseNatsMetadata(std::string_view reply);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_METADATA_H_
