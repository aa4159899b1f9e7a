// How long a lock stays with a copy that has died or left.

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "tests/process/copies.h"

namespace process_test {
namespace {

constexpr absl::Duration kTtl = absl::Seconds(1);
constexpr absl::Duration kBound = absl::Milliseconds(1500);  // kTtl and half a second

class TakeoverTest : public CopiesTest {
 protected:
  // When `session` last beat, by the age of its record.
  int64_t LastBeat(const std::string& session) const {
    const std::shared_ptr<kv::Store> store = OpenStore();
    const auto records = store->List("process-test/session/", absl::Now() + absl::Seconds(10));
    const int64_t now = BootNanos();
    EXPECT_TRUE(records.ok()) << records.status();
    for (const kv::KeyedEntry& each : *records) {
      const bool ends = each.key.size() > session.size() &&
                        each.key.compare(each.key.size() - session.size(), session.size(), session) == 0;
      if (ends) return now - absl::ToInt64Nanoseconds(each.entry.age.value_or(absl::ZeroDuration()));
    }
    ADD_FAILURE() << "there is no session " << session;
    return 0;
  }

  // `acquired` is a reply of acquire.
  static void CheckTakeover(const char* what, int64_t last_beat, int64_t killed, const Reply& acquired) {
    ASSERT_TRUE(acquired.ok()) << acquired.status;
    const absl::Duration after_beat = absl::Nanoseconds(acquired.Number(1) - last_beat);
    std::cout << what << ": taken over " << absl::ToInt64Milliseconds(after_beat) << " ms after the last beat, "
              << (acquired.Number(1) - killed) / 1'000'000 << " ms after the kill\n";
    // Until 5/6 of the ttl the dead one might still have believed in its grant.
    EXPECT_GE(after_beat, kTtl - kTtl / 6);
    EXPECT_LE(after_beat, kBound);
  }
};

TEST_F(TakeoverTest, AWaitingCopyReplacesAKilledHolderAfterItsTtl) {
  const auto waiter = Joined("waiter", kTtl);
  uint64_t fence = 0;
  for (int round = 0; round < 3; ++round) {
    auto holder = Start("holder", kTtl);
    const Reply joined = holder->Call("join");
    ASSERT_TRUE(joined.ok()) << joined.status;
    const Reply held = holder->Call("acquire a lock 20000");
    ASSERT_TRUE(held.ok()) << held.status;
    EXPECT_GT(static_cast<uint64_t>(held.Number(0)), fence);
    const int waiting = waiter->Send("acquire b lock 20000");
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*holder, "lock", "holder", "waiter"));
    // Right after a beat, and, in the second round, well after it.
    const int64_t first_beat = LastBeat(joined.text);
    EXPECT_TRUE(Eventually([&] { return LastBeat(joined.text) > first_beat; }));
    const int64_t since_beat = round == 1 ? 150'000'000 : 0;
    EXPECT_TRUE(Eventually([&] { return BootNanos() - LastBeat(joined.text) >= since_beat; }));
    const int64_t killed = holder->Kill();
    const int64_t beat = LastBeat(joined.text);
    const Reply acquired = waiter->Await(waiting);
    CheckTakeover("waiting", beat, killed, acquired);
    EXPECT_GT(acquired.Number(0), held.Number(0));
    fence = static_cast<uint64_t>(acquired.Number(0));
    ASSERT_TRUE(waiter->Call("release b 10000").ok());
  }
}

TEST_F(TakeoverTest, DeadWaitersAheadCostNoFurtherTtl) {
  const auto holder = Start("holder", kTtl);
  const Reply joined = holder->Call("join");
  ASSERT_TRUE(joined.ok()) << joined.status;
  const auto dead = Start("dead", kTtl);
  const Reply dead_joined = dead->Call("join");
  ASSERT_TRUE(dead_joined.ok()) << dead_joined.status;
  const auto live = Joined("live", kTtl);
  const Reply held = holder->Call("acquire a lock 20000");
  ASSERT_TRUE(held.ok()) << held.status;
  dead->Send("acquire b lock 20000");
  ASSERT_NO_FATAL_FAILURE(AwaitQueue(*live, "lock", "holder", "dead"));
  const int waiting = live->Send("acquire c lock 20000");
  ASSERT_NO_FATAL_FAILURE(AwaitQueue(*holder, "lock", "holder", "dead live"));
  holder->Kill();
  const int64_t killed = dead->Kill();
  const int64_t beat = std::max(LastBeat(joined.text), LastBeat(dead_joined.text));
  CheckTakeover("behind a dead waiter", beat, killed, live->Await(waiting));
}

TEST_F(TakeoverTest, ACopyThatComesLaterWaitsNoLonger) {
  const auto holder = Start("holder", kTtl);
  const Reply joined = holder->Call("join");
  ASSERT_TRUE(joined.ok()) << joined.status;
  const auto later = Joined("later", kTtl);
  ASSERT_TRUE(holder->Call("acquire a lock 20000").ok());
  const int64_t killed = holder->Kill();
  const int64_t beat = LastBeat(joined.text);
  CheckTakeover("coming later", beat, killed, later->Call("acquire b lock 20000"));
}

TEST_F(TakeoverTest, TriesAloneNoticeADeadHolder) {
  const auto holder = Start("holder", kTtl);
  const Reply joined = holder->Call("join");
  ASSERT_TRUE(joined.ok()) << joined.status;
  const auto trying = Joined("trying", kTtl);
  ASSERT_TRUE(holder->Call("acquire a lock 20000").ok());
  const int64_t killed = holder->Kill();
  const int64_t beat = LastBeat(joined.text);
  Reply tried;
  EXPECT_TRUE(Eventually([&] {
    tried = trying->Call("try b lock 5000");
    return tried.status.code() != absl::StatusCode::kResourceExhausted;
  }));
  CheckTakeover("trying", beat, killed, tried);
}

// By handing over, not by waiting for silence: the ttl is far above the bound.
TEST_F(TakeoverTest, ACopyThatLeavesIsReplacedAtOnce) {
  constexpr absl::Duration kLongTtl = absl::Seconds(30);
  const auto waiter = Joined("waiter", kLongTtl);
  for (const char* way : {"leave 10000", "quit"}) {
    const auto holder = Joined("holder", kLongTtl);
    ASSERT_TRUE(holder->Call("acquire a lock 20000").ok());
    const int waiting = waiter->Send("acquire b lock 20000");
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*holder, "lock", "holder", "waiter"));
    const int64_t leaving = BootNanos();
    const int left = holder->Send(way);
    const Reply acquired = waiter->Await(waiting);
    ASSERT_TRUE(acquired.ok()) << way << ": " << acquired.status;
    const absl::Duration took = absl::Nanoseconds(acquired.Number(1) - leaving);
    std::cout << way << ": handed over after " << absl::ToInt64Microseconds(took) << " us\n";
    EXPECT_LT(took, kLongTtl / 10);
    const Reply reply = holder->Await(left);
    EXPECT_TRUE(reply.ok()) << reply.status;
    EXPECT_TRUE(holder->AwaitEvent("lost a").has_value() || std::string(way) == "quit");
    ASSERT_TRUE(waiter->Call("release b 10000").ok());
  }
}

}  // namespace
}  // namespace process_test
