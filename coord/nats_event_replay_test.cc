// Reliable events over NATS: cursors, and what can no longer be replayed.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/nats_event_test_util.h"
#include "coord/nats_events.h"
#include "coord/subscription.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kv/nats_connection.h"

namespace coord {
namespace {

using ::testing::ElementsAre;

constexpr char kRemoved[] =
    "older events were removed before this subscription came to them: it was away or behind for longer than events are "
    "kept";
constexpr char kAnew[] =
    "the stream of events was lost or removed, and made anew: events may have been lost with the old one";

std::string Numbers(int first, int last) {
  std::string text;
  for (int i = first; i <= last; ++i) absl::StrAppend(&text, i == first ? "" : " ", i);
  return text;
}

class NatsEventReplayTest : public NatsEventsTest {
 protected:
  static void PublishNumbers(Cluster& cluster, int first, int last) {
    for (int i = first; i <= last; ++i) ASSERT_TRUE(Publish(cluster, absl::StrCat(i)).ok());
  }
};

TEST_F(NatsEventReplayTest, ACopyThatWasAwayIsCaughtUpAfterItsRestart) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  for (int round = 0; round < 3; ++round) {
    auto b = Join("b");
    ASSERT_TRUE(b != nullptr);
    Box box;
    const Subscription subscription = Subscribe(*b, box.Handler(), Cursor("b"));
    const int first = round * 100 + (round == 0 ? 51 : 1);
    PublishNumbers(*a, round * 100 + 51, round * 100 + 100);
    const std::vector<Event> events = box.WaitFor(absl::StrCat(round * 100 + 100));
    EXPECT_EQ(Payloads(events), Numbers(first, round * 100 + 100));
    for (size_t i = 0; i + 50 < events.size(); ++i) EXPECT_TRUE(events[i].replayed);
    EXPECT_FALSE(events.back().replayed);
    // The last call of the handler may not be over; the next one begins after it is.
    ASSERT_TRUE(Publish(*a, "last", {Delivery::kBestEffort, ""}).ok());
    box.WaitFor("last");
    ASSERT_TRUE(b->Leave(Soon()).ok());
    PublishNumbers(*a, round * 100 + 101, round * 100 + 150);
  }
}

TEST_F(NatsEventReplayTest, ASubscriptionGoesOnAtItsCursor) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  Subscription subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  EXPECT_EQ(a->events().Subscribe("t", box.Handler(), Soon(), Cursor("c")).status().code(),
            absl::StatusCode::kFailedPrecondition);
  PublishNumbers(*a, 1, 3);
  box.WaitFor("3");
  subscription = Subscription();
  PublishNumbers(*a, 4, 6);
  box.Clear();
  subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  EXPECT_EQ(Payloads(box.WaitFor("6")), "4 5 6");
}

// Only the first handler's return moves the cursor: what was under way when the copy died comes again.
TEST_F(NatsEventReplayTest, WhatTheHandlerHadNotFinishedComesAgain) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Tally begun;
  Tally go;
  {
    auto b = Join("b");
    const Subscription subscription = Subscribe(
        *b,
        [&](const Event& event) {
          if (event.payload != "2") return;
          begun.Add();
          go.Reach(1);
        },
        Cursor("b"));
    PublishNumbers(*a, 1, 3);
    ASSERT_TRUE(begun.Reach(1));
    (void)b->Leave(absl::Now() + absl::Milliseconds(500));
    go.Add();
  }
  auto b = Join("b");
  Box box;
  const Subscription subscription = Subscribe(*b, box.Handler(), Cursor("b"));
  EXPECT_EQ(Payloads(box.WaitFor("3")), "2 3");
}

