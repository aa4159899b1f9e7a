#include "coord/internal/nats_event_feed.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace coord::internal {

using kv::internal::MutexLock;
using kv::internal::StreamMessage;

namespace {

constexpr absl::Duration kLeastPause = absl::Milliseconds(20);
// A leader that was cut off from its replicas may answer for some seconds as if nothing had come since.
constexpr absl::Duration kStaleLeader = absl::Seconds(15);

// How often a consumer is made anew that does not see what the leader has: the next one may be on another replica.
constexpr int kLagAttempts = 20;

bool IsPassing(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsNotFound(status);
}

NatsInboxItem MakeMark(NatsInboxItem::Kind kind, uint64_t sequence, std::string why = "") {
  NatsInboxItem mark;
  mark.kind = kind;
  mark.sequence = sequence;
  mark.event.delivery = Delivery::kReliable;
  mark.event.payload = std::move(why);
  return mark;
}

NatsInboxItem Removed(uint64_t sequence) {
  return MakeMark(NatsInboxItem::Kind::kGap, sequence,
                  "older events were removed before this subscription came to them: it was away or behind for longer "
                  "than events are kept");
}

}  // namespace

NatsEventFeed::NatsEventFeed(std::shared_ptr<Core> core, std::shared_ptr<EventWorker> worker,
                             std::shared_ptr<kv::NatsConnection> connection,
                             std::shared_ptr<const NatsEventStream> stream, std::string subject, Taker taker)
    : core_(std::move(core)),
      worker_(std::move(worker)),
      connection_(std::move(connection)),
      stream_(std::move(stream)),
      subject_(std::move(subject)),
      taker_(std::move(taker)),
      gate_(std::make_shared<CallbackGate>(*core_->runtime)) {}

absl::Status NatsEventFeed::Start(const std::string& epoch, uint64_t sequence, uint64_t from, absl::Time until) {
  {
    MutexLock lock(mu_);
    epoch_ = epoch;
    start_ = place_ = sequence;
    taken_ = from;
  }
  const absl::Status status = Connect(until);
  if (status.ok() || !IsPassing(status)) return status;
  MutexLock lock(mu_);
  Restart(RetryDelay(*core_->runtime, attempt_++));
  return absl::OkStatus();
}

void NatsEventFeed::Restart(absl::Duration after) {
  if (stopped_ || std::exchange(restart_due_, true)) return;
  ++generation_;
  worker_->Post(core_->runtime->Now() + after, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->RestartJob();
  });
}

void NatsEventFeed::RestartJob() {
  {
    MutexLock lock(mu_);
    restart_due_ = false;
    if (stopped_) return;
  }
  const absl::Status status = Connect(absl::InfiniteFuture());
  bool warn = false;
  {
    MutexLock lock(mu_);
    if (status.ok()) {
      attempt_ = 0;
      return;
    }
    warn = !IsPassing(status) && !stopped_ && !std::exchange(warned_, true);
    Restart(std::max(kLeastPause, RetryDelay(*core_->runtime, attempt_++)));
  }
  if (warn) {
    core_->Log(LogLevel::kWarning,
               absl::StrCat("reliable events are not received at present: ", std::string(status.message())));
  }
}

// Makes a consumer, from the place on. On the worker's thread, or before there was one.
absl::Status NatsEventFeed::Connect(absl::Time until) {
  std::unique_ptr<Consumer> old;
  {
    MutexLock lock(mu_);
    old = std::move(consumer_);
    ++generation_;
  }
  old.reset();  // nothing is taken after this but from the next one
  {
    MutexLock lock(mu_);
    if (full_) return absl::OkStatus();  // until Resume
  }
  const absl::StatusOr<NatsEventStreamState> before = stream_->Ensure(core_->CallDeadline(until));
  if (!before.ok()) return before.status();
  std::optional<NatsInboxItem> mark;
  kv::internal::NatsConsumerOptions options;
  uint64_t generation = 0;
  uint64_t place = 0;
  {
    MutexLock lock(mu_);
    if (stopped_) return absl::OkStatus();
    if (absl::Status status = FindPlace(*before, &mark); !status.ok()) return status;
    generation = generation_;
    options.start = taken_ + 1;
    place = place_;
  }
  if (mark.has_value()) Mark(*std::move(mark));
  options.stream = stream_->name();
  options.filter = subject_;
  auto consumer = Consumer::Create(
      connection_, options,
      [gate = gate_, this, generation](const StreamMessage& message) {
        gate->Run([&] { OnMessage(generation, message); });
      },
      [gate = gate_, this, generation](const absl::Status&) { gate->Run([&] { OnBroken(generation); }); },
      core_->CallDeadline(until));
  if (!consumer.ok()) return consumer.status();
  if (absl::Status status = CheckPlace(*before, place, **consumer, until); !status.ok()) return status;
  MutexLock lock(mu_);
  if (!stopped_) consumer_ = *std::move(consumer);
  lock.Unlock();
  return absl::OkStatus();
}

