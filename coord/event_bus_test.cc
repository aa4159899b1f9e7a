// Delivery, targeting, questions, budgets and bad input of the event bus over a store.

#include "coord/event_bus.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_test_util.h"
#include "coord/runtime.h"
#include "coord/subscription.h"
#include "coord/testing.h"
#include "gtest/gtest.h"
#include "kv/counting_store.h"
#include "kv/faulty_store.h"
#include "kv/store_wrapper.h"

namespace coord {
namespace {

TEST_F(EventBusTest, BothDeliveriesReachAllCopies) {
  auto a = Join("a");
  auto b = Join("b");
  Listener at_a(world_, *a, "t");
  Listener at_b(world_, *b, "t");
  const std::string bytes("x\0y\n\xff", 5);
  ASSERT_TRUE(Publish(*a, bytes, {}).ok());
  ASSERT_TRUE(Publish(*a, "r").ok());
  Settle();
  for (Listener* listener : {&at_a, &at_b}) {
    ASSERT_EQ(listener->events.size(), 2u);
    const Event& best = listener->events[0];
    EXPECT_EQ(best.topic, "t");
    EXPECT_EQ(best.payload, bytes);
    EXPECT_EQ(best.from, "a");
    EXPECT_EQ(best.delivery, Delivery::kBestEffort);
    EXPECT_EQ(best.publisher, "");
    EXPECT_EQ(best.number, 0u);
    EXPECT_FALSE(best.replayed);
    const Event& reliable = listener->events[1];
    EXPECT_EQ(reliable.payload, "r");
    EXPECT_EQ(reliable.delivery, Delivery::kReliable);
    EXPECT_EQ(reliable.number, 1u);
    EXPECT_EQ(reliable.publisher.size(), 24u);
  }
  EXPECT_EQ(a->Stats().events_published, 2u);
  EXPECT_EQ(b->Stats().events_delivered, 2u);
  EXPECT_EQ(b->Stats().event_gaps, 0u);
}

TEST_F(EventBusTest, ASubscriptionWithoutCursorBeginsNow) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(Publish(*a, "before").ok());
  ASSERT_TRUE(Publish(*a, "before, best effort", {}).ok());
  Settle();
  Listener listener(world_, *b, "t");
  ASSERT_TRUE(Publish(*a, "after").ok());
  Settle();
  EXPECT_EQ(listener.Take(), "after");
}

TEST_F(EventBusTest, TheOrderOfEachPublisherIsKept) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    testing::World world(seed);
    auto a = world.Join("a");
    auto b = world.Join("b");
    auto c = world.Join("c");
    Listener listener(world, *c, "t");
    std::vector<std::unique_ptr<Thread>> threads;
    for (int t = 0; t < 6; ++t) {
      threads.push_back(world.runtime().StartThread("publisher", [&, t] {
        for (int i = 0; i < 20; ++i) {
          const std::string payload = std::to_string(t) + " " + std::to_string(i);
          EXPECT_TRUE((t % 2 ? *a : *b).events().Publish("t", payload, world.In(absl::Seconds(5)), kReliably).ok());
          if (i % 3 == t % 3) world.runtime().Yield();
        }
      }));
    }
    threads.clear();
    world.runtime().SleepFor(absl::Milliseconds(100));
    ASSERT_EQ(listener.events.size(), 120u);
    std::map<std::string, uint64_t> last;
    std::map<std::string, int> by_thread;
    for (const Event& event : listener.events) {
      EXPECT_EQ(event.number, ++last[event.publisher]);
      const size_t blank = event.payload.find(' ');
      EXPECT_EQ(std::stoi(event.payload.substr(blank)), by_thread[event.payload.substr(0, blank)]++);
    }
    EXPECT_EQ(last.size(), 2u);
  }
}

