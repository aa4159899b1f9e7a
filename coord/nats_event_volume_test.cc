// A million best-effort and a hundred thousand reliable events through one publisher to three subscribers, each on a
// connection of its own: all accounted for, in order, in bounded memory. Rates are printed, not judged.

#include <array>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/nats_event_test_util.h"
#include "coord/nats_events.h"
#include "coord/subscription.h"
#include "gtest/gtest.h"
#include "kv/internal/mutex.h"
#include "kv/nats_connection.h"

namespace coord {
namespace {

constexpr int kSubscribers = 3;
// Fewer where every access is watched, which is slow and takes memory of its own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kWatched = true;
#else
constexpr bool kWatched = false;
#endif
constexpr uint64_t kBestEffortEvents = kWatched ? 50000 : 1000000;
constexpr uint64_t kReliableEvents = kWatched ? 5000 : 100000;
constexpr uint64_t kBatch = 1000;
// How far the publisher may be ahead of the slowest subscriber: less than an inbox holds.
constexpr uint64_t kLead = 3000;
// What the process may grow by: the inboxes and windows hold a few MiB of such small events, the client library's and
// the allocator's share is the rest.
constexpr int64_t kMaxGrowthKib = 64 * 1024;

absl::Time Late() { return absl::Now() + absl::Minutes(10); }

// The most memory that this process ever had, in KiB.
int64_t PeakKib() {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    absl::string_view rest = line;
    if (!absl::ConsumePrefix(&rest, "VmHWM:") || !absl::ConsumeSuffix(&rest, " kB")) continue;
    int64_t kib = 0;
    if (absl::SimpleAtoi(rest, &kib)) return kib;
  }
  ADD_FAILURE() << "no VmHWM in /proc/self/status";
  return 0;
}

// Counts what a subscriber gets, and checks that payloads, which are numbers, only grow.
struct Reader {
  void Take(const Event& event) {
    if (event.gap) {
      absl::string_view why = event.payload;
      uint64_t dropped = 0;
      const bool counted = absl::ConsumePrefix(&why, "the handler was too slow: ") &&
                           absl::ConsumeSuffix(&why, " best-effort events were dropped") &&
                           absl::SimpleAtoi(why, &dropped);
      EXPECT_TRUE(counted) << event.payload;
      lost += dropped;
      accounted.Add(dropped);
      return;
    }
    uint64_t number = 0;
    EXPECT_TRUE(absl::SimpleAtoi(event.payload, &number));
    uint64_t& last = event.delivery == Delivery::kReliable ? reliable : best_effort;
    if (number <= last) ADD_FAILURE() << number << " came after " << last;
    if (event.delivery == Delivery::kReliable && number != last + 1) ADD_FAILURE() << number << " after " << last;
    last = number;
    accounted.Add();
  }

  uint64_t best_effort = 0;
  uint64_t reliable = 0;
  uint64_t lost = 0;
  Tally accounted;
};

class NatsEventVolumeTest : public NatsEventsTest {
 protected:
  // Connections with different options are different connections.
  std::shared_ptr<kv::NatsConnection> ConnectAnew(int number) {
    kv::NatsOptions options;
    options.servers.assign(static_cast<size_t>(number) + 1, server_->address());
    auto connection = kv::NatsConnection::Connect(options, Soon());
    EXPECT_TRUE(connection.ok()) << connection.status();
    return connection.ok() ? *std::move(connection) : nullptr;
  }

  static void Report(const char* what, uint64_t events, absl::Time begun) {
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begun);
    std::cout << what << ": " << events << " events to each of " << kSubscribers << " subscribers in " << seconds
              << " s, " << static_cast<uint64_t>(static_cast<double>(events) / seconds) << " published/s, "
              << static_cast<uint64_t>(static_cast<double>(events) * kSubscribers / seconds) << " delivered/s"
              << std::endl;
  }
};

TEST_F(NatsEventVolumeTest, AllIsAccountedForInBoundedMemory) {
  auto publisher = Join("publisher", {}, ConnectAnew(0));
  ASSERT_TRUE(publisher != nullptr);
  std::array<Reader, kSubscribers> readers;
  std::vector<std::unique_ptr<Cluster>> copies;
  std::vector<Subscription> subscriptions;
  for (int i = 0; i < kSubscribers; ++i) {
    copies.push_back(Join(absl::StrCat("copy", i), {}, ConnectAnew(i + 1)));
    ASSERT_TRUE(copies.back() != nullptr);
    Reader* const reader = &readers[static_cast<size_t>(i)];
    subscriptions.push_back(Subscribe(*copies.back(), [reader](const Event& event) { reader->Take(event); }));
  }
  const int64_t peak_before = PeakKib();

  absl::Time begun = absl::Now();
  for (uint64_t number = 1; number <= kBestEffortEvents; ++number) {
    ASSERT_TRUE(publisher->events().Publish("t", absl::StrCat(number), Late()).ok());
    if (number % kBatch != 0) continue;
    ASSERT_TRUE(publisher->events().Flush(Late()).ok());
    for (Reader& reader : readers) {
      ASSERT_TRUE(reader.accounted.Reach(number > kLead ? number - kLead : 0, absl::Minutes(1)));
    }
  }
  for (Reader& reader : readers) ASSERT_TRUE(reader.accounted.Reach(kBestEffortEvents, absl::Minutes(1)));
  Report("best effort", kBestEffortEvents, begun);

  begun = absl::Now();
  Tally stored;
  for (uint64_t number = 1; number <= kReliableEvents; ++number) {
    publisher->events().PublishAsync("t", absl::StrCat(number), Late(),
                                     [&stored](const absl::Status& status) {
                                       EXPECT_TRUE(status.ok()) << status;
                                       stored.Add();
                                     },
                                     {Delivery::kReliable, ""});
  }
  ASSERT_TRUE(publisher->events().Flush(Late()).ok());
  ASSERT_TRUE(stored.Reach(kReliableEvents));
  for (Reader& reader : readers) {
    ASSERT_TRUE(reader.accounted.Reach(kBestEffortEvents + kReliableEvents, absl::Minutes(1)));
  }
  Report("reliable", kReliableEvents, begun);

  subscriptions.clear();
  const int64_t growth = PeakKib() - peak_before;
  std::cout << "memory: peak before " << peak_before << " KiB, growth " << growth << " KiB" << std::endl;
  if (!kWatched) {
    EXPECT_LT(growth, kMaxGrowthKib);
  }
  for (Reader& reader : readers) {
    std::cout << "lost by a slow handler and told: " << reader.lost << std::endl;
    EXPECT_EQ(reader.accounted.Get(), kBestEffortEvents + kReliableEvents);
    EXPECT_EQ(reader.reliable, kReliableEvents);
    EXPECT_EQ(reader.lost, 0u) << "the publisher's pace should have prevented it";
  }
}

}  // namespace
}  // namespace coord
