#include "coord/internal/records.h"

#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using ::testing::HasSubstr;

constexpr char kWhat[] = "lock record of \"orders\"";

std::string ReadGolden(const std::string& name) {
  std::ifstream file("coord/internal/testdata/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name;
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

// Parses by the kind that the file's name begins with, and formats again; or the error.
absl::StatusOr<std::string> Rewrite(const std::string& name, const std::string& text) {
  const std::string kind = name.substr(name.find('/') + 1);
  const auto again = [](const auto& record) -> absl::StatusOr<std::string> {
    if (!record.ok()) return record.status();
    return Format(*record);
  };
  if (kind.rfind("grant", 0) == 0) return again(ParseGrantRecord(text, kWhat));
  if (kind.rfind("session", 0) == 0) return again(ParseSessionRecord(text, kWhat));
  if (kind.rfind("epoch", 0) == 0) return again(ParseEpochRecord(text, kWhat));
  return again(ParseCellRecord(text, kWhat));
}

class GoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, ComesBackByteForByte) {
  const std::string text = ReadGolden(GetParam());
  const absl::StatusOr<std::string> again = Rewrite(GetParam(), text);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, text);
}

INSTANTIATE_TEST_SUITE_P(Version10, GoldenTest,
                         ::testing::Values("v1.0/grant_mutex.json", "v1.0/grant_created.json", "v1.0/grant_free.json",
                                           "v1.0/grant_election.json", "v1.0/grant_semaphore.json",
                                           "v1.0/grant_shared_mutex.json", "v1.0/session_live.json",
                                           "v1.0/session_broken.json", "v1.0/session_ended.json", "v1.0/epoch.json",
                                           "v1.0/cell_atomic.bin", "v1.0/cell_fenced.bin"));
// Unknown fields of a newer minor survive, and so does its number.
INSTANTIATE_TEST_SUITE_P(Version17, GoldenTest,
                         ::testing::Values("v1.7/grant.json", "v1.7/session.json", "v1.7/epoch.json", "v1.7/cell.bin"));

class NewerMajorTest : public ::testing::TestWithParam<std::string> {};

TEST_P(NewerMajorTest, IsRefusedWithAnAdvice) {
  EXPECT_EQ(
      Rewrite(GetParam(), ReadGolden(GetParam())).status(),
      absl::FailedPreconditionError("lock record of \"orders\" was written by a newer version (2.0) of coord; this "
                                    "copy knows 1.x: upgrade it"));
}

INSTANTIATE_TEST_SUITE_P(Version20, NewerMajorTest,
                         ::testing::Values("v2.0/grant.json", "v2.0/session.json", "v2.0/epoch.json", "v2.0/cell.bin"));

TEST(ParseGrantRecord, ReadsEveryField) {
  const absl::StatusOr<GrantRecord> record = ParseGrantRecord(ReadGolden("v1.0/grant_mutex.json"), kWhat);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->minor, 0);
  EXPECT_EQ(record->capacity, 1u);
  EXPECT_EQ(record->fence, 1795428000000123u);
  EXPECT_EQ(record->nonce, "9f3b00c1d2e4a577-12");
  ASSERT_EQ(record->owners.size(), 1u);
  EXPECT_EQ(record->owners[0].session, "6f1d2c3b4a596877");
  EXPECT_EQ(record->owners[0].instance, "server-1");
  EXPECT_EQ(record->owners[0].ttl, absl::Seconds(10));
  EXPECT_EQ(absl::FormatTime(record->owners[0].since, absl::UTCTimeZone()), "2026-11-23T10:00:00.123+00:00");
  EXPECT_EQ(record->owners[0].value, "http://10.0.0.1:8065");
  ASSERT_EQ(record->queue.size(), 2u);
  EXPECT_EQ(record->queue[1].instance,
            "s\xc3\xbc"
            "d \"3\"");
  ASSERT_EQ(record->queue[1].tickets.size(), 1u);
  EXPECT_EQ(record->queue[1].tickets[0].id, 9u);
}

TEST(ParseGrantRecord, KeepsUnknownFields) {
  const absl::StatusOr<GrantRecord> record = ParseGrantRecord(ReadGolden("v1.7/grant.json"), kWhat);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->minor, 7);
  EXPECT_EQ(record->extra, "{\"zulu\":[{}],\"alpha\":18446744073709551615}");
  EXPECT_EQ(record->queue[0].extra, "{\"priority\":3}");
}

