// Writes whose replies do not come: applied, and their callers do not know it.

#include <gtest/gtest.h>

#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/nats/nats_copies.h"

namespace nats_test {
namespace {

using process_test::Lines;
using process_test::Words;

// No cut here lasts nearly as long: no session ends, and what is put right is put right by the library.
constexpr absl::Duration kTtl = absl::Seconds(30);

// How long the replies stay away after the write has been applied: not at all, until the call has given up, until the
// connection has.
constexpr absl::Duration kCuts[] = {absl::ZeroDuration(), absl::Milliseconds(2500), absl::Seconds(6)};

class UnknownTest : public NatsCopiesTest {
 protected:
  std::string url() const override { return through_ == nullptr ? NatsCopiesTest::url() : UrlAt(through_->address()); }

  std::unique_ptr<servers::Relay> NewRelay() {
    auto relay = servers::Relay::Run(server_->address());
    EXPECT_TRUE(relay.ok()) << relay.status();
    return *std::move(relay);
  }

  std::unique_ptr<Process> JoinedThrough(servers::Relay& relay, const std::string& instance) {
    through_ = &relay;
    std::unique_ptr<Process> copy = Joined(instance, kTtl);
    through_ = nullptr;
    return copy;
  }

  // "cut" behind a relay, "whole" not. Both know the names, and the one that is cut off used them last: its next write
  // expects the newest revision.
  void Begin() {
    relay_ = NewRelay();
    cut_ = JoinedThrough(*relay_, "cut");
    whole_ = Joined("whole", kTtl);
    for (Process* copy : {whole_.get(), cut_.get()}) {
      ASSERT_TRUE(copy->Call("acquire slot lock 20000").ok());
      ASSERT_TRUE(copy->Call("release slot 20000").ok());
      ASSERT_TRUE(copy->Call("add number 20000").ok());
    }
  }

  // Free, nobody waits, and both can have it at once.
  void ExpectFree(const std::string& mutex) {
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*whole_, mutex, "", ""));
    for (Process* copy : {cut_.get(), whole_.get(), cut_.get()}) {
      const Reply held = copy->Call(absl::StrCat("acquire slot ", mutex, " 10000"));
      ASSERT_TRUE(held.ok()) << copy->instance() << ": " << held.status;
      EXPECT_GT(held.Number(0), fence_);
      fence_ = held.Number(0);
      ASSERT_TRUE(copy->Call("release slot 10000").ok());
    }
    EXPECT_EQ(cut_->Call("stats").Number(2), 1) << "the session was lost";
  }

  servers::Relay* through_ = nullptr;
  std::unique_ptr<servers::Relay> relay_;
  std::unique_ptr<Process> cut_, whole_;
  int64_t fence_ = 0;
};

TEST_F(UnknownTest, AnAcquireWhoseReplyIsLostIsGrantedOnce) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  for (const absl::Duration cut : kCuts) {
    SCOPED_TRACE(absl::FormatDuration(cut));
    relay_->CutReplies();
    const int acquiring = cut_->Send("acquire slot lock 60000");
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*whole_, "lock", "cut", ""));
    const int waiting = whole_->Send("acquire slot lock 60000");
    absl::SleepFor(cut);
    relay_->Heal();
    const Reply acquired = cut_->Await(acquiring);
    ASSERT_TRUE(acquired.ok()) << acquired.status;
    EXPECT_GT(acquired.Number(0), fence_);
    fence_ = acquired.Number(0);
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*whole_, "lock", "cut", "whole"));
    const Reply released = cut_->Call("release slot 10000");
    ASSERT_TRUE(released.ok()) << released.status;
    const Reply next = whole_->Await(waiting);
    ASSERT_TRUE(next.ok()) << next.status;
    EXPECT_GT(next.Number(0), fence_);
    EXPECT_GT(next.Number(1), released.Number(0)) << "two at a time";
    fence_ = next.Number(0);
    ASSERT_TRUE(whole_->Call("release slot 10000").ok());
    ASSERT_NO_FATAL_FAILURE(ExpectFree("lock"));
  }
}

