// What stores at real servers state of themselves is what their rows say.

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "coord/guarantees_test_util.h"
#include "tests/servers/servers.h"

namespace coord::testing {
namespace {

TEST(GuaranteesServersTest, OneNatsServer) {
  const auto server = servers::NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string url = absl::StrCat("nats://", (*server)->address(), "?bucket=");
  ExpectRow(url + "a", "nats://HOST");
  ExpectRow(url + "b&sync=always", "nats://HOST?sync=always");
  ExpectRow(url + "c&storage=memory", "nats://HOST?storage=memory");
}

TEST(GuaranteesServersTest, ThreeNatsServers) {
  const auto cluster = servers::NatsCluster::Run();
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  const std::string url = absl::StrCat("nats://", (*cluster)->addresses(), "?replicas=3&bucket=");
  if ((*cluster)->server(0).version().rfind("2.9.", 0) == 0) {
    const std::string old = "nats://HOST,HOST,HOST?replicas=3 on nats-server 2.9";
    for (const char* rest : {"a", "b&sync=always"}) ExpectRow(url + rest, old);
    return;
  }
  ExpectRow(url + "a", "nats://HOST,HOST,HOST?replicas=3");
  ExpectRow(url + "b&sync=always", "nats://HOST,HOST,HOST?replicas=3&sync=always");
  ExpectRow(url + "c&storage=memory", "nats://HOST,HOST,HOST?replicas=3&storage=memory");
}

TEST(GuaranteesServersTest, Memcached) {
  const auto server = servers::MemcachedServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  ExpectRow(absl::StrCat("memcached://", (*server)->address()), "memcached://HOST");
}

}  // namespace
}  // namespace coord::testing
