// The digest has one line for each alert, whatever happens to the leaders.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "examples/trigger_words/deployment.h"
#include "examples/trigger_words/testing.h"

namespace trigger_words {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DigestTest : public PluginTest {
 protected:
  // The digest once `done` is true of it.
  std::vector<DigestEntry> WaitForDigest(const std::function<bool(const std::vector<DigestEntry>&)>& done) {
    absl::StatusOr<std::vector<DigestEntry>> digest;
    EXPECT_TRUE(WaitUntil(kSoon, [&] {
      digest = ReadDigest(DigestPath());
      return digest.ok() && done(*digest);
    })) << digest.status();
    return digest.ok() ? *digest : std::vector<DigestEntry>{};
  }

  std::vector<DigestEntry> WaitForLines(size_t lines) {
    std::vector<DigestEntry> digest = WaitForDigest([&](const auto& entries) { return entries.size() >= lines; });
    EXPECT_EQ(digest.size(), lines);
    return digest;
  }

  CopyStatus Leader(uint64_t above = 0) {
    absl::StatusOr<CopyStatus> leader = WaitForLeader(Running(), above, kSoon);
    EXPECT_TRUE(leader.ok()) << leader.status();
    return leader.ok() ? *leader : CopyStatus();
  }

  // Stops the leader, and says who that is. A process that is stopped inside a commit blocks the writes of all others:
  // such a pause is taken back, and the next leader is tried.
  CopyStatus PauseTheLeader() {
    for (int tries = 0; tries < 10; ++tries) {
      const CopyStatus leader = Leader();
      const size_t paused = IndexOf(leader.leader);
      copies_[paused]->process().Signal(SIGSTOP);
      if (copies_[(paused + 1) % 3]->Do("POST", "/triggers", "hello").ok()) return leader;
      copies_[paused]->process().Signal(SIGCONT);
      EXPECT_TRUE(WaitUntil(kSoon, [&] { return copies_[paused]->Do("POST", "/triggers", "hello").ok(); }));
    }
    ADD_FAILURE() << "the copy was in a commit whenever it was stopped";
    return CopyStatus();
  }

  void ExpectFencesGrow(const std::vector<DigestEntry>& digest) {
    for (size_t i = 1; i < digest.size(); ++i) EXPECT_GE(digest[i].fence, digest[i - 1].fence) << "line " << i;
  }
};

TEST_F(DigestTest, ALineTellsTheFenceTheCopyTheWordsAndThePost) {
  StartAll();
  const CopyStatus leader = Leader();
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "hello").ok());
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "world").ok());
  const std::string post = "Hello \"world\"\n" + std::string(200, 'x');
  ASSERT_TRUE(WaitUntil(kSoon, [&] { return copies_[2]->Status()->triggers.size() == 2; }));
  EXPECT_THAT(Post(2, post), ElementsAre("hello", "world"));
  const std::vector<DigestEntry> digest = WaitForLines(1);
  ASSERT_EQ(digest.size(), 1u);
  EXPECT_EQ(digest[0].fence, leader.fence);
  EXPECT_EQ(digest[0].copy, "server-3");
  EXPECT_THAT(digest[0].words, ElementsAre("hello", "world"));
  EXPECT_EQ(digest[0].post, "Hello \"world\"\n" + std::string(106, 'x') + "…");
}

// Posts to the copies in turn until it is told to stop, and remembers which posts were accepted.
class Poster {
 public:
  explicit Poster(std::vector<int> ports) : thread_([this, ports = std::move(ports)] { Run(ports); }) {}
  ~Poster() { Stop(); }

  void Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }
  size_t accepted() const { return accepted_; }
  // After Stop.
  const std::set<std::string>& posts() const { return posts_; }

 private:
  void Run(const std::vector<int>& ports) {
    for (size_t i = 0; !stop_; ++i) {
      const std::string post = absl::StrCat("hello number ", i);
      const absl::StatusOr<HttpReply> reply = Call(ports[i % ports.size()], {"POST", "/posts", post});
      if (!reply.ok() || reply->status != 200) continue;
      posts_.insert(post);
      ++accepted_;
    }
  }

  std::atomic<bool> stop_{false};
  std::atomic<size_t> accepted_{0};
  std::set<std::string> posts_;
  std::thread thread_;
};

