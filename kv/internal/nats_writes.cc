#include "kv/internal/nats_writes.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/internal/nats_keys.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

// A Create that finds a marker, and then another one, gives up for now.
constexpr int kMaxTries = 10;

// A conflicting write is still under way: its outcome shows soon.
constexpr auto kPause = std::chrono::milliseconds(2);

std::string Text(const absl::Status& status) { return std::string(status.message()); }

absl::Status NotApplied(std::string_view why) {
  return absl::UnavailableError(absl::StrCat("nats: write: not applied: ", std::string(why)));
}

WriteResult Failed(absl::Status status) { return {std::move(status), 0, std::nullopt}; }

uint64_t AnyNumber() {
  std::random_device random;
  return static_cast<uint64_t>(random()) << 32 | random();
}

}  // namespace

NatsWrites::NatsWrites(std::shared_ptr<NatsConnection> connection, const Parts& parts)
    : connection_(std::move(connection)),
      bucket_(*parts.bucket),
      gate_(*parts.gate),
      deletes_(*parts.deletes),
      mirror_(*parts.mirror),
      reads_(*parts.reads),
      id_(AnyNumber()) {}

// What is there after a conflict; `number` is the sequence that the server named.
absl::StatusOr<NatsPresent> NatsWrites::Resolve(std::string_view key, std::optional<Revision> number,
                                                SteadyTime deadline) {
  if (number.has_value()) {
    NatsPresent present;
    if (*number == 0) return present;
    if (deletes_.IsDead(key, *number)) {
      present.marker = *number;
      return present;
    }
    // What has this very revision is what the server meant, however old the copy is.
    present.entry = mirror_.Find(key);
    if (present.entry.has_value() && present.entry->revision == *number) return present;
  }
  while (true) {
    absl::StatusOr<NatsPresent> present = reads_.Read(key, deadline);
    if (!present.ok()) return NotApplied(absl::StrCat("the key has changed; ", Text(present.status())));
    // Read from a leader that is behind the one that answered before.
    const Revision read = present->entry.has_value() ? present->entry->revision : present->marker;
    if (read == 0 || read >= number.value_or(0)) return present;
    if (steady_clock::now() >= deadline) return NotApplied("the key has changed; the leader is behind");
    std::this_thread::sleep_for(kPause);
  }
}

// The result of a write that expected another entry than there is.
WriteResult NatsWrites::Lost(std::string_view key, Revision expected, std::optional<Revision> number,
                             SteadyTime deadline) {
  absl::StatusOr<NatsPresent> present = Resolve(key, number, deadline);
  if (!present.ok()) return Failed(present.status());
  if (!present->entry.has_value()) return {absl::NotFoundError("nats: no such key"), present->marker, std::nullopt};
  WriteResult result;
  const Revision revision = present->entry->revision;
  result.status = absl::AbortedError(absl::StrCat("nats: the key is at revision ", revision));
  // Where a write over the same entry is still under way, that entry is not the winner.
  if (revision != expected) {
    result.current = std::move(present->entry);
  } else if (OneAtATime()) {
    gate_.Suspect();  // or the stream ends before what was seen of it
  }
  return result;
}

WriteResult NatsWrites::Change(const Publish& publish, SteadyTime deadline) {
  // A marker's revision is not that of an entry. And what has been deleted is not written to again, also where a server
  // has brought it back.
  if (deletes_.IsDead(publish.key, *publish.expected)) {
    return Lost(publish.key, *publish.expected, std::nullopt, deadline);
  }
  const Outcome outcome = Send(publish, deadline);
  if (absl::IsAborted(outcome.status)) return Lost(publish.key, *publish.expected, outcome.present, deadline);
  if (outcome.status.ok() && publish.marker) {
    deletes_.Deleted(outcome.incarnation, publish.key, outcome.revision, /*own=*/true, steady_clock::now());
  }
  return {outcome.status, outcome.revision, std::nullopt};
}

