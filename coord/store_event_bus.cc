// The event bus over a store's own watch: events are entries, and the watch carries them. What the parts do is said in
// internal/event_*.h; here they are put together.

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/event_bus.h"
#include "coord/internal/core.h"
#include "coord/internal/event_cursor.h"
#include "coord/internal/event_done.h"
#include "coord/internal/event_publisher.h"
#include "coord/internal/event_record.h"
#include "coord/internal/event_replies.h"
#include "coord/internal/event_reply_watch.h"
#include "coord/internal/event_retention.h"
#include "coord/internal/event_subscriber.h"
#include "coord/internal/event_worker.h"
#include "coord/names.h"

namespace coord {
namespace {

using internal::Core;
using internal::DeliveredEvent;
using internal::EventCursors;
using internal::EventEnvelope;
using internal::EventKey;
using internal::EventPublisher;
using internal::EventReplies;
using internal::EventReplyWatch;
using internal::EventRetention;
using internal::EventSubscriber;
using internal::EventWorker;
using kv::internal::MutexLock;

constexpr size_t kMaxPayload = 1 << 20;

class StoreEventBus final : public EventBus {
 public:
  StoreEventBus(std::shared_ptr<Core> core, const StoreEventOptions& options)
      : core_(std::move(core)),
        worker_(std::make_shared<EventWorker>(*core_->runtime)),
        cursors_(std::make_shared<EventCursors>(core_, worker_, core_->store)),
        retention_(std::make_shared<EventRetention>(core_, worker_, cursors_, options)),
        publisher_(
            std::make_shared<EventPublisher>(core_, worker_,
                                             [retention = retention_](const std::string& topic, uint64_t number) {
                                               retention->OnStored(topic, number);
                                             })),
        replies_(std::make_shared<EventReplies>(core_)),
        reply_watch_(core_, publisher_->bus(), replies_) {}

  ~StoreEventBus() override { Close(core_->runtime->WallNow()); }

  absl::Status Publish(std::string_view topic, std::string_view payload, absl::Time deadline,
                       const PublishOptions& options) override {
    if (absl::Status status = Check(topic, options.to, payload); !status.ok()) return status;
    const absl::Time until = core_->runtime->SteadyDeadline(deadline);
    const std::string prefix = Prefix("event", topic);
    EventEnvelope envelope = Envelope(options.to, payload);
    absl::Status status;
    if (options.delivery == Delivery::kReliable) {
      status = publisher_->PublishReliable(std::string(topic), prefix, std::move(envelope), until);
    } else {
      retention_->Start();
      status = publisher_->PublishBestEffort(prefix, std::move(envelope), until);
    }
    if (status.ok()) core_->counters.events_published.fetch_add(1, std::memory_order_relaxed);
    return status;
  }

  void PublishAsync(std::string_view topic, std::string_view payload, absl::Time deadline, PublishDone done,
                    const PublishOptions& options) override {
    internal::TellDone(*core_->callbacks, std::move(done), Publish(topic, payload, deadline, options));
  }

  // Nothing is under way after Publish has returned but what nobody waits for any more.
  absl::Status Flush(absl::Time) override { return CheckOpen(); }

  absl::StatusOr<Subscription> Subscribe(std::string_view topic, EventHandler handler, absl::Time deadline,
                                         const SubscribeOptions& options) override {
    if (handler == nullptr) return absl::InvalidArgumentError("the handler of a subscription is empty");
    if (!options.cursor.empty()) {
      if (absl::Status status = CheckName("cursor name", options.cursor); !status.ok()) return status;
    }
    return Start("event", topic, options, deadline,
                 [handler = std::move(handler)](const DeliveredEvent& delivered) { handler(delivered.event); });
  }

