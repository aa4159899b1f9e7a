// Reads a JetStream stream in order, without acknowledgements: an ephemeral push consumer with heartbeats and flow
// control, whose own count of deliveries shows a hole. It serves the store's watch and the subscribers of reliable
// events. It is not repaired: once it is broken its owner makes another one, and knows best from where.
//
// The client library's own ordered consumer is not used: it goes on from an old sequence after its stream was lost and
// made again, it notices a lost heartbeat late, and destroying it while messages arrive may crash.
//
// Thread safety: all methods, from any thread.

#ifndef KV_INTERNAL_NATS_CONSUMER_H_
#define KV_INTERNAL_NATS_CONSUMER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/nats_connection.h"

namespace kv::internal {

struct NatsConsumerOptions {
  std::string stream;
  std::string filter;  // a subject, wildcards allowed; empty: all of the stream
  // Begins at this sequence of the stream. One beyond the stream's next means that the stream has been lost, which its
  // owner has to find out: early servers then send the next message, which breaks the consumer, and late ones send
  // nothing before the sequence is reached. Unset: begins with the last message of each subject, then whatever comes.
  std::optional<uint64_t> start;
  // At least 100 ms. Broken after three without a sign of life, while no callback runs.
  absl::Duration heartbeat = absl::Seconds(1);
  // Messages that wait for the callback; one more breaks it. The server sends no more than 32 MB ahead of a callback
  // that is slow, but counts no more than the bytes of subject and value, so that this can be very many small ones.
  size_t max_pending = 1 << 20;
};

// A message of the stream.
struct StreamMessage {
  NatsMessage message;
  uint64_t sequence = 0;  // in the stream
  uint64_t pending = 0;   // matching messages that the stream holds beyond this one, when it was delivered
  absl::Time stored_at;   // by the server's wall clock
};

class NatsConsumer {
 public:
  // `on_message` runs on one thread of the consumer, in the order of sequences, perhaps before Create has returned, and
  // may block (the server then waits, as far as flow control reaches). `on_broken` is called at most once, on any
  // thread, never at the same time as `on_message`; no message follows it. Unavailable: the connection was lost, the
  // server ended the consumer or is silent; DataLoss: messages were lost on the way, or too many waited.
  //
  // NotFound: there is no such stream. FailedPrecondition: JetStream is off for this account, or refuses the consumer.
  // Unavailable: JetStream is off in this server, or there is no leader at present. Else as NatsConnection::Request;
  // DeadlineExceeded leaves nothing that lasts. Blocks until `deadline` at most.
  static absl::StatusOr<std::unique_ptr<NatsConsumer>> Create(std::shared_ptr<NatsConnection> connection,
                                                              const NatsConsumerOptions& options,
                                                              std::function<void(StreamMessage)> on_message,
                                                              std::function<void(const absl::Status&)> on_broken,
                                                              absl::Time deadline);

  // No callback runs after it has returned (it waits for a running one; not from inside a callback). Asks the server to
  // delete the consumer and does not wait for that; one that is forgotten there ends by itself within half a minute.
  ~NatsConsumer();
  NatsConsumer(const NatsConsumer&) = delete;
  NatsConsumer& operator=(const NatsConsumer&) = delete;

  // Messages that matched when it was made: so many make the snapshot. With the last of them StreamMessage::pending is
  // 0, unless others were stored meanwhile.
  uint64_t initial_pending() const;

 private:
  struct Impl;
  explicit NatsConsumer(std::shared_ptr<Impl> impl);
  const std::shared_ptr<Impl> impl_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_CONSUMER_H_
