// Buckets that are lost and made again under live copies, and servers that end, come back, or stand still.

#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/nats/bucket.h"
#include "tests/nats/nats_copies.h"

namespace nats_test {
namespace {

using process_test::Lines;

// Of all copies, and the longest of the deployment. A session ends by itself 7.5 s after its last beat; a copy that
// notices by a beat knows before.
constexpr absl::Duration kTtl = absl::Seconds(9);
constexpr absl::Duration kCallTimeout = absl::Seconds(1);
const absl::Duration kNotice = kTtl / 3 + 2 * kCallTimeout;

absl::Duration After(int64_t nanos, int64_t since) { return absl::Nanoseconds(nanos - since); }

class EpochsTest : public NatsCopiesTest {
 protected:
  Process::Options OptionsOf(const std::string& instance, absl::Duration ttl) const override {
    Process::Options options = NatsCopiesTest::OptionsOf(instance, ttl);
    options.max_ttl = kTtl;
    options.accept_weaker = storage_ == "memory";
    options.call_timeout = kCallTimeout;
    return options;
  }

  // "owner" holds the lock, "waiter" waits for it, "other" holds something else. In a bucket of a volatile store, that
  // is once it has settled.
  void Begin() {
    for (auto* copy : {&owner_, &waiter_, &other_}) {
      *copy = Start(copy == &owner_ ? "owner" : copy == &waiter_ ? "waiter" : "other", kTtl);
    }
    ASSERT_NO_FATAL_FAILURE(Join(All()));
    const Reply held = owner_->Call("acquire slot lock 30000");
    ASSERT_TRUE(held.ok()) << held.status;
    fence_ = held.Number(0);
    const Reply others = other_->Call("acquire slot something 30000");
    ASSERT_TRUE(others.ok()) << others.status;
    waiting_ = waiter_->Send("acquire slot lock 120000");
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*owner_, "lock", "owner", "waiter"));
    for (Process* copy : All()) sessions_.push_back(copy->Call("session").text);
  }

  std::vector<Process*> All() const { return {owner_.get(), waiter_.get(), other_.get()}; }

  // When the grant in the slot was lost, as its holder says.
  int64_t AwaitLoss(Process& copy) {
    const std::optional<std::string> lost = copy.AwaitEvent("lost slot ");
    int64_t at = 0;
    EXPECT_TRUE(lost.has_value() && absl::SimpleAtoi(*lost, &at)) << copy.instance() << " did not lose its grant";
    EXPECT_EQ(copy.Call("is-lost slot").text, "1") << copy.instance();
    return at;
  }

  // The store began anew: it was gone at `gone` and could be reached again at `back`, as BootNanos.
  void ExpectNewEpoch(int64_t gone, int64_t back) {
    for (Process* holder : {owner_.get(), other_.get()}) {
      const int64_t lost = AwaitLoss(*holder);
      std::cout << holder->instance() << " lost its grant " << After(lost, gone) << " after the bucket, "
                << After(lost, back) << " after the store was back\n";
      EXPECT_LE(After(lost, back), kNotice) << holder->instance();
    }
    // Nobody is granted anything while copies of before might believe to be valid.
    std::string why;
    EXPECT_TRUE(Eventually([&] {
      const Reply tried = other_->Call("try probe free 1000");
      EXPECT_TRUE(absl::IsUnavailable(tried.status)) << tried.status << tried.text;
      why = std::string(tried.status.message());
      return absl::StrContains(why, "cannot be had yet: the store began anew") || tried.ok();
    })) << why;
    const Reply granted = waiter_->Await(waiting_);
    ASSERT_TRUE(granted.ok()) << granted.status;
    std::cout << "the waiter got the lock " << After(granted.Number(1), gone) << " after the bucket was gone\n";
    EXPECT_GE(After(granted.Number(1), gone), kTtl) << "the new epoch had not settled";
    EXPECT_GT(granted.Number(0), fence_) << "fences must grow over a lost store";
    EXPECT_EQ(owner_->Call("is-lost slot").text, "1");
    ASSERT_NO_FATAL_FAILURE(ExpectAllGoesOn(granted.Number(0)));
    for (size_t i = 0; i < sessions_.size(); ++i) {
      EXPECT_NE(All()[i]->Call("session").text, sessions_[i]) << "a session of the old epoch";
    }
  }

