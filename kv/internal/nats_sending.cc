// NatsWrites::Send: one write, as often as it takes to know what became of it.

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/internal/nats_keys.h"
#include "kv/internal/nats_writes.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

// Between two looks for a leader that does not know that there is another one.
constexpr auto kLeaderPause = std::chrono::milliseconds(50);

// Of many that write at a time some give way.
constexpr int kTriesAtOnce = 3;
std::chrono::microseconds AnyPause() {
  static thread_local std::minstd_rand random{std::random_device()()};
  return std::chrono::microseconds(random() % 2000);
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

absl::Status Unknown(std::string_view why) {
  return absl::DeadlineExceededError(
      absl::StrCat("nats: write: ", std::string(why), "; whether it was applied is not known"));
}

absl::Status NotApplied(std::string_view why) {
  return absl::UnavailableError(absl::StrCat("nats: write: not applied: ", std::string(why)));
}

}  // namespace

std::string NatsWrites::NewId() { return absl::StrCat(absl::Hex(id_, absl::kZeroPad16), "-", ++writes_); }

NatsHeaders NatsWrites::Headers(const Publish& publish, const Extras& extras) {
  NatsHeaders headers;
  if (extras.last.has_value()) headers.emplace_back(kExpectedLast, absl::StrCat(*extras.last));
  if (publish.expected.has_value()) headers.emplace_back(kExpectedSequence, absl::StrCat(*publish.expected));
  if (!extras.id.empty()) headers.emplace_back(kMessageId, extras.id);
  if (publish.marker) headers.emplace_back(kOperation, kOperationDelete);
  return headers;
}

NatsWrites::Servers NatsWrites::servers() const {
  if (!bucket_.replicated()) return Servers::kOne;
  const std::vector<std::string> versions = connection_->server_versions();
  const auto compares = [](const std::string& version) { return ComparesWhenApplied(version); };
  const auto ignores = [&](const std::string& version) { return !version.empty() && !compares(version); };
  if (std::all_of(versions.begin(), versions.end(), compares)) return Servers::kCompare;
  return std::all_of(versions.begin(), versions.end(), ignores) ? Servers::kIgnore : Servers::kMixed;
}

NatsWrites::Outcome NatsWrites::Send(const Publish& publish, SteadyTime deadline) {
  switch (servers()) {
    case Servers::kOne:
      return SendOnce(publish, Extras(), deadline);
    case Servers::kCompare:
      return SendUntilSettled(publish, deadline);
    case Servers::kIgnore:
      return SendInLine(publish, /*mixed=*/false, deadline);
    case Servers::kMixed:
      return SendInLine(publish, /*mixed=*/true, deadline);
  }
  return {absl::InternalError("nats: no such kind of servers"), 0, std::nullopt, 0};
}

NatsWrites::Outcome NatsWrites::SendUntilSettled(const Publish& publish, SteadyTime deadline) {
  Extras extras;
  extras.id = NewId();
  extras.own_id = true;
  for (int tries = 1;; ++tries) {
    Outcome outcome = SendOnce(publish, extras, deadline);
    const bool conflict = absl::IsAborted(outcome.status);
    // Whatever becomes of a repetition, the first one may be applied yet.
    if (!conflict && !outcome.status.ok() && tries > 1) outcome.status = Unknown(Text(outcome.status));
    if (!conflict) return outcome;
    if (outcome.present.has_value()) return SettleNumbered(publish, outcome, deadline);
    std::this_thread::sleep_for(AnyPause());
    if (steady_clock::now() >= deadline) {
      outcome.status = Unknown(Text(outcome.status));
      return outcome;
    }
  }
}

NatsWrites::Outcome NatsWrites::SendInLine(const Publish& publish, bool mixed, SteadyTime deadline) {
  Extras extras;
  if (publish.expected.value_or(0) != 0) extras.id = absl::StrCat(EncodeKey(publish.key), "@", *publish.expected);
  for (int tries = 1;; ++tries) {
    const Revision last = gate_.highest();
    extras.last = last;
    Outcome outcome = SendOnce(publish, extras, deadline);
    // The sequence of another entry under this key, or of the stream's end. The former is told again, and is then not
    // beyond that end any more.
    const bool numbered = absl::IsAborted(outcome.status) && outcome.present.has_value();
    if (numbered && *outcome.present < publish.expected.value_or(0)) return SettleNumbered(publish, outcome, deadline);
    const bool moved = numbered && *outcome.present > last;
    // Of a later server a refusal without a number need not be one, and so a duplicate may be this very write.
    if (mixed && absl::IsAborted(outcome.status) && !numbered) outcome.status = Unknown(Text(outcome.status));
    if (!moved) return outcome;
    gate_.Saw(outcome.incarnation, *outcome.present);
    if (steady_clock::now() >= deadline) {
      return {NotApplied("others wrote to the bucket in every try"), 0, std::nullopt, outcome.incarnation};
    }
    if (tries >= kTriesAtOnce) std::this_thread::sleep_for(AnyPause());
  }
}