WriteResult NatsWrites::Update(std::string_view key, std::string_view value, Revision expected, SteadyTime deadline) {
  return Change({key, value, expected, false}, deadline);
}

WriteResult NatsWrites::Delete(std::string_view key, Revision expected, SteadyTime deadline) {
  return Change({key, "", expected, true}, deadline);
}

// What a write that is to find nothing must expect where this marker stands.
absl::StatusOr<Revision> NatsWrites::ClearTheWay(Revision marker, SteadyTime deadline) {
  if (marker == 0 || !OneAtATime()) return marker;
  const absl::StatusOr<NatsGate::Pass> pass = gate_.Enter(deadline);
  if (!pass.ok()) return pass.status();
  // In a bucket that was made anew meanwhile the sequence is somebody else's.
  if (absl::Status same = gate_.Check(*pass, deadline); !same.ok()) return NotApplied(Text(same));
  const absl::StatusOr<NatsMessage> answer =
      connection_->Request(bucket_.Api("MSG.DELETE"), DeleteMessageRequest(marker), {}, WallTime(deadline));
  if (!answer.ok()) {
    gate_.Suspect();
    return NotApplied(Text(answer.status()));
  }
  return Revision{0};
}

WriteResult NatsWrites::Create(std::string_view key, std::string_view value, SteadyTime deadline) {
  Revision marker = deletes_.FindStanding(key).value_or(0);
  for (int tries = 1; tries <= kMaxTries; ++tries) {
    const absl::StatusOr<Revision> expected = ClearTheWay(marker, deadline);
    if (!expected.ok()) return Failed(expected.status());
    const Outcome outcome = Send({key, value, *expected, false}, deadline);
    if (outcome.status.ok()) deletes_.Written(outcome.incarnation, key, outcome.revision);
    if (!absl::IsAborted(outcome.status)) return {outcome.status, outcome.revision, std::nullopt};
    absl::StatusOr<NatsPresent> present = Resolve(key, outcome.present, deadline);
    if (!present.ok()) return Failed(present.status());
    if (present->entry.has_value()) {
      return {absl::AlreadyExistsError("nats: the key exists"), 0, std::move(present->entry)};
    }
    marker = present->marker;
    if (OneAtATime()) gate_.Suspect();
    if (!outcome.present.has_value()) std::this_thread::sleep_for(kPause);
  }
  return Failed(NotApplied("the key is written and deleted over and over"));
}

WriteResult NatsWrites::Put(std::string_view key, std::string_view value, SteadyTime deadline) {
  if (!bucket_.replicated()) {
    const Outcome outcome = Send({key, value, std::nullopt, false}, deadline);
    if (outcome.status.ok()) deletes_.Written(outcome.incarnation, key, outcome.revision);
    return {outcome.status, outcome.revision, std::nullopt};
  }
  NatsPresent present;
  present.entry = mirror_.Find(key);
  if (!present.entry.has_value()) present.marker = deletes_.FindStanding(key).value_or(0);
  while (true) {
    const absl::StatusOr<Revision> expected =
        present.entry.has_value() ? present.entry->revision : ClearTheWay(present.marker, deadline);
    if (!expected.ok()) return Failed(expected.status());
    const Outcome outcome = Send({key, value, *expected, false}, deadline);
    if (outcome.status.ok()) deletes_.Written(outcome.incarnation, key, outcome.revision);
    if (!absl::IsAborted(outcome.status)) return {outcome.status, outcome.revision, std::nullopt};
    if (steady_clock::now() >= deadline) return Failed(NotApplied("others wrote the key in every try"));
    absl::StatusOr<NatsPresent> now = Resolve(key, outcome.present, deadline);
    if (!now.ok()) return Failed(now.status());
    present = *std::move(now);
    if (!outcome.present.has_value()) std::this_thread::sleep_for(kPause);
  }
}

}  // namespace kv::internal