TEST(ParseCellRecord, TheValueIsBytes) {
  const absl::StatusOr<CellRecord> cell = ParseCellRecord(ReadGolden("v1.0/cell_atomic.bin"), kWhat);
  ASSERT_TRUE(cell.ok()) << cell.status();
  EXPECT_EQ(cell->value, std::string("bytes \0\xff\nand a line", 19));
}

TEST(Format, ValuesThatAreNotUtf8AreHexadecimal) {
  for (const std::string& value : {std::string("\xff"), std::string("\0a", 2), std::string("\xed\xa0\x80"),
                                   std::string("\xc2\x9b\x7f\"\\\n"), std::string("\xf0\x9f\x8e\x89")}) {
    GrantRecord record;
    record.fence = 1;
    record.owners.push_back({"s", absl::Seconds(1), "i", absl::UnixEpoch(), 1, {{1, 1}}, value, ""});
    record.queue.push_back({"t", absl::Seconds(1), "i", absl::UnixEpoch(), 0, {{1, 1}}, value, ""});
    const std::string text = Format(record);
    const absl::StatusOr<GrantRecord> back = ParseGrantRecord(text, kWhat);
    ASSERT_TRUE(back.ok()) << back.status() << text;
    EXPECT_EQ(back->owners[0].value, value);
    EXPECT_EQ(back->queue[0].value, value) << "a waiting candidate's value becomes the leader's";
    for (const char c : text)
      EXPECT_FALSE(static_cast<unsigned char>(c) < 0x20 || c == 0x7f) << "raw control character";
  }
}

TEST(Format, TextThatIsNotUtf8StaysReadable) {
  SessionRecord record;
  record.ttl = absl::Seconds(1);
  record.since = absl::UnixEpoch();
  record.instance = "a\xff";
  const absl::StatusOr<SessionRecord> back = ParseSessionRecord(Format(record), kWhat);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->instance, "a\xef\xbf\xbd");
}

TEST(Format, TimesAgreeWithAbseil) {
  std::mt19937_64 random(4711);
  for (int i = 0; i < 20000; ++i) {
    const absl::Time time = absl::FromUnixMillis(static_cast<int64_t>(random() % 253402300800000u));
    SessionRecord record;
    record.ttl = absl::Seconds(1);
    record.since = time;
    const std::string expected = absl::FormatTime("%E4Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
    ASSERT_THAT(Format(record), HasSubstr("\"since\":\"" + expected + "\""));
  }
}

TEST(Format, ATtlIsNeverShortenedAndATimeIsKeptWithinTheCalendar) {
  SessionRecord record;
  record.ttl = absl::Microseconds(100001);
  record.since = absl::InfinitePast();
  EXPECT_THAT(Format(record), HasSubstr("\"ttl_ms\":101"));
  EXPECT_THAT(Format(record), HasSubstr("1970-01-01T00:00:00.000Z"));
  record.since = absl::InfiniteFuture();
  EXPECT_THAT(Format(record), HasSubstr("9999-12-31T23:59:59.999Z"));
}

struct BadCase {
  const char* name;
  std::string from;  // what of the golden mutex record is replaced
  std::string to;
  std::string why;
};

class DamagedTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(DamagedTest, SaysWhatAndWhatToDo) {
  const BadCase& bad = GetParam();
  std::string text = ReadGolden("v1.0/grant_mutex.json");
  if (bad.from.empty()) {
    text = bad.to;
  } else {
    const size_t at = text.find(bad.from);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, bad.from.size(), bad.to);
  }
  EXPECT_EQ(ParseGrantRecord(text, kWhat).status(),
            absl::DataLossError("lock record of \"orders\" in the store is damaged (" + bad.why +
                                "): inspect it with the store's own tool; if it cannot be repaired, remove it while no "
                                "copy of the plugin runs"));
}

std::string Many(int count, const std::string& one) {
  std::string all;
  for (int i = 0; i < count; ++i) all += (i == 0 ? "" : ",") + one;
  return all;
}