TEST_F(EventBusTest, AnEventCanBeAimedAtALabel) {
  auto a = Join("a");
  auto b = Join("b");
  auto b2 = Join("b");
  Listener at_a(world_, *a, "t");
  Listener at_b(world_, *b, "t");
  Listener at_b2(world_, *b2, "t");
  ASSERT_TRUE(Publish(*a, "one", {Delivery::kReliable, "b"}).ok());
  ASSERT_TRUE(Publish(*a, "two", {Delivery::kBestEffort, "b"}).ok());
  ASSERT_TRUE(Publish(*a, "all").ok());
  Settle();
  EXPECT_EQ(at_a.Take(), "all");
  EXPECT_EQ(at_b.Take(), "one two all");
  EXPECT_EQ(at_b2.Take(), "one two all") << "two live copies of one label both get it";
}

TEST_F(EventBusTest, OwnEventsAreLeftOutOnRequest) {
  auto a = Join("a");
  auto b = Join("a");
  SubscribeOptions options;
  options.own_events = false;
  Listener listener(world_, *a, "t", options);
  ASSERT_TRUE(Publish(*a, "own").ok());
  ASSERT_TRUE(Publish(*a, "own, best effort", {}).ok());
  ASSERT_TRUE(Publish(*b, "of another copy with this label").ok());
  Settle();
  EXPECT_EQ(listener.Take(), "of another copy with this label");
}

TEST_F(EventBusTest, TopicsAndPluginsAreApart) {
  auto a = Join("a");
  JoinOptions other = world_.Options("a");
  other.plugin = "test2";
  auto stranger = world_.Join(std::move(other));
  Listener t(world_, *a, "t");
  Listener t_u(world_, *a, "t/u");
  Listener strange(world_, *stranger, "t");
  ASSERT_TRUE(Publish(*a, "1", kReliably, "t").ok());
  ASSERT_TRUE(Publish(*a, "2", kReliably, "t/u").ok());
  ASSERT_TRUE(Publish(*a, "3", kReliably, "t%2Fu").ok());
  Settle();
  EXPECT_EQ(t.Take(), "1");
  EXPECT_EQ(t_u.Take(), "2");
  EXPECT_EQ(strange.Take(), "");
}

