#include "kv/internal/nats_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace kv::internal {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::HasSubstr;

// As servers of 2.9, 2.10 and 2.15 answer.
TEST(NatsApi, AnswersToAPublish) {
  const auto stored = ParsePublished(R"({"stream":"KV_b", "seq":7})");
  ASSERT_TRUE(stored.ok());
  EXPECT_FALSE(stored->error.has_value());
  EXPECT_EQ(stored->sequence, 7u);
  EXPECT_FALSE(stored->duplicate);
  EXPECT_TRUE(ParsePublished(R"({"stream":"KV_b", "seq":2,"duplicate": true})")->duplicate);
  // Of a write that is still under way.
  const auto under_way = ParsePublished(R"({"stream":"KV_b","seq":0,"duplicate":true})");
  ASSERT_TRUE(under_way.ok()) << under_way.status();
  EXPECT_TRUE(under_way->duplicate);

  const auto wrong = ParsePublished(
      R"({"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 30"},"stream":"KV_b","seq":0})");
  ASSERT_TRUE(wrong.ok());
  EXPECT_EQ(wrong->error->err_code, kErrWrongSequence);
  EXPECT_EQ(wrong->present, 30u);
  const auto in_doubt =
      ParsePublished(R"({"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"seq":0})");
  ASSERT_TRUE(in_doubt.ok());
  EXPECT_FALSE(in_doubt->present.has_value());
}

TEST(NatsApi, WhatIsNoAnswerIsAnError) {
  for (const char* text : {"", "x", "[]", "7", "{}", R"({"seq":"7"})", R"({"seq":-1})", R"({"seq":0})"}) {
    EXPECT_EQ(ParsePublished(text).status().code(), StatusCode::kInternal) << text;
  }
  for (const char* text : {"", "{}", R"({"message":{"seq":1,"data":"*"}})", R"({"message":7})"}) {
    EXPECT_EQ(ParseStored(text).status().code(), StatusCode::kInternal) << text;
  }
  EXPECT_EQ(ParseStreamInfo("{}").status().code(), StatusCode::kInternal);
  EXPECT_EQ(ParseDone("").status().code(), StatusCode::kInternal);
}

TEST(NatsApi, DeepNestingIsDropped) {
  const std::string deep = std::string(500'000, '[') + std::string(500'000, ']');
  const auto info = ParseStreamInfo(R"({"created":"now","config":{"max_age":1,"x":)" + deep + "}}");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_THAT(info->settings, HasSubstr(R"("max_age":1)"));
  EXPECT_LT(info->settings.size(), 100u);
}

TEST(NatsApi, AnswersToARead) {
  const auto entry = ParseStored(R"({"message":{"subject":"$KV.b.a","seq":3,"data":"AP9h"}})");
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->value, std::string("\0\xff\x61", 3));
  EXPECT_FALSE(entry->marker);
  // NATS/1.0, Nats-Expected-Last-Subject-Sequence: 2, KV-Operation: DEL
  const auto marker = ParseStored(
      R"({"message":{"seq":3,"hdrs":"TkFUUy8xLjANCk5hdHMtRXhwZWN0ZWQtTGFzdC1TdWJqZWN0LVNlcXVlbmNlOiAyDQpLVi1PcGVyYXRpb246IERFTA0KDQo="}})");
  ASSERT_TRUE(marker.ok()) << marker.status();
  EXPECT_TRUE(marker->marker);
  EXPECT_EQ(ParseStored(R"({"error":{"code":404,"err_code":10037,"description":"no message found"}})")->error->err_code,
            kErrNoMessage);
}

TEST(NatsApi, Markers) {
  EXPECT_TRUE(IsMarker("NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"));
  EXPECT_TRUE(IsMarker("NATS/1.0\r\nNats-Rollup: sub\r\nKV-Operation:PURGE\r\n\r\n"));
  EXPECT_TRUE(IsMarker("NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n\r\n"));
  EXPECT_FALSE(IsMarker("NATS/1.0\r\nKV-Operation: PUT\r\n\r\n"));
  EXPECT_FALSE(IsMarker("NATS/1.0\r\nX-KV-Operation: DEL\r\nY: KV-Operation: DEL\r\n\r\n"));
  EXPECT_FALSE(IsMarker(""));
}

