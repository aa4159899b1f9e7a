// Sees to it that calls go to the incarnation of the bucket that its callers know.
//
// A bucket that is lost and made again counts its sequences from 1: a revision of the old one means nothing in it, or
// something else. A bucket is known by its incarnation (nats_api.h), and by never falling behind what has been seen of
// it (one in the memory of a cluster's servers begins anew with its old settings).
//
//   auto pass = gate.Enter(deadline);            // after a reconnect: looks at the stream first
//   ... send the request, get the answer ...
//   absl::Status same = gate.Confirm(*pass, revision, deadline);
//
// Between Enter and the sending the connection may have been lost and made anew, so that the answer is that of a bucket
// which nobody has looked at. That is found by Confirm, since the connection's generation has changed before anything
// was sent by the new one; the answer counts only once the stream has been looked at, and was the same.
//
// Thread safety: all methods. One caller looks at a time; the others wait for what it finds.

#ifndef KV_INTERNAL_NATS_GATE_H_
#define KV_INTERNAL_NATS_GATE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_api.h"
#include "kv/internal/nats_bucket.h"
#include "kv/nats_connection.h"
#include "kv/store.h"

namespace kv::internal {

class NatsGate {
 public:
  struct Pass {
    uint64_t generation = 0;   // of the connection
    uint64_t incarnation = 0;  // of the bucket, counted by this gate
    Revision highest = 0;      // seen of it before
  };

  // `found` is the bucket's first look, taken after the connection had `generation`. `on_change` is called with the
  // number of the new incarnation before any call is let through to it, on the thread of whoever found it.
  NatsGate(std::shared_ptr<NatsConnection> connection, const NatsBucket* bucket, const NatsStreamInfo& found,
           uint64_t generation, std::function<void(uint64_t)> on_change);

  // Makes the stream again if it has been lost. Unavailable: it cannot be looked at; nothing may be sent.
  // FailedPrecondition: it has other settings now, or the server's version is refused.
  absl::StatusOr<Pass> Enter(SteadyTime deadline);

  // After an answer that names `revision` as that of a write (0: none). Ok: it was given by the incarnation of the
  // pass. Aborted: by another one. Else as Enter: not known.
  absl::Status Confirm(const Pass& pass, Revision revision, SteadyTime deadline);

  // Something happened that may mean another incarnation: the next call looks.
  void Suspect();

  // For one whose request names no more than a sequence: looks by itself, without holding up others. Ok: the stream is
  // the incarnation of the pass at this moment. Aborted: it is another one, which the next call finds too.
  absl::Status Check(const Pass& pass, SteadyTime deadline);

  // A revision was seen in this incarnation.
  void Saw(uint64_t incarnation, Revision revision);

  uint64_t incarnation() const { return incarnation_.load(); }
  // The highest revision seen in it.
  Revision highest() const { return highest_.load(); }
  // How often a look found a leader that was behind: a sign of one that was cut off, or stood still.
  uint64_t behind() const { return behind_.load(); }
  // Whether the next call must look.
  bool closed() const;

 private:
  bool OpenLocked() const KV_REQUIRES(mutex_);
  Pass PassLocked() const KV_REQUIRES(mutex_);
  absl::Status Look(SteadyTime deadline);
  absl::Status LookOnce(SteadyTime deadline, bool* again);
  bool MayBeBehind(Revision last, Revision highest) const;
  bool MayCatchUpLocked(Revision last, Revision highest) KV_REQUIRES(mutex_);

  const std::shared_ptr<NatsConnection> connection_;
  const NatsBucket& bucket_;
  const std::function<void(uint64_t)> on_change_;
  std::atomic<uint64_t> incarnation_{1};
  std::atomic<Revision> highest_{0};
  std::atomic<uint64_t> suspicions_{0};
  std::atomic<uint64_t> behind_{0};

  mutable Mutex mutex_;
  CondVar looked_;
  std::string identity_ KV_GUARDED_BY(mutex_);
  bool looking_ KV_GUARDED_BY(mutex_) = false;
  uint64_t looks_ KV_GUARDED_BY(mutex_) = 0;
  absl::Status last_look_ KV_GUARDED_BY(mutex_);
  std::optional<SteadyTime> behind_since_ KV_GUARDED_BY(mutex_);
  // As they were when the last good look began.
  uint64_t seen_generation_ KV_GUARDED_BY(mutex_);
  uint64_t seen_suspicions_ KV_GUARDED_BY(mutex_) = 0;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_GATE_H_