// Of a write that was refused with a sequence. One above the expected one is to be believed. An older one is true where
// the entry was deleted and its marker removed, or has never been. Where there is a sign of a leader that does not know
// that there is another one, what is there now may have come after this write. (It is not sent again: 2.10 keeps the id
// of what it has refused as that of a write under way.)
NatsWrites::Outcome NatsWrites::SettleNumbered(const Publish& publish, const Outcome& refused, SteadyTime deadline) {
  const Revision expected = publish.expected.value_or(0);
  if (*refused.present >= expected) return refused;
  const uint64_t behind = gate_.behind();
  absl::Status status = AwaitLeader(refused.incarnation, deadline);
  std::this_thread::sleep_for(kLeaderPause);
  if (status.ok()) status = AwaitLeader(refused.incarnation, deadline);
  if (status.ok() && gate_.behind() == behind) return refused;
  if (status.ok()) {
    const absl::StatusOr<NatsPresent> present = reads_.Read(publish.key, deadline);
    const bool beyond = !present.ok() || (present->entry.has_value() && present->entry->revision >= expected);
    if (!beyond) return refused;
    status = Unknown("it was refused by a leader that was not one any more");
  }
  return {status, 0, std::nullopt, refused.incarnation};
}

// Ok: a look has found a leader that knows all that was seen of this incarnation of the bucket.
absl::Status NatsWrites::AwaitLeader(uint64_t incarnation, SteadyTime deadline) {
  gate_.Suspect();
  const absl::StatusOr<NatsGate::Pass> looked = gate_.Enter(deadline);
  if (!looked.ok()) return Unknown(Text(looked.status()));
  if (looked->incarnation != incarnation) return Unknown("the bucket was made anew meanwhile");
  return absl::OkStatus();
}

NatsWrites::Outcome NatsWrites::SendOnce(const Publish& publish, const Extras& extras, SteadyTime deadline) {
  const absl::StatusOr<NatsGate::Pass> pass = gate_.Enter(deadline);
  if (!pass.ok()) return {pass.status(), 0, std::nullopt, 0};
  if (steady_clock::now() >= deadline) {
    return {NotApplied("the deadline passed before it was sent"), 0, std::nullopt, pass->incarnation};
  }
  const absl::StatusOr<NatsMessage> answer =
      connection_->Request(bucket_.Subject(publish.key), publish.value, Headers(publish, extras), WallTime(deadline));
  if (!answer.ok()) {
    // Nobody listens where the stream has gone, or has no leader at present.
    gate_.Suspect();
    return {absl::Status(answer.status().code(), absl::StrCat("nats: write: ", Text(answer.status()))), 0, std::nullopt,
            pass->incarnation};
  }
  const absl::StatusOr<NatsPublished> published = ParsePublished(answer->data());
  if (!published.ok()) return {Unknown(Text(published.status())), 0, std::nullopt, pass->incarnation};
  Outcome outcome = Interpret(*published, extras, *pass, deadline);
  outcome.incarnation = pass->incarnation;
  return outcome;
}

NatsWrites::Outcome NatsWrites::Interpret(const NatsPublished& published, const Extras& extras,
                                          const NatsGate::Pass& pass, SteadyTime deadline) {
  // A duplicate that is still under way has no sequence yet.
  const bool own_duplicate = extras.own_id && published.sequence != 0;
  const bool applied = !published.error.has_value() && (!published.duplicate || own_duplicate);
  const absl::Status same = gate_.Confirm(pass, applied ? published.sequence : 0, deadline);
  // An answer of a bucket that nobody knows. The expected revision was not meant for it.
  if (!same.ok()) return {applied ? Unknown(Text(same)) : NotApplied(Text(same)), 0, std::nullopt, 0};
  if (applied) return {absl::OkStatus(), published.sequence, std::nullopt, 0};
  // With an id of its own: it is under way. Else another one over the same entry came first.
  if (published.duplicate) return {absl::AbortedError("nats: write: another write came first"), 0, std::nullopt, 0};
  const absl::Status status = ToStatus(*published.error, "write");
  if (absl::IsAborted(status)) return {status, 0, published.present, 0};
  if (absl::IsUnavailable(status) || absl::IsNotFound(status)) {
    gate_.Suspect();
    return {NotApplied(Text(status)), 0, std::nullopt, 0};
  }
  return {status, 0, std::nullopt, 0};
}

}  // namespace kv::internal
