// What events leave in a store: their keys, the envelope around a payload, the place of a subscriber that may go away,
// and how far a topic was trimmed.
//
//   <plugin>/event/<topic>/<publisher>-<number>   a reliable event; the number has 20 digits and counts from 1
//   <plugin>/event/<topic>/<publisher>~<number>   a best-effort event, removed by its publisher after a few seconds
//   <plugin>/event/<topic>/floor                  how far the topic was trimmed
//   <plugin>/ask/<topic>/<publisher>~<number>     a question
//   <plugin>/reply/<bus>/<publisher>~<number>     an answer to a question of that bus
//   <plugin>/cursor/<topic>/<name>                a subscriber's place
//
// A bus is 16 random hex digits, a publisher a bus and 8 more digits that count its incarnations.

#ifndef COORD_INTERNAL_EVENT_RECORD_H_
#define COORD_INTERNAL_EVENT_RECORD_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coord::internal {

inline constexpr size_t kEventBusIdBytes = 16;
inline constexpr size_t kEventPublisherBytes = 24;
// What an envelope adds to a payload, at most.
inline constexpr size_t kMaxEventHeaderBytes = 2048;
inline constexpr std::string_view kEventFloorName = "floor";

// The last level of an event's key.
struct EventKey {
  std::string publisher;
  uint64_t number = 0;
  bool reliable = false;
};
std::string Format(const EventKey& key);
// Nothing for what Format never makes.
std::optional<EventKey> ParseEventKey(std::string_view name);

// 16 lower-case hex digits.
bool IsEventBusId(std::string_view id);

// An event as stored: a header line of JSON and, after its newline, the payload as it is.
//   {"v":"1.0","w":nonce,"from":label,"to":label,"at_us":1,"reply":bus,"ask":1}
// "to", "reply" and "ask" are left out where they are empty. Fields of a newer minor are ignored: nobody rewrites an
// event.
struct EventEnvelope {
  std::string nonce;
  std::string from;
  std::string to;        // empty: for all
  absl::Time at;         // the publisher's wall clock
  std::string reply_to;  // questions: the bus that waits for answers
  uint64_t ask = 0;      // questions and answers: which of that bus's questions
  std::string payload;
};

// {"v":"1.0","w":nonce,"epoch":id,"revision":1}: events of the topic up to this revision may be gone. It is raised
// before they are deleted, and its key sorts behind those of all events: a listing that misses one of them, in whatever
// order it was read, shows the floor that says so.
struct EventFloor {
  std::string epoch;  // the store's incarnation that `revision` belongs to
  uint64_t revision = 0;
  std::string nonce;
  std::string extra;  // fields of a newer minor: a JSON object, or empty
};

// {"v":"1.0","w":nonce,"epoch":id,"revision":1,"last":{publisher:number...},"at_us":1,"expired":true}
struct EventCursor {
  std::string nonce;
  std::string epoch;                     // the store's incarnation that `revision` belongs to
  uint64_t revision = 0;                 // all events up to it were delivered; 0: the revision of this very entry
  std::map<std::string, uint64_t> last;  // the last delivered number of some publishers
  absl::Time at;                         // wall clock of the last write
  bool expired = false;  // forgotten, for it was not used for long: left as a mark, so that its owner learns of the gap
  std::string extra;     // fields of a newer minor: a JSON object, or empty
};

// `what` names the record in errors. DataLoss for what cannot be parsed, FailedPrecondition for a newer major.
absl::StatusOr<EventEnvelope> ParseEventEnvelope(std::string_view text, std::string_view what);
absl::StatusOr<EventFloor> ParseEventFloor(std::string_view text, std::string_view what);
absl::StatusOr<EventCursor> ParseEventCursor(std::string_view text, std::string_view what);
// Never fails: what is not UTF-8 in a label gets U+FFFD.
std::string Format(const EventEnvelope& envelope);
std::string Format(const EventFloor& floor);
std::string Format(const EventCursor& cursor);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_RECORD_H_
