// A real memcached against the contract, through one handle and two, directly and through the faulty wrapper.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>

#include "absl/status/statusor.h"
#include "kv/conformance.h"
#include "kv/faulty_store.h"
#include "kv/memcached_store.h"
#include "kv/test_util.h"
#include "tests/servers/servers.h"

namespace kv {
namespace {

using servers::MemcachedServer;

// One server for all tests, so that what one leaves would be seen by the next.
MemcachedServer* Server() {
  static const absl::StatusOr<std::unique_ptr<MemcachedServer>> server = MemcachedServer::Run();
  return server.ok() ? server->get() : nullptr;
}

class MemcachedConformanceTest : public testing::TestWithParam<std::tuple<bool, std::string>> {
 protected:
  std::shared_ptr<Store> Open() {
    absl::StatusOr<std::shared_ptr<Store>> store = OpenMemcachedStore(Server()->address(), Soon());
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) return nullptr;
    if (std::get<bool>(GetParam())) return std::make_shared<FaultyStore>(*std::move(store));
    return *std::move(store);
  }
};

TEST_P(MemcachedConformanceTest, Holds) {
  ASSERT_NE(Server(), nullptr) << MemcachedServer::Run().status();
  const std::shared_ptr<Store> store = Open();
  const std::shared_ptr<Store> second = Open();
  ASSERT_NE(store, nullptr);
  ASSERT_NE(second, nullptr);
  ConformanceOptions options;
  options.second = second.get();
  options.only = std::get<std::string>(GetParam());
  options.rounds = 20;
  for (const Failure& failure : RunConformance(*store, options)) ADD_FAILURE() << failure.message;
}

INSTANTIATE_TEST_SUITE_P(All, MemcachedConformanceTest,
                         testing::Combine(testing::Bool(), testing::ValuesIn(ConformanceChecks())),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param) ? "Faulty_" : "Plain_") + std::get<1>(test.param);
                         });

}  // namespace
}  // namespace kv
