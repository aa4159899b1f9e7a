// Very many names that are used once each.

#include <gtest/gtest.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/coord.h"
#include "kv/open.h"
#include "tests/nats/bucket.h"
#include "tests/process/process.h"
#include "tests/servers/servers.h"

namespace nats_test {
namespace {

constexpr int kNames = 100000;
constexpr int kThreads = 8;
constexpr char kBucket[] = "names";

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

std::unique_ptr<coord::Cluster> Join(const std::string& address) {
  auto store = kv::Open(absl::StrCat("nats://", address, "?bucket=", kBucket, "&delete_linger=1s"), absl::Seconds(20));
  EXPECT_TRUE(store.ok()) << store.status();
  coord::JoinOptions options;
  options.store = *store;
  options.plugin = "names-test";
  options.instance = "a";
  options.ttl = absl::Seconds(2);
  options.idle_record_ttl = absl::Seconds(1);
  auto joined = coord::Cluster::Join(std::move(options));
  EXPECT_TRUE(joined.ok()) << joined.status();
  return *std::move(joined);
}

// The highest fence of all.
uint64_t UseAll(coord::Cluster& cluster) {
  std::atomic<int> next{0};
  std::atomic<uint64_t> highest{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = next++; i < kNames; i = next++) {
        auto grant = cluster.Mutex(absl::StrCat("name-", i)).Acquire(Soon());
        ASSERT_TRUE(grant.ok()) << i << ": " << grant.status();
        for (uint64_t seen = highest; seen < grant->fence() && !highest.compare_exchange_weak(seen, grant->fence());) {
        }
        const absl::Status released = grant->Release(absl::Seconds(20));
        ASSERT_TRUE(released.ok()) << i << ": " << released;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return highest;
}

TEST(NamesTest, AHundredThousandNamesThatWereUsedOnceLeaveNothingInTheStream) {
  auto server = servers::NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  std::cout << "nats-server " << (*server)->version() << "\n";
  const auto cluster = Join((*server)->address());
  ASSERT_FALSE(HasFailure());
  const Bucket bucket((*server)->address(), kBucket);
  const int64_t before = bucket.Messages();
  const std::string session = cluster->session();

  const absl::Time begun = absl::Now();
  const uint64_t highest = UseAll(*cluster);
  ASSERT_FALSE(HasFailure());
  const absl::Time used = absl::Now();
  const int64_t then = bucket.Messages();
  int64_t now = then;
  EXPECT_TRUE(process_test::Eventually(
      [&] {
        absl::SleepFor(absl::Milliseconds(100));
        now = bucket.Messages();
        return now == before;
      },
      absl::Seconds(150)))
      << now << " messages are left of " << then << "; before there were " << before;
  const absl::Time clean = absl::Now();
  std::cout << kNames << " names in " << absl::FormatDuration(used - begun) << " by " << kThreads << " threads; "
            << then << " messages in the stream then, " << now << " after " << absl::FormatDuration(clean - used)
            << " more, as before\n";

  EXPECT_EQ(cluster->session(), session) << "cleaning up must not starve the beats";
  EXPECT_EQ(cluster->Stats().sessions_lost, 0u);
  auto again = cluster->Mutex("name-0").Acquire(Soon());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_GT(again->fence(), highest) << "fences grow over the removal of a record";
}

}  // namespace
}  // namespace nats_test
