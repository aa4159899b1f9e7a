#include "coord/internal/event_record.h"

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

constexpr char kPublisher[] = "0123456789abcdef00000001";

TEST(EventRecordTest, KeysRoundTripAndSortInOrderOfNumbers) {
  const std::string nine = Format(EventKey{kPublisher, 9, true});
  const std::string ten = Format(EventKey{kPublisher, 10, true});
  EXPECT_EQ(nine, "0123456789abcdef00000001-00000000000000000009");
  EXPECT_LT(nine, ten);
  EXPECT_LT(Format(EventKey{std::string(24, 'f'), ~uint64_t{0}, false}), std::string(kEventFloorName));
  const auto key = ParseEventKey(Format(EventKey{kPublisher, ~uint64_t{0}, false}));
  ASSERT_TRUE(key.has_value());
  EXPECT_EQ(key->publisher, kPublisher);
  EXPECT_EQ(key->number, ~uint64_t{0});
  EXPECT_FALSE(key->reliable);
}

TEST(EventRecordTest, RefusesKeysThatFormatNeverMakes) {
  const std::string good = Format(EventKey{kPublisher, 9, true});
  EXPECT_TRUE(ParseEventKey(good).has_value());
  for (const std::string& bad :
       {std::string(), std::string("floor"), good + "0", good.substr(1), "G" + good.substr(1), "A" + good.substr(1),
        std::string(kPublisher) + "-0000000000000000000x", std::string(kPublisher) + "-00000000000000000000",
        std::string(kPublisher) + "-99999999999999999999", std::string(kPublisher) + "+00000000000000000009",
        std::string(kPublisher) + "-+0000000000000000009"}) {
    EXPECT_FALSE(ParseEventKey(bad).has_value()) << bad;
  }
}

TEST(EventRecordTest, BusIds) {
  EXPECT_TRUE(IsEventBusId("0123456789abcdef"));
  EXPECT_FALSE(IsEventBusId("0123456789abcdeg"));
  EXPECT_FALSE(IsEventBusId("../456789abcdef0"));
  EXPECT_FALSE(IsEventBusId("0123"));
}

TEST(EventRecordTest, EnvelopeGolden) {
  EventEnvelope envelope;
  envelope.nonce = "n-1";
  envelope.from = "server-1";
  envelope.at = absl::FromUnixMicros(1700000000000001);
  envelope.payload = std::string("a\0b\nc", 5);
  const std::string text = Format(envelope);
  EXPECT_EQ(text,
            std::string("{\"v\":\"1.0\",\"w\":\"n-1\",\"from\":\"server-1\",\"at_us\":1700000000000001}\na\0b\nc", 70));
  const auto parsed = ParseEventEnvelope(text, "event");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->payload, envelope.payload);
  EXPECT_EQ(parsed->from, "server-1");
  EXPECT_EQ(parsed->to, "");
  EXPECT_EQ(parsed->at, envelope.at);
}

TEST(EventRecordTest, QuestionRoundTrips) {
  EventEnvelope envelope;
  envelope.to = "ünïcode \"label\"";
  envelope.reply_to = "0123456789abcdef";
  envelope.ask = ~uint64_t{0};
  const auto parsed = ParseEventEnvelope(Format(envelope), "event");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->to, envelope.to);
  EXPECT_EQ(parsed->reply_to, envelope.reply_to);
  EXPECT_EQ(parsed->ask, envelope.ask);
}

TEST(EventRecordTest, TheLargestHeaderFits) {
  EventEnvelope envelope;
  envelope.nonce = std::string(64, 'n');
  envelope.from = std::string(128, '\'');
  envelope.to = std::string(128, '\'');
  envelope.at = absl::FromUnixSeconds(253402300799);
  envelope.reply_to = std::string(16, 'f');
  envelope.ask = ~uint64_t{0};
  EXPECT_LE(Format(envelope).size(), kMaxEventHeaderBytes);
}