// Compares the place with what the stream holds. A mark if something is missing.
absl::Status NatsEventFeed::FindPlace(const NatsEventStreamState& state, std::optional<NatsInboxItem>* mark) {
  const bool same = state.incarnation == epoch_;
  const bool is_short = state.last < std::max(start_, taken_);
  if (same && is_short) {
    const absl::Time now = core_->runtime->Now();
    short_since_ = std::min(short_since_, now);
    if (now < short_since_ + kStaleLeader) {
      return absl::UnavailableError("the server does not know events that it had delivered already");
    }
  }
  if (!same || is_short) {
    epoch_ = state.incarnation;
    start_ = 0;
    taken_ = place_ = same ? state.last : state.first - 1;
    *mark = MakeMark(
        NatsInboxItem::Kind::kEpoch, place_,
        same ? "the server has forgotten events that it had stored: they may have been lost"
             : "the stream of events was lost or removed, and made anew: events may have been lost with the old one");
    (*mark)->epoch = epoch_;
  } else if (state.first > place_ + 1) {
    place_ = state.first - 1;
    *mark = Removed(place_);
  }
  short_since_ = absl::InfiniteFuture();
  return absl::OkStatus();
}

// Whether the stream lost something between the look at it and the making of the consumer, and whether the place can be
// moved on.
absl::Status NatsEventFeed::CheckPlace(const NatsEventStreamState& before, uint64_t place, const Consumer& consumer,
                                       absl::Time until) {
  bool quiet = false;
  if (before.last > place && consumer.initial_pending() == 0) {
    const absl::StatusOr<uint64_t> last = stream_->LastOn(subject_, core_->CallDeadline(until));
    if (!last.ok()) return last.status();
    quiet = *last <= place;
    MutexLock lock(mu_);
    if (!quiet && *last <= before.last && attempt_ < kLagAttempts) {
      return absl::UnavailableError("the consumer is on a replica that has not caught up with the stream's leader");
    }
  }
  const absl::StatusOr<NatsEventStreamState> after = stream_->Ensure(core_->CallDeadline(until));
  if (!after.ok()) return after.status();
  if (after->incarnation != before.incarnation || after->last < before.last) {
    return absl::UnavailableError("the stream of events was replaced just now");
  }
  if (quiet) place = before.last;
  const bool removed = after->first > place + 1;
  if (removed) place = after->first - 1;
  {
    MutexLock lock(mu_);
    place_ = std::max(place_, place);
  }
  if (removed) {
    Mark(Removed(place));
  } else if (quiet) {
    Mark(MakeMark(NatsInboxItem::Kind::kPlace, place));
  }
  return absl::OkStatus();
}

void NatsEventFeed::Mark(NatsInboxItem mark) {
  gate_->Run([&] { taker_.mark(std::move(mark)); });
}

void NatsEventFeed::OnMessage(uint64_t generation, const StreamMessage& message) {
  {
    MutexLock lock(mu_);
    if (stopped_ || full_ || generation != generation_ || message.sequence <= taken_) return;
  }
  // Nobody else takes: a consumer's callbacks come one at a time, and the next one is made after the last has ended.
  const bool taken = taker_.take(message);
  {
    MutexLock lock(mu_);
    if (taken) {
      taken_ = std::max(taken_, message.sequence);
      place_ = std::max(place_, taken_);
      return;
    }
    full_ = true;
    Restart(absl::ZeroDuration());  // ends the consumer
  }
  taker_.stopped();
}

void NatsEventFeed::OnBroken(uint64_t generation) {
  MutexLock lock(mu_);
  if (generation == generation_) Restart(std::max(kLeastPause, RetryDelay(*core_->runtime, attempt_++)));
}

void NatsEventFeed::Resume() {
  MutexLock lock(mu_);
  if (!std::exchange(full_, false)) return;
  Restart(absl::ZeroDuration());
}

void NatsEventFeed::Check(const NatsEventStreamState& state) {
  MutexLock lock(mu_);
  if (full_) return;
  const uint64_t held = state.last + 1 - state.first;
  const bool behind = place_ < state.last && place_ + 1 < state.first + held / 2;
  if (behind || state.incarnation != epoch_) Restart(absl::ZeroDuration());
}

void NatsEventFeed::Stop() {
  std::shared_ptr<Consumer> last;
  {
    MutexLock lock(mu_);
    stopped_ = true;
    ++generation_;
    last = std::move(consumer_);
  }
  gate_->Cancel();
  // Its end is told to the server, which may take a moment that nobody here need wait for.
  if (last != nullptr) worker_->Post(core_->runtime->Now(), [last = std::move(last)]() mutable { last.reset(); });
}

}  // namespace coord::internal
