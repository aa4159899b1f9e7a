// The event bus over a real NATS server: what each call promises.

#include "coord/nats_events.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/nats_event_test_util.h"
#include "coord/subscription.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kv/nats_connection.h"

namespace coord {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const PublishOptions kBestEffort = {Delivery::kBestEffort, ""};

TEST_F(NatsEventsTest, BothDeliveriesReachEveryCopy) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Box at_a;
  Box at_b;
  const Subscription subscribed_a = Subscribe(*a, at_a.Handler());
  const Subscription subscribed_b = Subscribe(*b, at_b.Handler());
  const std::string bytes("\0\r\n\xff", 4);
  ASSERT_TRUE(Publish(*a, bytes, kBestEffort).ok());
  // Which of the two ways is faster is not promised.
  for (Box* box : {&at_a, &at_b}) EXPECT_EQ(box->Wait(1).at(0).payload, bytes);
  ASSERT_TRUE(Publish(*a, "kept").ok());
  for (Box* box : {&at_a, &at_b}) {
    const std::vector<Event> events = box->Wait(2);
    ASSERT_EQ(events.size(), 2u);
    EXPECT_EQ(events[0].delivery, Delivery::kBestEffort);
    EXPECT_EQ(events[0].from, "a");
    EXPECT_EQ(events[0].topic, "t");
    EXPECT_EQ(events[0].publisher, "");
    EXPECT_EQ(events[1].delivery, Delivery::kReliable);
    EXPECT_EQ(events[1].payload, "kept");
    EXPECT_EQ(events[1].from, "a");
    EXPECT_EQ(events[1].number, 1u);
    EXPECT_EQ(events[1].publisher.size(), 24u);
    EXPECT_FALSE(events[1].replayed);
    EXPECT_FALSE(events[1].gap);
  }
  ASSERT_TRUE(a->Leave(Soon()).ok());  // what runs is counted then
  EXPECT_EQ(a->Stats().events_published, 2u);
  EXPECT_EQ(a->Stats().events_delivered, 2u);
}

TEST_F(NatsEventsTest, ASubscriptionBeginsAtThePresentAndEndsWithItsObject) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  ASSERT_TRUE(Publish(*a, "before").ok());
  Box box;
  Box other;
  Subscription subscription = Subscribe(*a, box.Handler());
  const Subscription witness = Subscribe(*a, other.Handler());
  ASSERT_TRUE(Publish(*a, "during").ok());
  box.WaitFor("during");
  subscription = Subscription();
  ASSERT_TRUE(Publish(*a, "after").ok());
  ASSERT_TRUE(Publish(*a, "after", kBestEffort).ok());
  other.Wait(3);
  EXPECT_EQ(Payloads(box.Wait(1)), "during");
}

TEST_F(NatsEventsTest, EventsAimedAtALabelReachItAlone) {
  auto a = Join("a");
  auto b = Join("b.x");
  auto c = Join("c");
  ASSERT_TRUE(a != nullptr && b != nullptr && c != nullptr);
  Box at_b;
  Box at_c;
  const Subscription subscribed_b = Subscribe(*b, at_b.Handler());
  const Subscription subscribed_c = Subscribe(*c, at_c.Handler());
  ASSERT_TRUE(Publish(*a, "b1", {Delivery::kReliable, "b.x"}).ok());
  ASSERT_TRUE(Publish(*a, "b2", {Delivery::kBestEffort, "b.x"}).ok());
  at_b.Wait(2);
  ASSERT_TRUE(Publish(*a, "end").ok());
  ASSERT_TRUE(Publish(*a, "end", kBestEffort).ok());
  EXPECT_EQ(at_b.Wait(4).size(), 4u);
  EXPECT_EQ(Payloads(at_c.Wait(2)), "end end");
}

TEST_F(NatsEventsTest, OwnEventsAreLeftOutByOption) {
  auto a = Join("a");
  auto b = Join("a");  // another copy, although of the same label
  ASSERT_TRUE(a != nullptr && b != nullptr);
  SubscribeOptions options;
  options.own_events = false;
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler(), options);
  ASSERT_TRUE(Publish(*a, "own").ok());
  ASSERT_TRUE(Publish(*a, "own", kBestEffort).ok());
  ASSERT_TRUE(Publish(*b, "other").ok());
  ASSERT_TRUE(Publish(*b, "other", kBestEffort).ok());
  EXPECT_EQ(Payloads(box.Wait(2)), "other other");
}

