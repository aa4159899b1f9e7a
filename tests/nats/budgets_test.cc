// What each path costs, counted at the server.

#include <gtest/gtest.h>

#include <iomanip>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/nats/nats_copies.h"
#include "tests/nats/traffic.h"

namespace nats_test {
namespace {

constexpr int kTimes = 50;

// A copy looks through all records two ttl after it has joined, and then once an hour; a beat comes after ttl/5 at the
// soonest.
constexpr int kBeatsUntilThatLook = 14;

void Print(const std::string& path, const Traffic& traffic, int times) {
  std::cout << std::left << std::setw(44) << path << std::right << std::setw(8) << times << std::setw(10) << traffic.in
            << std::setw(10) << traffic.out << "\n";
}

class BudgetsTest : public NatsCopiesTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(NatsCopiesTest::SetUp());
    meter_ = std::make_unique<Meter>(*server_);
    std::cout << std::left << std::setw(44) << "path" << std::right << std::setw(8) << "times" << std::setw(10)
              << "in_msgs" << std::setw(10) << "out_msgs"
              << "\n";
  }

  // The messages of one command.
  Traffic Cost(Process& copy, const std::string& command, int64_t expected) {
    const Traffic before = meter_->Rested();
    const Reply reply = copy.Call(command);
    EXPECT_TRUE(reply.ok()) << command << ": " << reply.status;
    return meter_->Since(before, {expected, 0});
  }

  struct Sample {
    int64_t beats = 0;
    Traffic traffic;
    absl::Time at;
    friend bool operator==(const Sample& a, const Sample& b) {
      return a.beats == b.beats && a.traffic.in == b.traffic.in;
    }
  };
  Sample Look(Process& copy) {
    Sample sample;
    sample.traffic = meter_->Now();
    const Reply stats = copy.Call("stats");
    EXPECT_TRUE(stats.ok()) << stats.status;
    EXPECT_EQ(stats.Number(1), 0) << "beats have failed";
    sample.beats = stats.Number(0);
    sample.at = absl::Now();
    return sample;
  }
  // Between two beats: neither count moves for longer than a beat takes.
  Sample BetweenBeats(Process& copy) {
    Sample sample = Look(copy);
    EXPECT_TRUE(Eventually([&] {
      const Sample before = sample;
      absl::SleepFor(absl::Milliseconds(50));
      sample = Look(copy);
      return sample == before;
    })) << "the traffic never rests";
    return sample;
  }
  bool AwaitBeats(Process& copy, int64_t beats) {
    return Eventually([&] { return copy.Call("stats").Number(0) >= beats; });
  }

  std::unique_ptr<Meter> meter_;
};

TEST_F(BudgetsTest, AnAcquireIsAReadAndAPublishAtFirstThenOnePublishAndAReleaseIsOne) {
  const auto copy = Joined("a", kNoBeats);
  const Traffic begun = meter_->Rested();
  const Traffic cold = Cost(*copy, "acquire a lock 20000", 2);
  EXPECT_EQ(cold.in, 2);
  Print("acquire, cold", cold, 1);
  Traffic acquires, releases;
  for (int i = 0; i < kTimes; ++i) {
    const Traffic release = Cost(*copy, "release a 20000", 1);
    ASSERT_EQ(release.in, 1) << i;
    releases.in += release.in;
    releases.out += release.out;
    const Traffic warm = Cost(*copy, "acquire a lock 20000", 1);
    ASSERT_EQ(warm.in, 1) << i;
    acquires.in += warm.in;
    acquires.out += warm.out;
  }
  Print("release", releases, kTimes);
  Print("acquire, warm", acquires, kTimes);
  EXPECT_EQ((meter_->Rested() - begun).in, 2 + 2 * kTimes) << "nothing came late";
}

