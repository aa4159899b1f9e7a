// What events look like on NATS: subjects and headers. The data of a message is the payload as it is.
//
//   coord.<space>.b.<plugin>.<topic>.all          best-effort events
//   coord.<space>.b.<plugin>.<topic>.to.<label>   those for the copies with this label alone
//   coord.<space>.q.<plugin>.<topic>.all          questions; the answers go to the message's reply subject
//   coord.<space>.q.<plugin>.<topic>.to.<label>
//   coord.<space>.r.<plugin>.<topic>              reliable events, for whomever: all have their numbers
//   coord.<space>.h.<plugin>                      hints of stores; the data is the key
//
// Names are escaped, one token each. Headers, the values escaped likewise; unknown ones are ignored:
//
//   Coord-V   1.0
//   Coord-Bus    the bus that published it: 16 hex digits
//   Coord-From   the publisher's label
//   Coord-To     reliable events: only for copies with this label
//   Coord-Pub    reliable events: the publisher, 24 hex digits, the first 16 of them its bus
//   Coord-N      reliable events: counts that publisher's events of the topic from 1
//   Coord-Low    reliable events: that publisher's oldest number of the topic that it did not know to be stored when it
//             sent this, then or again; absent where that is Coord-N itself. What is below was stored before
//   Coord-Void   reliable events: "1" if there is no event of this number, for it was refused for good
//   Nats-Msg-Id  reliable events: <publisher>.<number>.<call>, by which the server drops a repeat that comes soon.
//             The call tells events apart that took one number one after the other, for the first was never stored. Not
//             on a stream with replicas: a server before 2.9.21 that is started again miscounts the repeats that it
//             dropped, and its replica becomes another one than those of the others. Subscribers drop repeats in any
//             case

#ifndef COORD_INTERNAL_NATS_EVENT_WIRE_H_
#define COORD_INTERNAL_NATS_EVENT_WIRE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kv/nats_connection.h"

namespace coord::internal {

// Payload bytes of reliable events that one copy has under way at most, counted from the oldest that is not stored yet.
// All of it may be stored before that one, and so be held by subscribers.
inline constexpr size_t kMaxNatsEventWindowBytes = 16 << 20;

// What the headers add to a payload, at most.
inline constexpr size_t kMaxNatsHeaderBytes = 1536;

// One token of a subject: what is none of A-Z a-z 0-9 _ - becomes =XX. Unescape says nothing for what Escape never
// makes.
std::string EscapeToken(std::string_view name);
std::optional<std::string> UnescapeToken(std::string_view token);

// The subjects of one plugin in one space.
class NatsEventSubjects {
 public:
  // `space` is a token already.
  NatsEventSubjects(std::string_view space, std::string_view plugin);

  enum class Kind : char { kBestEffort = 'b', kQuestion = 'q' };
  std::string ForAll(Kind kind, std::string_view topic) const;
  std::string For(Kind kind, std::string_view topic, std::string_view label) const;
  std::string Reliable(std::string_view topic) const;
  std::string Hints() const;

 private:
  std::string Of(char kind) const;

  const std::string space_;
  const std::string plugin_;
};

struct NatsEventHeaders {
  std::string bus;
  std::string from;
  std::string to;
  std::string publisher;  // with `number`: of reliable events alone
  uint64_t number = 0;
  uint64_t low = 0;  // at most `number`
  bool is_void = false;
  uint64_t call = 0;  // written only; 0: without an id
};
kv::NatsHeaders Format(const NatsEventHeaders& headers);

// `header` gives the value of a header, if the message has it. InvalidArgument: they are not what Format makes.
// FailedPrecondition: they are of a newer major version.
absl::StatusOr<NatsEventHeaders> ParseNatsEventHeaders(
    const std::function<std::optional<std::string>(const char* name)>& header, bool reliable);
absl::StatusOr<NatsEventHeaders> ParseNatsEventHeaders(const kv::NatsMessage& message, bool reliable);

// True for a subject at which a copy waits for answers: anything else could be somebody's attempt to write elsewhere.
bool IsReplySubject(std::string_view subject);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_WIRE_H_
