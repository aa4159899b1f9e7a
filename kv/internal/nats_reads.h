// Reads of the bucket, all of them from the stream's leader: a follower may not have seen an acknowledged write.

#ifndef KV_INTERNAL_NATS_READS_H_
#define KV_INTERNAL_NATS_READS_H_

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/nats_bucket.h"
#include "kv/internal/nats_deletes.h"
#include "kv/internal/nats_gate.h"
#include "kv/nats_connection.h"
#include "kv/store.h"

namespace kv::internal {

// What there is of a key.
struct NatsPresent {
  std::optional<Entry> entry;
  // Without an entry: the revision of what stands in its place, a marker as a rule; 0 for nothing.
  Revision marker = 0;
};

// Thread-safe.
class NatsReads {
 public:
  // `on_dead` is called with every entry that a server has brought back after its delete; it must not block.
  NatsReads(std::shared_ptr<NatsConnection> connection, const NatsBucket* bucket, NatsGate* gate, NatsDeletes* deletes,
            std::function<void(const std::string& key, Revision revision)> on_dead);

  // A read has no effect, so that it is repeated where no answer comes.
  absl::StatusOr<NatsPresent> Read(std::string_view key, SteadyTime deadline);

  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, SteadyTime deadline);

 private:
  absl::StatusOr<NatsPresent> Understand(std::string_view key, const NatsGate::Pass& pass,
                                         const absl::StatusOr<NatsMessage>& answer);
  absl::StatusOr<NatsMessage> Ask(const char* request, const std::string& body, const char* what, SteadyTime deadline);
  absl::Status Failed(absl::Status status);

  absl::StatusOr<std::vector<std::string>> Keys(std::string_view prefix, SteadyTime deadline);
  absl::StatusOr<std::set<std::string>> Subjects(const std::string& filter, SteadyTime deadline);
  absl::StatusOr<NatsStreamInfo> Page(const std::string& filter, uint64_t offset, SteadyTime deadline);

  const std::shared_ptr<NatsConnection> connection_;
  const NatsBucket& bucket_;
  NatsGate& gate_;
  NatsDeletes& deletes_;
  const std::function<void(const std::string&, Revision)> on_dead_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_READS_H_
