#include "coord/internal/nats_event_subscriber.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

absl::Status LeftError() { return absl::CancelledError("this copy has left its cluster: join again to go on"); }

// Where to look for what is stored already before a subscription that begins after `position`.
uint64_t LookBack(const NatsEventStreamState& state, uint64_t position) {
  uint64_t count = std::min(NatsEventSubscriber::kMaxLookBack, position);
  if (state.mean > 0) count = std::min(count, NatsEventSubscriber::kMaxLookBackBytes / state.mean);
  return std::max(position - count, std::min(position, state.first - 1));
}

}  // namespace

NatsEventSubscriber::NatsEventSubscriber(std::shared_ptr<const NatsEventContext> context, Kind kind, std::string topic,
                                         SubscribeOptions options, Handler handler)
    : context_(std::move(context)),
      core_(context_->core),
      kind_(kind),
      topic_(std::move(topic)),
      options_(std::move(options)),
      slot_(std::make_shared<Slot>(
          *core_->runtime,
          [handler = std::move(handler)](const Event& event, const std::string& reply, bool* ran) {
            *ran = true;
            handler(event, reply);
          })),
      sequencer_(context_->limits) {}

absl::Status NatsEventSubscriber::Begin(absl::Time until) {
  absl::Status status = Listen(until);
  if (status.ok() && kind_ == Kind::kBestEffort) status = FindPlace(until);
  if (!status.ok()) {
    End();
    return status;
  }
  {
    MutexLock lock(mu_);
    if (ended_) return LeftError();
    open_ = true;
  }
  Wake();
  return absl::OkStatus();
}

absl::Status NatsEventSubscriber::Listen(absl::Time until) {
  for (const std::string& subject :
       {context_->subjects.ForAll(kind_, topic_), context_->subjects.For(kind_, topic_, core_->options.instance)}) {
    absl::StatusOr<std::shared_ptr<void>> subscription = context_->topics->Add(subject, this);
    if (!subscription.ok()) return subscription.status();
    MutexLock lock(mu_);
    if (ended_) {
      lock.Unlock();
      return LeftError();
    }
    subscriptions_.push_back(*std::move(subscription));
  }
  // Whoever publishes once this has returned reaches it.
  return context_->connection->Flush(core_->CallDeadline(until));
}

absl::Status NatsEventSubscriber::FindPlace(absl::Time until) {
  absl::StatusOr<NatsEventStreamState> state = context_->stream->Ensure(core_->CallDeadline(until));
  for (int attempt = 0; absl::IsUnavailable(state.status()) || absl::IsDeadlineExceeded(state.status()); ++attempt) {
    const absl::Time again = core_->runtime->Now() + RetryDelay(*core_->runtime, attempt);
    if (again >= until || ended()) break;
    Pause(*core_->runtime, again);
    state = context_->stream->Ensure(core_->CallDeadline(until));
  }
  if (!state.ok()) return state.status();
  present_ = state->last;
  present_epoch_ = state->incarnation;
  position_ = state->last;
  std::string epoch = state->incarnation;
  if (!options_.cursor.empty()) {
    absl::StatusOr<std::shared_ptr<EventCursors>> cursors = context_->cursors->Get(until);
    if (!cursors.ok()) return cursors.status();
    absl::StatusOr<std::string> lost = context_->cursors->Loss(until);
    if (!lost.ok()) return lost.status();
    absl::StatusOr<EventCursors::Opened> opened =
        (*cursors)->Open(topic_, options_.cursor, {state->incarnation, state->last, *std::move(lost)}, until);
    if (!opened.ok()) return opened.status();
    MutexLock lock(mu_);
    cursors_ = *std::move(cursors);
    place_ = opened->place;
    if (ended_) cursors_->Release(place_);
    position_ = opened->at.revision;
    epoch = opened->at.epoch;
    for (const auto& [publisher, last] : opened->at.last) sequencer_.Restore(publisher, last);
    if (!opened->gap.empty()) {
      NatsInboxItem mark;
      mark.kind = NatsInboxItem::Kind::kEpoch;
      mark.epoch = epoch;
      mark.sequence = position_;
      mark.event.payload = opened->gap;
      inbox_.AddMark(std::move(mark));
    }
  }
  NatsEventFeed::Taker taker;
  taker.take = [this](const kv::internal::StreamMessage& message) { return OnStreamMessage(message); };
  taker.mark = [this](NatsInboxItem mark) {
    // What is in a stream that was made since is all new.
    if (mark.kind == NatsInboxItem::Kind::kEpoch) {
      before_ = 0;
      if (mark.epoch != present_epoch_) present_ = 0;
    }
    inbox_.AddMark(std::move(mark));
    Wake();
  };
  taker.stopped = [this] { Wake(); };
  resumed_feed_ = std::make_shared<NatsEventFeed>(core_, context_->worker, context_->connection, context_->stream,
                                                  context_->subjects.Reliable(topic_), std::move(taker));
  {
    MutexLock lock(mu_);
    if (ended_) return LeftError();
    feed_ = resumed_feed_;
  }
  uint64_t from = position_;
  if (epoch == state->incarnation) {
    before_ = position_;
    from = LookBack(*state, position_);
  }
  return resumed_feed_->Start(epoch, position_, from, until);
}