  absl::StatusOr<std::vector<Reply>> Ask(std::string_view topic, std::string_view payload, absl::Time deadline,
                                         size_t enough, std::string_view to) override {
    if (absl::Status status = Check(topic, to, payload); !status.ok()) return status;
    const absl::Time until = core_->runtime->SteadyDeadline(deadline);
    retention_->Start();
    const absl::StatusOr<uint64_t> ask = replies_->Begin();
    if (!ask.ok()) return ask.status();
    reply_watch_.Start();
    EventEnvelope envelope = Envelope(to, payload);
    envelope.reply_to = publisher_->bus();
    envelope.ask = *ask;
    const absl::Status asked = publisher_->PublishBestEffort(Prefix("ask", topic), std::move(envelope), until);
    std::vector<Reply> replies = replies_->Finish(*ask, enough, asked.ok() ? until : absl::InfinitePast());
    if (!asked.ok()) return asked;
    if (absl::Status open = core_->CheckOpen(); !open.ok() && replies.empty()) return open;
    return replies;
  }

  absl::StatusOr<Subscription> Answer(std::string_view topic, AskHandler handler, absl::Time deadline) override {
    if (handler == nullptr) return absl::InvalidArgumentError("the handler of a subscription is empty");
    return Start("ask", topic, {}, deadline,
                 [core = core_, publisher = publisher_, handler = std::move(handler), limit = max_payload()](
                     const DeliveredEvent& delivered) { SendAnswer(*core, *publisher, handler, limit, delivered); });
  }

  size_t max_payload() const override {
    const size_t value = std::min(core_->store->traits().max_value_bytes, kMaxPayload);
    return value > internal::kMaxEventHeaderBytes ? value - internal::kMaxEventHeaderBytes : 0;
  }

  void Close(absl::Time deadline) override {
    const absl::Time until = core_->runtime->SteadyDeadline(deadline);
    std::vector<std::weak_ptr<EventSubscriber>> subscribers;
    {
      MutexLock lock(mu_);
      closed_ = true;
      subscribers.swap(subscribers_);
    }
    for (const std::weak_ptr<EventSubscriber>& weak : subscribers) {
      if (const auto subscriber = weak.lock()) subscriber->End();
    }
    publisher_->Close();
    replies_->Close();
    reply_watch_.Close();
    worker_->Stop(until, [cursors = cursors_, publisher = publisher_, until] {
      cursors->Flush(until);
      publisher->DeleteOld(absl::Seconds(1), until);
    });
  }

 private:
  static void SendAnswer(Core& core, EventPublisher& publisher, const AskHandler& handler, size_t limit,
                         const DeliveredEvent& delivered) {
    // A gap is no question. A bad address would be somebody's attempt to write elsewhere.
    if (delivered.event.gap || !internal::IsEventBusId(delivered.reply_to)) return;
    std::optional<std::string> answer = handler(delivered.event);
    if (!answer.has_value()) return;
    absl::Status sent;
    if (answer->size() > limit) {
      sent = absl::InvalidArgumentError(absl::StrCat("it has ", answer->size(), " bytes; the limit is ", limit));
    } else {
      EventEnvelope envelope;
      envelope.from = core.options.instance;
      envelope.ask = delivered.ask;
      envelope.payload = *std::move(answer);
      sent = publisher.PublishBestEffort(EventReplyWatch::Prefix(core, delivered.reply_to), std::move(envelope),
                                         core.runtime->Now() + core.options.call_timeout);
    }
    if (sent.ok() || absl::IsCancelled(sent)) return;
    core.Log(LogLevel::kWarning, absl::StrCat("an answer on topic ", QuoteName(delivered.event.topic),
                                              " could not be sent: ", std::string(sent.message())));
  }

  absl::Status CheckOpen() const {
    if (absl::Status status = core_->CheckOpen(); !status.ok()) return status;
    MutexLock lock(mu_);
    return closed_ ? absl::CancelledError("this copy has left its cluster: join again to go on") : absl::OkStatus();
  }

