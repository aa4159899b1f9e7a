// What copies under chaos stand on: real servers or files, and what can be done to them.

#ifndef TESTS_CHAOS_ENGINE_H_
#define TESTS_CHAOS_ENGINE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace chaos {

struct Fault {
  std::string name;  // "server killed"
  std::function<absl::Status()> begin;
  std::function<absl::Status()> end;
};

// Used by one thread. Everything that it started ends with it.
class Engine {
 public:
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  virtual ~Engine() = default;

  virtual std::string store() const = 0;   // its URL
  virtual std::string events() const = 0;  // the same; empty: the store's own
  // The store may lose what it has acknowledged; Cluster::Join wants accept_weaker.
  virtual bool forgets() const { return false; }
  virtual const std::vector<Fault>& faults() const = 0;
  // How long after the end of a fault it can take until the engine itself works again.
  virtual absl::Duration recovery() const { return absl::ZeroDuration(); }
  // Waits until it can stand another fault.
  virtual absl::Status AwaitWhole() { return absl::OkStatus(); }
};

// What all engines of this process share.
struct Machine {
  static Machine& Get();
  // What cannot be done here, and why: one sentence each.
  std::vector<std::string> left_out;
};

// Makes the network that servers live in. Once, before anything else that starts threads.
void PrepareMachine();

absl::StatusOr<std::unique_ptr<Engine>> NewSqlite();     // a file on a small disk of its own
absl::StatusOr<std::unique_ptr<Engine>> NewNats();       // one server, files
absl::StatusOr<std::unique_ptr<Engine>> NewNats3();      // three of 2.10 or later, with replicas
absl::StatusOr<std::unique_ptr<Engine>> NewMemcached();  // and a nats-server for events

}  // namespace chaos

#endif  // TESTS_CHAOS_ENGINE_H_