TEST_F(EventBusTest, BadInputIsRefusedWithASentence) {
  auto a = Join("a");
  const absl::Time soon = world_.In(absl::Seconds(1));
  const EventHandler handler = [](const Event&) {};
  EventBus& bus = a->events();
  for (const std::string& topic :
       {std::string(), std::string("../x"), std::string("*"), std::string(">"), std::string("a\nb"),
        std::string("a\0b", 3), std::string("\xff"), std::string(129, 'x'), std::string("/x"), std::string("a//b")}) {
    const absl::Status published = bus.Publish(topic, "", soon);
    EXPECT_EQ(published.code(), absl::StatusCode::kInvalidArgument) << topic;
    EXPECT_NE(published.message().find("topic"), std::string::npos) << published;
    EXPECT_EQ(bus.Subscribe(topic, handler, soon).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(bus.Ask(topic, "", soon).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(bus.Answer(
                     topic, [](const Event&) { return std::nullopt; }, soon)
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
  SubscribeOptions options;
  options.cursor = "..";
  EXPECT_EQ(bus.Subscribe("t", handler, soon, options).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bus.Publish("t", "", soon, {Delivery::kReliable, "x*"}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(bus.Subscribe("t", nullptr, soon).status().message(), "the handler of a subscription is empty");
  const absl::Status large = bus.Publish("t", std::string(bus.max_payload() + 1, 'x'), soon);
  EXPECT_EQ(large.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(large.message(),
            "the payload has 1046529 bytes; the limit is 1046528: keep what is larger in a cell, and send "
            "its name");
  EXPECT_EQ(CountKeys("test/event/"), 0u);
  EXPECT_EQ(CountKeys("test/cursor/"), 0u);
}

TEST_F(EventBusTest, TheLargestPayloadArrives) {
  JoinOptions join = world_.Options(std::string(128, 'i'));
  auto a = world_.Join(std::move(join));
  Listener listener(world_, *a, "t");
  const std::string payload(a->events().max_payload(), '\n');
  ASSERT_TRUE(Publish(*a, payload, {Delivery::kReliable, std::string(128, 'i')}).ok());
  Settle();
  ASSERT_EQ(listener.events.size(), 1u);
  EXPECT_TRUE(listener.events[0].payload == payload);
}

class NoWatch : public kv::StoreWrapper {
 public:
  explicit NoWatch(std::shared_ptr<kv::Store> base) : StoreWrapper(std::move(base)), traits_(this->base()->traits()) {
    traits_.watch = false;
  }
  const kv::Traits& traits() const override { return traits_; }

 private:
  kv::Traits traits_;
};

TEST_F(EventBusTest, AStoreWithoutWatchCarriesNoEvents) {
  JoinOptions join = world_.Options("a");
  join.store = std::make_shared<NoWatch>(join.store);
  auto a = world_.Join(std::move(join));
  const absl::Status status = Publish(*a, "x");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("the memory store cannot carry events"), std::string::npos) << status;
  EXPECT_NE(status.message().find("Use another store, or set JoinOptions::events"), std::string::npos);
  EXPECT_EQ(a->events().Flush(world_.In(absl::Seconds(1))), status);
  absl::Status told;
  a->events().PublishAsync("t", "x", world_.In(absl::Seconds(1)), [&](const absl::Status& s) { told = s; });
  EXPECT_EQ(told, status);
}

TEST_F(EventBusTest, WhatBecomesOfAnAsynchronousEventIsToldOnce) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  std::vector<absl::Status> told;
  const auto publish = [&](const std::string& topic, const std::string& payload) {
    a->events().PublishAsync(
        topic, payload, world_.In(absl::Seconds(10)), [&](const absl::Status& status) { told.push_back(status); },
        kReliably);
  };
  publish("t", "1");
  publish("t", "2");
  publish("*", "3");
  a->events().PublishAsync("t", "4", world_.In(absl::Seconds(10)), nullptr, kReliably);
  EXPECT_TRUE(a->events().Flush(world_.In(absl::Seconds(1))).ok());
  Settle();
  EXPECT_EQ(listener.Take(), "1 2 4");
  ASSERT_EQ(told.size(), 3u);
  EXPECT_TRUE(told[0].ok());
  EXPECT_TRUE(told[1].ok());
  EXPECT_EQ(told[2].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(a->Leave(world_.In(absl::Seconds(10))).ok());
  publish("t", "5");
  ASSERT_EQ(told.size(), 4u) << "the callback thread has ended: it is told here";
  EXPECT_EQ(told[3].code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(a->events().Flush(world_.In(absl::Seconds(1))).code(), absl::StatusCode::kCancelled);
}

// Lifetimes.

TEST_F(EventBusTest, NothingComesAfterTheSubscriptionHasEnded) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  ASSERT_TRUE(Publish(*a, "1").ok());
  Settle();
  listener.subscription = Subscription();
  ASSERT_TRUE(Publish(*a, "2").ok());
  Settle();
  EXPECT_EQ(listener.Take(), "1");
}

TEST_F(EventBusTest, ASubscriptionMayBeDestroyedInsideItsHandler) {
  auto a = Join("a");
  auto subscription = std::make_shared<Subscription>();
  int calls = 0;
  auto made = a->events().Subscribe(
      "t",
      [&calls, subscription](const Event&) {
        ++calls;
        *subscription = Subscription();
      },
      world_.In(absl::Seconds(1)));
  ASSERT_TRUE(made.ok());
  *subscription = *std::move(made);
  PublishNumbers(*a, 1, 5);
  Settle();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(subscription.use_count(), 1) << "the handler, which owned its own subscription, is gone";
}

TEST_F(EventBusTest, DestroyingASubscriptionWaitsForItsRunningHandler) {
  auto a = Join("a");
  bool running = false;
  bool done = false;
  auto made = a->events().Subscribe(
      "t",
      [&](const Event&) {
        running = true;
        world_.runtime().SleepFor(absl::Seconds(3));
        done = true;
      },
      world_.In(absl::Seconds(1)));
  ASSERT_TRUE(made.ok());
  PublishNumbers(*a, 1, 2);
  Settle();
  ASSERT_TRUE(running);
  ASSERT_FALSE(done);
  *made = Subscription();
  EXPECT_TRUE(done);
}

TEST_F(EventBusTest, ASubscriptionMayOutliveItsCluster) {
  auto a = Join("a");
  SubscribeOptions options;
  options.cursor = "c";
  Listener plain(world_, *a, "t");
  Listener stored(world_, *a, "t", options);
  PublishNumbers(*a, 1, 1);
  Settle();
  a.reset();
  auto b = Join("b");
  PublishNumbers(*b, 2, 2);
  Settle();
  EXPECT_EQ(plain.Take(), "1");
  EXPECT_EQ(stored.Take(), "1");
}

TEST_F(EventBusTest, CallsAfterLeaveReturnCancelled) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  ASSERT_TRUE(a->Leave(world_.In(absl::Seconds(2))).ok());
  const absl::Time soon = world_.In(absl::Seconds(1));
  EXPECT_EQ(a->events().Publish("t", "", soon).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(a->events().Publish("t", "", soon, kReliably).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(a->events()
                .Subscribe(
                    "t", [](const Event&) {}, soon)
                .status()
                .code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(a->events().Ask("t", "", soon).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(a->events()
                .Answer(
                    "t", [](const Event&) { return std::nullopt; }, soon)
                .status()
                .code(),
            absl::StatusCode::kCancelled);
}

TEST_F(EventBusTest, LeavingInsideAHandlerIsLegal) {
  auto a = Join("a");
  bool left = false;
  auto made = a->events().Subscribe(
      "t", [&](const Event&) { left = a->Leave(world_.In(absl::Seconds(2))).ok(); }, world_.In(absl::Seconds(1)));
  ASSERT_TRUE(made.ok());
  PublishNumbers(*a, 1, 1);
  world_.runtime().SleepFor(absl::Seconds(3));
  EXPECT_TRUE(left);
}

// Questions.

class AskTest : public EventBusTest {
 protected:
  Subscription Answer(Cluster& cluster, std::optional<std::string> answer) {
    auto made = cluster.events().Answer(
        "q",
        [this, answer](const Event& event) {
          questions_.push_back(event.from + ":" + event.payload);
          return answer;
        },
        world_.In(absl::Seconds(1)));
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *std::move(made) : Subscription();
  }

  static std::string Text(const absl::StatusOr<std::vector<Reply>>& replies) {
    if (!replies.ok()) return replies.status().ToString();
    std::map<std::string, std::string> sorted;
    for (const Reply& reply : *replies) sorted[reply.from] = reply.payload;
    std::string text;
    for (const auto& [from, payload] : sorted) text += from + "=" + payload + " ";
    return text;
  }

  std::vector<std::string> questions_;
};

TEST_F(AskTest, GathersTheAnswersOfAllCopies) {
  auto a = Join("a");
  auto b = Join("b");
  auto c = Join("c");
  auto d = Join("d");
  const Subscription at_a = Answer(*a, "1");
  const Subscription at_b = Answer(*b, "2");
  const Subscription at_c = Answer(*c, std::nullopt);
  Listener events(world_, *d, "q");
  const absl::Time before = world_.runtime().Now();
  EXPECT_EQ(Text(a->events().Ask("q", "who", world_.In(absl::Seconds(1)))), "a=1 b=2 ");
  EXPECT_EQ(world_.runtime().Now() - before, absl::Seconds(1)) << "all answers before the deadline are waited for";
  EXPECT_EQ(questions_, std::vector<std::string>({"a:who", "a:who", "a:who"}));
  EXPECT_EQ(events.Take(), "") << "a question is no event";
}

TEST_F(AskTest, ReturnsOnceEnoughHaveAnswered) {
  auto a = Join("a");
  auto b = Join("b");
  const Subscription at_b = Answer(*b, "2");
  const absl::Time before = world_.runtime().Now();
  EXPECT_EQ(Text(a->events().Ask("q", "", world_.In(absl::Seconds(60)), 1)), "b=2 ");
  EXPECT_LT(world_.runtime().Now() - before, absl::Seconds(1));
}

TEST_F(AskTest, NoAnswerIsNotAnError) {
  auto a = Join("a");
  const absl::Time before = world_.runtime().Now();
  EXPECT_EQ(Text(a->events().Ask("q", "", world_.In(absl::Seconds(1)))), "");
  EXPECT_EQ(world_.runtime().Now() - before, absl::Seconds(1));
}

TEST_F(AskTest, CanBeAimed) {
  auto a = Join("a");
  auto b = Join("b");
  auto c = Join("c");
  const Subscription at_b = Answer(*b, "2");
  const Subscription at_c = Answer(*c, "3");
  EXPECT_EQ(Text(a->events().Ask("q", "", world_.In(absl::Seconds(1)), 0, "c")), "c=3 ");
  EXPECT_EQ(questions_.size(), 1u);
}

TEST_F(AskTest, CanBeAskedInsideAHandlerAndByManyAtOnce) {
  auto a = Join("a");
  auto b = Join("b");
  const Subscription at_b = Answer(*b, "2");
  std::string inside;
  auto made = a->events().Subscribe(
      "t", [&](const Event&) { inside = Text(a->events().Ask("q", "", world_.In(absl::Seconds(5)), 1)); },
      world_.In(absl::Seconds(1)));
  ASSERT_TRUE(made.ok());
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 10; ++i) {
    threads.push_back(world_.runtime().StartThread(
        "asker", [&] { EXPECT_EQ(Text(b->events().Ask("q", "", world_.In(absl::Seconds(5)), 1)), "b=2 "); }));
  }
  PublishNumbers(*a, 1, 1);
  threads.clear();
  Settle();
  EXPECT_EQ(inside, "b=2 ");
}

TEST_F(AskTest, EndsWithCancelledWhenTheCopyLeaves) {
  auto a = Join("a");
  absl::Status status;
  auto asker = world_.runtime().StartThread(
      "asker", [&] { status = a->events().Ask("q", "", world_.In(absl::Seconds(60))).status(); });
  Settle();
  const absl::Time before = world_.runtime().Now();
  ASSERT_TRUE(a->Leave(world_.In(absl::Seconds(2))).ok());
  asker.reset();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_LT(world_.runtime().Now() - before, absl::Seconds(2));
}

TEST_F(AskTest, AnAnswerBeyondTheLimitIsLoggedAndNotSent) {
  auto a = Join("a");
  const Subscription at_a = Answer(*a, std::string(a->events().max_payload() + 1, 'x'));
  EXPECT_EQ(Text(a->events().Ask("q", "", world_.In(absl::Seconds(1)))), "");
  EXPECT_NE(world_.log().find("an answer on topic \"q\" could not be sent: it has 1046529 bytes; the limit is 1046528"),
            std::string::npos)
      << world_.log();
}

// A question that names another place for its answers than a bus reaches nobody's keys.
TEST_F(AskTest, AHostileAddressIsNotAnswered) {
  auto a = Join("a");
  const Subscription at_a = Answer(*a, "1");
  const std::string key = "test/ask/q/0123456789abcdef00000000~00000000000000000001";
  const std::string hostile =
      "{\"v\":\"1.0\",\"w\":\"n\",\"from\":\"x\",\"at_us\":1,\"reply\":\"../../mutex\",\"ask\":1}\n";
  ASSERT_TRUE(world_.data().Create(key, hostile, absl::InfiniteFuture()).ok());
  Settle();
  EXPECT_TRUE(questions_.empty());
  EXPECT_EQ(CountKeys("test/reply/"), 0u);
}

TEST_F(AskTest, LeavesNothingBehind) {
  auto a = Join("a");
  auto b = Join("b");
  const Subscription at_b = Answer(*b, "2");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Text(a->events().Ask("q", "", world_.In(absl::Seconds(1)), 1)), "b=2 ");
  world_.runtime().SleepFor(absl::Seconds(10));
  EXPECT_EQ(CountKeys("test/ask/"), 0u);
  EXPECT_EQ(CountKeys("test/reply/"), 0u);
}

// Budgets.

TEST_F(EventBusTest, AReliableEventIsOneWriteAndItsDeliveryNoCall) {
  auto a = Join("a");
  auto b = Join("b");
  world_.runtime().SleepFor(absl::Seconds(1));
  kv::CallCounts before = world_.store().Snapshot("test/event/");
  Listener listener(world_, *b, "t");
  EXPECT_EQ((world_.store().Snapshot("test/event/") - before).calls(), 0) << "subscribing from now on is no call";
  PublishNumbers(*a, 1, 50);
  Settle();
  EXPECT_EQ(listener.Take(), Numbers(1, 50));
  const kv::CallCounts spent = world_.store().Snapshot("test/event/") - before;
  EXPECT_EQ(spent.creates, 50) << ToString(spent);
  EXPECT_EQ(spent.calls() - spent.creates, 0) << ToString(spent);
}

TEST_F(EventBusTest, ABestEffortEventIsOneWriteAndOneDeleteLater) {
  auto a = Join("a");
  const kv::CallCounts before = world_.store().Snapshot("test/event/");
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(Publish(*a, "x", {}).ok());
  EXPECT_EQ(CountKeys("test/event/"), 300u);
  world_.runtime().SleepFor(absl::Seconds(10));
  EXPECT_EQ(CountKeys("test/event/"), 0u);
  const kv::CallCounts spent = world_.store().Snapshot("test/event/") - before;
  EXPECT_EQ(spent.creates, 300) << ToString(spent);
  EXPECT_EQ(spent.deletes, 300) << ToString(spent);
  EXPECT_EQ(spent.calls(), 600) << ToString(spent);
}

// Slow handlers.

TEST_F(EventBusTest, ASlowHandlerGetsAllReliableEventsInOrder) {
  auto a = Join("a");
  auto b = Join("b");
  std::vector<Event> events;
  bool blocked = true;
  auto made = b->events().Subscribe(
      "t",
      [&](const Event& event) {
        while (blocked) world_.runtime().SleepFor(absl::Seconds(1));
        events.push_back(event);
      },
      world_.In(absl::Seconds(1)));
  ASSERT_TRUE(made.ok());
  for (int i = 1; i <= 6000; ++i) {  // the inbox takes 4096
    PublishNumbers(*a, i, i);
    world_.runtime().Yield();
  }
  blocked = false;
  PublishNumbers(*a, 6001, 6010);
  world_.runtime().SleepFor(absl::Seconds(5));
  ASSERT_EQ(events.size(), 6010u);
  for (size_t i = 0; i < events.size(); ++i) {
    ASSERT_FALSE(events[i].gap);
    ASSERT_EQ(events[i].number, i + 1);
  }
}

TEST_F(EventBusTest, ASlowHandlerLearnsThatBestEffortEventsWereDropped) {
  auto a = Join("a");
  auto b = Join("b");
  std::vector<Event> events;
  bool blocked = true;
  auto made = b->events().Subscribe(
      "t",
      [&](const Event& event) {
        while (blocked) world_.runtime().SleepFor(absl::Seconds(1));
        events.push_back(event);
      },
      world_.In(absl::Seconds(1)));
  ASSERT_TRUE(made.ok());
  for (int i = 0; i < 5000; ++i) {
    ASSERT_TRUE(Publish(*a, "x", {}).ok());
    world_.runtime().Yield();  // the watch keeps up
  }
  world_.runtime().SleepFor(absl::Seconds(10));  // they are deleted meanwhile
  blocked = false;
  world_.runtime().SleepFor(absl::Seconds(5));
  ASSERT_TRUE(Publish(*a, "after", {}).ok());
  Settle();
  int gaps = 0;
  for (const Event& event : events) gaps += event.gap;
  EXPECT_EQ(gaps, 1);
  ASSERT_GE(events.size(), 3u);
  EXPECT_TRUE(events[events.size() - 2].gap);
  EXPECT_EQ(events[events.size() - 2].payload.find("the handler was too slow: "), 0u)
      << events[events.size() - 2].payload;
  EXPECT_EQ(events.back().payload, "after");
}

}  // namespace
}  // namespace coord
