// What a plugin that is built with anything but Bazel looks like: joins, takes a lock, prints its fence. Before that it
// asks for servers where there are none, so that their clients are known to be linked.

#include <iostream>

#include "coord/coord.h"

int main() {
  for (const char* url : {"nats://127.0.0.1:1", "memcached://127.0.0.1:1"}) {
    const auto refused = coord::OpenBackends(url, "", absl::Milliseconds(500));
    if (!absl::IsUnavailable(refused.status())) return std::cerr << url << ": " << refused.status() << "\n", 1;
  }
  auto store = kv::Open("memory:");
  if (!store.ok()) return std::cerr << store.status() << "\n", 1;
  coord::JoinOptions options;
  options.store = *store;
  options.plugin = "com.example.installed";
  options.instance = "server-1";
  auto cluster = coord::Cluster::Join(options);
  if (!cluster.ok()) return std::cerr << cluster.status() << "\n", 1;
  auto grant = (*cluster)->Mutex("orders").Acquire(absl::Now() + absl::Seconds(5));
  if (!grant.ok()) return std::cerr << grant.status() << "\n", 1;
  std::cout << "fence " << grant->fence() << "\n";
  return (*cluster)->Leave(absl::Now() + absl::Seconds(2)).ok() ? 0 : 1;
}