TEST(EventRecordTest, ANewerMinorIsReadAndANewerMajorRefused) {
  const auto minor =
      ParseEventEnvelope("{\"v\":\"1.9\",\"w\":\"n\",\"from\":\"a\",\"at_us\":1,\"new\":{}}\np", "an event");
  ASSERT_TRUE(minor.ok()) << minor.status();
  EXPECT_EQ(minor->payload, "p");
  const auto major = ParseEventEnvelope("{\"v\":\"2.0\",\"shape\":\"unknown\"}\np", "an event of topic \"t\"");
  EXPECT_EQ(major.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(major.status().message(),
            "an event of topic \"t\" was written by a newer version (2.0) of this library, and this copy reads 1.x: "
            "upgrade this copy");
}

TEST(EventRecordTest, DamagedRecordsAreRefusedWithASentence) {
  const std::string head = "{\"v\":\"1.0\",\"w\":\"n\",\"from\":\"a\",\"at_us\":1";
  for (const std::string& bad :
       {std::string(), std::string("no header line"), std::string("\n"), std::string("[]\n"), std::string("{\n"),
        std::string("{}\n"), std::string("{\"v\":1}\n"), std::string("{\"v\":\"x.y\"}\n"),
        std::string("{\"v\":\"1\"}\n"), std::string("{\"v\":\"-1.0\"}\n"), std::string("{\"v\":\"1.0\",\"w\":\"n\"}\n"),
        head + ",\"to\":3}\n", head + ",\"ask\":-1}\n", head + ",\"ask\":1.5}\n", head + ",\"reply\":null}\n",
        std::string("{\"v\":\"1.0\",\"w\":\"n\",\"from\":\"a\",\"at_us\":18446744073709551615}\n"),
        std::string(3000, '[') + "\n", std::string("{\"v\":\"1.0\",\"w\":\"\xff\",\"from\":\"a\",\"at_us\":1}\n")}) {
    const auto parsed = ParseEventEnvelope(bad, "an event");
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss) << bad;
    EXPECT_NE(parsed.status().message().find("an event in the store is damaged ("), std::string::npos);
    EXPECT_NE(parsed.status().message().find("find out who writes there"), std::string::npos);
  }
  EXPECT_TRUE(ParseEventEnvelope(head + "}\n", "an event").ok());
}

TEST(EventRecordTest, CursorRoundTripsAndKeepsWhatANewerMinorAdded) {
  const auto read = ParseEventCursor(
      "{\"v\":\"1.3\",\"w\":\"n\",\"epoch\":\"e\",\"revision\":5,\"last\":{\"p\":7},\"at_us\":9,\"future\":[1,2]}",
      "cursor");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->revision, 5u);
  EXPECT_EQ(read->last.at("p"), 7u);
  EXPECT_FALSE(read->expired);
  EXPECT_EQ(
      Format(*read),
      "{\"v\":\"1.0\",\"w\":\"n\",\"epoch\":\"e\",\"revision\":5,\"last\":{\"p\":7},\"at_us\":9,\"future\":[1,2]}");
  EXPECT_FALSE(
      ParseEventCursor("{\"v\":\"1.0\",\"w\":\"n\",\"epoch\":\"e\",\"revision\":5,\"last\":[1],\"at_us\":9}", "c")
          .ok());
  EXPECT_FALSE(ParseEventCursor(
                   "{\"v\":\"1.0\",\"w\":\"n\",\"epoch\":\"e\",\"revision\":5,\"last\":{\"p\":\"1\"},\"at_us\":9}", "c")
                   .ok());
  EXPECT_FALSE(
      ParseEventCursor("{\"v\":\"1.0\",\"w\":\"n\",\"epoch\":\"e\",\"revision\":5,\"expired\":1,\"at_us\":9}", "c")
          .ok());
}

TEST(EventRecordTest, FloorRoundTrips) {
  EventFloor floor;
  floor.nonce = "n";
  floor.epoch = "e";
  floor.revision = 12;
  EXPECT_EQ(Format(floor), "{\"v\":\"1.0\",\"w\":\"n\",\"epoch\":\"e\",\"revision\":12}");
  const auto read = ParseEventFloor(Format(floor), "floor");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->revision, 12u);
  EXPECT_EQ(read->epoch, "e");
  EXPECT_FALSE(ParseEventFloor("{\"v\":\"1.0\",\"w\":\"n\",\"epoch\":\"e\",\"revision\":-2}", "floor").ok());
}

// As many brackets as fit into a store would end the process in a recursion.
TEST(EventRecordTest, DeeplyNestedRecordsAreRefused) {
  const std::string deep = std::string(500'000, '[') + std::string(500'000, ']');
  const std::string begin = "{\"v\":\"1.0\",\"w\":\"n\",\"epoch\":\"e\",\"revision\":5,\"at_us\":9,\"x\":";
  const std::string sentence =
      "floor in the store is damaged (it is nested deeper than 16): find out who writes there besides this library; it "
      "is skipped";
  EXPECT_EQ(ParseEventFloor(begin + deep + "}", "floor").status(), absl::DataLossError(sentence));
  EXPECT_EQ(ParseEventCursor(begin + deep + "}", "floor").status(), absl::DataLossError(sentence));
}

}  // namespace
}  // namespace coord::internal