TEST_F(NatsEventsTest, NamesAndSpacesKeepTopicsApart) {
  NatsEventOptions other;
  other.space = "other";
  auto a = Join("a");
  auto b = Join("b", other);
  ASSERT_TRUE(a != nullptr && b != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler(), {}, "a/b");
  for (const char* topic : {"a", "b", "a.b", "a/b/c", "a_b"}) {
    ASSERT_TRUE(Publish(*a, topic, kReliably, topic).ok());
    ASSERT_TRUE(Publish(*a, topic, kBestEffort, topic).ok());
  }
  ASSERT_TRUE(Publish(*b, "another space", kReliably, "a/b").ok());
  ASSERT_TRUE(Publish(*a, "a/b", kReliably, "a/b").ok());
  ASSERT_TRUE(Publish(*a, "a/b", kBestEffort, "a/b").ok());
  EXPECT_EQ(Payloads(box.Wait(2)), "a/b a/b");
}

TEST_F(NatsEventsTest, TooLargeAPayloadIsAnErrorWithTheLimit) {
  NatsEventOptions options;
  options.keep_bytes = 100000;
  auto a = Join("a", options);
  ASSERT_TRUE(a != nullptr);
  const size_t limit = a->events().max_payload();
  EXPECT_EQ(limit, (1u << 20) - 1536);  // the server's default
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  const absl::Status status = Publish(*a, std::string(limit + 1, 'x'), kBestEffort);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "the payload has 1047041 bytes; the limit is 1047040: keep what is larger in a cell, and send its name");
  ASSERT_TRUE(Publish(*a, std::string(limit, 'x'), kBestEffort).ok());
  EXPECT_EQ(box.Wait(1).at(0).payload.size(), limit);
  // What the stream would throw away at once.
  EXPECT_EQ(Publish(*a, std::string(100000, 'x')).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Publish(*a, std::string(100000 - 1536, 'x')).ok());
}