TEST_F(DigestTest, EachAlertHasOneLineAlthoughLeadersAreKilled) {
  ttl_ = absl::Seconds(1);
  StartAll();
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "hello").ok());
  for (Copy* copy : Running()) ASSERT_TRUE(WaitUntil(kSoon, [&] { return copy->Status()->triggers.size() == 1; }));
  Poster poster({copies_[0]->port(), copies_[1]->port(), copies_[2]->port()});
  uint64_t fence = 0;
  for (int round = 0; round < 4; ++round) {
    const CopyStatus leader = Leader(fence);
    fence = leader.fence;
    // It has written in this term, and more is coming.
    WaitForDigest([&](const auto& entries) { return !entries.empty() && entries.back().fence == fence; });
    const size_t before = poster.accepted();
    ASSERT_TRUE(WaitUntil(kSoon, [&] { return poster.accepted() > before + 5; }));
    const size_t index = IndexOf(leader.leader);
    copies_[index]->process().Kill();
    ASSERT_NO_FATAL_FAILURE(Start(index));
  }
  poster.Stop();
  const std::set<std::string>& accepted = poster.posts();
  EXPECT_GT(accepted.size(), 20u);
  std::map<std::string, int> lines;
  const std::vector<DigestEntry> digest = WaitForDigest([&](const auto& entries) {
    lines.clear();
    for (const DigestEntry& entry : entries) ++lines[entry.post];
    for (const std::string& post : accepted) {
      if (lines.count(post) == 0) return false;
    }
    return true;
  });
  for (const auto& [post, count] : lines) EXPECT_EQ(count, 1) << post;
  ExpectFencesGrow(digest);
  EXPECT_GE(digest.back().fence, fence);
}

TEST_F(DigestTest, ALeaderThatWasPausedBeyondItsTtlWritesNothingAfterwards) {
  ttl_ = absl::Seconds(1);
  StartAll();
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "hello").ok());
  for (Copy* copy : Running()) ASSERT_TRUE(WaitUntil(kSoon, [&] { return copy->Status()->triggers.size() == 1; }));
  Post(0, "hello before");
  WaitForLines(1);
  const CopyStatus before = PauseTheLeader();
  const size_t paused = IndexOf(before.leader);
  const size_t other = (paused + 1) % 3;
  Post(other, "hello meanwhile");
  const std::vector<DigestEntry> meanwhile = WaitForLines(2);
  ASSERT_EQ(meanwhile.size(), 2u);
  EXPECT_GT(meanwhile[1].fence, before.fence);
  copies_[paused]->process().Signal(SIGCONT);
  ASSERT_TRUE(WaitUntil(kSoon, [&] {
    const absl::StatusOr<CopyStatus> status = copies_[paused]->Status();
    return status.ok() && status->state == "attached" && status->fence > before.fence;
  }));
  Post(paused, "hello afterwards");
  const std::vector<DigestEntry> digest = WaitForLines(3);
  ExpectFencesGrow(digest);
  EXPECT_EQ(digest.back().post, "hello afterwards");
}

TEST_F(DigestTest, AlertsWaitWhileTheFileCannotBeWrittenAndAMovedFileIsFollowedByANewOne) {
  Start(0);
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "hello").ok());
  Post(0, "hello one");
  WaitForLines(1);
  // A folder in its place: the copy cannot open it again.
  ASSERT_EQ(std::rename(DigestPath().c_str(), (DigestPath() + ".1").c_str()), 0);
  ASSERT_EQ(std::system(("mkdir " + DigestPath()).c_str()), 0);
  Post(0, "hello two");
  ASSERT_TRUE(WaitUntil(kSoon, [&] {
    std::ifstream log(folder_.path() + "/log");
    const std::string text{std::istreambuf_iterator<char>(log), std::istreambuf_iterator<char>()};
    return text.find("the digest waits: ") != std::string::npos;
  }));
  EXPECT_THAT(
      Get(0, "/metrics").body,
      HasSubstr("trigger_words_digest_waiting{plugin=\"com.example.trigger-words\",instance=\"server-1\"} 1\n"));
  ASSERT_EQ(std::system(("rmdir " + DigestPath()).c_str()), 0);
  const std::vector<DigestEntry> digest = WaitForLines(1);
  ASSERT_EQ(digest.size(), 1u);
  EXPECT_EQ(digest[0].post, "hello two");
  EXPECT_EQ(ReadDigest(DigestPath() + ".1")->size(), 1u);
}

}  // namespace
}  // namespace trigger_words
