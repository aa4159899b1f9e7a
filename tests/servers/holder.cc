// Starts servers, prints their process ids, and waits for its own end.

#include <unistd.h>

#include <iostream>

#include "absl/status/statusor.h"
#include "tests/servers/servers.h"

int main() {
  const auto cluster = servers::NatsCluster::Run();
  const auto nats = servers::NatsServer::Run();
  const auto memcached = servers::MemcachedServer::Run();
  if (!cluster.ok() || !nats.ok() || !memcached.ok()) {
    std::cerr << cluster.status() << nats.status() << memcached.status() << std::endl;
    return 1;
  }
  for (int i = 0; i < (*cluster)->size(); ++i) std::cout << (*cluster)->server(i).pid() << "\n";
  std::cout << (*nats)->pid() << "\n" << (*memcached)->pid() << std::endl;
  while (true) pause();
}