TEST_F(NatsEventsTest, BadArgumentsAreRefused) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  const auto handler = [](const Event&) {};
  EXPECT_EQ(Publish(*a, "x", kReliably, "*").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Publish(*a, "x", {Delivery::kReliable, ">"}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(a->events().Subscribe("t", nullptr, Soon()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(a->events().Subscribe("", handler, Soon()).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(a->events().Subscribe("t", handler, Soon(), Cursor("\n")).status().code(),
            absl::StatusCode::kInvalidArgument);
  absl::Status told;
  a->events().PublishAsync("*", "x", Soon(), [&told](const absl::Status& status) { told = status; });
  EXPECT_EQ(told.code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(NatsEventsTest, BadOptionsAreRefusedByJoin) {
  const auto refusal = [this](const NatsEventOptions& options) {
    return std::string(TryJoin("a", NatsEvents(Connect(), options)).status().message());
  };
  NatsEventOptions options;
  options.space = "a.b";
  EXPECT_EQ(refusal(options), "NatsEventOptions::space must be 1 to 32 letters, digits, '-' and '_'");
  options = {};
  options.replicas = 2;
  EXPECT_EQ(refusal(options), "NatsEventOptions::replicas must be 1, 3 or 5");
  options = {};
  options.max_in_flight = 0;
  EXPECT_EQ(refusal(options), "NatsEventOptions::max_in_flight must be from 1 to 65536");
  options = {};
  options.keep_for = absl::ZeroDuration();
  EXPECT_EQ(refusal(options), "NatsEventOptions::keep_for must be from a second to a year");
  EXPECT_EQ(TryJoin("a", NatsEvents(nullptr)).status().message(), "NatsEvents was given no connection");
}

TEST_F(NatsEventsTest, AStreamWithOtherSettingsIsRefusedByJoin) {
  ASSERT_TRUE(Join("a") != nullptr);
  NatsEventOptions options;
  options.keep_for = absl::Hours(1);
  options.keep_bytes = 1 << 20;
  const absl::Status status = TryJoin("b", NatsEvents(Connect(), options)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(
      status.message(),
      "the stream COORD_coord exists with other settings: max_age is 24h and should be 1h; max_bytes is 268435456 "
      "and should be 1048576. Give all copies the same options, use another space, or change the stream");
}

TEST_F(NatsEventsTest, WhatElseArrivesIsIgnoredWithOneWarning) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  const auto connection = Connect();
  const kv::NatsHeaders bad = {{"Coord-V", "1.0"}, {"Coord-Bus", "0123456789abcdef"}, {"Coord-From", "x y"}};
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(connection->Publish("coord.coord.b.test=2Eplugin.t.all", "foreign").ok());
    ASSERT_TRUE(connection->Publish("coord.coord.b.test=2Eplugin.t.to.a", "foreign", bad).ok());
    ASSERT_TRUE(connection->Publish("coord.coord.r.test=2Eplugin.t", "foreign", bad).ok());
  }
  ASSERT_TRUE(Publish(*a, "good").ok());
  ASSERT_TRUE(Publish(*a, "good", kBestEffort).ok());
  EXPECT_EQ(Payloads(box.Wait(2)), "good good");
  const std::vector<std::string> log = Log();
  const auto warnings = std::count_if(log.begin(), log.end(), [](const std::string& line) {
    return line.find("a message on topic \"t\" is ignored: its header Coord-") == 0;
  });
  EXPECT_EQ(warnings, 1);
}

TEST_F(NatsEventsTest, AsksAllCopiesAndGathersTheirAnswers) {
  auto a = Join("a");
  auto b = Join("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  const auto answer = [](const Event& event) -> std::optional<std::string> {
    if (event.payload == "silence") return std::nullopt;
    return event.payload + " for " + event.from;
  };
  const auto at_a = a->events().Answer("q", answer, Soon());
  const auto at_b = b->events().Answer("q", answer, Soon());
  ASSERT_TRUE(at_a.ok() && at_b.ok());
  auto replies = a->events().Ask("q", "hello", Soon(), 2);
  ASSERT_TRUE(replies.ok()) << replies.status();
  ASSERT_EQ(replies->size(), 2u);
  EXPECT_NE((*replies)[0].from, (*replies)[1].from);
  EXPECT_EQ((*replies)[0].payload, "hello for a");
  replies = a->events().Ask("q", "you", Soon(), 1, "b");
  ASSERT_TRUE(replies.ok()) << replies.status();
  ASSERT_EQ(replies->size(), 1u);
  EXPECT_EQ((*replies)[0].from, "b");
  const absl::Time begun = absl::Now();
  replies = a->events().Ask("q", "silence", absl::Now() + absl::Milliseconds(200));
  ASSERT_TRUE(replies.ok()) << replies.status();
  EXPECT_TRUE(replies->empty());
  EXPECT_GE(absl::Now() - begun, absl::Milliseconds(190));
}

TEST_F(NatsEventsTest, QuestionsAndEventsOfATopicDoNotMix) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  int asked = 0;
  const auto answers = a->events().Answer(
      "t",
      [&asked](const Event&) {
        ++asked;
        return "yes";
      },
      Soon());
  ASSERT_TRUE(answers.ok());
  ASSERT_TRUE(Publish(*a, "event", kBestEffort).ok());
  const auto replies = a->events().Ask("t", "question", Soon(), 1);
  ASSERT_TRUE(replies.ok()) << replies.status();
  EXPECT_EQ(replies->size(), 1u);
  ASSERT_TRUE(Publish(*a, "end").ok());
  EXPECT_EQ(Payloads(box.Wait(2)), "event end");
  EXPECT_EQ(asked, 1);
}

TEST_F(NatsEventsTest, AnAnswerThatIsTooLargeIsNotSentAndIsLogged) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  const auto answers = a->events().Answer(
      "q", [](const Event&) { return std::string(2 << 20, 'x'); }, Soon());
  ASSERT_TRUE(answers.ok());
  const auto replies = a->events().Ask("q", "?", absl::Now() + absl::Milliseconds(300));
  ASSERT_TRUE(replies.ok());
  EXPECT_TRUE(replies->empty());
  EXPECT_THAT(Log(),
              ::testing::Contains(HasSubstr("an answer on topic \"q\" could not be sent: it has 2097152 bytes")));
}

TEST_F(NatsEventsTest, HintsReachOtherChannelsOfThePluginAlone) {
  const auto driver = NatsEvents(Connect());
  Box mine;
  Box others;
  Box foreign;
  const auto into = [](Box& box) {
    return [&box](std::string_view key) {
      Event event;
      event.payload = std::string(key);
      box.Put(event);
    };
  };
  auto a = driver->MakeHints("p", into(mine));
  auto b = driver->MakeHints("p", into(others));
  const auto c = driver->MakeHints("q", into(foreign));
  ASSERT_TRUE(a != nullptr && b != nullptr && c != nullptr);
  ASSERT_TRUE(Connect()->Flush(Soon()).ok());
  a->Send("");
  a->Send(std::string(5000, 'k'));
  a->Send("p/mutex/x");
  EXPECT_EQ(Payloads(others.Wait(1)), "p/mutex/x");
  b->Send("back");
  EXPECT_EQ(Payloads(mine.Wait(1)), "back");
  EXPECT_EQ(Payloads(foreign.Wait(0)), "");
  b.reset();
  a->Send("nobody");
}

TEST_F(NatsEventsTest, AfterLeaveCallsAreCancelled) {
  auto a = Join("a");
  ASSERT_TRUE(a != nullptr);
  Box box;
  const Subscription subscription = Subscribe(*a, box.Handler());
  ASSERT_TRUE(a->Leave(Soon()).ok());
  EXPECT_EQ(Publish(*a, "x").code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(Publish(*a, "x", kBestEffort).code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(a->events().Subscribe("t", box.Handler(), Soon()).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(a->events().Ask("t", "x", Soon()).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(a->events().Flush(Soon()).code(), absl::StatusCode::kCancelled);
  absl::Status told;
  a->events().PublishAsync(
      "t", "x", Soon(), [&told](const absl::Status& status) { told = status; }, kReliably);
  EXPECT_EQ(told.code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace coord
