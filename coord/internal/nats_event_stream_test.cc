#include "coord/internal/nats_event_stream.h"

#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

NatsEventStreamConfig Config() {
  NatsEventStreamConfig config;
  config.space = "s";
  config.keep_for = absl::Hours(24);
  config.keep_bytes = 1000;
  return config;
}

std::string Response(const std::string& max_bytes, int replicas, const std::string& state) {
  return R"({"type":"x","created":"2024-01-01T00:00:00Z","config":{"name":"COORD_s","subjects":["coord.s.r.>"],)"
         R"("retention":"limits","max_consumers":-1,"max_msgs":-1,"max_msgs_per_subject":-1,"max_bytes":)" +
         max_bytes + R"(,"max_age":86400000000000,"max_msg_size":-1,"storage":"file","discard":"old","num_replicas":)" +
         std::to_string(replicas) + R"(,"sealed":false,"other":1},"state":)" + state + "}";
}

TEST(NatsEventStreamTest, AnAnswerIsRead) {
  auto state = ParseNatsStream(Response("1000", 1, R"({"messages":3,"first_seq":5,"last_seq":9})"), Config());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->incarnation, "2024-01-01T00:00:00Z");
  EXPECT_EQ(state->first, 5u);
  EXPECT_EQ(state->last, 9u);
  state = ParseNatsStream(Response("1000", 1, R"({"messages":0,"first_seq":0,"last_seq":9})"), Config());
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->first, 10u);
}

TEST(NatsEventStreamTest, EachDifferenceIsNamed) {
  NatsEventStreamConfig config = Config();
  config.keep_for = absl::Hours(1);
  const absl::Status status =
      ParseNatsStream(Response("-1", 3, R"({"messages":0,"first_seq":0,"last_seq":0})"), config).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(
      status.message(),
      "the stream COORD_s exists with other settings: max_age is 24h and should be 1h; max_bytes is -1 and should "
      "be 1000; num_replicas is 3 and should be 1. Give all copies the same options, use another space, or change "
      "the stream");
}

TEST(NatsEventStreamTest, WhatIsNoAnswerIsAnError) {
  for (const char* text : {"", "x", "[]", "{}", R"({"config":7})", R"({"error":7})", R"({"error":{"code":"x"}})"}) {
    EXPECT_EQ(ParseNatsStream(text, Config()).status().code(), absl::StatusCode::kUnavailable) << text;
  }
  EXPECT_EQ(ParseNatsStream(Response("1000", 1, "7"), Config()).status().code(), absl::StatusCode::kUnavailable);
}

TEST(NatsEventStreamTest, AStoredMessageHasASequence) {
  EXPECT_EQ(ParseNatsStoredSequence(R"({"message":{"subject":"x","seq":12}})").value(), 12u);
  EXPECT_EQ(ParseNatsStoredSequence(R"({"error":{"code":404,"err_code":10037,"description":"none"}})").value(), 0u);
  EXPECT_EQ(ParseNatsStoredSequence(R"({"message":7})").status().code(), absl::StatusCode::kUnavailable);
}

TEST(NatsEventStreamTest, AnAcknowledgementSaysWhetherToTryAgain) {
  EXPECT_TRUE(ParseNatsAck(R"({"stream":"COORD_s","seq":7})").ok());
  EXPECT_TRUE(ParseNatsAck(R"({"stream":"COORD_s","seq":7,"duplicate":true})").ok());
  EXPECT_EQ(ParseNatsAck("{}").code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(ParseNatsAck("x").code(), absl::StatusCode::kUnknown);
  // With replicas the leader may say so of a message that the others have taken.
  const absl::Status failed = ParseNatsAck(R"({"error":{"code":503,"err_code":10077,"description":"no room"}})");
  EXPECT_EQ(failed.code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(failed.message(), "JetStream says: no room (503/10077)");
  EXPECT_EQ(ParseNatsAck(R"({"stream":"COORD_s","seq":0,"duplicate":true})").code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(ParseNatsAck(R"({"error":{"code":409,"err_code":10158,"description":"in process"}})").code(),
            absl::StatusCode::kUnknown);
  EXPECT_EQ(ParseNatsAck(R"({"error":{"code":429,"err_code":10167,"description":"too many requests"}})").code(),
            absl::StatusCode::kUnknown);
  const absl::Status refused = ParseNatsAck(R"({"error":{"code":400,"err_code":10054,"description":"too big"}})");
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(refused.message(), "JetStream says: too big (400/10054)");
}

}  // namespace
}  // namespace coord::internal
