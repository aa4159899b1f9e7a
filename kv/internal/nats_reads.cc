#include "kv/internal/nats_reads.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

// What is asked while the stream has no leader is not answered, also when it has one again: so it is asked anew, each
// time with more patience, for the server may just be slow.
constexpr auto kAttempt = std::chrono::milliseconds(1000);
constexpr auto kPause = std::chrono::milliseconds(20);

}  // namespace

NatsReads::NatsReads(std::shared_ptr<NatsConnection> connection, const NatsBucket* bucket, NatsGate* gate,
                     NatsDeletes* deletes, std::function<void(const std::string&, Revision)> on_dead)
    : connection_(std::move(connection)),
      bucket_(*bucket),
      gate_(*gate),
      deletes_(*deletes),
      on_dead_(std::move(on_dead)) {}

absl::StatusOr<NatsPresent> NatsReads::Read(std::string_view key, SteadyTime deadline) {
  for (int lost = 0;;) {
    const absl::StatusOr<NatsGate::Pass> pass = gate_.Enter(deadline);
    if (!pass.ok()) return pass.status();
    absl::StatusOr<NatsPresent> present =
        Understand(key, *pass, Ask("MSG.GET", LastOnSubjectRequest(bucket_.Subject(key)), "read", deadline));
    const absl::Status same = gate_.Confirm(*pass, 0, deadline);
    if (present.ok() && same.ok()) return present;
    // One that began before the stream was lost, or found it lost, reads the one that is made now.
    if (absl::IsAborted(same) || absl::IsNotFound(present.status())) {
      if (++lost < 3) continue;
      return absl::UnavailableError(
          absl::StrCat("nats: read: the stream ", bucket_.stream(), " is lost over and over"));
    }
    return present.ok() ? same : present.status();
  }
}

// NotFound: the stream is.
absl::StatusOr<NatsPresent> NatsReads::Understand(std::string_view key, const NatsGate::Pass& pass,
                                                  const absl::StatusOr<NatsMessage>& answer) {
  if (!answer.ok()) return answer.status();
  absl::StatusOr<NatsStored> stored = ParseStored(answer->data());
  if (!stored.ok()) return stored.status();
  NatsPresent present;
  if (stored->error.has_value()) {
    if (stored->error->err_code == kErrNoMessage) return present;
    return Failed(ToStatus(*stored->error, "read"));
  }
  gate_.Saw(pass.incarnation, stored->sequence);
  if (stored->marker) {
    deletes_.Deleted(pass.incarnation, key, stored->sequence, /*own=*/false, steady_clock::now());
    present.marker = stored->sequence;
  } else if (deletes_.IsDead(key, stored->sequence)) {
    on_dead_(std::string(key), stored->sequence);
    present.marker = stored->sequence;
  } else {
    present.entry = Entry{std::move(stored->value), stored->sequence, std::nullopt};
  }
  return present;
}

absl::StatusOr<NatsMessage> NatsReads::Ask(const char* request, const std::string& body, const char* what,
                                           SteadyTime deadline) {
  for (auto patience = kAttempt;; patience *= 2) {
    const SteadyTime attempt = deadline - steady_clock::now() < patience ? deadline : steady_clock::now() + patience;
    absl::StatusOr<NatsMessage> answer = connection_->Request(bucket_.Api(request), body, {}, WallTime(attempt));
    if (answer.ok()) return answer;
    const absl::Status status = Failed(absl::Status(
        answer.status().code(), absl::StrCat("nats: ", what, ": ", std::string(answer.status().message()))));
    // Where the connection was lost there is nobody to ask, and after that maybe another bucket.
    const bool again = absl::IsDeadlineExceeded(status) && connection_->state() == NatsState::kConnected;
    if (!again || steady_clock::now() + kPause >= deadline) return status;
    std::this_thread::sleep_for(kPause);
  }
}

// The stream may have gone: the next call looks.
absl::Status NatsReads::Failed(absl::Status status) {
  gate_.Suspect();
  return status;
}

}  // namespace kv::internal
