// NATS against the contract: one server and a cluster of three, files and memory, directly and through the faulty
// wrapper, with a second handle on another connection.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>

#include "absl/status/statusor.h"
#include "kv/conformance.h"
#include "kv/faulty_store.h"
#include "kv/nats_connection.h"
#include "kv/nats_store.h"
#include "kv/nats_store_test_util.h"
#include "tests/servers/servers.h"

namespace kv {
namespace {

using servers::NatsCluster;
using servers::NatsServer;

struct Kind {
  const char* name;
  bool cluster;
  bool file_storage;
  bool faulty;
};

const Kind kKinds[] = {
    {"One", false, true, false},    {"OneInMemory", false, false, false}, {"OneFaulty", false, true, true},
    {"Cluster", true, true, false}, {"ClusterFaulty", true, true, true},
};

// One of each for all tests, so that what one leaves would be seen by the next.
std::string Addresses(bool cluster) {
  if (cluster) {
    static const absl::StatusOr<std::unique_ptr<NatsCluster>> three = NatsCluster::Run();
    EXPECT_TRUE(three.ok()) << three.status();
    return three.ok() ? (*three)->addresses() : "";
  }
  static const absl::StatusOr<std::unique_ptr<NatsServer>> one = NatsServer::Run();
  EXPECT_TRUE(one.ok()) << one.status();
  return one.ok() ? (*one)->address() : "";
}

class NatsConformanceTest : public testing::TestWithParam<std::tuple<Kind, std::string>> {
 protected:
  std::shared_ptr<Store> Open(int number) {
    const Kind kind = std::get<Kind>(GetParam());
    NatsStoreOptions options;
    options.bucket = kind.name;
    options.replicas = kind.cluster ? 3 : 1;
    options.file_storage = kind.file_storage;
    std::shared_ptr<Store> store = OpenNats(ConnectNats(Addresses(kind.cluster), number), options);
    if (store == nullptr || !kind.faulty) return store;
    return std::make_shared<FaultyStore>(std::move(store));
  }
};

TEST_P(NatsConformanceTest, Holds) {
  const std::shared_ptr<Store> store = Open(0);
  const std::shared_ptr<Store> second = Open(1);
  ASSERT_NE(store, nullptr);
  ASSERT_NE(second, nullptr);
  ConformanceOptions options;
  options.second = second.get();
  options.only = std::get<std::string>(GetParam());
  options.rounds = 20;
  for (const Failure& failure : RunConformance(*store, options)) ADD_FAILURE() << failure.message;
  const auto left = store->List("", Soon());
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_TRUE(left->empty()) << left->size() << " keys were left behind, such as " << left->front().key;
}

INSTANTIATE_TEST_SUITE_P(All, NatsConformanceTest,
                         testing::Combine(testing::ValuesIn(kKinds), testing::ValuesIn(ConformanceChecks())),
                         [](const auto& test) {
                           return std::string(std::get<Kind>(test.param).name) + "_" +
                                  std::get<std::string>(test.param);
                         });

}  // namespace
}  // namespace kv
