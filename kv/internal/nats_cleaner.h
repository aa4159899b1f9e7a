// Removes the markers that deletes leave in the stream, once every watch has had its time to see them: this process's
// own, and those of others who have not done it. Without it each name that was ever used would stay in the stream.
//
// A removal is a request to delete the message of this sequence, so that nothing that was written later is touched. But
// a server of 2.10 or later with file storage that is killed (not one that is ended) rebuilds its stream from the
// messages it once wrote, and what it then takes for a key's last message is the one before the removed one, since that
// it was replaced is written down nowhere. So that this is not the deleted value, the marker is first covered by a
// second marker, and that one is removed: what comes back is a marker. A value can still come back where the server had
// rewritten its file in between; whoever remembers the delete buries it again.
//
// Step belongs to one thread; Bury may be called from any. Requests are pipelined, at most kWindow at a time.

#ifndef KV_INTERNAL_NATS_CLEANER_H_
#define KV_INTERNAL_NATS_CLEANER_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>

#include "kv/internal/deadline.h"
#include "kv/internal/nats_bucket.h"
#include "kv/internal/nats_deletes.h"
#include "kv/internal/nats_gate.h"
#include "kv/internal/nats_mirror.h"
#include "kv/nats_connection.h"
#include "kv/store.h"

namespace kv::internal {

class NatsCleaner {
 public:
  static constexpr size_t kWindow = 16;
  // Entries to be buried; further ones are found again at the next load.
  static constexpr size_t kMaxBurials = 10000;

  // `wake` is called from any thread when Step has something to do; it must not block.
  NatsCleaner(std::shared_ptr<NatsConnection> connection, const NatsBucket* bucket, NatsGate* gate,
              NatsDeletes* deletes, const NatsMirror* mirror, std::function<void()> wake);
  // Waits for nothing: requests that are under way may still be carried out.
  ~NatsCleaner();

  // Sends what is due, which may block for up to a second while the stream is looked at, and returns when it wants to
  // be called next.
  SteadyTime Step();

  // An entry that has been deleted is there again: it is deleted again.
  void Bury(const std::string& key, Revision revision);

 private:
  struct Job {
    enum class Kind { kCover, kRemove, kBury };
    Kind kind = Kind::kRemove;
    NatsDeletes::Marker marker;  // with kBury the entry
    uint64_t incarnation = 0;
  };
  struct Shared;

  void Take(SteadyTime now);
  absl::Status Send(const Job& job);
  void Finish(const Job& job, const absl::StatusOr<NatsMessage>& answer, SteadyTime now);
  void FinishCover(const Job& job, const NatsPublished& published, SteadyTime now);
  bool MayPublish() const;
  bool Covers() const;
  SteadyTime Sweep(SteadyTime now);
  SteadyTime NextSweep(SteadyTime now);

  const std::shared_ptr<NatsConnection> connection_;
  const NatsBucket& bucket_;
  NatsGate& gate_;
  NatsDeletes& deletes_;
  const NatsMirror& mirror_;
  const std::shared_ptr<Shared> shared_;  // with the callbacks of requests, which may come late
  std::deque<Job> jobs_;
  std::minstd_rand random_{std::random_device()()};
  SteadyTime looked_at_{};
  SteadyTime sweep_at_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_CLEANER_H_