TEST_F(UnknownTest, AnAcquireWhoseCallerHasGoneIsTakenBack) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  for (const absl::Duration cut : kCuts) {
    SCOPED_TRACE(absl::FormatDuration(cut));
    relay_->CutReplies();
    const Reply acquired = cut_->Call("acquire slot lock 500");
    ASSERT_TRUE(absl::IsDeadlineExceeded(acquired.status)) << acquired.status;
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*whole_, "lock", "cut", ""));
    const int waiting = whole_->Send("acquire slot lock 60000");
    absl::SleepFor(cut);
    relay_->Heal();
    const int64_t healed = BootNanos();
    const Reply next = whole_->Await(waiting);
    ASSERT_TRUE(next.ok()) << next.status;
    const absl::Duration after = absl::Nanoseconds(next.Number(1) - healed);
    std::cout << "cut for " << cut << ": what nobody wanted any more was given up " << after << " after the healing\n";
    EXPECT_LT(after, absl::Seconds(10)) << "nobody waits for the end of that session";
    fence_ = next.Number(0);
    ASSERT_TRUE(whole_->Call("release slot 10000").ok());
    ASSERT_NO_FATAL_FAILURE(ExpectFree("lock"));
  }
}

TEST_F(UnknownTest, AReleaseWhoseReplyIsLostHasReleased) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  for (const absl::Duration cut : kCuts) {
    SCOPED_TRACE(absl::FormatDuration(cut));
    const Reply acquired = cut_->Call("acquire slot lock 20000");
    ASSERT_TRUE(acquired.ok()) << acquired.status;
    const int waiting = whole_->Send("acquire slot lock 60000");
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*whole_, "lock", "cut", "whole"));
    relay_->CutReplies();
    const int releasing = cut_->Send("release slot 30000");
    const Reply next = whole_->Await(waiting);
    ASSERT_TRUE(next.ok()) << next.status;
    fence_ = next.Number(0);
    // It queues again while it does not know yet.
    const int again = cut_->Send("acquire slot lock 60000");
    absl::SleepFor(cut);
    relay_->Heal();
    const Reply released = cut_->Await(releasing);
    ASSERT_TRUE(released.ok()) << released.status;
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*whole_, "lock", "whole", "cut"));
    const Reply given = whole_->Call("release slot 10000");
    ASSERT_TRUE(given.ok()) << given.status;
    const Reply second = cut_->Await(again);
    ASSERT_TRUE(second.ok()) << second.status;
    EXPECT_GT(second.Number(0), fence_);
    EXPECT_GT(second.Number(1), given.Number(0)) << "two at a time";
    fence_ = second.Number(0);
    ASSERT_TRUE(cut_->Call("release slot 10000").ok());
    ASSERT_NO_FATAL_FAILURE(ExpectFree("lock"));
  }
}

TEST_F(UnknownTest, AnUpdateWhoseReplyIsLostIsAppliedOnce) {
  ASSERT_NO_FATAL_FAILURE(Begin());
  int64_t number = 2;
  const auto in_store = [&] { return whole_->Call("get number 10000").Number(0); };
  ASSERT_EQ(in_store(), number);
  for (const absl::Duration cut : kCuts) {
    SCOPED_TRACE(absl::FormatDuration(cut));
    relay_->CutReplies();
    const int adding = cut_->Send("add number 60000");
    ASSERT_TRUE(Eventually([&] { return in_store() == number + 1; }));
    absl::SleepFor(cut);
    relay_->Heal();
    const Reply added = cut_->Await(adding);
    ASSERT_TRUE(added.ok()) << added.status;
    EXPECT_EQ(added.Number(0), ++number);
    EXPECT_EQ(in_store(), number) << "applied twice";

    relay_->CutReplies();
    const Reply unknown = cut_->Call("add number 500");
    EXPECT_TRUE(absl::IsDeadlineExceeded(unknown.status)) << unknown.status << unknown.text;
    EXPECT_EQ(in_store(), ++number);
    relay_->Heal();
    const Reply next = cut_->Call("add number 20000");
    ASSERT_TRUE(next.ok()) << next.status;
    EXPECT_EQ(next.Number(0), ++number);
    EXPECT_EQ(in_store(), number);
  }
}

