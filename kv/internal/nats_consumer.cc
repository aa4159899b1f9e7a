#include "kv/internal/nats_consumer.h"

#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/internal/callback_gate.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_consumer_request.h"
#include "kv/internal/nats_metadata.h"

namespace kv::internal {
namespace {

constexpr int kMissedHeartbeats = 3;
constexpr std::string_view kControl = "100";  // the status of heartbeats and of requests to control the flow

}  // namespace

struct NatsConsumer::Impl : public std::enable_shared_from_this<NatsConsumer::Impl> {
  Impl(std::shared_ptr<NatsConnection> the_connection, const NatsConsumerOptions& the_options,
       std::function<void(StreamMessage)> the_on_message, std::function<void(const absl::Status&)> the_on_broken)
      : connection(std::move(the_connection)),
        options(the_options),
        on_message(std::move(the_on_message)),
        on_broken(std::move(the_on_broken)),
        generation(connection->generation()) {}

  absl::Status Start(absl::Time deadline);
  void Close();

  // On the thread of the subscription.
  void OnArrival(NatsMessage message);
  absl::Status Handle(NatsMessage message);
  absl::Status HandleControl(const NatsMessage& message);

  // On the monitor's thread.
  void Monitor();
  absl::Status Check() KV_REQUIRES(mutex);

  // One callback at a time: between the two nobody else calls one.
  bool BeginCallback() KV_REQUIRES(mutex);
  void EndCallback(const absl::Status& status) KV_REQUIRES(mutex);

  const std::shared_ptr<NatsConnection> connection;
  const NatsConsumerOptions options;
  const std::function<void(StreamMessage)> on_message;
  const std::function<void(const absl::Status&)> on_broken;
  const uint64_t generation;  // of the connection, from before it was made
  std::string name;           // fixed before `created`
  uint64_t initial_pending = 0;
  uint64_t delivered = 0;  // the last sequence of the consumer; touched by the thread of the subscription alone

  Mutex mutex;
  CondVar changed;
  bool created KV_GUARDED_BY(mutex) = false;
  bool closed KV_GUARDED_BY(mutex) = false;
  bool running KV_GUARDED_BY(mutex) = false;  // a callback
  bool told KV_GUARDED_BY(mutex) = false;     // that it is broken
  std::thread::id runner KV_GUARDED_BY(mutex);
  absl::Status broken KV_GUARDED_BY(mutex);
  SteadyTime alive KV_GUARDED_BY(mutex) = std::chrono::steady_clock::now();  // of its last message of any kind