TEST_F(NatsEventReplayTest, ASubscriberIsCaughtUpAfterALostConnection) {
  auto relay = servers::Relay::Run(server_->address());
  ASSERT_TRUE(relay.ok()) << relay.status();
  auto a = Join("a");
  auto b = Join("b", {}, Connect((*relay)->address()));
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*b, box.Handler());
  PublishNumbers(*a, 1, 5);
  box.WaitFor("5");
  (*relay)->Cut();
  PublishNumbers(*a, 6, 10);
  ASSERT_TRUE(Publish(*a, "missed", {Delivery::kBestEffort, ""}).ok());
  (*relay)->Reset();
  (*relay)->Heal();
  box.WaitForGap(Delivery::kBestEffort);
  const std::vector<Event> events = box.WaitFor("10");
  std::vector<Event> reliable;
  for (const Event& event : events) {
    if (event.delivery == Delivery::kReliable) reliable.push_back(event);
  }
  EXPECT_EQ(Payloads(reliable), Numbers(1, 10));
  EXPECT_THAT(Gaps(events),
              ElementsAre("the connection to the NATS server was lost for a while: best-effort events may have been "
                          "missed"));
}

TEST_F(NatsEventReplayTest, EventsThatWereRemovedWhileTheSubscriberWasAwayAreAGap) {
  NatsEventOptions options;
  options.keep_bytes = 20000;
  auto a = Join("a", options);
  ASSERT_TRUE(a != nullptr);
  Box box;
  Subscription subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  PublishNumbers(*a, 1, 3);
  box.WaitFor("3");
  subscription = Subscription();
  PublishNumbers(*a, 4, 400);
  box.Clear();
  subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  const std::vector<Event> events = box.WaitFor("400");
  ASSERT_GE(events.size(), 3u);
  EXPECT_TRUE(events[0].gap);
  EXPECT_EQ(events[0].payload, kRemoved);
  const int first = std::stoi(events[1].payload);
  EXPECT_GT(first, 4);
  EXPECT_EQ(Payloads({events.begin() + 1, events.end()}), Numbers(first, 400));
  // It was told: the cursor has moved on.
  subscription = Subscription();
  box.Clear();
  PublishNumbers(*a, 401, 401);
  subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  EXPECT_EQ(Payloads(box.WaitFor("401")), "401");
}

// The stream loses old events of busy topics. A quiet topic's subscriber has missed nothing, also when it has to make
// its consumer anew.
TEST_F(NatsEventReplayTest, AQuietTopicHasNoGapWhenOthersMoveTheStreamOn) {
  NatsEventOptions options;
  options.keep_bytes = 20000;
  auto a = Join("a", options);
  ASSERT_TRUE(a != nullptr);
  Box box;
  Subscription subscription = Subscribe(*a, box.Handler(), Cursor("quiet"), "quiet");
  ASSERT_TRUE(Publish(*a, "first", kReliably, "quiet").ok());
  box.WaitFor("first");
  // Fewer than the stream keeps.
  PublishNumbers(*a, 1, 40);
  subscription = Subscription();
  subscription = Subscribe(*a, box.Handler(), Cursor("quiet"), "quiet");
  ASSERT_TRUE(Publish(*a, "second", kReliably, "quiet").ok());
  EXPECT_EQ(Payloads(box.WaitFor("second")), "first second");
  const std::string info = Api("$JS.API.STREAM.INFO.COORD_coord");
  EXPECT_NE(info.find("\"first_seq\":1,"), std::string::npos) << info;
}

TEST_F(NatsEventReplayTest, AStreamThatWasLostIsAGapAndMadeAgain) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*b, box.Handler(), Cursor("b"));
  PublishNumbers(*a, 1, 3);
  box.WaitFor("3");
  EXPECT_NE(Api("$JS.API.STREAM.DELETE.COORD_coord").find("\"success\":true"), std::string::npos);
  PublishNumbers(*a, 4, 6);
  const std::vector<Event> events = box.WaitFor("6");
  EXPECT_EQ(Payloads(events), "1 2 3 GAP 4 5 6");
  EXPECT_THAT(Gaps(events), ElementsAre(kAnew));
}

