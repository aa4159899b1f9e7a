#include <iostream>

#include "absl/time/clock.h"
#include "coord/coord.h"

int main(int argc, char** argv) {
  absl::StatusOr<std::shared_ptr<kv::Store>> store = kv::Open("sqlite:hello.db");
  if (!store.ok()) return std::cerr << store.status() << "\n", 1;
  coord::JoinOptions options;
  options.store = *store;
  options.plugin = "com.example.hello";
  options.instance = argc > 1 ? argv[1] : "server-1";
  absl::StatusOr<std::unique_ptr<coord::Cluster>> copy = coord::Cluster::Join(options);
  if (!copy.ok()) return std::cerr << copy.status() << "\n", 1;
  absl::StatusOr<coord::Grant> grant = (*copy)->Mutex("greeting").Acquire(absl::Now() + absl::Seconds(10));
  if (!grant.ok()) return std::cerr << grant.status() << "\n", 1;
  std::cout << options.instance << " holds the lock, fence " << grant->fence() << std::endl;
}  // the lock is released, and the copy leaves
