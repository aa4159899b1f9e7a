// Tells whether the bucket of cursors was lost while the stream of events was not. A bucket that was made anew looks
// like one that nobody has used yet: so the stream's description notes which incarnation of the bucket it knows, and a
// bucket that is another one bears a mark, for good.
//
//   the stream notes       the bucket has a mark   it was lost
//   no bucket              no                      no: it is noted now
//   this bucket            no                      no
//   this bucket            yes                     yes
//   another bucket         no matter               yes: it is marked, and then noted
//
// Where the server does not permit the note, a loss goes unnoticed, and one warning says so.

#ifndef COORD_INTERNAL_NATS_EVENT_LEDGER_H_
#define COORD_INTERNAL_NATS_EVENT_LEDGER_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/core.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"
#include "kv/store.h"

namespace coord::internal {

// Thread-safe.
class NatsEventLedger {
 public:
  // The names of the two streams.
  NatsEventLedger(std::shared_ptr<Core> core, std::shared_ptr<kv::NatsConnection> connection, std::string events,
                  std::string bucket);

  // `store` is the bucket. NotFound: it, or the stream, is not there at present. Else as NatsConnection::Request.
  // Blocks until `deadline` (wall) at most.
  absl::StatusOr<bool> WasLost(kv::Store& store, absl::Time deadline);

 private:
  absl::StatusOr<bool> Look(kv::Store& store, const std::string& made, absl::Time deadline);
  absl::StatusOr<std::string> Call(const char* api, const std::string& stream, const std::string& request,
                                   absl::Time deadline) const;

  const std::shared_ptr<Core> core_;
  const std::shared_ptr<kv::NatsConnection> connection_;
  const std::string events_;
  const std::string bucket_;
  kv::internal::Mutex mu_;
  std::string made_ KV_GUARDED_BY(mu_);  // the bucket that was looked at
  bool lost_ KV_GUARDED_BY(mu_) = false;
};

// The incarnation of the bucket that `description` notes, "" if none.
std::string NotedBucket(std::string_view description);

// The description with this bucket noted in place of any other; what else it says is kept.
std::string NoteBucket(std::string_view description, std::string_view made);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_LEDGER_H_
