// The event bus of one Cluster over NATS. What the parts do is said in nats_event_*.h; here they are put together.

#ifndef COORD_INTERNAL_NATS_EVENT_BUS_H_
#define COORD_INTERNAL_NATS_EVENT_BUS_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "coord/internal/core.h"
#include "coord/internal/event_replies.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/nats_event_audience.h"
#include "coord/internal/nats_event_cursors.h"
#include "coord/internal/nats_event_ledger.h"
#include "coord/internal/nats_event_publisher.h"
#include "coord/internal/nats_event_stream.h"
#include "coord/internal/nats_event_subscriber.h"
#include "coord/internal/nats_event_topics.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"

namespace coord::internal {

struct NatsEventBusConfig {
  NatsEventStreamConfig stream;
  NatsEventCursors::Opener open_cursors;
  std::string cursors_stream;  // behind the bucket of cursors
  absl::Duration keep_cursors;
  size_t max_in_flight = 0;
  absl::Duration reorder_wait;
};

class NatsEventBus final : public EventBus, private NatsEventSink {
 public:
  // Payloads beyond this are refused, whatever the server takes.
  static constexpr size_t kMaxPayload = 8 << 20;

  NatsEventBus(std::shared_ptr<Core> core, std::shared_ptr<kv::NatsConnection> connection,
               std::shared_ptr<const NatsEventStream> stream, const NatsEventBusConfig& config);
  ~NatsEventBus() override;

  absl::Status Publish(std::string_view topic, std::string_view payload, absl::Time deadline,
                       const PublishOptions& options) override;
  void PublishAsync(std::string_view topic, std::string_view payload, absl::Time deadline, PublishDone done,
                    const PublishOptions& options) override;
  absl::Status Flush(absl::Time deadline) override;
  absl::StatusOr<Subscription> Subscribe(std::string_view topic, EventHandler handler, absl::Time deadline,
                                         const SubscribeOptions& options) override;
  absl::StatusOr<std::vector<Reply>> Ask(std::string_view topic, std::string_view payload, absl::Time deadline,
                                         size_t enough, std::string_view to) override;
  absl::StatusOr<Subscription> Answer(std::string_view topic, AskHandler handler, absl::Time deadline) override;
  size_t max_payload() const override;
  void Close(absl::Time deadline) override;

 private:
  using Kind = NatsEventSubjects::Kind;

  // Answers arrive here.
  void OnArrival(const NatsEventHeaders& headers, const kv::NatsMessage& message) override;
  void OnForeign(const absl::Status&) override {}
  void OnDropped(uint64_t) override {}

  NatsEventPublisher::Transport Transport();
  absl::Status CheckOpen() const;
  absl::Status CheckTopic(std::string_view topic) const;
  absl::Status Check(std::string_view topic, std::string_view payload, const PublishOptions& options) const;
  absl::Status Send(Kind kind, std::string_view topic, std::string_view to, std::string_view payload,
                    const std::string& reply);
  absl::Status SendRetrying(Kind kind, std::string_view topic, std::string_view to, std::string_view payload,
                            const std::string& reply, absl::Time until);
  absl::Status ListenForAnswers();
  absl::StatusOr<Subscription> Start(Kind kind, std::string_view topic, const SubscribeOptions& options,
                                     absl::Time deadline, NatsEventSubscriber::Handler handler);

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<kv::NatsConnection> connection_;
  const std::shared_ptr<const NatsEventStream> stream_;
  const NatsEventBusConfig config_;
  const std::string bus_;
  const NatsEventSubjects subjects_;
  const std::string inbox_;                   // answers to question n come to <inbox>.<n>
  const std::shared_ptr<EventWorker> store_;  // writes cursors
  const std::shared_ptr<EventWorker> feeds_;
  const std::shared_ptr<EventWorker> sender_;
  const std::shared_ptr<NatsEventTopics> topics_;
  const std::shared_ptr<NatsEventLedger> ledger_;
  const std::shared_ptr<NatsEventCursors> cursors_;
  const std::shared_ptr<NatsEventPublisher> publisher_;
  const std::shared_ptr<NatsEventAudience> audience_;
  const std::shared_ptr<EventReplies> replies_;
  const std::shared_ptr<const NatsEventContext> context_;

  mutable kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> changed_;
  bool closed_ KV_GUARDED_BY(mu_) = false;
  bool listening_ KV_GUARDED_BY(mu_) = false;  // somebody begins to, without the lock
  std::shared_ptr<void> answers_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_BUS_H_
