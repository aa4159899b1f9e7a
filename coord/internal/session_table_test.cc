#include "coord/internal/session_table.h"

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

constexpr absl::Duration kTtl = absl::Seconds(10);
const absl::Time kBegin = absl::UnixEpoch();

SessionRecord Live() {
  SessionRecord record;
  record.ttl = kTtl;
  return record;
}

TEST(SessionTable, SilenceCountsFromWhenARevisionWasFirstSeen) {
  SessionTable table(/*monotonic=*/true);
  EXPECT_TRUE(table.Observe("s", {"", 5, std::nullopt}, Live(), kBegin));
  EXPECT_FALSE(table.Observe("s", {"", 5, std::nullopt}, Live(), kBegin + kTtl / 2)) << "no news";
  EXPECT_FALSE(table.Find("s")->Silent(kBegin + kTtl - absl::Milliseconds(1)));
  EXPECT_TRUE(table.Find("s")->Silent(kBegin + kTtl));
  EXPECT_TRUE(table.Observe("s", {"", 6, std::nullopt}, Live(), kBegin + kTtl));
  EXPECT_FALSE(table.Find("s")->Silent(kBegin + kTtl * 1.5));
}

TEST(SessionTable, AnAgeMakesSilenceSoonerAndAnOlderRevisionIsNoNews) {
  SessionTable table(/*monotonic=*/true);
  EXPECT_TRUE(table.Observe("s", {"", 5, kTtl / 2}, Live(), kBegin));
  EXPECT_EQ(table.Find("s")->SilentAt(), kBegin + kTtl / 2);
  EXPECT_FALSE(table.Observe("s", {"", 4, std::nullopt}, Live(), kBegin + kTtl));
  EXPECT_EQ(table.Find("s")->SilentAt(), kBegin + kTtl / 2);
  EXPECT_EQ(table.AllSilent(kBegin + kTtl, 10).size(), 1u);
}

TEST(SessionTable, BeyondItsBoundTheOneThatIsSilentLongestIsForgotten) {
  SessionTable table(/*monotonic=*/true);
  for (size_t i = 0; i <= SessionTable::kMaxSessions; ++i) {
    table.Observe(std::to_string(i), {"", 1, std::nullopt}, Live(), kBegin + absl::Milliseconds(1) * i);
  }
  EXPECT_FALSE(table.Find("0").has_value());
  EXPECT_TRUE(table.Find("1").has_value());
  EXPECT_EQ(table.AllSilent(absl::InfiniteFuture(), 2 * SessionTable::kMaxSessions).size(), SessionTable::kMaxSessions);
}

}  // namespace
}  // namespace coord::internal
