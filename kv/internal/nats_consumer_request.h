// What a consumer asks of JetStream. Pure: text in, values out.

#ifndef KV_INTERNAL_NATS_CONSUMER_REQUEST_H_
#define KV_INTERNAL_NATS_CONSUMER_REQUEST_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kv/internal/nats_consumer.h"

namespace kv::internal {

// Where the request to make a consumer goes. Of the forms that servers know this one works on all: without a name and a
// filter in it, so that the server gives the name.
std::string CreateConsumerSubject(const NatsConsumerOptions& options);
std::string CreateConsumerRequest(const NatsConsumerOptions& options, const std::string& deliver_subject);

struct CreatedConsumer {
  std::string name;
  uint64_t pending = 0;  // messages that match, delivered already or not
};
absl::StatusOr<CreatedConsumer> ParseCreatedConsumer(const std::string& stream, std::string_view answer);

std::string DeleteConsumerSubject(const std::string& stream, const std::string& name);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_CONSUMER_REQUEST_H_
