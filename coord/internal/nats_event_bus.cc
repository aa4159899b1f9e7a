#include "coord/internal/nats_event_bus.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coord/internal/event_done.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

// Publishers whose whole windows may wait for an earlier number at a time, after a server has failed.
constexpr size_t kPublishersHeld = 16;

absl::Status LeftError() { return absl::CancelledError("this copy has left its cluster: join again to go on"); }

SequencerLimits Limits(const NatsEventBusConfig& config) {
  SequencerLimits limits;
  limits.wait = config.reorder_wait;
  limits.held = std::max(limits.held, config.max_in_flight * kPublishersHeld);
  return limits;
}

}  // namespace

NatsEventBus::NatsEventBus(std::shared_ptr<Core> core, std::shared_ptr<kv::NatsConnection> connection,
                           std::shared_ptr<const NatsEventStream> stream, const NatsEventBusConfig& config)
    : core_(std::move(core)),
      connection_(std::move(connection)),
      stream_(std::move(stream)),
      config_(config),
      bus_(absl::StrFormat("%016x", core_->runtime->Random())),
      subjects_(config_.stream.space, core_->options.plugin),
      inbox_(connection_->NewInbox()),
      store_(std::make_shared<EventWorker>(*core_->runtime)),
      feeds_(std::make_shared<EventWorker>(*core_->runtime)),
      sender_(std::make_shared<EventWorker>(*core_->runtime)),
      topics_(std::make_shared<NatsEventTopics>(core_, connection_)),
      ledger_(std::make_shared<NatsEventLedger>(core_, connection_, stream_->name(), config_.cursors_stream)),
      cursors_(std::make_shared<NatsEventCursors>(
          core_, store_, config_.open_cursors,
          [ledger = ledger_](kv::Store& bucket, absl::Time deadline) { return ledger->WasLost(bucket, deadline); },
          config_.keep_cursors)),
      publisher_(
          std::make_shared<NatsEventPublisher>(core_, sender_, Transport(), subjects_, bus_, config_.max_in_flight)),
      audience_(std::make_shared<NatsEventAudience>(core_, feeds_, connection_, stream_)),
      replies_(std::make_shared<EventReplies>(core_)),
      context_(std::make_shared<NatsEventContext>(
          NatsEventContext{core_, connection_, stream_, topics_, cursors_, feeds_, subjects_, bus_, Limits(config_)})),
      changed_(core_->runtime->NewCondition()) {
  audience_->Start();
}

NatsEventBus::~NatsEventBus() { Close(core_->runtime->WallNow()); }

NatsEventPublisher::Transport NatsEventBus::Transport() {
  NatsEventPublisher::Transport transport;
  transport.send = [connection = connection_](const std::string& subject, std::string_view payload,
                                              const kv::NatsHeaders& headers, absl::Time deadline,
                                              NatsEventPublisher::Transport::Outcome outcome) {
    return connection->RequestAsync(subject, payload, headers, deadline,
                                    [outcome = std::move(outcome)](const absl::StatusOr<kv::NatsMessage>& answer) {
                                      outcome(answer.ok() ? ParseNatsAck(answer->data()) : answer.status());
                                    });
  };
  // Nobody may listen because the stream is gone. What goes wrong here shows in the next attempt.
  transport.look_after = [stream = stream_](absl::Time deadline) { (void)stream->Ensure(deadline); };
  transport.connected = [connection = connection_] { return connection->state() == kv::NatsState::kConnected; };
  transport.drops_repeats = config_.stream.replicas == 1;
  return transport;
}

absl::Status NatsEventBus::CheckOpen() const {
  if (absl::Status status = core_->CheckOpen(); !status.ok()) return status;
  MutexLock lock(mu_);
  return closed_ ? LeftError() : absl::OkStatus();
}

absl::Status NatsEventBus::CheckTopic(std::string_view topic) const {
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  return CheckName("topic", topic);
}

absl::Status NatsEventBus::Check(std::string_view topic, std::string_view payload,
                                 const PublishOptions& options) const {
  if (absl::Status status = CheckTopic(topic); !status.ok()) return status;
  if (!options.to.empty()) {
    if (absl::Status status = CheckName("label of the copy to reach", options.to); !status.ok()) return status;
  }
  size_t limit = max_payload();
  if (options.delivery == Delivery::kReliable) {
    const auto kept = static_cast<size_t>(config_.stream.keep_bytes);
    limit = std::min(limit, kept > kMaxNatsHeaderBytes ? kept - kMaxNatsHeaderBytes : 0);
  }
  if (payload.size() <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the payload has ", payload.size(), " bytes; the limit is ", limit,
                                                 ": keep what is larger in a cell, and send its name"));
}

