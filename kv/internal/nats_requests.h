// The requests of one connection that wait for their answer, and the thread that tells them when none will come.
//
// The client library has requests of its own. They cost a wake-up more, keep one in the dark for as long as its whole
// timeout when the connection is lost, and cannot be many at a time without a thread each.

#ifndef KV_INTERNAL_NATS_REQUESTS_H_
#define KV_INTERNAL_NATS_REQUESTS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"

namespace kv::internal {

// Thread-safe. `done` is called without a lock: with an answer on the thread that brings it, else on the own thread.
class NatsRequests {
 public:
  using Done = std::function<void(absl::StatusOr<NatsMessage>)>;
  static constexpr size_t kMaxWaiting = 1 << 20;

  NatsRequests();
  ~NatsRequests();

  // Takes up a request that is about to be sent. ResourceExhausted: too many wait. Unavailable: stopped.
  absl::StatusOr<uint64_t> Add(SteadyTime deadline, Done done);

  // The request was handed to the network, or may have been: from now on a lost connection ends it.
  void Sent(uint64_t id);

  // Ends a request that may have been sent but did not go well.
  void Fail(uint64_t id, absl::Status status);

  // Takes back a request that was not sent. False if it has been told something already.
  bool TakeBack(uint64_t id);

  void Answer(uint64_t id, NatsMessage message);

  // Everything sent until now has lost its answer.
  void ConnectionLost();

  // Whether this is a thread on which `done` is called: who waits for an answer there waits for itself.
  static bool OnOwnThread();

  // A server said that something is not permitted: whoever gets no answer is told so.
  void SetRefusal(const std::string& text);

  // Ends what waits with `status`, refuses what comes, and ends the thread.
  void Stop(const absl::Status& status);

 private:
  struct Waiting {
    Done done;
    SteadyTime deadline;
    uint64_t losses = 0;  // how many had been told when it was added
    bool sent = false;
  };
  using Ended = std::vector<std::pair<Done, absl::Status>>;
  using Alarm = std::pair<SteadyTime, uint64_t>;

  void Run();
  void CollectLate(SteadyTime now, Ended& ended) KV_REQUIRES(mutex_);
  void CollectLost(Ended& ended) KV_REQUIRES(mutex_);
  void AddAlarm(SteadyTime deadline, uint64_t id) KV_REQUIRES(mutex_);
  void DropStaleAlarms() KV_REQUIRES(mutex_);

  Mutex mutex_;
  CondVar changed_;
  std::unordered_map<uint64_t, Waiting> waiting_ KV_GUARDED_BY(mutex_);
  // A heap, the next one first. Those of requests that have ended stay until their time, or until they are the most.
  std::vector<Alarm> alarms_ KV_GUARDED_BY(mutex_);
  Ended failed_ KV_GUARDED_BY(mutex_);
  uint64_t next_id_ KV_GUARDED_BY(mutex_) = 1;
  uint64_t losses_ KV_GUARDED_BY(mutex_) = 0;
  std::string refusal_ KV_GUARDED_BY(mutex_);
  bool sweep_ KV_GUARDED_BY(mutex_) = false;
  bool stopped_ KV_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_REQUESTS_H_
