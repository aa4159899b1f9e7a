// The subscriptions of one bus to plain subjects, each made once however many listen.

#ifndef COORD_INTERNAL_NATS_EVENT_TOPICS_H_
#define COORD_INTERNAL_NATS_EVENT_TOPICS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coord/internal/core.h"
#include "coord/internal/nats_event_wire.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"

namespace coord::internal {

// Where messages go. Called on threads of the connection, one at a time per subject; must not block.
class NatsEventSink {
 public:
  virtual ~NatsEventSink() = default;
  virtual void OnArrival(const NatsEventHeaders& headers, const kv::NatsMessage& message) = 0;
  // What has arrived is no event of this library.
  virtual void OnForeign(const absl::Status& why) = 0;
  // The connection dropped so many messages, for they came faster than they were taken.
  virtual void OnDropped(uint64_t count) = 0;
};

// Thread-safe.
class NatsEventTopics : public std::enable_shared_from_this<NatsEventTopics> {
 public:
  static constexpr size_t kMaxPending = 16384;  // messages of a subject that the connection keeps

  NatsEventTopics(std::shared_ptr<Core> core, std::shared_ptr<kv::NatsConnection> connection);

  // Brings to `sink` what comes on `subject`, until the handle is destroyed, which waits for a running call. Blocks as
  // NatsConnection::Subscribe does; the server may not have heard of it yet.
  absl::StatusOr<std::shared_ptr<void>> Add(const std::string& subject, NatsEventSink* sink);

 private:
  class Entry;

  void Remove(const std::string& subject, NatsEventSink* sink);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<kv::NatsConnection> connection_;
  kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> idle_;
  bool busy_ KV_GUARDED_BY(mu_) = false;  // somebody subscribes, without the lock
  std::map<std::string, std::shared_ptr<Entry>> entries_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_TOPICS_H_