  std::shared_ptr<void> state_handle;
  std::unique_ptr<NatsSubscription> subscription;
  std::thread monitor;
};

absl::Status NatsConsumer::Impl::Start(absl::Time deadline) {
  const std::string inbox = connection->NewInbox();
  const std::weak_ptr<Impl> weak = weak_from_this();
  auto subscribed = connection->Subscribe(
      inbox,
      [weak](NatsMessage message) {
        if (const std::shared_ptr<Impl> self = weak.lock()) self->OnArrival(std::move(message));
      },
      options.max_pending);
  if (!subscribed.ok()) return subscribed.status();
  subscription = *std::move(subscribed);

  const absl::StatusOr<NatsMessage> answer =
      connection->Request(CreateConsumerSubject(options), CreateConsumerRequest(options, inbox), {}, deadline);
  if (!answer.ok()) {
    return absl::Status(answer.status().code(), absl::StrCat("consumer of the stream ", options.stream, ": ",
                                                             std::string(answer.status().message())));
  }
  const absl::StatusOr<CreatedConsumer> parsed = ParseCreatedConsumer(options.stream, answer->data());
  if (!parsed.ok()) return parsed.status();
  name = parsed->name;
  initial_pending = parsed->pending;

  state_handle = connection->OnState([weak](NatsState) {
    const std::shared_ptr<Impl> self = weak.lock();
    if (self == nullptr) return;
    MutexLock lock(self->mutex);
    self->changed.NotifyAll();
  });
  MutexLock lock(mutex);
  alive = std::chrono::steady_clock::now();  // before the monitor looks at it
  monitor = std::thread([self = shared_from_this()] { self->Monitor(); });
  created = true;
  changed.NotifyAll();
  return absl::OkStatus();
}

void NatsConsumer::Impl::Close() {
  {
    MutexLock lock(mutex);
    closed = true;
    changed.NotifyAll();
    while (running && runner != std::this_thread::get_id()) changed.Wait(mutex);
  }
  state_handle.reset();
  subscription.reset();
  if (monitor.joinable()) {
    if (monitor.get_id() == std::this_thread::get_id()) {
      monitor.detach();
    } else {
      monitor.join();
    }
  }
  // The answer comes to nobody. If this is lost the server misses the subscription, and deletes the consumer later.
  if (!name.empty()) (void)connection->Publish(DeleteConsumerSubject(options.stream, name), "");
}

bool NatsConsumer::Impl::BeginCallback() {
  if (closed || !broken.ok()) return false;
  running = true;
  runner = std::this_thread::get_id();
  return true;
}

void NatsConsumer::Impl::EndCallback(const absl::Status& status) {
  if (broken.ok()) broken = status;
  if (!broken.ok() && !told && !closed) {
    told = true;
    const absl::Status reason = broken;
    mutex.Unlock();
    on_broken(reason);
    mutex.Lock();
  }
  running = false;
  alive = std::chrono::steady_clock::now();
  changed.NotifyAll();
}

void NatsConsumer::Impl::OnArrival(NatsMessage message) {
  MutexLock lock(mutex);
  // The first messages can overtake the answer to the request that made the consumer.
  while (!created && !closed) changed.Wait(mutex);
  if (!BeginCallback()) return;
  lock.Unlock();
  const absl::Status status = Handle(std::move(message));
  lock.Lock();
  EndCallback(status);
}

absl::Status NatsConsumer::Impl::Handle(NatsMessage message) {
  if (connection->generation() != generation) return absl::UnavailableError("the connection to NATS was lost");
  const std::optional<NatsMetadata> metadata = ParseNatsMetadata(message.reply());
  if (!metadata) return HandleControl(message);
  if (metadata->consumer_sequence != delivered + 1) {
    return absl::DataLossError(absl::StrCat("messages of the stream ", options.stream, " were lost on the way: number ",
                                            metadata->consumer_sequence, " came after ", delivered));
  }
  // A server takes a start beyond its end for the end.
  if (options.start && metadata->stream_sequence < *options.start) {
    return absl::DataLossError(
        absl::StrCat("the stream ", options.stream, " has gone back: it ended before the message ", *options.start));
  }
  delivered = metadata->consumer_sequence;
  on_message(StreamMessage{std::move(message), metadata->stream_sequence, metadata->pending, metadata->stored_at});
  return absl::OkStatus();
}

absl::Status NatsConsumer::Impl::HandleControl(const NatsMessage& message) {
  const std::optional<std::string> status = message.Header("Status");
  if (!status) return absl::OkStatus();  // nothing that a server sends
  if (*status != kControl) {
    // Later servers say so when the consumer or its stream has been deleted, or its server ends.
    return absl::UnavailableError(absl::StrCat("the NATS server ended the consumer of the stream ", options.stream,
                                               ": ", message.Header("Description").value_or(*status)));
  }
  if (!message.reply().empty()) {
    // All that came before has been handled: the server may go on. If this is lost it asks again by a heartbeat.
    (void)connection->Publish(std::string(message.reply()), "");
    return absl::OkStatus();
  }
  if (const auto stalled = message.Header("Nats-Consumer-Stalled")) (void)connection->Publish(*stalled, "");
  uint64_t last = 0;
  const auto header = message.Header("Nats-Last-Consumer");
  if (header && absl::SimpleAtoi(*header, &last) && last != delivered) {
    return absl::DataLossError(absl::StrCat("messages of the stream ", options.stream, " were lost on the way: ", last,
                                            " were sent, ", delivered, " came"));
  }
  return absl::OkStatus();
}

absl::Status NatsConsumer::Impl::Check() {
  if (connection->generation() != generation) return absl::UnavailableError("the connection to NATS was lost");
  // While a callback runs it is not the server that is slow.
  const auto silent = absl::FromChrono(std::chrono::steady_clock::now() - alive);
  if (!running && silent > kMissedHeartbeats * options.heartbeat) {
    return absl::UnavailableError(absl::StrCat("the consumer of the stream ", options.stream,
                                               " gave no sign of life for ", absl::FormatDuration(silent)));
  }
  return absl::OkStatus();
}

void NatsConsumer::Impl::Monitor() {
  const auto period = absl::ToChronoNanoseconds(options.heartbeat / 4);
  MutexLock lock(mutex);
  while (!closed && broken.ok()) {
    absl::Status status = Check();
    if (status.ok()) {
      changed.WaitUntil(mutex, std::chrono::steady_clock::now() + period);
    } else if (running) {
      broken = status;  // told by whoever runs the callback, after it
    } else if (BeginCallback()) {
      const CallbackScope scope;
      EndCallback(status);
    }
  }
}

NatsConsumer::NatsConsumer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

NatsConsumer::~NatsConsumer() { impl_->Close(); }

absl::StatusOr<std::unique_ptr<NatsConsumer>> NatsConsumer::Create(std::shared_ptr<NatsConnection> connection,
                                                                   const NatsConsumerOptions& options,
                                                                   std::function<void(StreamMessage)> on_message,
                                                                   std::function<void(const absl::Status&)> on_broken,
                                                                   absl::Time deadline) {
  auto impl = std::make_shared<Impl>(std::move(connection), options, std::move(on_message), std::move(on_broken));
  // Its destructor ends what a failure leaves half made.
  std::unique_ptr<NatsConsumer> consumer(new NatsConsumer(impl));
  if (absl::Status status = impl->Start(deadline); !status.ok()) return status;
  return consumer;
}

uint64_t NatsConsumer::initial_pending() const { return impl_->initial_pending; }

}  // namespace kv::internal
