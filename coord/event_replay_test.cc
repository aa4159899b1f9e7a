// Cursors, replay, retention and gaps of the event bus over a store.

#include <map>
#include <memory>
#include <random>
#include <set>
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
#include "kv/store.h"

namespace coord {
namespace {

SubscribeOptions WithCursor(const std::string& name = "c") {
  SubscribeOptions options;
  options.cursor = name;
  return options;
}

class EventReplayTest : public EventBusTest {
 protected:
  // A crash of the copy that subscribes, as far as its cursor is concerned: nothing of it is stored any more.
  void LoseCursorWrites() {
    world_.faults().SetHook([](const kv::FaultyCall& call) {
      return call.write() && call.key.find("/cursor/") != std::string::npos ? kv::Fault::kFailBefore : kv::Fault::kNone;
    });
  }
  void Heal() { world_.faults().SetHook(nullptr); }

  std::string CursorRecord(const std::string& name = "c") {
    auto entry = world_.data().Get("test/cursor/t/" + name, absl::InfiniteFuture());
    return entry.ok() ? entry->value : entry.status().ToString();
  }
};

TEST_F(EventReplayTest, ANewCursorBeginsAtThePresentAndIsStoredAtOnce) {
  auto a = Join("a");
  PublishNumbers(*a, 1, 3);
  Settle();
  Listener listener(world_, *a, "t", WithCursor());
  EXPECT_NE(CursorRecord().find("\"revision\":0"), std::string::npos) << CursorRecord();
  LoseCursorWrites();
  listener.subscription = Subscription();
  PublishNumbers(*a, 4, 5);
  Listener again(world_, *a, "t", WithCursor());
  Settle();
  EXPECT_EQ(listener.Take(), "");
  EXPECT_EQ(again.Take(), "4 5");
}

TEST_F(EventReplayTest, ASubscriberThatWasAwayGetsWhatItMissed) {
  auto publisher = Join("p");
  {
    auto a = Join("a");
    Listener listener(world_, *a, "t", WithCursor());
    PublishNumbers(*publisher, 1, 3);
    Settle();
    EXPECT_EQ(listener.Take(), "1 2 3");
  }
  ASSERT_TRUE(Publish(*publisher, "best effort", {}).ok());
  PublishNumbers(*publisher, 4, 200);
  auto a = Join("a");
  Listener listener(world_, *a, "t", WithCursor());
  PublishNumbers(*publisher, 201, 203);
  Settle();
  ASSERT_EQ(listener.events.size(), 200u);
  EXPECT_TRUE(listener.events.front().replayed);
  EXPECT_FALSE(listener.events.back().replayed);
  EXPECT_EQ(listener.Take(), Numbers(4, 203));
  PublishNumbers(*publisher, 204, 205);
  Settle();
  EXPECT_EQ(listener.Take(), "204 205");
}

TEST_F(EventReplayTest, ACrashBetweenHandlerAndCursorRepeatsEventsAndLosesNone) {
  auto publisher = Join("p");
  auto a = Join("a");
  auto listener = std::make_unique<Listener>(world_, *a, "t", WithCursor());
  PublishNumbers(*publisher, 1, 3);
  Settle();
  world_.runtime().SleepFor(absl::Seconds(1));  // 1 to 3 are stored
  LoseCursorWrites();
  PublishNumbers(*publisher, 4, 6);
  Settle();
  EXPECT_EQ(listener->Take(), "1 2 3 4 5 6");
  listener = nullptr;
  a.reset();
  Heal();
  a = Join("a");
  Listener again(world_, *a, "t", WithCursor());
  Settle();
  EXPECT_EQ(again.Take(), "4 5 6");
}

TEST_F(EventReplayTest, TheEventWhoseHandlerEndsTheSubscriptionCountsAsDelivered) {
  auto a = Join("a");
  auto subscription = std::make_unique<Subscription>();
  std::string got;
  auto made = a->events().Subscribe(
      "t",
      [&](const Event& event) {
        got += event.payload;
        if (event.payload == "2") subscription = nullptr;
      },
      world_.In(absl::Seconds(1)), WithCursor());
  ASSERT_TRUE(made.ok());
  *subscription = *std::move(made);
  PublishNumbers(*a, 1, 4);
  Settle();
  EXPECT_EQ(got, "12");
  Listener again(world_, *a, "t", WithCursor());
  Settle();
  EXPECT_EQ(again.Take(), "3 4");
}

TEST_F(EventReplayTest, ResubscribingAtOnceRepeatsNothing) {
  auto a = Join("a");
  for (int i = 0; i < 20; ++i) {
    Listener listener(world_, *a, "t", WithCursor());
    PublishNumbers(*a, i, i);
    world_.runtime().RunUntilIdle();
    EXPECT_EQ(listener.Take(), std::to_string(i));
  }
}

TEST_F(EventReplayTest, CursorWritesAreCoalesced) {
  auto a = Join("a");
  Listener listener(world_, *a, "t", WithCursor());
  world_.runtime().SleepFor(absl::Seconds(1));
  const kv::CallCounts before = world_.store().Snapshot("test/cursor/");
  PublishNumbers(*a, 1, 640);
  world_.runtime().SleepFor(absl::Seconds(1));
  EXPECT_EQ(listener.events.size(), 640u);
  const kv::CallCounts spent = world_.store().Snapshot("test/cursor/") - before;
  EXPECT_GE(spent.writes(), 1);
  EXPECT_LE(spent.writes(), 640 / 64 + 1) << ToString(spent);
  EXPECT_EQ(spent.reads(), 0) << ToString(spent);
  // A slow stream: one write each tenth of a second at most.
  const kv::CallCounts slow = world_.store().Snapshot("test/cursor/");
  for (int i = 0; i < 100; ++i) {
    PublishNumbers(*a, i, i);
    world_.runtime().SleepFor(absl::Milliseconds(10));
  }
  EXPECT_LE((world_.store().Snapshot("test/cursor/") - slow).writes(), 11);
}

TEST_F(EventReplayTest, ACursorInUseIsRefused) {
  auto a = Join("a");
  Listener listener(world_, *a, "t", WithCursor());
  const absl::Status status = a->events()
                                  .Subscribe(
                                      "t", [](const Event&) {}, world_.In(absl::Seconds(1)), WithCursor())
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "cursor \"c\" of topic \"t\" is in use by another subscription of this copy: end that one first, or use "
            "another name");
  Listener other(world_, *a, "t", WithCursor("d"));
}

TEST_F(EventReplayTest, TwoCopiesOnOneCursorAreTold) {
  auto a = Join("a");
  auto b = Join("b");
  Listener at_a(world_, *a, "t", WithCursor());
  Listener at_b(world_, *b, "t", WithCursor());
  for (int i = 0; i < 5; ++i) {
    PublishNumbers(*a, i, i);
    world_.runtime().SleepFor(absl::Seconds(1));
  }
  EXPECT_NE(
      world_.log().find(
          "cursor \"c\" of topic \"t\" is written by somebody else too: give every subscriber a cursor of its own"),
      std::string::npos)
      << world_.log();
}

TEST_F(EventReplayTest, AnUnknownOutcomeOfACursorWriteIsSettled) {
  auto a = Join("a");
  auto listener = std::make_unique<Listener>(world_, *a, "t", WithCursor());
  auto n = std::make_shared<int>(0);  // the store copies its hook
  world_.faults().SetHook([n](const kv::FaultyCall& call) {
    const bool lose = call.write() && call.key.find("/cursor/") != std::string::npos && ++*n % 2 == 1;
    return lose ? kv::Fault::kDropReply : kv::Fault::kNone;
  });
  PublishNumbers(*a, 1, 3);
  world_.runtime().SleepFor(absl::Seconds(5));
  listener = nullptr;
  world_.runtime().SleepFor(absl::Seconds(5));
  Heal();
  a.reset();
  a = Join("a");
  Listener again(world_, *a, "t", WithCursor());
  PublishNumbers(*a, 4, 4);
  Settle();
  EXPECT_EQ(again.Take(), "4");
  EXPECT_EQ(world_.log(), "");
}

// Retention.

TEST_F(EventReplayTest, OldEventsAreTrimmedAndWhoMissedThemGetsAGapFirst) {
  StoreEventOptions options;
  options.keep_events = 10;
  auto publisher = Join("p", options);
  auto a = Join("a", options);
  Settle();
  auto away = std::make_unique<Listener>(world_, *a, "t", WithCursor());
  Listener live(world_, *a, "t");
  away->subscription = Subscription();
  PublishNumbers(*publisher, 1, 64);
  world_.runtime().SleepFor(absl::Seconds(5));
  EXPECT_EQ(CountKeys("test/event/t/"), 11u) << "ten events and the floor";
  EXPECT_EQ(live.Take(), Numbers(1, 64)) << "no gap for who was there";
  {
    Listener again(world_, *a, "t", WithCursor());
    Settle();
    EXPECT_EQ(again.Take(), "GAP " + Numbers(55, 64));
    PublishNumbers(*publisher, 65, 66);
    Settle();
    EXPECT_EQ(again.Take(), "65 66");
  }
  Listener once_more(world_, *a, "t", WithCursor());
  Settle();
  EXPECT_EQ(once_more.Take(), "") << "the gap is told once";
}

TEST_F(EventReplayTest, AGapIsToldOnceEvenIfNothingComesAfterIt) {
  StoreEventOptions options;
  options.keep_events = 0;
  auto publisher = Join("p", options);
  auto a = Join("a", options);
  { Listener away(world_, *a, "t", WithCursor()); }
  PublishNumbers(*publisher, 1, 64);
  world_.runtime().SleepFor(absl::Seconds(5));
  for (const char* expected : {"GAP", ""}) {
    Listener again(world_, *a, "t", WithCursor());
    Settle();
    EXPECT_EQ(again.Take(), expected);
    again.subscription = Subscription();
    world_.runtime().SleepFor(absl::Seconds(1));
  }
}

TEST_F(EventReplayTest, ACrashBeforeTheGapWasToldTellsItAgain) {
  StoreEventOptions options;
  options.keep_events = 0;
  auto publisher = Join("p", options);
  auto a = Join("a", options);
  { Listener away(world_, *a, "t", WithCursor()); }
  world_.runtime().SleepFor(absl::Seconds(1));
  PublishNumbers(*publisher, 1, 64);
  world_.runtime().SleepFor(absl::Seconds(5));
  LoseCursorWrites();
  {
    Listener again(world_, *a, "t", WithCursor());
    Settle();
    EXPECT_EQ(again.Take(), "GAP");
  }
  a.reset();
  Heal();
  a = Join("a", options);
  Listener again(world_, *a, "t", WithCursor());
  Settle();
  EXPECT_EQ(again.Take(), "GAP");
}

TEST_F(EventReplayTest, EventsOlderThanKeepForGo) {
  StoreEventOptions options;
  options.keep_for = absl::Hours(2);
  auto a = Join("a", options);
  { Listener away(world_, *a, "t", WithCursor()); }
  PublishNumbers(*a, 1, 3);
  world_.runtime().SleepFor(absl::Hours(1));
  PublishNumbers(*a, 4, 4);
  EXPECT_EQ(CountKeys("test/event/t/"), 4u);
  world_.runtime().SleepFor(absl::Hours(3));
  PublishNumbers(*a, 5, 5);
  EXPECT_EQ(CountKeys("test/event/t/"), 2u) << "the last event and the floor";
  Listener again(world_, *a, "t", WithCursor());
  Settle();
  EXPECT_EQ(again.Take(), "GAP 5");
}

TEST_F(EventReplayTest, TheSweepRemovesWhatDeadPublishersLeft) {
  auto a = Join("a");
  world_.faults().SetHook([](const kv::FaultyCall& call) {
    return call.kind == kv::CallKind::kDelete && call.key.find("/event/") != std::string::npos ? kv::Fault::kFailBefore
                                                                                               : kv::Fault::kNone;
  });
  ASSERT_TRUE(Publish(*a, "x", {}).ok());
  a.reset();
  Heal();
  EXPECT_EQ(CountKeys("test/event/t/"), 1u);
  auto b = Join("b");
  ASSERT_TRUE(Publish(*b, "y", {}, "u").ok());
  world_.runtime().SleepFor(absl::Minutes(11));
  EXPECT_EQ(CountKeys("test/event/"), 0u);
}

TEST_F(EventReplayTest, AForgottenCursorIsAGapAndAnIdleOneIsKept) {
  StoreEventOptions options;
  options.keep_cursors = absl::Hours(3);
  options.keep_for = absl::Hours(1000);
  auto a = Join("a", options);
  { Listener away(world_, *a, "t", WithCursor("away")); }
  Listener idle(world_, *a, "t", WithCursor("idle"));
  world_.runtime().SleepFor(absl::Hours(9));
  EXPECT_NE(CursorRecord("away").find("\"expired\":true"), std::string::npos) << CursorRecord("away");
  EXPECT_EQ(CursorRecord("idle").find("expired"), std::string::npos) << CursorRecord("idle");
  PublishNumbers(*a, 1, 1);
  Settle();
  EXPECT_EQ(idle.Take(), "1");
  Listener again(world_, *a, "t", WithCursor("away"));
  PublishNumbers(*a, 2, 2);
  Settle();
  ASSERT_EQ(again.events.size(), 2u);
  EXPECT_EQ(again.events[0].payload, "cursor \"away\" of topic \"t\" was not used for long and was forgotten");
  EXPECT_EQ(again.Take(), "GAP 2");
  again.subscription = Subscription();
  Listener third(world_, *a, "t", WithCursor("away"));
  Settle();
  EXPECT_EQ(third.Take(), "");
}

TEST_F(EventReplayTest, TheMarkOfAForgottenCursorGoesInTheEnd) {
  StoreEventOptions options;
  options.keep_cursors = absl::Hours(2);
  auto a = Join("a", options);
  { Listener away(world_, *a, "t", WithCursor()); }
  world_.runtime().SleepFor(absl::Hours(2 * 13 + 4));
  EXPECT_EQ(CountKeys("test/cursor/"), 0u);
}

// Watches that fail.

TEST_F(EventReplayTest, AResyncLosesNothingAndIsNoGap) {
  auto a = Join("a");
  auto b = Join("b");
  Listener listener(world_, *b, "t");
  PublishNumbers(*a, 1, 3);
  Settle();
  world_.faults().SetEventFilter(
      [](const kv::WatchEvent& event) { return event.key.find("/event/") == std::string::npos; });
  PublishNumbers(*a, 4, 9);
  Settle();
  world_.faults().SetEventFilter(nullptr);
  world_.faults().Interrupt(kv::WatchKind::kResync);
  PublishNumbers(*a, 10, 12);
  Settle();
  EXPECT_EQ(listener.Take(), Numbers(1, 12));
}

TEST_F(EventReplayTest, AResyncAfterATrimIsAGap) {
  StoreEventOptions options;
  options.keep_events = 5;
  auto a = Join("a", options);
  auto b = Join("b", options);
  Listener listener(world_, *b, "t");
  PublishNumbers(*a, 1, 3);
  Settle();
  world_.faults().SetEventFilter(
      [](const kv::WatchEvent& event) { return event.key.find("/event/") == std::string::npos; });
  PublishNumbers(*a, 4, 64);
  world_.runtime().SleepFor(absl::Seconds(1));
  world_.faults().SetEventFilter(nullptr);
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Settle();
  EXPECT_EQ(listener.Take(), "1 2 3 GAP " + Numbers(60, 64));
}

TEST_F(EventReplayTest, ALostPushIsMadeUpForByReadingTheTopicAgain) {
  auto a = Join("a");
  auto b = Join("b");
  Listener listener(world_, *b, "t", WithCursor());
  PublishNumbers(*a, 1, 2);
  Settle();
  world_.faults().SetEventFilter(
      [](const kv::WatchEvent& event) { return event.key.find("-00000000000000000003") == std::string::npos; });
  PublishNumbers(*a, 3, 6);
  Settle();
  EXPECT_EQ(listener.Take(), "1 2 3 4 5 6");
}

TEST_F(EventReplayTest, ANumberThatIsNowhereIsAGapAfterASecond) {
  auto a = Join("a");
  auto b = Join("b");
  Listener listener(world_, *b, "t");
  PublishNumbers(*a, 1, 2);
  Settle();
  const std::string third = listener.events[0].publisher + "-00000000000000000003";
  listener.Take();
  world_.faults().SetEventFilter(
      [](const kv::WatchEvent& event) { return event.key.find("-00000000000000000003") == std::string::npos; });
  PublishNumbers(*a, 3, 3);
  auto entry = world_.data().Get("test/event/t/" + third, absl::InfiniteFuture());
  ASSERT_TRUE(entry.ok());
  ASSERT_TRUE(world_.data().Delete("test/event/t/" + third, entry->revision, absl::InfiniteFuture()).ok());
  PublishNumbers(*a, 4, 5);
  world_.runtime().SleepFor(absl::Milliseconds(900));
  EXPECT_EQ(listener.Take(), "");
  world_.runtime().SleepFor(absl::Milliseconds(200));
  ASSERT_EQ(listener.events.size(), 3u);
  EXPECT_EQ(listener.events[0].payload, "events of one publisher are missing (numbers 3 to 3)");
  EXPECT_EQ(listener.Take(), "GAP 4 5");
}

TEST_F(EventReplayTest, ACursorDoesNotPassAnEventThatIsHeld) {
  auto a = Join("a");
  auto p = Join("p");
  auto b = Join("b");
  Settle();
  Listener listener(world_, *b, "t", WithCursor());
  PublishNumbers(*a, 1, 2);
  Settle();
  const std::string third = "test/event/t/" + listener.events[0].publisher + "-00000000000000000003";
  world_.faults().SetEventFilter([third](const kv::WatchEvent& event) { return event.key != third; });
  PublishNumbers(*a, 3, 3);
  auto entry = world_.data().Get(third, absl::InfiniteFuture());
  ASSERT_TRUE(entry.ok());
  ASSERT_TRUE(world_.data().Delete(third, entry->revision, absl::InfiniteFuture()).ok());
  PublishNumbers(*a, 4, 4);                // waits for the third
  ASSERT_TRUE(Publish(*p, "other").ok());  // does not
  world_.runtime().SleepFor(absl::Milliseconds(500));
  EXPECT_EQ(listener.Take(), "1 2 other");
  LoseCursorWrites();
  listener.subscription = Subscription();
  b.reset();
  Heal();
  b = Join("b");
  Listener again(world_, *b, "t", WithCursor());
  world_.runtime().SleepFor(absl::Seconds(2));
  EXPECT_EQ(again.Take(), "GAP 4");
}

// A listing may show more than had been written when it began; the watch then brings that too.
TEST_F(EventReplayTest, WhatIsPublishedDuringAListingComesOnce) {
  auto a = Join("a");
  auto b = Join("b");
  Settle();
  Listener listener(world_, *b, "t");
  PublishNumbers(*a, 1, 1);
  Settle();
  bool during = false;
  world_.faults().SetHook([&](const kv::FaultyCall& call) {
    if (call.kind == kv::CallKind::kList && !std::exchange(during, true)) {
      EXPECT_TRUE(Publish(*a, "2", {}).ok());
      PublishNumbers(*a, 3, 3);
    }
    return kv::Fault::kNone;
  });
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Settle();
  Heal();
  ASSERT_TRUE(during);
  PublishNumbers(*a, 4, 4);
  Settle();
  EXPECT_EQ(listener.Take(), "1 2 3 4");
}

TEST_F(EventReplayTest, ASubscriptionDuringAResyncMissesNothing) {
  auto a = Join("a");
  auto b = Join("b");
  PublishNumbers(*a, 1, 3);
  Settle();
  world_.faults().PauseWatches();
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Listener plain(world_, *b, "t");
  Listener stored(world_, *b, "t", WithCursor());
  PublishNumbers(*a, 4, 6);
  world_.faults().ResumeWatches();
  PublishNumbers(*a, 7, 7);
  Settle();
  EXPECT_EQ(plain.Take(), "4 5 6 7");
  EXPECT_EQ(stored.Take(), "4 5 6 7");
}

TEST_F(EventReplayTest, AnotherIncarnationOfTheStoreIsAGap) {
  auto a = Join("a");
  auto b = Join("b");
  Listener plain(world_, *b, "t");
  Listener stored(world_, *b, "t", WithCursor());
  PublishNumbers(*a, 1, 2);
  Settle();
  world_.faults().Interrupt(kv::WatchKind::kEpochChanged);
  Settle();
  EXPECT_EQ(plain.Take(), "1 2 GAP");
  EXPECT_EQ(stored.Take(), "1 2 GAP");
  PublishNumbers(*a, 3, 3);
  Settle();
  EXPECT_EQ(plain.Take(), "3");
  EXPECT_EQ(stored.Take(), "3");
}

TEST_F(EventReplayTest, ACursorOfAnotherEpochIsAGap) {
  auto a = Join("a");
  const std::string record = "{\"v\":\"1.0\",\"w\":\"n\",\"epoch\":\"another\",\"revision\":999999,\"at_us\":1}";
  ASSERT_TRUE(world_.data().Create("test/cursor/t/c", record, absl::InfiniteFuture()).ok());
  PublishNumbers(*a, 1, 2);
  {
    Listener listener(world_, *a, "t", WithCursor());
    Settle();
    EXPECT_EQ(listener.Take(), "GAP");
    PublishNumbers(*a, 3, 3);
    Settle();
    EXPECT_EQ(listener.Take(), "3");
  }
  Listener again(world_, *a, "t", WithCursor());
  PublishNumbers(*a, 4, 4);
  Settle();
  EXPECT_EQ(again.Take(), "4");
}

// Records that somebody else wrote.

class HostileRecordTest : public EventReplayTest {
 protected:
  void Write(const std::string& key, const std::string& value) {
    ASSERT_TRUE(world_.data().Put("test/" + key, value, absl::InfiniteFuture()).ok());
  }
};

TEST_F(HostileRecordTest, DamagedEventsAreSkippedWithAGapAndOneLogLine) {
  auto a = Join("a");
  Settle();
  Listener listener(world_, *a, "t", WithCursor());
  const std::string prefix = "event/t/0123456789abcdef00000001-0000000000000000000";
  Write(prefix + "1", "garbage");
  Write(prefix + "2", "{\"v\":\"2.0\"}\n");
  Write("event/t/0123456789abcdef00000001~00000000000000000001", "");
  Write("event/t/what is this", "x");
  Write("event/t/floor", "x");
  Write(prefix + "3", "{\"v\":\"1.1\",\"w\":\"n\",\"from\":\"x\",\"at_us\":1,\"new\":true}\ngood");
  Settle();
  ASSERT_EQ(listener.events.size(), 6u);
  EXPECT_EQ(
      listener.events[0].payload,
      "an event of topic \"t\" in the store is damaged (it has no header line): find out who writes there besides "
      "this library; it is skipped");
  EXPECT_EQ(
      listener.events[1].payload,
      "an event of topic \"t\" was written by a newer version (2.0) of this library, and this copy reads 1.x: upgrade "
      "this copy");
  EXPECT_EQ(listener.Take(), "GAP GAP GAP GAP GAP good");
  EXPECT_EQ(world_.log().find("event of topic"), world_.log().rfind("event of topic")) << world_.log();
}

TEST_F(HostileRecordTest, ADamagedCursorIsAGapAndReplaced) {
  auto a = Join("a");
  Write("cursor/t/c", "garbage");
  PublishNumbers(*a, 1, 1);
  Settle();
  {
    Listener listener(world_, *a, "t", WithCursor());
    Settle();
    EXPECT_EQ(listener.Take(), "GAP");
  }
  world_.runtime().SleepFor(absl::Seconds(1));
  EXPECT_EQ(CursorRecord().find("{\"v\":\"1.0\""), 0u) << CursorRecord();
}

TEST_F(HostileRecordTest, ACursorOfANewerVersionIsRefusedAndLeftAlone) {
  auto a = Join("a");
  const std::string record = "{\"v\":\"2.0\",\"shape\":\"unknown\"}";
  Write("cursor/t/c", record);
  const absl::Status status = a->events()
                                  .Subscribe(
                                      "t", [](const Event&) {}, world_.In(absl::Seconds(1)), WithCursor())
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(),
            "cursor \"c\" of topic \"t\" was written by a newer version (2.0) of this library, and this "
            "copy reads 1.x: upgrade this copy");
  world_.runtime().SleepFor(absl::Hours(2));
  EXPECT_EQ(CursorRecord(), record);
}

