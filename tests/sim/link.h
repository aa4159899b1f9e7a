// What lies between one copy and the store. The Port is the network's side, and outlives the copy's processes; the Link
// is the Store that one process is given.
//
// Fault model. A call is a request and a reply, each with a delay of its own, and each may be lost; so a write whose
// caller was told DeadlineExceeded may have been applied, or be applied later, or never. While the port is cut to the
// store, or from it, what is under way is lost, or goes on when the cut ends. While the store is down calls are
// refused, or lost. Watch events come in order, late by what the port says; with kReorder and kDuplicate they break the
// contract of kv::Watch, which the copies must survive. After a cut, an outage, or on demand a watch is given a new
// snapshot. A process that stands still receives when it goes on; what it had sent is on its way.

#ifndef TESTS_SIM_LINK_H_
#define TESTS_SIM_LINK_H_

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "coord/internal/executor.h"
#include "coord/sim_runtime.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"
#include "tests/sim/dice.h"
#include "tests/sim/network.h"
#include "tests/sim/server.h"

namespace sim {

class Link;

// Main thread, but for Send and Subscribe.
class Port {
 public:
  Port(int copy, const Config& config, Network& network, Server& server);

  // What the faults set.
  struct Weather {
    absl::Duration latency = absl::Milliseconds(1);  // each direction, typically
    int lose_percent = 0;                            // of requests, and of replies
    int late_percent = 0;                            // of requests: up to 2 ttl late
    int duplicate_percent = 0;
    int reorder_percent = 0;
    absl::Duration watch_lag = absl::ZeroDuration();
    absl::Duration read_lag = absl::ZeroDuration();  // where reads may be answered from the past
    bool cut_to = false, cut_from = false;
    bool cut_keeps = false;  // what is sent meanwhile arrives when the cut ends
    bool down = false;       // the store is, for all
    bool down_refuses = false;
  };
  Weather weather;

  // After a cut or an outage has ended: what was kept goes on, and watches are given a snapshot.
  void Heal();
  void Interrupt(kv::WatchKind kind);
  // Watches get nothing more until Heal or Interrupt; their next snapshot is of `kind`.
  void Disconnect(kv::WatchKind kind);
  // What is under way from the store is lost.
  void DropReplies() { ++generation_; }
  // The process is gone.
  void Forget();
  size_t watches() const { return watches_.size(); }
  uint64_t calls() const { return calls_; }

 private:
  friend class Link;
  struct LinkWatch {
    std::string prefix;
    kv::WatchCallback callback;
    std::shared_ptr<coord::internal::Executor> thread;
    bool ended = false;
    bool live = false;                               // has had its snapshot, or will have: changes go to it
    uint64_t generation = 0;                         // events of an earlier snapshot count no more
    kv::WatchKind opening = kv::WatchKind::kSynced;  // what goes before the next snapshot; kSynced: nothing
  };

  // Calls `at_store` when the request arrives, if it does, and then what that returns when the reply arrives.
  void Send(std::function<std::function<void()>()> at_store, std::function<void()> refused);
  void Reply(std::function<void()> deliver);
  void Subscribe(const std::shared_ptr<LinkWatch>& watch);
  void Snapshot(const std::shared_ptr<LinkWatch>& watch);
  void Changed(const Commit& commit);
  void Push(const std::shared_ptr<LinkWatch>& watch, kv::WatchEvent event);
  absl::Duration Leg();

  const absl::Duration ttl_;
  const Sabotage sabotage_;
  Network& network_;
  Server& server_;
  Dice dice_;
  uint64_t generation_ = 0;
  uint64_t calls_ = 0;
  absl::Time last_push_;
  std::vector<std::function<void()>> kept_;
  std::list<std::shared_ptr<LinkWatch>> watches_;
};

// To be made and used in the copy's own group. Watches must be gone before it.
class Link : public kv::Store {
 public:
  Link(int copy, coord::SimRuntime& runtime, Port& port);
  ~Link() override;

  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Time deadline) override;
  kv::WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override;
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override;
  kv::WriteResult Delete(std::string_view key, kv::Revision expected, absl::Time deadline) override;
  kv::WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override;
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override;
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view prefix, kv::WatchCallback callback) override;
  const kv::Traits& traits() const override { return port_.server_.traits(); }

 private:
  class LocalWatch;

  template <typename Result>
  Result Call(absl::Time deadline, std::function<Result()> at_store, const std::function<Result(absl::Status)>& failed);
  kv::WriteResult Write(WriteRequest::Kind kind, std::string_view key, std::string_view value, kv::Revision expected,
                        absl::Time deadline);

  const int copy_;
  coord::SimRuntime& runtime_;
  Port& port_;
  const std::shared_ptr<coord::internal::Executor> watch_thread_;
};

}  // namespace sim

#endif  // TESTS_SIM_LINK_H_
