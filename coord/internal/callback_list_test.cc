#include "coord/internal/callback_list.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coord/sim_runtime.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

// Virtual time: what must wait is seen to wait, without a sleep.
class CallbackListTest : public ::testing::Test {
 protected:
  void TearDown() override { executor_.Stop(absl::InfiniteFuture()); }

  SimRuntime runtime_;
  Executor executor_{runtime_, "callbacks"};
  CallbackList<const std::string&> list_{runtime_};
  std::vector<std::string> heard_;
};

TEST_F(CallbackListTest, CallsEverySlotInOrderWithCopiesOfTheArguments) {
  Subscription first = MakeSubscription(list_.Add([&](const std::string& news) { heard_.push_back("1:" + news); }));
  Subscription second = MakeSubscription(list_.Add([&](const std::string& news) { heard_.push_back("2:" + news); }));
  {
    std::string news = "a";
    EXPECT_TRUE(list_.Post(executor_, news));
    news = "changed after the post";
  }
  EXPECT_TRUE(list_.Post(executor_, "b"));
  EXPECT_TRUE(heard_.empty()) << "called inside Post";
  runtime_.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"1:a", "2:a", "1:b", "2:b"}));
}

TEST_F(CallbackListTest, NothingIsCalledAfterTheSubscriptionIsGone) {
  Subscription subscription = MakeSubscription(list_.Add([&](const std::string& news) { heard_.push_back(news); }));
  list_.Post(executor_, "posted before, run after");
  subscription = Subscription();
  list_.Post(executor_, "posted after");
  runtime_.RunUntilIdle();
  EXPECT_TRUE(heard_.empty());
  EXPECT_TRUE(list_.Slots().empty());
}

TEST_F(CallbackListTest, CancelWaitsForTheRunningCall) {
  bool finished = false;
  Subscription subscription = MakeSubscription(list_.Add([&](const std::string&) {
    runtime_.SleepFor(absl::Seconds(5));
    finished = true;
  }));
  list_.Post(executor_, "x");
  runtime_.RunUntilIdle();
  EXPECT_FALSE(finished);
  subscription = Subscription();
  EXPECT_TRUE(finished);
}

TEST_F(CallbackListTest, CancelFromInsideDoesNotWaitAndFreesWhatTheFunctionOwns) {
  auto owned = std::make_shared<Subscription>();
  std::weak_ptr<Subscription> seen = owned;
  auto& heard = heard_;
  *owned = MakeSubscription(list_.Add([owned, &heard](const std::string& news) {
    Subscription gone = std::move(*owned);
    gone = Subscription();
    heard.push_back(news);  // the function itself is still alive
  }));
  owned = nullptr;  // the function now owns its own subscription
  list_.Post(executor_, "once");
  list_.Post(executor_, "twice");
  runtime_.RunUntilIdle();
  EXPECT_EQ(heard_, (std::vector<std::string>{"once"}));
  EXPECT_TRUE(seen.expired()) << "a function that owns its subscription leaks";
}

TEST_F(CallbackListTest, CancelWaitsForTheDestructionOfWhatWasCaptured) {
  struct Slow {
    explicit Slow(SimRuntime& r, bool& d) : runtime(r), destroyed(d) {}
    ~Slow() {
      runtime.SleepFor(absl::Seconds(1));
      destroyed = true;
    }
    SimRuntime& runtime;
    bool& destroyed;
  };
  bool destroyed = false;
  auto slow = std::make_shared<Slow>(runtime_, destroyed);
  Subscription subscription =
      MakeSubscription(list_.Add([this, slow](const std::string&) { runtime_.SleepFor(absl::Seconds(5)); }));
  slow = nullptr;
  list_.Post(executor_, "x");
  runtime_.RunUntilIdle();
  subscription = Subscription();
  EXPECT_TRUE(destroyed);
}

TEST_F(CallbackListTest, TwoCallbacksOfOneGateMayCancelEachOther) {
  CallbackGate gate(runtime_);
  Executor other(runtime_, "other");
  int done = 0;
  auto body = [&] {
    gate.Run([&] {
      runtime_.SleepFor(absl::Seconds(1));
      gate.Cancel();
      ++done;
    });
  };
  executor_.Post(body);
  other.Post(body);
  runtime_.SleepFor(absl::Seconds(10));
  EXPECT_EQ(done, 2);
  other.Stop(absl::InfiniteFuture());
  EXPECT_TRUE(gate.cancelled());
  EXPECT_FALSE(gate.Run([] { FAIL() << "runs after Cancel"; }));
}

TEST_F(CallbackListTest, AStoppedExecutorDropsWhatIsPosted) {
  Subscription subscription = MakeSubscription(list_.Add([&](const std::string& news) { heard_.push_back(news); }));
  executor_.Stop(absl::InfiniteFuture());
  EXPECT_FALSE(list_.Post(executor_, "x"));
  subscription = Subscription();
  EXPECT_TRUE(heard_.empty());
}

}  // namespace
}  // namespace coord::internal