TEST_F(NatsEventReplayTest, AStreamThatWasLostWhileTheSubscriberWasAwayIsAGap) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  Subscription subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  PublishNumbers(*a, 1, 3);
  box.WaitFor("3");
  subscription = Subscription();
  EXPECT_NE(Api("$JS.API.STREAM.DELETE.COORD_coord").find("\"success\":true"), std::string::npos);
  PublishNumbers(*a, 4, 6);
  box.Clear();
  subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  EXPECT_EQ(Payloads(box.WaitFor("6")), "GAP 4 5 6");
}

// The stream has what was missed, but nobody knows any more from where on: that is told, and once.
TEST_F(NatsEventReplayTest, CursorsThatWereLostWithoutTheStreamAreAGap) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  Subscription subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  PublishNumbers(*a, 1, 3);
  EXPECT_EQ(Payloads(box.WaitFor("3")), "1 2 3");
  subscription = Subscription();
  const Subscription other = Subscribe(*a, box.Handler(), Cursor("unlike"), "unlike");
  EXPECT_NE(Api("$JS.API.STREAM.DELETE.KV_COORD_coord_cursors").find("\"success\":true"), std::string::npos);
  PublishNumbers(*a, 4, 6);
  // By a copy that had the old bucket open, and by one that has not.
  auto b = Join("b");
  ASSERT_TRUE(b != nullptr);
  for (Cluster* cluster : {a.get(), b.get()}) {
    const std::string name = cluster == a.get() ? "c" : "d";
    box.Clear();
    subscription = Subscribe(*cluster, box.Handler(), Cursor(name));
    const std::vector<Event> events = box.WaitForGap();
    EXPECT_EQ(Payloads(events), "GAP");
    EXPECT_THAT(Gaps(events), ElementsAre("cursor \"" + name +
                                          "\" of topic \"t\" may have been lost: the bucket of cursors was lost or "
                                          "removed, and made anew, while the stream of events was not"));
    subscription = Subscription();
    box.Clear();
    ASSERT_TRUE(Publish(*a, "next " + name).ok());
    subscription = Subscribe(*cluster, box.Handler(), Cursor(name));
    EXPECT_EQ(Payloads(box.WaitFor("next " + name)), "next " + name);
  }
  const std::string info = Api("$JS.API.STREAM.INFO.COORD_coord");
  EXPECT_NE(info.find("(cursors in the bucket of "), std::string::npos) << info;
}

// A stream that was lost alone is told as such; the cursors are those that it had.
TEST_F(NatsEventReplayTest, ANewCursorAfterALostStreamIsNoGap) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  Subscription subscription = Subscribe(*a, box.Handler(), Cursor("c"));
  subscription = Subscription();
  EXPECT_NE(Api("$JS.API.STREAM.DELETE.COORD_coord").find("\"success\":true"), std::string::npos);
  PublishNumbers(*a, 1, 1);
  subscription = Subscribe(*a, box.Handler(), Cursor("new"));
  PublishNumbers(*a, 2, 2);
  EXPECT_EQ(Payloads(box.WaitFor("2")), "2");
}

TEST_F(NatsEventReplayTest, AMemoryStreamIsLostWithItsServer) {
  NatsEventOptions options;
  options.file_storage = false;
  auto a = Join("a", options);
  ASSERT_TRUE(a != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  PublishNumbers(*a, 1, 2);
  box.WaitFor("2");
  server_->Kill();
  ASSERT_TRUE(server_->Start().ok());
  PublishNumbers(*a, 3, 4);
  std::vector<Event> reliable;
  for (const Event& event : box.WaitFor("4")) {
    if (event.delivery == Delivery::kReliable) reliable.push_back(event);
  }
  EXPECT_EQ(Payloads(reliable), "1 2 GAP 3 4");
}

}  // namespace
}  // namespace coord
