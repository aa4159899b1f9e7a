#include "coord/internal/nats_event_wire.h"

#include <map>
#include <string>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using Lines = std::map<std::string, std::string>;

Lines Map(const kv::NatsHeaders& headers) { return Lines(headers.begin(), headers.end()); }

absl::StatusOr<NatsEventHeaders> Parse(const Lines& lines, bool reliable) {
  return ParseNatsEventHeaders(
      [&lines](const char* name) {
        const auto found = lines.find(name);
        return found == lines.end() ? std::nullopt : std::optional<std::string>(found->second);
      },
      reliable);
}

NatsEventHeaders Whole() {
  NatsEventHeaders headers;
  headers.bus = "0123456789abcdef";
  headers.from = " a.b ";
  headers.to = "ü";
  headers.publisher = "0123456789abcdef00000001";
  headers.number = 18446744073709551615ull;
  headers.low = 18446744073709551000ull;
  headers.call = 7;
  return headers;
}

TEST(NatsEventWireTest, NamesBecomeOneTokenAndComeBack) {
  EXPECT_EQ(EscapeToken("cache/invalidate"), "cache=2Finvalidate");
  EXPECT_EQ(EscapeToken("a.b-c_D9"), "a=2Eb-c_D9");
  EXPECT_EQ(EscapeToken("ü*> ="), "=C3=BC=2A=3E=20=3D");
  for (const std::string name : {"cache/invalidate", "a.b", "ü*> =", "", "=2F"}) {
    EXPECT_EQ(UnescapeToken(EscapeToken(name)), name);
  }
  for (const char* bad : {"=", "=2", "=2f", "=41", "a.b", "*", ">", " ", "\xc3", "=GG"}) {
    EXPECT_FALSE(UnescapeToken(bad).has_value()) << bad;
  }
}

TEST(NatsEventWireTest, NoNameReachesAnothersSubject) {
  const NatsEventSubjects subjects("s", "plug.in");
  using Kind = NatsEventSubjects::Kind;
  EXPECT_EQ(subjects.ForAll(Kind::kBestEffort, "t/u"), "coord.s.b.plug=2Ein.t=2Fu.all");
  EXPECT_EQ(subjects.For(Kind::kQuestion, "t", "a.b"), "coord.s.q.plug=2Ein.t.to.a=2Eb");
  EXPECT_EQ(subjects.Reliable("t.>"), "coord.s.r.plug=2Ein.t=2E=3E");
  EXPECT_EQ(subjects.Hints(), "coord.s.h.plug=2Ein");
}

TEST(NatsEventWireTest, HeadersComeBack) {
  const NatsEventHeaders whole = Whole();
  const Lines lines = Map(Format(whole));
  EXPECT_EQ(lines.at("Nats-Msg-Id"), "0123456789abcdef00000001.18446744073709551615.7");
  const auto back = Parse(lines, true);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->bus, whole.bus);
  EXPECT_EQ(back->from, whole.from);
  EXPECT_EQ(back->to, whole.to);
  EXPECT_EQ(back->publisher, whole.publisher);
  EXPECT_EQ(back->number, whole.number);
  EXPECT_EQ(back->low, whole.low);
  EXPECT_FALSE(back->is_void);
}

TEST(NatsEventWireTest, WithoutALowItIsTheNumber) {
  NatsEventHeaders headers = Whole();
  headers.low = headers.number;
  Lines lines = Map(Format(headers));
  EXPECT_EQ(lines.count("Coord-Low"), 0u);
  EXPECT_EQ(Parse(lines, true)->low, headers.number);
  for (const char* bad : {"", "0", "x", "-1", "8"}) {
    lines["Coord-N"] = "7";
    lines["Coord-Low"] = bad;
    EXPECT_EQ(Parse(lines, true).status().message(), "its header Coord-Low is missing or is none of an event") << bad;
  }
  // Headers that this version does not know change nothing.
  lines["Coord-Low"] = "7";
  lines["Coord-Else"] = "x";
  EXPECT_EQ(Parse(lines, true)->low, 7u);
}

TEST(NatsEventWireTest, TheLongestHeadersFitIntoTheirAllowance) {
  NatsEventHeaders headers = Whole();
  headers.from = std::string(128, '\xff');
  headers.to = std::string(128, '\xff');
  headers.is_void = true;
  size_t bytes = std::string("NATS/1.0\r\n\r\n").size();
  for (const auto& [name, value] : Format(headers)) bytes += name.size() + value.size() + 4;
  EXPECT_LE(bytes, kMaxNatsHeaderBytes);
}

TEST(NatsEventWireTest, WhateverElseArrivesIsRefused) {
  const Lines good = Map(Format(Whole()));
  for (const char* name : {"Coord-V", "Coord-Bus", "Coord-From", "Coord-Pub", "Coord-N"}) {
    Lines lines = good;
    lines.erase(name);
    EXPECT_EQ(Parse(lines, true).status().code(), absl::StatusCode::kInvalidArgument) << name;
    lines[name] = "?";
    const absl::Status bad = Parse(lines, true).status();
    EXPECT_EQ(bad.message(), "its header " + std::string(name) + " is missing or is none of an event");
  }
  Lines lines = good;
  lines["Coord-N"] = "0";
  EXPECT_FALSE(Parse(lines, true).ok());
  lines = good;
  lines["Coord-To"] = "=";
  EXPECT_FALSE(Parse(lines, true).ok());
  lines = good;
  lines["Coord-V"] = "2.0";
  EXPECT_EQ(Parse(lines, true).status().code(), absl::StatusCode::kFailedPrecondition);
  lines["Coord-V"] = "1.9";
  EXPECT_TRUE(Parse(lines, true).ok());
}

TEST(NatsEventWireTest, AnswersGoToInboxesOnly) {
  EXPECT_TRUE(IsReplySubject("_INBOX.a1.7"));
  for (const char* bad : {"", "_INBOX", "$JS.API.STREAM.DELETE.X", "_INBOX.>", "_INBOX.a b", "coord.s.b.p.t.all"}) {
    EXPECT_FALSE(IsReplySubject(bad)) << bad;
  }
}

}  // namespace
}  // namespace coord::internal
