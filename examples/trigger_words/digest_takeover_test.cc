// What a new leader makes of the state in which another left the digest. Leaders killed at random are in digest_test;
// here each point has its case.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coord/coord.h"
#include "examples/trigger_words/alert.h"
#include "examples/trigger_words/deployment.h"
#include "examples/trigger_words/digest.h"
#include "examples/trigger_words/digest_file.h"
#include "examples/trigger_words/process.h"

namespace trigger_words {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr absl::Duration kSoon = absl::Seconds(20);

absl::Time Deadline() { return absl::Now() + kSoon; }

class DigestTakeover : public ::testing::Test {
 protected:
  DigestTakeover() : store_(*kv::Open("memory:")), before_(Join("before")), after_(Join("after")) {
    outbox_ = *before_->SharedMap("digest/outbox", Deadline());
  }

  std::unique_ptr<coord::Cluster> Join(const std::string& name) {
    coord::JoinOptions options;
    options.store = store_;
    options.plugin = "com.example.test";
    options.instance = name;
    options.ttl = absl::Seconds(1);
    return *coord::Cluster::Join(options);
  }

  std::string Path() const { return folder_.path() + "/digest"; }

  void WriteFile(const std::string& text) { std::ofstream(Path(), std::ios::binary) << text; }
  std::string File() const {
    std::ifstream file(Path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  // As the leader before left it: the cell says `record`, and `waiting` are in the outbox.
  uint64_t LeaderBefore(const std::function<std::string(uint64_t fence)>& cell, const std::vector<Alert>& waiting) {
    absl::StatusOr<coord::Grant> term = before_->Election("digest").Campaign("", Deadline());
    EXPECT_TRUE(term.ok()) << term.status();
    const uint64_t fence = term->fence();
    EXPECT_TRUE(before_->FencedCell("digest/position").Set(*term, cell(fence), Deadline()).ok());
    for (const Alert& alert : waiting) EXPECT_TRUE(outbox_->Set(alert.id, ToJson(alert), Deadline()).ok());
    return fence;
  }

  DigestRecord RecordOf(const Alert& alert, uint64_t fence, int64_t offset) {
    return {fence, 1, DigestFile::Open(Path())->id(), offset, DigestLine(alert, fence), alert.id};
  }

  // Starts the new leader and waits until it has nothing left to do.
  void TakeOver() {
    digest_ = *Digest::Start(
        after_.get(), *DigestFile::Open(Path()), [this](const std::string& line) { Log(line); }, Deadline());
    EXPECT_TRUE(WaitUntil(kSoon, [&] { return digest_->waiting() == 0; }))
        << "still in the outbox: " << digest_->waiting();
  }

  void Log(const std::string& line) {
    const std::lock_guard<std::mutex> lock(mutex_);
    log_.push_back(line);
  }
  std::vector<std::string> Logged() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return log_;
  }

  const Alert one_{"1", "2026-01-01T00:00:00.000Z", "before", {"hello"}, "hello one"};
  const Alert two_{"2", "2026-01-01T00:00:01.000Z", "before", {"hello"}, "hello two"};
  const TemporaryFolder folder_;
  const std::shared_ptr<kv::Store> store_;
  std::unique_ptr<coord::Cluster> before_;
  std::unique_ptr<coord::Cluster> after_;
  std::shared_ptr<coord::SharedMap> outbox_;
  std::mutex mutex_;
  std::vector<std::string> log_;
  std::unique_ptr<Digest> digest_;
};

TEST_F(DigestTakeover, ALineThatWasWrittenDownButNotWrittenIsWritten) {
  WriteFile("earlier\n");
  const uint64_t fence = LeaderBefore([&](uint64_t f) { return ToJson(RecordOf(one_, f, 8)); }, {one_});
  TakeOver();
  EXPECT_EQ(File(), "earlier\n" + DigestLine(one_, fence));
}

TEST_F(DigestTakeover, ALineThatWasHalfWrittenIsCompleted) {
  WriteFile("earlier\n{\"fence\":");
  const uint64_t fence = LeaderBefore([&](uint64_t f) { return ToJson(RecordOf(one_, f, 8)); }, {one_});
  TakeOver();
  EXPECT_EQ(File(), "earlier\n" + DigestLine(one_, fence));
}

TEST_F(DigestTakeover, ALineThatWasWrittenWhileItsAlertStillWaitsIsNotRepeated) {
  uint64_t fence = LeaderBefore(
      [&](uint64_t f) {
        WriteFile(DigestLine(one_, f));
        return ToJson(RecordOf(one_, f, 0));
      },
      {one_, two_});
  TakeOver();
  const absl::StatusOr<std::vector<DigestEntry>> digest = ReadDigest(Path());
  ASSERT_TRUE(digest.ok()) << digest.status();
  ASSERT_EQ(digest->size(), 2u);
  EXPECT_EQ((*digest)[0].fence, fence);
  EXPECT_EQ((*digest)[1].alert, "2");
  EXPECT_GT((*digest)[1].fence, fence);
}

TEST_F(DigestTakeover, AnAlertWhoseLineWentToAnotherFileIsWrittenHereOnlyIfItStillWaits) {
  LeaderBefore(
      [&](uint64_t f) {
        DigestRecord record = RecordOf(one_, f, 0);
        record.file = "elsewhere";
        return ToJson(record);
      },
      {two_});
  TakeOver();
  const absl::StatusOr<std::vector<DigestEntry>> digest = ReadDigest(Path());
  ASSERT_EQ(digest->size(), 1u);
  EXPECT_EQ((*digest)[0].alert, "2");
}

TEST_F(DigestTakeover, TheOldLeaderCanWriteNothingDownAnyMore) {
  absl::StatusOr<coord::Grant> term = before_->Election("digest").Campaign("", Deadline());
  ASSERT_TRUE(term.ok());
  ASSERT_TRUE(
      before_->FencedCell("digest/position").Set(*term, ToJson(RecordOf(one_, term->fence(), 0)), Deadline()).ok());
  // The store's forced break stands for a pause that outlasts the session.
  ASSERT_TRUE(after_->Break(before_->session(), Deadline()).ok());
  ASSERT_TRUE(outbox_->Set(two_.id, ToJson(two_), Deadline()).ok());
  TakeOver();
  const std::string file = File();
  const absl::Status late =
      before_->FencedCell("digest/position").Set(*term, ToJson(RecordOf(two_, term->fence(), 0)), Deadline()).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kFailedPrecondition) << late;
  EXPECT_EQ(File(), file);
}

TEST_F(DigestTakeover, ACellThatIsNotItsOwnIsLeftAloneAndSaidSo) {
  LeaderBefore([](uint64_t) { return "something else"; }, {one_});
  digest_ = *Digest::Start(
      after_.get(), *DigestFile::Open(Path()), [this](const std::string& line) { Log(line); }, Deadline());
  before_->Leave(Deadline()).IgnoreError();
  EXPECT_TRUE(WaitUntil(kSoon, [&] { return !Logged().empty(); }));
  EXPECT_THAT(Logged(),
              Contains(HasSubstr("the cell digest/position holds something else than the digest's position")));
  EXPECT_EQ(File(), "");
  EXPECT_EQ(after_->FencedCell("digest/position").Get(Deadline())->value, "something else");
}

TEST_F(DigestTakeover, AnOutboxThatIsFullRefusesFurtherAlerts) {
  absl::StatusOr<coord::Grant> term =
      before_->Election("digest").Campaign("", Deadline());  // so that nobody empties it
  ASSERT_TRUE(term.ok());
  digest_ = *Digest::Start(
      after_.get(), *DigestFile::Open(Path()), [this](const std::string& line) { Log(line); }, Deadline());
  Alert alert = one_;
  for (size_t i = 0; i < Digest::kMaxWaiting; ++i) {
    alert.id = absl::StrCat(i);
    ASSERT_TRUE(digest_->Submit(alert, Deadline()).ok());
  }
  EXPECT_EQ(digest_->Submit(two_, Deadline()),
            absl::ResourceExhaustedError("the digest is 1024 alerts behind; try again when it has caught up"));
}

}  // namespace
}  // namespace trigger_words