INSTANTIATE_TEST_SUITE_P(
    Records, DamagedTest,
    ::testing::Values(
        BadCase{"Empty", "", "", "it is not JSON"}, BadCase{"Binary", "", std::string("\0\xff", 2), "it is not JSON"},
        BadCase{"Cut", "", "{\"v\":\"1.0\",", "it is not JSON"},
        BadCase{"NotUtf8", "server-1", "\xff", "it is not JSON"},
        BadCase{"NotANumber", "10000", "NaN", "it is not JSON"}, BadCase{"TwoRecords", "", "{}{}", "it is not JSON"},
        BadCase{"Array", "", "[]", "the whole is not a JSON object"},
        BadCase{"NoVersion", "\"v\":\"1.0\",", "", "v is not a text of 3 to 16 bytes"},
        BadCase{"OldMajor", "\"1.0\"", "\"0.9\"", "v is not a version such as 1.0"},
        BadCase{"StrangeVersion", "\"1.0\"", "\"1.x\"", "v is not a version such as 1.0"},
        BadCase{"HugeMinor", "\"1.0\"", "\"1.99999999999\"", "v is not a version such as 1.0"},
        BadCase{"NoNonce", "\"w\":\"9f3b00c1d2e4a577-12\",", "", "w is not a text of 0 to 4096 bytes"},
        BadCase{"Negative", "\"capacity\":1", "\"capacity\":-1", "capacity is not a whole number from 1 to 4294967295"},
        BadCase{"NoCapacity", "\"capacity\":1", "\"capacity\":0",
                "capacity is not a whole number from 1 to 4294967295"},
        BadCase{"Fraction", "\"capacity\":1", "\"capacity\":1.0",
                "capacity is not a whole number from 1 to 4294967295"},
        BadCase{"Huge", "\"capacity\":1", "\"capacity\":1e30", "capacity is not a whole number from 1 to 4294967295"},
        BadCase{"Overflow", "\"capacity\":1", "\"capacity\":1e999", "it is not JSON"},
        BadCase{"HugeFence", "\"fence\":1795428000000123", "\"fence\":18446744073709551615",
                "fence is not a whole number from 0 to 9223372036854775807"},
        BadCase{"OwnersFenceAbove", "\"fence\":1795428000000123", "\"fence\":7",
                "an owner's fence is above the record's, or missing"},
        BadCase{"TwiceInOneObject", "\"v\":\"1.0\"", "\"v\":\"1.0\",\"v\":\"1.0\"",
                "a field stands twice in one object"},
        BadCase{"OwnersObject", "\"owners\":[", "\"owners\":{\"a\":1},\"other\":[",
                "owners is not an array of at most 256 elements"},
        BadCase{"OwnerNumber", "\"queue\":[", "\"queue\":[5,", "queue[0] is not a JSON object"},
        BadCase{"EmptySession", "6f1d2c3b4a596877", "", "owners[0].session is not a text of 1 to 64 bytes"},
        BadCase{"LongSession", "6f1d2c3b4a596877", std::string(65, 'x'),
                "owners[0].session is not a text of 1 to 64 bytes"},
        BadCase{"SessionTwice", "ffeeddccbbaa9988", "0a1b2c3d4e5f6071", "queue[1].session stands twice in queue"},
        BadCase{"ZeroTtl", "\"ttl_ms\":10000", "\"ttl_ms\":0",
                "owners[0].ttl_ms is not a whole number from 1 to 86400000"},
        BadCase{"LongTtl", "\"ttl_ms\":10000", "\"ttl_ms\":86400001",
                "owners[0].ttl_ms is not a whole number from 1 to 86400000"},
        BadCase{"NoTime", "2026-11-23T10:00:00.123Z", "yesterday",
                "owners[0].since is not a time such as 2026-11-23T10:00:00.000Z"},
        BadCase{"InfiniteTime", "2026-11-23T10:00:00.123Z", "infinite-future",
                "owners[0].since is not a time such as 2026-11-23T10:00:00.000Z"},
        BadCase{"NoTickets", "[[1,1]]", "[]", "owners[0].tickets is empty"},
        BadCase{"TicketZero", "[[1,1]]", "[[0,1]]",
                "owners[0].tickets has an element that is not [id, weight] of at least 1 each"},
        BadCase{"WeightZero", "[[1,1]]", "[[1,0]]",
                "owners[0].tickets has an element that is not [id, weight] of at least 1 each"},
        BadCase{"WeightHuge", "[[1,1]]", "[[1,4294967296]]",
                "owners[0].tickets has an element that is not [id, weight] of at least 1 each"},
        BadCase{"TicketFlat", "[[1,1]]", "[1,1]",
                "owners[0].tickets has an element that is not [id, weight] of at least 1 each"},
        BadCase{"TicketTwice", "[[1,1]]", "[[1,1],[1,1]]", "a session has the same ticket twice"},
        BadCase{"TooManyTickets", "[[1,1]]", "[" + Many(4097, "[1,1]") + "]",
                "owners[0].tickets is not an array of at most 4096 elements"},
        BadCase{"TooManyEntries", "\"queue\":[", "\"queue\":[" + Many(300, "{}") + ",",
                "queue is not an array of at most 256 elements"},
        BadCase{"WaiterWithFence", "\"tickets\":[[4,1]]", "\"tickets\":[[4,1]],\"fence\":3",
                "queue[0].fence must not be there"},
        BadCase{"TwoValues", "\"value\":", "\"value_hex\":\"00\",\"value\":", "owners[0].value stands there twice"},
        BadCase{"BadHex", "\"value\":\"http://10.0.0.1:8065\"", "\"value_hex\":\"0G\"",
                "owners[0].value_hex is not pairs of hexadecimal digits"},
        BadCase{"ValueNumber", "\"value\":\"http://10.0.0.1:8065\"", "\"value\":5",
                "owners[0].value is not a text of 0 to 1048576 bytes"},
        BadCase{"Deep", "\"w\":", "\"x\":" + std::string(17, '[') + std::string(17, ']') + ",\"w\":",
                "it is nested deeper than 16"},
        BadCase{"VeryDeep", "", std::string(500000, '['), "it is nested deeper than 16"},
        BadCase{"TooBig", "", std::string((1 << 20) + 1, ' '), "it has 1048577 bytes, the limit is 1048576"}),
    [](const ::testing::TestParamInfo<BadCase>& bad) { return bad.param.name; });

