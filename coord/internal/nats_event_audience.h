// All subscriptions of one bus: tells them of a connection that was lost and is back, and keeps their places from
// falling behind the stream's oldest event while their topics are quiet.

#ifndef COORD_INTERNAL_NATS_EVENT_AUDIENCE_H_
#define COORD_INTERNAL_NATS_EVENT_AUDIENCE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/nats_event_stream.h"
#include "coord/internal/nats_event_subscriber.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"

namespace coord::internal {

// Thread-safe.
class NatsEventAudience : public std::enable_shared_from_this<NatsEventAudience> {
 public:
  // How often the stream is looked at while there are subscriptions: the more seldom, the slower it loses old events.
  static constexpr absl::Duration kLookMin = absl::Seconds(1);
  static constexpr absl::Duration kLookMax = absl::Seconds(30);

  NatsEventAudience(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                    std::shared_ptr<kv::NatsConnection> connection, std::shared_ptr<const NatsEventStream> stream);

  // Must be called once, after construction.
  void Start();

  // False once closed.
  bool Add(const std::shared_ptr<NatsEventSubscriber>& subscriber);

  // Ends all subscriptions, for good.
  void Close();

 private:
  std::vector<std::shared_ptr<NatsEventSubscriber>> All();
  void OnState(kv::NatsState state);
  void QueueLook() KV_REQUIRES(mu_);
  void Look();

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const std::shared_ptr<kv::NatsConnection> connection_;
  const std::shared_ptr<const NatsEventStream> stream_;

  kv::internal::Mutex mu_;
  bool closed_ KV_GUARDED_BY(mu_) = false;
  bool lost_ KV_GUARDED_BY(mu_) = false;  // the connection, since it was last there
  bool look_due_ KV_GUARDED_BY(mu_) = false;
  absl::Duration look_after_ KV_GUARDED_BY(mu_) = kLookMax;
  uint64_t first_ KV_GUARDED_BY(mu_) = 0;  // the stream's oldest sequence at the last look
  std::vector<std::weak_ptr<NatsEventSubscriber>> subscribers_ KV_GUARDED_BY(mu_);
  std::shared_ptr<void> state_handle_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_AUDIENCE_H_
