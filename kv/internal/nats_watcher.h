// Keeps the mirror fed: one consumer over the whole bucket, made again whenever it breaks.
//
// After a lost connection, missed heartbeats or a hole in the consumer's own count nothing is skipped: the bucket is
// read again. A consumer lives on one of the servers, and shows what that one's replica has: if that falls behind what
// this process has seen, by the answers to its own calls, another consumer is made, maybe on another server. A new
// consumer counts only once the stream has been looked at after it was made, so that it is known which incarnation it
// reads.
//
// Step, and the destructor, belong to one thread.

#ifndef KV_INTERNAL_NATS_WATCHER_H_
#define KV_INTERNAL_NATS_WATCHER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>

#include "absl/status/status.h"
#include "kv/internal/deadline.h"
#include "kv/internal/nats_bucket.h"
#include "kv/internal/nats_consumer.h"
#include "kv/internal/nats_gate.h"
#include "kv/internal/nats_mirror.h"
#include "kv/nats_connection.h"
#include "kv/store.h"

namespace kv::internal {

class NatsWatcher {
 public:
  // `wake` is called from any thread when Step has something to do; it must not block.
  NatsWatcher(std::shared_ptr<NatsConnection> connection, const NatsBucket* bucket, NatsGate* gate, NatsMirror* mirror,
              std::function<void()> wake);

  // Does what is due, which may block for up to kStepLimit, and returns when it wants to be called next.
  SteadyTime Step();
  static constexpr std::chrono::milliseconds kStepLimit{1000};

  // The connection is back: no reason to wait any longer. Any thread.
  void Hurry();

 private:
  absl::Status Attempt();
  void OnMessage(uint64_t incarnation, uint64_t load, StreamMessage message);
  void CheckProgress(SteadyTime now);
  void CheckLag(SteadyTime now);

  const std::shared_ptr<NatsConnection> connection_;
  const NatsBucket& bucket_;
  NatsGate& gate_;
  NatsMirror& mirror_;
  const std::function<void()> wake_;

  std::atomic<uint64_t> broken_load_{0};  // the newest whose consumer broke
  std::atomic<bool> hurry_{false};
  std::minstd_rand random_{std::random_device()()};

  uint64_t load_ = 0;
  SteadyTime retry_at_{};
  std::chrono::milliseconds backoff_;
  // Of loading: how many messages had come when something last came.
  uint64_t messages_ = 0;
  SteadyTime progress_at_{};
  // Of following: what had been seen of the bucket at some time, and that time.
  Revision seen_ = 0;
  SteadyTime seen_at_{};
  std::unique_ptr<NatsConsumer> consumer_;  // last: ends before what its callbacks use
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_WATCHER_H_