void NatsEventSubscriber::End() {
  std::vector<std::shared_ptr<void>> subscriptions;
  std::shared_ptr<NatsEventFeed> feed;
  std::shared_ptr<EventCursors> cursors;
  std::shared_ptr<EventCursors::Place> place;
  slot_->Shut();
  {
    MutexLock lock(mu_);
    if (ended_) return;
    ended_ = true;
    subscriptions.swap(subscriptions_);
    feed = feed_;
    cursors = cursors_;
    place = place_;
  }
  subscriptions.clear();  // waits for the connection to leave the inbox, as does the feed's end
  if (feed != nullptr) feed->Stop();
  if (place != nullptr) cursors->Release(place);
}

void NatsEventSubscriber::Cancel() {
  End();
  slot_->Cancel();
}

bool NatsEventSubscriber::ended() const {
  MutexLock lock(mu_);
  return ended_;
}

void NatsEventSubscriber::OnArrival(const NatsEventHeaders& headers, const kv::NatsMessage& message) {
  NatsInboxItem item;
  item.event.topic = topic_;
  item.event.payload = std::string(message.data());
  item.event.from = headers.from;
  item.event.delivery = Delivery::kBestEffort;
  item.own = headers.bus == context_->bus;
  item.reply = std::string(message.reply());
  inbox_.AddBestEffort(std::move(item));
  Wake();
}

void NatsEventSubscriber::OnForeign(const absl::Status& why) {
  {
    MutexLock lock(mu_);
    if (std::exchange(warned_, true)) return;
  }
  core_->Log(LogLevel::kWarning,
             absl::StrCat("a message on topic ", QuoteName(topic_), " is ignored: ", std::string(why.message()),
                          "; find out who publishes there besides this library"));
}

void NatsEventSubscriber::OnDropped(uint64_t count) {
  inbox_.AddLost(count);
  Wake();
}

void NatsEventSubscriber::OnReconnected() {
  NatsInboxItem mark;
  mark.kind = NatsInboxItem::Kind::kLost;
  mark.event.payload =
      "the connection to the NATS server was lost for a while: best-effort events may have been missed";
  inbox_.AddMark(std::move(mark));
  Wake();
}

void NatsEventSubscriber::Check(const NatsEventStreamState& state) {
  std::shared_ptr<NatsEventFeed> feed;
  {
    MutexLock lock(mu_);
    if (!open_ || ended_) return;
    feed = feed_;
  }
  if (feed != nullptr) feed->Check(state);
}

// False if there is no room.
bool NatsEventSubscriber::OnStreamMessage(const kv::internal::StreamMessage& message) {
  absl::StatusOr<NatsEventHeaders> headers = ParseNatsEventHeaders(message.message, /*reliable=*/true);
  if (!headers.ok()) {
    OnForeign(headers.status());
    return true;
  }
  NatsInboxItem item;
  item.before = message.sequence <= before_;
  item.event.topic = topic_;
  if (!item.before) item.event.payload = std::string(message.message.data());
  item.event.from = std::move(headers->from);
  item.event.delivery = Delivery::kReliable;
  item.event.number = headers->number;
  item.event.replayed = message.sequence <= present_;
  item.own = headers->publisher.compare(0, context_->bus.size(), context_->bus) == 0;
  item.event.publisher = std::move(headers->publisher);
  item.to = std::move(headers->to);
  item.is_void = headers->is_void;
  item.sequence = message.sequence;
  // Before the beginning nothing is waited for.
  if (!item.before) item.low = headers->low;
  if (!inbox_.AddReliable(std::move(item))) return false;
  Wake();
  return true;
}

void NatsEventSubscriber::Wake() {
  {
    MutexLock lock(mu_);
    if (!open_ || ended_ || turn_queued_) return;
    turn_queued_ = true;
  }
  // A weak reference: threads of the connection must not be the last to let go. If the callback thread has ended
  // nothing is delivered any more.
  core_->callbacks->Post([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Turn();
  });
}

}  // namespace coord::internal