absl::Status NatsEventBus::Send(Kind kind, std::string_view topic, std::string_view to, std::string_view payload,
                                const std::string& reply) {
  NatsEventHeaders headers;
  headers.bus = bus_;
  headers.from = core_->options.instance;
  const std::string subject = to.empty() ? subjects_.ForAll(kind, topic) : subjects_.For(kind, topic, to);
  return connection_->Publish(subject, payload, Format(headers), reply);
}

absl::Status NatsEventBus::SendRetrying(Kind kind, std::string_view topic, std::string_view to,
                                        std::string_view payload, const std::string& reply, absl::Time until) {
  for (int attempt = 0;; ++attempt) {
    const absl::Status status = Send(kind, topic, to, payload, reply);
    const absl::Time again = core_->runtime->Now() + RetryDelay(*core_->runtime, attempt);
    if (!absl::IsUnavailable(status) || again >= until) return status;
    Pause(*core_->runtime, again);
    if (absl::Status open = CheckOpen(); !open.ok()) return open;
  }
}

absl::Status NatsEventBus::Publish(std::string_view topic, std::string_view payload, absl::Time deadline,
                                   const PublishOptions& options) {
  if (absl::Status status = Check(topic, payload, options); !status.ok()) return status;
  const absl::Time until = core_->runtime->SteadyDeadline(deadline);
  const absl::Status status = options.delivery == Delivery::kReliable
                                  ? publisher_->Publish(topic, options.to, payload, until)
                                  : SendRetrying(Kind::kBestEffort, topic, options.to, payload, "", until);
  if (status.ok()) core_->counters.events_published.fetch_add(1, std::memory_order_relaxed);
  return status;
}

void NatsEventBus::PublishAsync(std::string_view topic, std::string_view payload, absl::Time deadline, PublishDone done,
                                const PublishOptions& options) {
  PublishDone counted = [core = core_, done = std::move(done)](const absl::Status& status) {
    if (status.ok()) core->counters.events_published.fetch_add(1, std::memory_order_relaxed);
    if (done) done(status);
  };
  absl::Status status = Check(topic, payload, options);
  if (!status.ok()) {
    counted(status);
  } else if (options.delivery == Delivery::kReliable) {
    publisher_->PublishAsync(topic, options.to, payload, core_->runtime->SteadyDeadline(deadline), std::move(counted));
  } else {
    counted(Send(Kind::kBestEffort, topic, options.to, payload, ""));
  }
}

absl::Status NatsEventBus::Flush(absl::Time deadline) {
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  if (absl::Status status = publisher_->Flush(core_->runtime->SteadyDeadline(deadline)); !status.ok()) return status;
  return connection_->Flush(deadline);
}

absl::StatusOr<Subscription> NatsEventBus::Subscribe(std::string_view topic, EventHandler handler, absl::Time deadline,
                                                     const SubscribeOptions& options) {
  if (handler == nullptr) return absl::InvalidArgumentError("the handler of a subscription is empty");
  if (!options.cursor.empty()) {
    if (absl::Status status = CheckName("cursor name", options.cursor); !status.ok()) return status;
  }
  return Start(Kind::kBestEffort, topic, options, deadline,
               [handler = std::move(handler)](const Event& event, const std::string&) { handler(event); });
}

absl::StatusOr<Subscription> NatsEventBus::Start(Kind kind, std::string_view topic, const SubscribeOptions& options,
                                                 absl::Time deadline, NatsEventSubscriber::Handler handler) {
  if (absl::Status status = CheckTopic(topic); !status.ok()) return status;
  auto subscriber =
      std::make_shared<NatsEventSubscriber>(context_, kind, std::string(topic), options, std::move(handler));
  if (!audience_->Add(subscriber)) return LeftError();
  if (absl::Status status = subscriber->Begin(core_->runtime->SteadyDeadline(deadline)); !status.ok()) return status;
  return MakeSubscription(std::move(subscriber));
}

