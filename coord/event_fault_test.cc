// The event bus over a store that fails: unknown outcomes, a dead store, closing.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/event_test_util.h"
#include "coord/runtime.h"
#include "coord/subscription.h"
#include "coord/testing.h"
#include "gtest/gtest.h"
#include "kv/counting_store.h"
#include "kv/faulty_store.h"

namespace coord {
namespace {

class EventFaultTest : public EventBusTest {
 protected:
  // What becomes of creating events; everything else goes through.
  void OnCreate(std::function<kv::Fault(int n)> fault) {
    auto n = std::make_shared<int>(0);  // the store copies its hook
    world_.faults().SetHook([fault = std::move(fault), n](const kv::FaultyCall& call) {
      const bool event = call.kind == kv::CallKind::kCreate && call.key.find("/event/") != std::string::npos;
      return event ? fault(++*n) : kv::Fault::kNone;
    });
  }
  void Heal() { world_.faults().SetHook(nullptr); }

  // Nobody answers: each call takes until its deadline, or `takes` if that is less, and its outcome is unknown.
  void KillStore(absl::Duration takes = absl::Seconds(2)) {
    world_.faults().SetHook([this, takes](const kv::FaultyCall& call) {
      world_.runtime().SleepFor(takes);
      return call.write() ? kv::Fault::kApplyLate : kv::Fault::kDropReply;
    });
  }

  absl::Status PublishWithin(Cluster& cluster, const std::string& payload, absl::Duration time,
                             const PublishOptions& options = kReliably) {
    return cluster.events().Publish("t", payload, world_.In(time), options);
  }

  absl::Time Now() { return world_.runtime().Now(); }
};

TEST_F(EventFaultTest, ALostReplyIsSettledAndTheEventStoredOnce) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  OnCreate([](int n) { return n % 2 == 1 ? kv::Fault::kDropReply : kv::Fault::kNone; });
  PublishNumbers(*a, 1, 5);
  Settle();
  EXPECT_EQ(listener.Take(), Numbers(1, 5));
  EXPECT_EQ(CountKeys("test/event/t/"), 5u);
}

TEST_F(EventFaultTest, AWriteThatIsAppliedLateIsNotDoubled) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  OnCreate([](int n) { return n <= 2 ? kv::Fault::kApplyLate : kv::Fault::kNone; });
  PublishNumbers(*a, 1, 2);
  world_.faults().ReleaseHeld();
  PublishNumbers(*a, 3, 3);
  Settle();
  EXPECT_EQ(listener.Take(), "1 2 3");
}

TEST_F(EventFaultTest, AnUnknownOutcomeIsToldAndKeepsItsNumber) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  PublishNumbers(*a, 1, 1);
  OnCreate([](int) { return kv::Fault::kApplyLate; });
  const absl::Status unknown = PublishWithin(*a, "2", absl::Milliseconds(500));
  EXPECT_EQ(unknown.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(unknown.message().find("the store did not say in time whether the event of topic \"t\" was stored ("), 0u)
      << unknown;
  const absl::Status behind = PublishWithin(*a, "3", absl::Milliseconds(500));
  EXPECT_EQ(behind.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(behind.message().find("the event was not published: whether the one before it"), 0u) << behind;
  EXPECT_GE(a->Stats().unknown_outcomes, 1u);
  Heal();
  PublishNumbers(*a, 4, 4);
  for (const kv::WriteResult& late : world_.faults().ReleaseHeld()) {
    EXPECT_EQ(late.status.code(), absl::StatusCode::kAlreadyExists);
  }
  Settle();
  ASSERT_EQ(listener.events.size(), 3u);
  EXPECT_EQ(listener.events.back().number, 3u) << "no number was skipped";
  EXPECT_EQ(listener.Take(), "1 2 4") << "the second was stored before the fourth; the third never";
}

TEST_F(EventFaultTest, AnUnknownOutcomeIsSettledWithoutAnotherPublish) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  OnCreate([](int) { return kv::Fault::kApplyLate; });
  EXPECT_EQ(PublishWithin(*a, "1", absl::Milliseconds(500)).code(), absl::StatusCode::kDeadlineExceeded);
  world_.faults().DropHeld();
  world_.runtime().SleepFor(absl::Seconds(5));
  EXPECT_EQ(listener.Take(), "");
  Heal();
  world_.runtime().SleepFor(absl::Seconds(5));
  EXPECT_EQ(listener.Take(), "1");
  const kv::CallCounts before = world_.store().Snapshot("test/event/");
  world_.runtime().SleepFor(absl::Seconds(30));
  EXPECT_EQ((world_.store().Snapshot("test/event/") - before).calls(), 0) << "once settled nothing is retried";
}

TEST_F(EventFaultTest, AStoreThatRefusesIsRetriedUntilTheDeadlineAndNothingIsStored) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  OnCreate([](int) { return kv::Fault::kFailBefore; });
  for (const PublishOptions& options : {kReliably, PublishOptions()}) {
    const absl::Time before = Now();
    EXPECT_EQ(PublishWithin(*a, "1", absl::Seconds(1), options).code(), absl::StatusCode::kUnavailable);
    EXPECT_GE(Now() - before, absl::Milliseconds(400));
    EXPECT_LE(Now() - before, absl::Seconds(1));
  }
  OnCreate([](int n) { return n <= 3 ? kv::Fault::kFailBefore : kv::Fault::kNone; });
  PublishNumbers(*a, 2, 2);
  world_.runtime().SleepFor(absl::Seconds(5));
  ASSERT_EQ(listener.events.size(), 1u);
  EXPECT_EQ(listener.events[0].number, 1u) << "a number that was not used is used by the next";
  EXPECT_EQ(listener.Take(), "2");
}

