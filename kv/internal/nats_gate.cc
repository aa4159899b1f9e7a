#include "kv/internal/nats_gate.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

// A request that comes while the stream has no leader is not answered, also when it has one again: so it is sent anew,
// the next time with more patience, for the server may just be slow.
constexpr auto kAttempt = std::chrono::milliseconds(1000);
constexpr auto kMaxAttempt = std::chrono::milliseconds(8000);

// A leader that was cut off from the others may answer for so long, and a new one for a moment show a state that is
// behind what was agreed on. Neither has forgotten anything.
constexpr auto kLongestBehind = std::chrono::seconds(12);
constexpr auto kPause = std::chrono::milliseconds(50);

}  // namespace

NatsGate::NatsGate(std::shared_ptr<NatsConnection> connection, const NatsBucket* bucket, const NatsStreamInfo& found,
                   uint64_t generation, std::function<void(uint64_t)> on_change)
    : connection_(std::move(connection)),
      bucket_(*bucket),
      on_change_(std::move(on_change)),
      highest_(found.last_sequence),
      identity_(found.incarnation),
      seen_generation_(generation) {}

bool NatsGate::OpenLocked() const {
  return seen_generation_ == connection_->generation() && seen_suspicions_ == suspicions_.load();
}

NatsGate::Pass NatsGate::PassLocked() const { return {seen_generation_, incarnation_.load(), highest_.load()}; }

bool NatsGate::closed() const {
  MutexLock lock(mutex_);
  return !OpenLocked();
}

absl::StatusOr<NatsGate::Pass> NatsGate::Enter(SteadyTime deadline) {
  MutexLock lock(mutex_);
  while (!OpenLocked()) {
    if (looking_) {
      const uint64_t before = looks_;
      while (looking_ && looks_ == before && looked_.WaitUntil(mutex_, deadline)) {
      }
      if (looks_ == before) {
        return absl::UnavailableError(
            absl::StrCat("nats: the stream ", bucket_.stream(), " could not be looked at in time; nothing was sent"));
      }
      // Whoever looked may have had less time than we have.
      if (!last_look_.ok() && !absl::IsDeadlineExceeded(last_look_)) return last_look_;
      continue;
    }
    looking_ = true;
    lock.Unlock();
    const absl::Status status = Look(deadline);
    lock.Lock();
    looking_ = false;
    ++looks_;
    last_look_ = status;
    looked_.NotifyAll();
    if (absl::IsDeadlineExceeded(status)) return absl::UnavailableError(std::string(status.message()));
    if (!status.ok()) return status;
    break;  // whatever is suspected by now was not when this call began
  }
  return PassLocked();
}

absl::Status NatsGate::Confirm(const Pass& pass, Revision revision, SteadyTime deadline) {
  // A sequence that was there before cannot be given to a write, but by a bucket that has forgotten it.
  if (revision != 0 && revision <= pass.highest) Suspect();
  const bool whole = connection_->generation() == pass.generation;
  if (!whole || (revision != 0 && revision <= pass.highest)) {
    const absl::StatusOr<Pass> now = Enter(deadline);
    if (!now.ok()) return now.status();
  }
  if (incarnation_.load() != pass.incarnation) {
    return absl::AbortedError(absl::StrCat("nats: the bucket ", bucket_.options().bucket, " was made anew meanwhile"));
  }
  if (revision != 0) Saw(pass.incarnation, revision);
  return absl::OkStatus();
}

void NatsGate::Suspect() { suspicions_.fetch_add(1); }

absl::Status NatsGate::Check(const Pass& pass, SteadyTime deadline) {
  const absl::StatusOr<NatsStreamInfo> info = LookAtStream(*connection_, bucket_, deadline);
  if (!info.ok()) return info.status();
  MutexLock lock(mutex_);
  const bool behind = info->last_sequence < pass.highest && !MayBeBehind(info->last_sequence, pass.highest);
  if (incarnation_.load() == pass.incarnation && info->incarnation == identity_ && !behind) return absl::OkStatus();
  Suspect();
  return absl::AbortedError(absl::StrCat("nats: the bucket ", bucket_.options().bucket, " may have been made anew"));
}

void NatsGate::Saw(uint64_t incarnation, Revision revision) {
  if (incarnation != incarnation_.load()) return;
  Revision highest = highest_.load();
  while (highest < revision && !highest_.compare_exchange_weak(highest, revision)) {
  }
}

absl::Status NatsGate::Look(SteadyTime deadline) {
  auto patience = kAttempt;
  while (true) {
    bool again = false;
    const SteadyTime attempt = std::min(deadline, steady_clock::now() + patience);
    absl::Status status = LookOnce(attempt, &again);
    if (!again) return status;
    if (absl::IsDeadlineExceeded(status)) patience = std::min(2 * patience, kMaxAttempt);
    if (steady_clock::now() + kPause >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("nats: the stream ", bucket_.stream(),
                       " could not be looked at in time; nothing was sent: ", std::string(status.message())));
    }
    std::this_thread::sleep_for(kPause);
  }
}

absl::Status NatsGate::LookOnce(SteadyTime deadline, bool* again) {
  const uint64_t generation = connection_->generation();
  const uint64_t suspicions = suspicions_.load();
  const Revision highest = highest_.load();
  const std::string version = connection_->server_version();
  *again = version.empty();
  if (*again) return absl::UnavailableError("the version of the server is not known yet");
  absl::Status fit = CheckNatsVersion(version, bucket_.options().replicas);
  if (!fit.ok()) return fit;
  const absl::StatusOr<NatsStreamInfo> info = EnsureStream(*connection_, bucket_, deadline);
  // NotFound: made, and lost again before it could be seen.
  *again = absl::IsDeadlineExceeded(info.status()) || absl::IsNotFound(info.status());
  if (!info.ok()) return info.status();
  *again = connection_->generation() != generation;
  if (*again) return absl::UnavailableError("the connection was lost");
  MutexLock lock(mutex_);
  const bool remade = info->incarnation != identity_;
  const bool behind = info->last_sequence < highest;
  if (!remade && behind) {
    ++behind_;
    *again = MayCatchUpLocked(info->last_sequence, highest);
    if (*again) return absl::UnavailableError("its leader is behind");
  }
  behind_since_.reset();
  if (remade || behind) {
    identity_ = info->incarnation;
    highest_ = info->last_sequence;
    const uint64_t next = incarnation_.fetch_add(1) + 1;
    lock.Unlock();
    on_change_(next);
    lock.Lock();
  } else {
    Saw(incarnation_.load(), info->last_sequence);
  }
  seen_generation_ = generation;
  seen_suspicions_ = suspicions;
  return absl::OkStatus();
}

// With replicas a leader may be, and says so even of what it has not applied yet. In memory it may have begun anew, far
// behind, unless it is new altogether, where little is lost by a false alarm.
bool NatsGate::MayBeBehind(Revision last, Revision highest) const {
  return bucket_.replicated() && (bucket_.options().file_storage || last >= highest / 2);
}

bool NatsGate::MayCatchUpLocked(Revision last, Revision highest) {
  if (!MayBeBehind(last, highest)) return false;
  const SteadyTime now = steady_clock::now();
  if (!behind_since_.has_value()) behind_since_ = now;
  return now < *behind_since_ + kLongestBehind;
}

}  // namespace kv::internal