TEST(NatsApi, StreamInfo) {
  const auto info = ParseStreamInfo(R"({"total":3,"config":{"name":"KV_b"},"created":"2026-01-01T00:00:00.5Z",
      "state":{"messages":2,"last_seq":9,"subjects":{"$KV.b.b":1,"$KV.b.a":1}}})");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->incarnation, "2026-01-01T00:00:00.5Z");
  EXPECT_EQ(info->settings, R"({"name":"KV_b"})");
  EXPECT_EQ(info->messages, 2u);
  EXPECT_EQ(info->last_sequence, 9u);
  EXPECT_EQ(info->total_subjects, 3u);
  EXPECT_THAT(info->subjects, ElementsAre("$KV.b.a", "$KV.b.b"));
}

TEST(NatsApi, Errors) {
  const auto code = [](int http, int err_code) { return ToStatus({http, err_code, "text"}, "write").code(); };
  EXPECT_EQ(code(400, 10071), StatusCode::kAborted);
  EXPECT_EQ(code(400, 10164), StatusCode::kAborted);
  EXPECT_EQ(code(409, 10158), StatusCode::kAborted);
  EXPECT_EQ(code(404, 10037), StatusCode::kNotFound);
  EXPECT_EQ(code(404, 10059), StatusCode::kNotFound);
  EXPECT_EQ(code(500, 10057), StatusCode::kNotFound);
  for (const int unavailable : {10163, 10076, 10077, 10008}) {
    EXPECT_EQ(code(503, unavailable), StatusCode::kUnavailable);
  }
  EXPECT_EQ(code(400, 10005), StatusCode::kUnavailable) << "a cluster that is still gathering";
  EXPECT_EQ(code(503, 10023), StatusCode::kResourceExhausted);
  EXPECT_EQ(code(500, 10047), StatusCode::kResourceExhausted);
  EXPECT_EQ(code(400, 10054), StatusCode::kInvalidArgument);
  EXPECT_EQ(code(400, 10058), StatusCode::kFailedPrecondition);
  EXPECT_EQ(code(500, 10074), StatusCode::kFailedPrecondition);
  EXPECT_EQ(code(403, 1), StatusCode::kPermissionDenied);
  EXPECT_EQ(ToStatus({400, 10071, "wrong last sequence: 3"}, "write").message(),
            "nats: write: wrong last sequence: 3 (10071)");
  EXPECT_THAT(std::string(ToStatus({500, 10074, "no"}, "x").message()), HasSubstr("open it with one replica"));
}

TEST(NatsApi, Requests) {
  EXPECT_EQ(LastOnSubjectRequest("$KV.b.a"), R"({"last_by_subj":"$KV.b.a"})");
  EXPECT_EQ(DeleteMessageRequest(7), R"({"no_erase":true,"seq":7})");
  EXPECT_EQ(SubjectsRequest("$KV.b.>", 5), R"({"offset":5,"subjects_filter":"$KV.b.>"})");
}

TEST(NatsApi, AStreamIsKnownByItsDescriptionOrElseByItsTime) {
  const std::string one = NewStreamDescription();
  EXPECT_THAT(one, HasSubstr("coord incarnation "));
  EXPECT_NE(one, NewStreamDescription());
  EXPECT_EQ(IncarnationOf(one, "2026-01-01T00:00:00Z"), IncarnationOf(one, "2026-01-01T00:00:01Z"));
  EXPECT_EQ(IncarnationOf(one + " (more)", ""), IncarnationOf(one, ""));
  EXPECT_EQ(IncarnationOf("for the orders", "2026-01-01T00:00:00Z"), "2026-01-01T00:00:00Z");
  const auto info = ParseStreamInfo(
      R"({"config":{"name":"KV_b","description":"coord incarnation 0123"},"created":"2026-01-01T00:00:00Z"})");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->incarnation, "0123");
}

}  // namespace
}  // namespace kv::internal