TEST_F(EventFaultTest, WaitersOnOneTopicGoInOrderAndKeepTheirDeadlines) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  OnCreate([this](int) {
    world_.runtime().SleepFor(absl::Milliseconds(300));
    return kv::Fault::kNone;
  });
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<absl::Status> results(6);
  for (int i = 0; i < 6; ++i) {
    world_.runtime().SleepFor(absl::Milliseconds(1));
    threads.push_back(world_.runtime().StartThread("publisher", [&, i] {
      results[i] = PublishWithin(*a, std::to_string(i), i == 2 ? absl::Milliseconds(100) : absl::Seconds(60));
    }));
  }
  threads.clear();
  Settle();
  EXPECT_EQ(results[2].code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(
      results[2].message(),
      "the event was not published: the deadline came while earlier events of topic \"t\" were still being stored");
  EXPECT_EQ(listener.Take(), "0 1 3 4 5");
}

TEST_F(EventFaultTest, ADeadStoreHoldsNobodyBeyondItsDeadline) {
  auto a = Join("a");
  Listener listener(world_, *a, "t");
  Settle();
  KillStore();
  absl::Time before = Now();
  EXPECT_EQ(PublishWithin(*a, "1", absl::Seconds(3)).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(Now() - before, absl::Seconds(5)) << "the deadline and one call that is under way";
  before = Now();
  EXPECT_EQ(PublishWithin(*a, "1", absl::Seconds(3), {}).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(Now() - before, absl::Seconds(5));
  SubscribeOptions options;
  options.cursor = "c";
  before = Now();
  EXPECT_EQ(a->events()
                .Subscribe(
                    "t", [](const Event&) {}, world_.In(absl::Seconds(3)), options)
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(Now() - before, absl::Seconds(5));
  before = Now();
  EXPECT_EQ(a->events().Ask("q", "", world_.In(absl::Seconds(3))).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(Now() - before, absl::Seconds(5));
  Heal();
  Listener stored(world_, *a, "t", options);
  PublishNumbers(*a, 2, 2);
  Settle();
  EXPECT_EQ(stored.Take(), "1 2")
      << "a failed Subscribe leaves the cursor free, and the first event was stored after all";
}

TEST_F(EventFaultTest, LeavingIsBoundedWithADeadStore) {
  auto a = Join("a");
  SubscribeOptions options;
  options.cursor = "c";
  Listener listener(world_, *a, "t", options);
  PublishNumbers(*a, 1, 1);
  ASSERT_TRUE(PublishWithin(*a, "x", absl::Seconds(1), {}).ok());
  world_.runtime().Yield();
  KillStore(absl::Hours(1));
  world_.runtime().SleepFor(absl::Seconds(7));  // the worker is inside a call that does not return
  const absl::Time before = Now();
  EXPECT_FALSE(a->Leave(world_.In(absl::Seconds(2))).ok());
  EXPECT_LE(Now() - before, absl::Milliseconds(2100));
  a.reset();
  Heal();
  world_.runtime().SleepFor(absl::Hours(3));  // what was left behind ends by itself
}

TEST_F(EventFaultTest, LeavingStoresTheCursor) {
  auto a = Join("a");
  SubscribeOptions options;
  options.cursor = "c";
  Settle();
  {
    Listener listener(world_, *a, "t", options);
    PublishNumbers(*a, 1, 3);
    world_.runtime().RunUntilIdle();
    EXPECT_EQ(listener.Take(), "1 2 3");
    a.reset();  // no time has passed: the cursor was not written yet
  }
  a = Join("a");
  Listener again(world_, *a, "t", options);
  Settle();
  EXPECT_EQ(again.Take(), "");
}

TEST_F(EventFaultTest, RereadingGoesOnUntilTheStoreAnswers) {
  auto a = Join("a");
  auto b = Join("b");
  Settle();
  Listener listener(world_, *b, "t");
  world_.faults().SetHook([](const kv::FaultyCall& call) {
    return call.kind == kv::CallKind::kList ? kv::Fault::kFailBefore : kv::Fault::kNone;
  });
  world_.faults().SetEventFilter(
      [](const kv::WatchEvent& event) { return event.key.find("/event/") == std::string::npos; });
  PublishNumbers(*a, 1, 3);
  Settle();
  world_.faults().SetEventFilter(nullptr);
  world_.faults().Interrupt(kv::WatchKind::kResync);
  PublishNumbers(*a, 4, 5);
  world_.runtime().SleepFor(absl::Minutes(1));
  EXPECT_EQ(listener.Take(), "") << "what was missed comes first";
  Heal();
  world_.runtime().SleepFor(absl::Seconds(5));
  EXPECT_EQ(listener.Take(), "1 2 3 4 5");
}

TEST_F(EventFaultTest, ManyTopicsAreBounded) {
  auto a = Join("a");
  Listener listener(world_, *a, "topic 0");
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 1100; ++i) {
      ASSERT_TRUE(Publish(*a, std::to_string(round), kReliably, "topic " + std::to_string(i)).ok());
    }
  }
  Settle();
  ASSERT_EQ(listener.events.size(), 2u);
  EXPECT_EQ(listener.events[1].number, 1u) << "a topic that was not used for long starts over";
  EXPECT_NE(listener.events[0].publisher, listener.events[1].publisher) << "as another publisher";
}

}  // namespace
}  // namespace coord
