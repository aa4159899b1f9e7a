// For tests of code that uses coord: copies on a store in memory, under virtual time. An hour of waiting takes no time,
// and a test that fails fails again with the same seed.
//
//   coord::testing::World world(/*seed=*/1);
//   auto a = world.Join("a");
//   auto b = world.Join("b");
//   auto grant = a->Mutex("orders").Acquire(world.In(absl::Seconds(1)));
//   world.runtime().SleepFor(absl::Hours(1));                       // beats go on
//   world.faults().SetHook(...);                                    // a store that fails (kv/faulty_store.h)
//
// Everything runs on the one thread that made the World (coord/sim_runtime.h). To pause or kill a copy as a whole, run
// it in a group of its own: world.runtime().StartThreadInGroup(1, "copy", [&] { auto c = world.Join("c"); ... }).

#ifndef COORD_TESTING_H_
#define COORD_TESTING_H_

#include <memory>
#include <string>

#include "coord/cluster.h"
#include "coord/internal/executor.h"
#include "coord/sim_runtime.h"
#include "kv/counting_store.h"
#include "kv/faulty_store.h"

namespace coord::testing {

class World {
 public:
  explicit World(uint64_t seed = 1);
  // Clusters must be gone before.
  ~World();

  SimRuntime& runtime() { return runtime_; }

  // What the copies use: a CountingStore over a FaultyStore over a memory store.
  kv::CountingStore& store() { return *counting_; }
  kv::FaultyStore& faults() { return *faulty_; }
  // The bare store, for looking at records without being counted or failed.
  kv::Store& data() { return *memory_; }

  // Options with store, runtime and log filled in: plugin "test", ttl 10 s. Log lines are kept in log().
  JoinOptions Options(const std::string& instance);
  // Joins, or aborts with the error.
  std::unique_ptr<Cluster> Join(const std::string& instance);
  std::unique_ptr<Cluster> Join(JoinOptions options);

  // A wall-clock deadline `duration` from now.
  absl::Time In(absl::Duration duration) { return runtime_.WallNow() + duration; }

  std::string log() const;

 private:
  SimRuntime runtime_;
  std::unique_ptr<internal::Executor> watches_;
  std::shared_ptr<kv::Store> memory_;
  std::shared_ptr<kv::FaultyStore> faulty_;
  std::shared_ptr<kv::CountingStore> counting_;
  mutable kv::internal::Mutex mu_;
  std::string log_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::testing

#endif  // COORD_TESTING_H_
