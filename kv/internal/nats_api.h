// The requests to JetStream that the store makes, and what the answers mean. Pure: text in, values out.
//
// The one place where a server's errors become statuses.

#ifndef KV_INTERNAL_NATS_API_H_
#define KV_INTERNAL_NATS_API_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/nats_connection.h"
#include "kv/store.h"

namespace kv::internal {

// Error codes of JetStream that somebody looks at.
constexpr int kErrNoMessage = 10037;      // none on this subject
constexpr int kErrDeleteFailed = 10057;   // there is no message with this sequence
constexpr int kErrOtherSettings = 10058;  // the stream exists with other settings
constexpr int kErrNoStream = 10059;       // there is no such stream
constexpr int kErrWrongSequence = 10071;  // the text says which one is there
// Conflicts with a write that is still under way; which sequence it will have is not known.
constexpr int kErrDuplicateInDoubt = 10158;
constexpr int kErrWrongSequenceInDoubt = 10164;

// An error as the server gives it.
struct NatsApiError {
  int code = 0;      // as of HTTP
  int err_code = 0;  // JetStream's own
  std::string description;
};

// `what` says what was asked, as "read of the stream KV_x". The statuses mean what kv/store.h says: Unavailable is not
// applied and never will be. A conflict is Aborted; whether that is NotFound or AlreadyExists depends on the call.
absl::Status ToStatus(const NatsApiError& error, std::string_view what);

// What an answer says: `error`, or else what belongs to the request.
struct NatsPublished {
  std::optional<NatsApiError> error;
  Revision sequence = 0;
  bool duplicate = false;  // a message with this id is stored already, or about to be; this one is not
  // With kErrWrongSequence: the sequence of the subject's last message, 0 if it has none.
  std::optional<Revision> present;
};

struct NatsStored {
  std::optional<NatsApiError> error;
  Revision sequence = 0;
  std::string value;
  bool marker = false;  // of a delete: the key does not exist
};

struct NatsStreamInfo {
  std::optional<NatsApiError> error;
  // Another one after the stream was lost and made again: what its description says (NewStreamDescription), or else
  // the time at which it was made.
  std::string incarnation;
  std::string settings;  // a JSON object
  uint64_t messages = 0;
  Revision last_sequence = 0;
  std::vector<std::string> subjects;  // sorted; only if they were asked for
  uint64_t total_subjects = 0;        // `subjects` may be a part of them
};

struct NatsDone {
  std::optional<NatsApiError> error;
};

// Internal where the text is not such an answer.
absl::StatusOr<NatsPublished> ParsePublished(std::string_view json);
absl::StatusOr<NatsStored> ParseStored(std::string_view json);
absl::StatusOr<NatsStreamInfo> ParseStreamInfo(std::string_view json);
absl::StatusOr<NatsDone> ParseDone(std::string_view json);

// Bodies of requests.
std::string LastOnSubjectRequest(std::string_view subject);
std::string DeleteMessageRequest(Revision sequence);
// The subjects that match `filter`, from the one of this number in their order.
std::string SubjectsRequest(std::string_view filter, uint64_t offset);

// The description of a stream that is to be made. It names the incarnation, with a random number, since the time of its
// creation does not do in a cluster: where several clients make the stream at a time, its servers state different ones.
std::string NewStreamDescription();
// The incarnation of a stream of this description, to which more may have been added after a space, that was made at
// `created`.
std::string IncarnationOf(std::string_view description, std::string_view created);

// Headers.
constexpr char kExpectedSequence[] = "Nats-Expected-Last-Subject-Sequence";
constexpr char kExpectedLast[] = "Nats-Expected-Last-Sequence";  // of the whole stream
constexpr char kMessageId[] = "Nats-Msg-Id";
constexpr char kOperation[] = "KV-Operation";
constexpr char kOperationDelete[] = "DEL";

// Whether these headers are those of a marker: a delete or purge by any client, or one that the server left.
bool IsMarker(const NatsMessage& message);
// The same of a block of headers as a server returns it.
bool IsMarker(std::string_view header_block);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_API_H_