// Everything at once: events are published while replies are lost, watches are interrupted, and the subscriber crashes
// and comes back. What was said to be stored arrives, in the order of its publisher, at least once; there is no gap,
// for nothing is trimmed.
TEST(EventStoryTest, WhatWasStoredArrives) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    testing::World world(seed);
    std::mt19937_64 random(seed);
    auto a = world.Join("a");
    auto b = world.Join("b");
    auto c = world.Join("c");
    auto listener = std::make_unique<Listener>(world, *c, "t", WithCursor());
    world.faults().SetHook([&random](const kv::FaultyCall& call) {
      if (call.key.find("/event/") == std::string::npos && call.key.find("/cursor/") == std::string::npos) {
        return kv::Fault::kNone;
      }
      switch (random() % 12) {
        case 0:
          return kv::Fault::kFailBefore;
        case 1:
          return kv::Fault::kDropReply;
        case 2:
          return call.kind == kv::CallKind::kCreate ? kv::Fault::kApplyLate : kv::Fault::kNone;
        default:
          return kv::Fault::kNone;
      }
    });
    std::set<std::string> stored;
    bool publishing = true;
    std::vector<std::unique_ptr<Thread>> threads;
    for (int t = 0; t < 3; ++t) {
      threads.push_back(world.runtime().StartThread("publisher", [&, t] {
        for (int i = 0; i < 40; ++i) {
          const std::string payload = std::to_string(t) + "/" + std::to_string(i);
          const absl::Status status =
              (t == 0 ? *a : *b).events().Publish("t", payload, world.In(absl::Milliseconds(20)), kReliably);
          if (status.ok()) stored.insert(payload);
          world.runtime().SleepFor(absl::Milliseconds(random() % 30));
        }
      }));
    }
    std::vector<Event> all;
    auto chaos = world.runtime().StartThread("chaos", [&] {
      while (publishing) {
        world.runtime().SleepFor(absl::Milliseconds(random() % 200));
        if (random() % 2 == 0) world.faults().ReleaseHeld();
        if (random() % 4 == 0) world.faults().Interrupt(kv::WatchKind::kResync);
        if (random() % 4 != 0) continue;
        listener->subscription = Subscription();
        all.insert(all.end(), listener->events.begin(), listener->events.end());
        listener->events.clear();
        c.reset();
        c = world.Join("c");
        listener = std::make_unique<Listener>(world, *c, "t", WithCursor());
      }
    });
    threads.clear();
    publishing = false;
    chaos.reset();
    world.faults().ReleaseHeld();
    world.faults().SetHook(nullptr);
    world.runtime().SleepFor(absl::Seconds(10));
    all.insert(all.end(), listener->events.begin(), listener->events.end());

    std::map<std::string, std::map<uint64_t, std::string>> by_publisher;
    std::set<std::string> arrived;
    for (const Event& event : all) {
      ASSERT_FALSE(event.gap) << event.payload;
      // New ones come in order; repeats only after a restart of the subscriber.
      auto& numbers = by_publisher[event.publisher];
      const uint64_t last = numbers.empty() ? 0 : numbers.rbegin()->first;
      EXPECT_LE(event.number, last + 1);
      const auto [it, fresh] = numbers.emplace(event.number, event.payload);
      EXPECT_EQ(it->second, event.payload) << "one number, two events";
      if (fresh) {
        EXPECT_TRUE(arrived.insert(event.payload).second) << event.payload << " was stored twice";
      }
    }
    for (const std::string& payload : stored) EXPECT_EQ(arrived.count(payload), 1u) << payload << " was lost";
    EXPECT_GT(stored.size(), 20u);
    listener = nullptr;
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace coord