  absl::Status CheckTopic(std::string_view topic) const {
    if (absl::Status status = CheckOpen(); !status.ok()) return status;
    if (absl::Status status = CheckName("topic", topic); !status.ok()) return status;
    const std::string key =
        Prefix("event", topic) + Format(EventKey{std::string(internal::kEventPublisherBytes, '0'), 1});
    if (kv::CheckKey(key, core_->store->traits()).ok()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "topic ", QuoteName(topic), " makes keys of ", key.size(), " bytes; the limit of the ",
        core_->store->traits().name, " store is ", core_->store->traits().max_key_bytes, ": use a shorter topic"));
  }

  absl::Status Check(std::string_view topic, std::string_view to, std::string_view payload) const {
    if (absl::Status status = CheckTopic(topic); !status.ok()) return status;
    if (!to.empty()) {
      if (absl::Status status = CheckName("label of the copy to reach", to); !status.ok()) return status;
    }
    if (payload.size() <= max_payload()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("the payload has ", payload.size(), " bytes; the limit is ",
                                                   max_payload(),
                                                   ": keep what is larger in a cell, and send its name"));
  }

  std::string Prefix(std::string_view kind, std::string_view topic) const { return core_->CellKey(kind, topic) + "/"; }

  EventEnvelope Envelope(std::string_view to, std::string_view payload) const {
    EventEnvelope envelope;
    envelope.from = core_->options.instance;
    envelope.to = std::string(to);
    envelope.payload = std::string(payload);
    return envelope;
  }

  absl::StatusOr<Subscription> Start(std::string_view kind, std::string_view topic, const SubscribeOptions& options,
                                     absl::Time deadline, EventSubscriber::Handler handler) {
    if (absl::Status status = CheckTopic(topic); !status.ok()) return status;
    EventSubscriber::Setup setup;
    setup.topic = std::string(topic);
    setup.prefix = Prefix(kind, topic);
    setup.bus = publisher_->bus();
    setup.options = options;
    auto subscriber = std::make_shared<EventSubscriber>(core_, worker_, cursors_, std::move(setup), std::move(handler));
    {
      MutexLock lock(mu_);
      if (closed_) return absl::CancelledError("this copy has left its cluster: join again to go on");
      subscribers_.erase(
          std::remove_if(subscribers_.begin(), subscribers_.end(), [](const auto& weak) { return weak.expired(); }),
          subscribers_.end());
      subscribers_.push_back(subscriber);
    }
    if (!options.cursor.empty()) retention_->Start();
    if (absl::Status status = subscriber->Begin(core_->runtime->SteadyDeadline(deadline)); !status.ok()) return status;
    return internal::MakeSubscription(std::move(subscriber));
  }

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<EventWorker> worker_;
  const std::shared_ptr<EventCursors> cursors_;
  const std::shared_ptr<EventRetention> retention_;
  const std::shared_ptr<EventPublisher> publisher_;
  const std::shared_ptr<EventReplies> replies_;
  EventReplyWatch reply_watch_;
  mutable kv::internal::Mutex mu_;
  bool closed_ KV_GUARDED_BY(mu_) = false;
  std::vector<std::weak_ptr<EventSubscriber>> subscribers_ KV_GUARDED_BY(mu_);
};

class StoreEventDriver final : public EventDriver {
 public:
  explicit StoreEventDriver(const StoreEventOptions& options) : options_(options) {}

  absl::StatusOr<std::unique_ptr<EventBus>> MakeBus(std::shared_ptr<Core> core) override {
    const kv::Traits& traits = core->store->traits();
    if (!traits.watch || !traits.list || !traits.monotonic_revisions) {
      return absl::FailedPreconditionError(
          absl::StrCat("the ", traits.name,
                       " store cannot carry events: that takes a watch, listing, and revisions that only grow. ",
                       "Use another store, or set JoinOptions::events to a driver of its own"));
    }
    return std::unique_ptr<EventBus>(std::make_unique<StoreEventBus>(std::move(core), options_));
  }

 private:
  const StoreEventOptions options_;
};

}  // namespace

std::shared_ptr<EventDriver> StoreEvents(const StoreEventOptions& options) {
  return std::make_shared<StoreEventDriver>(options);
}

}  // namespace coord
