// The stream behind a bucket: its name and subjects, the settings that coordination needs, and how it is made.

#ifndef KV_INTERNAL_NATS_BUCKET_H_
#define KV_INTERNAL_NATS_BUCKET_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/nats_api.h"
#include "kv/nats_connection.h"
#include "kv/nats_store.h"
#include "kv/store.h"

namespace kv::internal {

// Names and settings. Immutable.
class NatsBucket {
 public:
  // `traits`: whose keys it holds; must outlive it.
  NatsBucket(const NatsStoreOptions& options, const Traits* traits);

  // InvalidArgument for options that no bucket can have.
  static absl::Status CheckOptions(const NatsStoreOptions& options);

  const NatsStoreOptions& options() const { return options_; }
  const std::string& stream() const { return stream_; }
  bool replicated() const { return options_.replicas > 1; }

  std::string Subject(std::string_view key) const;
  // The key that is kept on `subject`; nothing if none can be: somebody else has written there.
  std::optional<std::string> KeyOf(std::string_view subject) const;
  // Matches all keys that begin with `prefix`, and maybe more.
  std::string Filter(std::string_view prefix) const;
  // The subject of a request about the stream, as "INFO" or "MSG.GET".
  std::string Api(std::string_view request) const;

  std::string CreateRequest() const;

  // FailedPrecondition lists every setting that is not as it must be, with both values. What does not matter to the
  // store may be as it likes.
  absl::Status Compare(const std::string& settings) const;

 private:
  const NatsStoreOptions options_;
  const Traits* const traits_;
  const std::string stream_;
  const std::string subjects_;  // ends in a dot
};

// What is there. NotFound: no such stream. FailedPrecondition: with other settings. Else as NatsConnection::Request.
absl::StatusOr<NatsStreamInfo> LookAtStream(NatsConnection& connection, const NatsBucket& bucket, SteadyTime deadline);

// The same, and makes the stream if it does not exist. Safe where several clients do so at a time.
absl::StatusOr<NatsStreamInfo> EnsureStream(NatsConnection& connection, const NatsBucket& bucket, SteadyTime deadline);

// The same, and tries again for a while if JetStream does not answer yet: of a server or a cluster that is just
// starting.
absl::StatusOr<NatsStreamInfo> AwaitStream(NatsConnection& connection, const NatsBucket& bucket, SteadyTime deadline);

// FailedPrecondition for a version whose conditional writes do not hold.
absl::Status CheckNatsVersion(std::string_view version, int replicas);

// "2.10" and later: 210 and up; 0 for what is not a version.
int NatsMinorVersion(std::string_view version);

// Whether a server of this version, one of a cluster, compares the expected sequence of a write when it applies it:
// from 2.9.21 on. Earlier ones compare before they agree on the write; what is not a version is taken for one of them.
bool ComparesWhenApplied(std::string_view version);

// The wall clock time that requests of the connection take.
absl::Time WallTime(SteadyTime time);

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_BUCKET_H_