TEST(Parse, OtherKindsAreCheckedToo) {
  const std::string live = ReadGolden("v1.0/session_live.json");
  EXPECT_THAT(std::string(ParseGrantRecord(live, kWhat).status().message()), HasSubstr("capacity is not"));
  EXPECT_THAT(std::string(ParseSessionRecord("{\"v\":\"1.0\",\"w\":\"\",\"mark\":\"dead\"}", kWhat).status().message()),
              HasSubstr("mark is not live, broken or ended"));
  EXPECT_THAT(std::string(ParseEpochRecord("{\"v\":\"1.0\",\"w\":\"\",\"id\":\"xx\"}", kWhat).status().message()),
              HasSubstr("id is not a text of 16 to 16 bytes"));
  EXPECT_THAT(std::string(ParseCellRecord("{\"v\":\"1.0\",\"w\":\"\"}", kWhat).status().message()),
              HasSubstr("its first line, the header, has no end"));
  EXPECT_THAT(std::string(ParseCellRecord("hello\nworld", kWhat).status().message()), HasSubstr("it is not JSON"));
}

// Whatever the bytes: an answer, and what is accepted formats to something that is accepted.
TEST(Parse, SurvivesMutatedRecords) {
  std::mt19937 random(4711);
  const std::string golden = ReadGolden("v1.7/grant.json");
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = golden;
    for (int edit = 1 + random() % 3; edit > 0; --edit) {
      const size_t at = random() % text.size();
      const char set[] = "0123456789-+.eE\"{}[],:\\nut\xff";
      if (random() % 3 == 0) {
        text.erase(at, 1 + random() % 8);
      } else {
        text[at] = set[random() % (sizeof set - 1)];
      }
    }
    const absl::StatusOr<GrantRecord> record = ParseGrantRecord(text, kWhat);
    if (!record.ok()) continue;
    ++accepted;
    const std::string once = Format(*record);
    const absl::StatusOr<GrantRecord> again = ParseGrantRecord(once, kWhat);
    ASSERT_TRUE(again.ok()) << again.status() << "\n" << text;
    EXPECT_EQ(Format(*again), once);
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace coord::internal
