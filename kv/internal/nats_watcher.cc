#include "kv/internal/nats_watcher.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace kv::internal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kMinBackoff(20);
constexpr milliseconds kMaxBackoff(2000);

// A consumer that is loading and sends nothing for so long waits for messages that were removed meanwhile: another one
// knows how many there are.
constexpr milliseconds kMaxSilence(1000);
constexpr milliseconds kProgressPeriod(250);

// What this process has seen of the bucket is to be in the copy so soon. Well above what a busy server takes.
constexpr milliseconds kLongestLag(1500);
constexpr milliseconds kLagPeriod(500);

}  // namespace

NatsWatcher::NatsWatcher(std::shared_ptr<NatsConnection> connection, const NatsBucket* bucket, NatsGate* gate,
                         NatsMirror* mirror, std::function<void()> wake)
    : connection_(std::move(connection)),
      bucket_(*bucket),
      gate_(*gate),
      mirror_(*mirror),
      wake_(std::move(wake)),
      backoff_(kMinBackoff) {}

void NatsWatcher::Hurry() {
  hurry_ = true;
  wake_();
}

SteadyTime NatsWatcher::Step() {
  SteadyTime now = steady_clock::now();
  // Another incarnation was found, which this consumer may not know of.
  if (consumer_ != nullptr && !mirror_.Takes(load_)) broken_load_ = load_;
  if (consumer_ != nullptr && broken_load_ != load_) {
    CheckProgress(now);
    if (broken_load_ != load_) return now + (mirror_.Loading().has_value() ? kProgressPeriod : kLagPeriod);
  }
  if (consumer_ != nullptr) {
    consumer_.reset();
    mirror_.Broken(load_);
  }
  if (hurry_.exchange(false)) retry_at_ = now;
  if (now < retry_at_) return retry_at_;
  if (Attempt().ok()) return now + kProgressPeriod;
  // Where many copies lost the same server they do not all come back in the same moment.
  now = steady_clock::now();
  backoff_ = std::min(2 * backoff_, kMaxBackoff);
  retry_at_ = now + backoff_ / 2 + milliseconds(random_() % (backoff_.count() / 2 + 1));
  return retry_at_;
}

void NatsWatcher::CheckProgress(SteadyTime now) {
  const std::optional<uint64_t> messages = mirror_.Loading();
  if (!messages.has_value()) {
    backoff_ = kMinBackoff;
    CheckLag(now);
  } else if (*messages != messages_) {
    messages_ = *messages;
    progress_at_ = now;
  } else if (now - progress_at_ > kMaxSilence) {
    broken_load_ = load_;
  }
}

void NatsWatcher::CheckLag(SteadyTime now) {
  if (mirror_.reached() >= seen_) {
    seen_ = gate_.highest();
    seen_at_ = now;
  } else if (now - seen_at_ > kLongestLag) {
    broken_load_ = load_;
  }
}

absl::Status NatsWatcher::Attempt() {
  const SteadyTime deadline = steady_clock::now() + kStepLimit;
  const absl::StatusOr<NatsGate::Pass> pass = gate_.Enter(deadline);
  if (!pass.ok()) return pass.status();
  const uint64_t load = mirror_.BeginLoad(pass->incarnation, pass->highest);
  load_ = load;
  messages_ = 0;
  seen_ = 0;
  progress_at_ = steady_clock::now();
  NatsConsumerOptions options;
  options.stream = bucket_.stream();
  options.filter = bucket_.Filter("");
  auto consumer = NatsConsumer::Create(
      connection_, options,
      [this, load, incarnation = pass->incarnation](StreamMessage message) {
        OnMessage(incarnation, load, std::move(message));
      },
      [this, load](const absl::Status&) {
        broken_load_ = load;
        // Its stream may have gone.
        gate_.Suspect();
        wake_();
      },
      WallTime(deadline));
  // Which incarnation does it read? The one that is there now that it has been made.
  gate_.Suspect();
  absl::Status status = consumer.status();
  absl::StatusOr<NatsGate::Pass> now = gate_.Enter(deadline);
  status.Update(now.status());
  if (status.ok() && now->incarnation != pass->incarnation) status = absl::AbortedError("another incarnation");
  if (!status.ok()) {
    mirror_.Broken(load);
    return status;
  }
  consumer_ = *std::move(consumer);
  mirror_.Expect(load, consumer_->initial_pending());
  return absl::OkStatus();
}

void NatsWatcher::OnMessage(uint64_t incarnation, uint64_t load, StreamMessage message) {
  gate_.Saw(incarnation, message.sequence);
  const bool last = message.pending == 0;
  std::optional<std::string> key = bucket_.KeyOf(message.message.subject());
  bool in_order;
  if (key.has_value()) {
    NatsMirror::Change change;
    change.key = *std::move(key);
    change.revision = message.sequence;
    change.marker = IsMarker(message.message);
    if (!change.marker) change.value = std::string(message.message.data());
    in_order = mirror_.Apply(load, std::move(change), last);
  } else {
    in_order = mirror_.Skip(load, message.sequence, last);
  }
  if (in_order) return;
  broken_load_ = load;
  wake_();
}

}  // namespace kv::internal