TEST_F(UnknownTest, NothingIsLostAndNothingLeftBehindByCutsUnderLoad) {
  constexpr int kCopies = 3;
  constexpr int kRounds = 12;
  constexpr int kIncrements = 400;
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  std::cout << "seed " << seed << "\n";
  std::vector<std::unique_ptr<servers::Relay>> relays;
  std::vector<std::unique_ptr<Process>> copies;
  std::vector<int> counting, adding;
  for (int i = 0; i < kCopies; ++i) {
    relays.push_back(NewRelay());
    copies.push_back(JoinedThrough(*relays.back(), absl::StrCat("copy-", i)));
  }
  ASSERT_FALSE(HasFailure());
  for (auto& copy : copies) {
    counting.push_back(copy->Send(absl::StrCat("count counter ", folder_.path(), " ", kIncrements, " 0")));
    adding.push_back(copy->Send("tally sum"));
  }
  for (int i = 0; i < kRounds; ++i) {
    servers::Relay& relay = *relays[random() % kCopies];
    absl::SleepFor(absl::Milliseconds(50 + random() % 400));
    relay.CutReplies();
    absl::SleepFor(absl::Milliseconds(i % 4 == 3 ? 4000 + random() % 2000 : random() % 2500));
    relay.Heal();
  }
  for (int i = 0; i < kCopies; ++i) {
    const Reply counted = copies[static_cast<size_t>(i)]->Await(counting[static_cast<size_t>(i)], absl::Seconds(120));
    ASSERT_TRUE(counted.ok()) << i << ": " << counted.status;
    EXPECT_EQ(counted.text, absl::StrCat(kIncrements, " 0")) << "a grant was lost";
  }
  int64_t acknowledged = 0, unknown = 0;
  for (int i = 0; i < kCopies; ++i) {
    copies[static_cast<size_t>(i)]->Call("tally-stop sum");
    const Reply sum = copies[static_cast<size_t>(i)]->Await(adding[static_cast<size_t>(i)]);
    ASSERT_TRUE(sum.ok()) << sum.status;
    acknowledged += sum.Number(0);
    unknown += sum.Number(1);
  }
  const int64_t sum = copies[0]->Call("get sum 20000").Number(0);
  std::cout << acknowledged << " additions acknowledged, " << unknown << " unknown, " << sum << " in the store\n";
  EXPECT_GE(sum, acknowledged) << "acknowledged additions are lost";
  EXPECT_LE(sum, acknowledged + unknown) << "additions were applied twice";
  EXPECT_GT(unknown, 0) << "the cuts have hit nothing";

  int64_t counter = 0;
  for (const std::string& line : Lines(folder_ / "counter")) {
    int64_t count = 0;
    const std::vector<std::string> words = Words(line);
    ASSERT_EQ(words.size(), 2u) << "the counter is torn: " << line;
    if (words[0] != "fence" && absl::SimpleAtoi(words[1], &count)) counter += count;
  }
  EXPECT_EQ(counter, kCopies * kIncrements);
  int64_t last = 0;
  for (const std::string& line : Lines(folder_ / "log")) {
    int64_t fence = 0;
    ASSERT_TRUE(absl::SimpleAtoi(Words(line)[0], &fence)) << line;
    EXPECT_GT(fence, last) << line << " entered with a fence that is not above the one before";
    last = fence;
  }
  ASSERT_NO_FATAL_FAILURE(AwaitQueue(*copies[0], "counter", "", ""));
  for (auto& copy : copies) {
    EXPECT_EQ(copy->Call("stats").Number(2), 1) << copy->instance() << " has lost its session";
    const Reply turn = copy->Call("turn counter 10000 " + folder_ / "turns");
    EXPECT_TRUE(turn.ok()) << turn.status;
  }
}

}  // namespace
}  // namespace nats_test