TEST_F(BudgetsTest, AHandOverIsOnePublishByTheReleaserAndNoneByTheSuccessor) {
  std::unique_ptr<Process> owner = Joined("a", kNoBeats);
  std::unique_ptr<Process> waiter = Joined("b", kNoBeats);
  ASSERT_TRUE(owner->Call("acquire slot lock 20000").ok());
  Traffic sum;
  for (int i = 0; i < kTimes; ++i) {
    const int waiting = waiter->Send("acquire slot lock 60000");
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*owner, "lock", owner->instance(), waiter->instance()));
    const Traffic before = meter_->Rested();
    const Reply released = owner->Call("release slot 20000");
    ASSERT_TRUE(released.ok()) << released.status;
    const Reply granted = waiter->Await(waiting);
    ASSERT_TRUE(granted.ok()) << granted.status;
    const Traffic spent = meter_->Since(before, {1, 0});
    ASSERT_EQ(spent.in, 1) << i;
    sum.in += spent.in;
    sum.out += spent.out;
    std::swap(owner, waiter);
  }
  Print("hand-over to another process", sum, kTimes);
}

TEST_F(BudgetsTest, AWaitingCopySendsItsBeatsAndOneReadOfTheRecordPerTtl) {
  constexpr absl::Duration kTtl = absl::Seconds(3);
  const auto owner = Joined("owner", kNoBeats);
  const auto waiter = Joined("waiter", kTtl);
  ASSERT_TRUE(owner->Call("acquire slot lock 20000").ok());
  waiter->Send("acquire slot lock 600000");
  ASSERT_NO_FATAL_FAILURE(AwaitQueue(*owner, "lock", "owner", "waiter"));
  ASSERT_TRUE(AwaitBeats(*waiter, kBeatsUntilThatLook));
  const Sample begun = BetweenBeats(*waiter);
  ASSERT_TRUE(AwaitBeats(*waiter, begun.beats + 16));
  const Sample now = BetweenBeats(*waiter);
  const int64_t beats = now.beats - begun.beats;
  const Traffic spent = now.traffic - begun.traffic;
  const int64_t ttls = static_cast<int64_t>(absl::FDivDuration(now.at - begun.at, kTtl));
  Print(absl::StrCat("waiting for ", absl::FormatDuration(now.at - begun.at), " with a ttl of 3s, per beat"), spent,
        static_cast<int>(beats));
  const int64_t reads = spent.in - 2 * beats;
  std::cout << "  " << beats << " beats, each a read of the epoch and a publish; " << reads
            << " reads of the record in " << ttls << " ttl\n";
  EXPECT_GE(ttls, 3);
  EXPECT_GE(reads, ttls - 1) << "a lost push is noticed by that read";
  EXPECT_LE(reads, ttls + 1);
}

TEST_F(BudgetsTest, AnIdleCopySendsItsBeatAndTheReadOfTheEpochHoweverManyGrantsItHolds) {
  constexpr absl::Duration kTtl = absl::Seconds(3);
  constexpr int kGrants = 10000;
  const auto copy = Joined("a", kTtl);
  const Reply held = copy->Call(absl::StrCat("hold ", kGrants, " name 50000"));
  ASSERT_TRUE(held.ok()) << held.status;
  std::cout << "  " << kGrants << " names acquired in " << held.took << "\n";
  ASSERT_TRUE(AwaitBeats(*copy, copy->Call("stats").Number(0) + kBeatsUntilThatLook));
  const Sample begun = BetweenBeats(*copy);
  ASSERT_TRUE(AwaitBeats(*copy, begun.beats + 10));
  const Sample now = BetweenBeats(*copy);
  const int64_t beats = now.beats - begun.beats;
  const Traffic spent = now.traffic - begun.traffic;
  Print(absl::StrCat("idle with ", kGrants, " grants, per beat"), spent, static_cast<int>(beats));
  EXPECT_EQ(spent.in, 2 * beats);
  EXPECT_LE(beats, (now.at - begun.at) / (kTtl / 5) + 1) << "beats come too often";
}

}  // namespace
}  // namespace nats_test
