// The table agrees with what stores state, with what Cluster::Join refuses, and with the documents.

#include "coord/guarantees.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "coord/cluster.h"
#include "coord/guarantees_test_util.h"
#include "coord/test_world.h"
#include "kv/open.h"

namespace coord::testing {
namespace {

using ::testing::HasSubstr;

TEST(GuaranteesTest, OpenedStoresStateWhatTheirRowsSay) {
  const std::string path = absl::StrCat(std::getenv("TEST_TMPDIR"), "/guarantees.db");
  ExpectRow("memory:", "memory:");
  ExpectRow("sqlite:" + path, "sqlite:PATH");
  ExpectRow(absl::StrCat("sqlite:", path, "?sync=full"), "sqlite:PATH?sync=full");
}

// Joining over a store that states the traits of the row.
TEST(GuaranteesTest, AcceptWeakerIsNeededWhereTheTableSaysSo) {
  for (const Guarantees& row : AllGuarantees()) {
    SCOPED_TRACE(row.url);
    World world(7);
    JoinOptions options = world.Options("a");
    Shaped(options)->shape = row.traits;
    const absl::StatusOr<std::unique_ptr<Cluster>> joined = Cluster::Join(options);
    EXPECT_EQ(joined.ok(), !row.needs_accept_weaker) << joined.status();
    if (!row.needs_accept_weaker) continue;
    EXPECT_EQ(joined.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(joined.status().message()),
                ::testing::AllOf(HasSubstr("accept_weaker (flag --accept-weaker)"), HasSubstr("--guarantees"),
                                 HasSubstr("docs/guarantees.md")));
  }
}

TEST(GuaranteesTest, NoRowPromisesMoreThanItsTraitsAllow) {
  std::set<std::string> urls;
  for (const Guarantees& row : AllGuarantees()) {
    SCOPED_TRACE(row.url);
    EXPECT_TRUE(urls.insert(row.url).second);
    EXPECT_EQ(FindGuarantees(row.traits), &row);
    EXPECT_EQ(row.durability.holds == Holds::kYes, row.traits.durable);
    EXPECT_EQ(row.watch.holds == Holds::kYes, row.traits.watch);
    if (row.traits.evicting || row.traits.volatile_storage) {
      EXPECT_NE(row.exclusion.holds, Holds::kYes);
      EXPECT_EQ(row.durability.holds, Holds::kNo);
    }
    EXPECT_EQ(row.fence.holds == Holds::kNo, !row.traits.monotonic_revisions);
    EXPECT_EQ(row.order.holds == Holds::kYes, row.traits.monotonic_revisions && row.traits.linearizable_reads);
    for (const Promise* promise : {&row.exclusion, &row.fence, &row.durability, &row.watch, &row.order, &row.events}) {
      EXPECT_FALSE(promise->sentence.empty());
      EXPECT_EQ(promise->sentence.back(), '.');
    }
    EXPECT_FALSE(row.settings.empty());
  }
  kv::Traits other;
  other.name = "other";
  EXPECT_EQ(FindGuarantees(other), nullptr);
}

TEST(GuaranteesTest, TheTextFitsATerminalAndSaysWhatSyncIntervalMeans) {
  const std::string text = GuaranteesText(AllGuarantees());
  for (const absl::string_view line : absl::StrSplit(text, '\n')) EXPECT_LE(line.size(), 100u) << line;
  for (const Guarantees& row : AllGuarantees()) EXPECT_THAT(text, HasSubstr(row.url + "\n"));
  EXPECT_THAT(text, HasSubstr("sync_interval: always"));
  const std::string one = GuaranteesText({*FindGuarantees(kv::Open("memory:").value()->traits())});
  EXPECT_THAT(one, ::testing::StartsWith("memory:\n  in the memory of one process\n  exclusion  yes      Among"));
}

TEST(GuaranteesTest, TheDocumentIsTheTable) {
  std::ifstream file(
      absl::StrCat(std::getenv("TEST_SRCDIR"), "/", std::getenv("TEST_WORKSPACE"), "/docs/guarantees.md"));
  const std::string written{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  EXPECT_EQ(written, GuaranteesMarkdown(AllGuarantees()))
      << "Write it anew: bazel run //coord:print_guarantees >docs/guarantees.md";
}

}  // namespace
}  // namespace coord::testing