  // The waiter holds the lock now, with this fence.
  void ExpectAllGoesOn(int64_t fence) {
    const Reply released = waiter_->Call("release slot 20000");
    ASSERT_TRUE(released.ok()) << released.status;
    std::vector<int> turns;
    for (Process* copy : All()) turns.push_back(copy->Send("turn lock 60000 " + folder_ / "log"));
    for (size_t i = 0; i < turns.size(); ++i) {
      const Reply turn = All()[i]->Await(turns[i]);
      ASSERT_TRUE(turn.ok()) << All()[i]->instance() << ": " << turn.status;
      EXPECT_GT(turn.Number(0), fence);
    }
    EXPECT_EQ(Lines(folder_ / "log").size(), 3u);
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*owner_, "lock", "", ""));
  }

  // Nothing was lost.
  void ExpectAsBefore() {
    EXPECT_EQ(owner_->Call("is-lost slot").text, "0");
    EXPECT_EQ(other_->Call("is-lost slot").text, "0");
    const Reply released = owner_->Call("release slot 20000");
    ASSERT_TRUE(released.ok()) << released.status;
    const Reply granted = waiter_->Await(waiting_);
    ASSERT_TRUE(granted.ok()) << granted.status;
    EXPECT_GT(granted.Number(0), fence_);
    ASSERT_NO_FATAL_FAILURE(ExpectAllGoesOn(granted.Number(0)));
    for (size_t i = 0; i < sessions_.size(); ++i) {
      EXPECT_EQ(All()[i]->Call("session").text, sessions_[i]) << All()[i]->instance() << " has lost its session";
    }
  }

  std::unique_ptr<Process> owner_, waiter_, other_;
  std::vector<std::string> sessions_;
  int64_t fence_ = 0;
  int waiting_ = 0;
};

TEST_F(EpochsTest, ABucketThatIsDeletedUnderLiveCopiesIsANewEpoch) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  const Bucket bucket(server_->address(), kBucket);
  const int64_t gone = BootNanos();
  bucket.Delete();
  ExpectNewEpoch(gone, BootNanos());
}

TEST_F(EpochsTest, ABucketInMemoryOverARestartOfTheServerIsANewEpoch) {
  storage_ = "memory";
  ASSERT_NO_FATAL_FAILURE(Begin());
  const int64_t gone = BootNanos();
  server_->Terminate();
  ASSERT_TRUE(server_->Start().ok());
  ExpectNewEpoch(gone, BootNanos());
}

TEST_F(EpochsTest, ABucketInFilesOutlivesTheKillOfItsServer) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  server_->Kill();
  ASSERT_TRUE(server_->Start().ok());
  const int64_t back = BootNanos();
  std::vector<int64_t> beats;
  for (Process* copy : All()) beats.push_back(copy->Call("stats").Number(0));
  for (size_t i = 0; i < beats.size(); ++i) {
    ASSERT_TRUE(Eventually([&] { return All()[i]->Call("stats").Number(0) > beats[i]; }));
  }
  std::cout << "every copy beats again " << After(BootNanos(), back) << " after the server was back\n";
  EXPECT_LE(After(BootNanos(), back), kNotice);
  ExpectAsBefore();
}

TEST_F(EpochsTest, AServerThatStandsStillForLessThanTheTtlCostsNothing) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  server_->Stop();
  absl::SleepFor(kTtl / 3);
  server_->Continue();
  ExpectAsBefore();
}

TEST_F(EpochsTest, WhereTheServerStandsStillForLongerTheHolderKnowsByItsOwnClockBeforeAnybodyTakesOver) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  const int64_t stopped = BootNanos();
  server_->Stop();
  int64_t lost = 0;
  for (Process* holder : {owner_.get(), other_.get()}) {
    const int64_t at = AwaitLoss(*holder);
    if (lost == 0) lost = at;
    std::cout << holder->instance() << " knew of its loss " << After(at, stopped) << " after the server had stopped\n";
    EXPECT_LT(After(at, stopped), kTtl) << "others may take over a ttl after its last beat";
  }
  absl::SleepFor(kTtl / 3);
  server_->Continue();
  const int64_t back = BootNanos();
  const Reply granted = waiter_->Await(waiting_);
  ASSERT_TRUE(granted.ok()) << granted.status;
  std::cout << "the waiter got the lock " << After(granted.Number(1), back) << " after the server went on\n";
  EXPECT_GT(granted.Number(1), lost);
  EXPECT_GT(granted.Number(1), back);
  EXPECT_GT(granted.Number(0), fence_);
  ExpectAllGoesOn(granted.Number(0));
}

}  // namespace
}  // namespace nats_test
