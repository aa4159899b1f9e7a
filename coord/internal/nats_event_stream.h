// The JetStream stream that keeps the reliable events of a space: made, looked at, compared with what it should be.

#ifndef COORD_INTERNAL_NATS_EVENT_STREAM_H_
#define COORD_INTERNAL_NATS_EVENT_STREAM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/nats_connection.h"

namespace coord::internal {

struct NatsEventStreamConfig {
  std::string space;
  int replicas = 1;
  bool file_storage = true;
  absl::Duration keep_for;
  int64_t keep_bytes = 0;
};

// What a stream holds at a moment.
struct NatsEventStreamState {
  std::string incarnation;  // a stream that was lost and made again has another (kv/internal/nats_api.h)
  uint64_t first = 0;       // the sequence of the oldest message; last + 1 if it holds none
  uint64_t last = 0;        // of the newest ever
  uint64_t mean = 0;        // bytes of a message that it holds, on average
};

// Thread-safe.
class NatsEventStream {
 public:
  NatsEventStream(std::shared_ptr<kv::NatsConnection> connection, NatsEventStreamConfig config);

  const std::string& name() const { return name_; }

  // The stream as it is, made first if there is none. FailedPrecondition: it exists with other settings, each named, or
  // the server cannot make it. Unavailable, DeadlineExceeded: try again. Blocks until `deadline` (wall) at most.
  absl::StatusOr<NatsEventStreamState> Ensure(absl::Time deadline) const;

  // The sequence of the last message on `subject`, 0 if there is none; by the stream's leader, whose replicas may lag.
  absl::StatusOr<uint64_t> LastOn(const std::string& subject, absl::Time deadline) const;

 private:
  absl::StatusOr<NatsEventStreamState> Call(const char* api, const std::string& request, absl::Time deadline) const;
  std::string Config() const;

  const std::shared_ptr<kv::NatsConnection> connection_;
  const NatsEventStreamConfig config_;
  const std::string name_;
};

// What the answer to a publish says. FailedPrecondition: not stored, and it never will be, for the server refused it
// before it looked at the stream. Unknown: it may be stored, now or later, whatever failure the server tells.
absl::Status ParseNatsAck(std::string_view answer);

// The JSON of an answer, which is an object and no error. Else the error, with the server's own words.
absl::StatusOr<std::string> ParseNatsAnswer(std::string_view answer);

// The sequence of the message in the answer to a STREAM.MSG.GET, 0 if there is none.
absl::StatusOr<uint64_t> ParseNatsStoredSequence(std::string_view response);

// What `response` to a STREAM request says of the stream; compared with `config`.
absl::StatusOr<NatsEventStreamState> ParseNatsStream(std::string_view response, const NatsEventStreamConfig& config);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_STREAM_H_