absl::StatusOr<std::vector<Reply>> NatsEventBus::Ask(std::string_view topic, std::string_view payload,
                                                     absl::Time deadline, size_t enough, std::string_view to) {
  PublishOptions options;
  options.to = std::string(to);
  if (absl::Status status = Check(topic, payload, options); !status.ok()) return status;
  const absl::Time until = core_->runtime->SteadyDeadline(deadline);
  if (absl::Status status = ListenForAnswers(); !status.ok()) return status;
  const absl::StatusOr<uint64_t> ask = replies_->Begin();
  if (!ask.ok()) return ask.status();
  const absl::Status asked = SendRetrying(Kind::kQuestion, topic, to, payload, absl::StrCat(inbox_, ".", *ask), until);
  std::vector<Reply> replies = replies_->Finish(*ask, enough, asked.ok() ? until : absl::InfinitePast());
  if (!asked.ok()) return asked;
  if (absl::Status open = CheckOpen(); !open.ok() && replies.empty()) return open;
  return replies;
}

absl::Status NatsEventBus::ListenForAnswers() {
  {
    MutexLock lock(mu_);
    while (listening_) changed_->Wait(mu_, absl::InfiniteFuture());
    if (closed_) return LeftError();
    if (answers_ != nullptr) return absl::OkStatus();
    listening_ = true;
  }
  absl::StatusOr<std::shared_ptr<void>> answers = topics_->Add(inbox_ + ".*", this);
  MutexLock lock(mu_);
  listening_ = false;
  changed_->NotifyAll();
  if (!answers.ok()) return answers.status();
  if (closed_) {
    lock.Unlock();
    return LeftError();  // they end here
  }
  answers_ = *std::move(answers);
  return absl::OkStatus();
}

void NatsEventBus::OnArrival(const NatsEventHeaders& headers, const kv::NatsMessage& message) {
  const std::string_view subject = message.subject();
  uint64_t ask = 0;
  if (!absl::SimpleAtoi(std::string(subject.substr(subject.rfind('.') + 1)), &ask)) return;
  replies_->Add(ask, "", {headers.from, std::string(message.data())});
}

absl::StatusOr<Subscription> NatsEventBus::Answer(std::string_view topic, AskHandler handler, absl::Time deadline) {
  if (handler == nullptr) return absl::InvalidArgumentError("the handler of a subscription is empty");
  return Start(Kind::kQuestion, topic, {}, deadline,
               [core = core_, connection = connection_, bus = bus_, handler = std::move(handler),
                limit = max_payload()](const Event& event, const std::string& reply) {
                 // A gap is no question. A bad address would be somebody's attempt to write elsewhere.
                 if (event.gap || !IsReplySubject(reply)) return;
                 std::optional<std::string> answer = handler(event);
                 if (!answer.has_value()) return;
                 NatsEventHeaders headers;
                 headers.bus = bus;
                 headers.from = core->options.instance;
                 const absl::Status sent = answer->size() <= limit
                                               ? connection->Publish(reply, *answer, Format(headers))
                                               : absl::InvalidArgumentError(absl::StrCat(
                                                     "it has ", answer->size(), " bytes; the limit is ", limit));
                 if (sent.ok()) return;
                 core->Log(LogLevel::kWarning, absl::StrCat("an answer on topic ", QuoteName(event.topic),
                                                            " could not be sent: ", std::string(sent.message())));
               });
}

size_t NatsEventBus::max_payload() const {
  const size_t message = connection_->max_payload();
  return message > kMaxNatsHeaderBytes ? std::min(message - kMaxNatsHeaderBytes, kMaxPayload) : 0;
}

void NatsEventBus::Close(absl::Time deadline) {
  const absl::Time now = core_->runtime->Now();
  const absl::Time until = std::max(now, core_->runtime->SteadyDeadline(deadline));
  std::shared_ptr<void> answers;
  {
    MutexLock lock(mu_);
    closed_ = true;
    answers = std::move(answers_);
  }
  answers.reset();
  audience_->Close();
  replies_->Close();
  publisher_->Close(until == absl::InfiniteFuture() ? until : now + (until - now) / 2);
  store_->Stop(until, [cursors = cursors_, until] { cursors->Flush(until); });
  sender_->Stop(until);
  feeds_->Stop(until);
}

}  // namespace coord::internal
