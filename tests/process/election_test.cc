// Five processes stand for one office; the leader is killed, paused and steps down.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/process/copies.h"
#include "tests/process/terms.h"

namespace process_test {
namespace {

constexpr int kCopies = 5;
constexpr absl::Duration kTtl = absl::Seconds(1);

struct SeenTerm {
  uint64_t fence;
  int64_t first, last;
  std::string file;
};

class ElectionTest : public CopiesTest {
 protected:
  void SetUp() override {
    std::vector<Process*> all;
    for (int i = 0; i < kCopies; ++i) {
      copies_.push_back(Start(absl::StrCat("copy-", i), kTtl));
      all.push_back(copies_.back().get());
    }
    ASSERT_NO_FATAL_FAILURE(Join(all));
    for (size_t i = 0; i < kCopies; ++i) Stand(i);
  }

  void Stand(size_t copy) {
    files_.push_back(folder_ / absl::StrCat("terms-", files_.size()));
    const Reply stands = copies_[copy]->Call("stand office " + files_.back());
    ASSERT_TRUE(stands.ok()) << stands.status;
  }

  // Waits until a copy leads with a fence above `fence`, and takes that for the new one; gives the copy.
  size_t AwaitLeader(uint64_t* fence) {
    size_t leader = kCopies;
    EXPECT_TRUE(Eventually([&] {
      for (size_t i = 0; i < kCopies; ++i) {
        if (copies_[i] == nullptr || stopped_ == i) continue;
        const uint64_t led = static_cast<uint64_t>(std::max<int64_t>(copies_[i]->Call("term").Number(0), 0));
        if (led <= *fence) continue;
        *fence = led;
        leader = i;
        return true;
      }
      return false;
    })) << "nobody leads after fence "
        << *fence;
    return leader;
  }

  void Replace(size_t copy) {
    copies_[copy] = Start(absl::StrCat("copy-", copy), kTtl);
    ASSERT_NO_FATAL_FAILURE(Join({copies_[copy].get()}));
    Stand(copy);
  }

  // What all processes, dead ones included, remember of their terms, by fence.
  std::vector<SeenTerm> Terms() const {
    std::vector<SeenTerm> seen;
    for (const std::string& file : files_) {
      const int fd = open(file.c_str(), O_RDONLY | O_CLOEXEC);
      void* memory = mmap(nullptr, sizeof(process_test::Terms), PROT_READ, MAP_SHARED, fd, 0);
      close(fd);
      EXPECT_NE(memory, MAP_FAILED) << file;
      if (memory == MAP_FAILED) continue;
      for (const Term& term : static_cast<const process_test::Terms*>(memory)->terms) {
        if (term.fence != 0) seen.push_back({term.fence, term.first, term.last, file});
      }
      munmap(memory, sizeof(process_test::Terms));
    }
    std::sort(seen.begin(), seen.end(), [](const SeenTerm& a, const SeenTerm& b) { return a.fence < b.fence; });
    return seen;
  }

  void CheckTerms(size_t least) const {
    const std::vector<SeenTerm> terms = Terms();
    EXPECT_GE(terms.size(), least);
    for (size_t i = 1; i < terms.size(); ++i) {
      EXPECT_NE(terms[i].fence, terms[i - 1].fence) << terms[i].file << " and " << terms[i - 1].file;
      EXPECT_GT(terms[i].first, terms[i - 1].last)
          << "two led at once: " << terms[i - 1].file << " with fence " << terms[i - 1].fence << " and "
          << terms[i].file << " with fence " << terms[i].fence;
    }
  }

  std::vector<std::unique_ptr<Process>> copies_;
  std::vector<std::string> files_;  // of terms, one of each process ever
  size_t stopped_ = kCopies;
};

TEST_F(ElectionTest, OneLeaderAtATimeWhoeverIsKilled) {
  uint64_t fence = 0;
  size_t leader = AwaitLeader(&fence);
  for (int round = 0; round < 5; ++round) {
    ASSERT_LT(leader, copies_.size());
    const int64_t killed = copies_[leader]->Kill();
    const size_t dead = leader;
    copies_[dead] = nullptr;
    leader = AwaitLeader(&fence);
    std::cout << "led again " << (BootNanos() - killed) / 1'000'000 << " ms after the kill\n";
    EXPECT_NE(leader, dead);
    ASSERT_NO_FATAL_FAILURE(Replace(dead));
  }
  // Everybody hears of the last leader.
  const std::string last = absl::StrCat("leader copy-", leader, " ", fence);
  for (const auto& copy : copies_) EXPECT_TRUE(copy->AwaitEvent(last).has_value()) << copy->instance();
  // Nobody who lived was told of a loss, and each was elected with fences that grow.
  for (const auto& copy : copies_) {
    EXPECT_TRUE(copy->TakeEvents("term-lost").empty()) << copy->instance();
    uint64_t before = 0;
    for (const std::string& elected : copy->TakeEvents("elected ")) {
      uint64_t now = 0;
      EXPECT_TRUE(absl::SimpleAtoi(elected, &now) && now > before) << elected;
      before = now;
    }
  }
  CheckTerms(6);
}

TEST_F(ElectionTest, APausedLeaderIsToldAndStandsAgain) {
  uint64_t fence = 0;
  const size_t paused = AwaitLeader(&fence);
  ASSERT_LT(paused, copies_.size());
  EXPECT_EQ(copies_[paused]->AwaitEvent("elected "), absl::StrCat(fence));
  copies_[paused]->Signal(SIGSTOP);
  ASSERT_TRUE(copies_[paused]->AwaitStopped());
  stopped_ = paused;
  size_t leader = AwaitLeader(&fence);
  copies_[paused]->Signal(SIGCONT);
  stopped_ = kCopies;
  EXPECT_TRUE(copies_[paused]->AwaitEvent("term-lost").has_value());
  // It joins the end of the line: the others step down, one after the other, until it is its turn.
  const std::string label = absl::StrCat("copy-", paused);
  EXPECT_TRUE(Eventually([&] {
    const std::vector<std::string> line = Words(copies_[leader]->Call("line office 10000").text);
    return !line.empty() && line.back() == label;
  }));
  for (int turn = 0; leader != paused && turn < kCopies; ++turn) {
    ASSERT_LT(leader, copies_.size());
    const Reply down = copies_[leader]->Call("step-down 10000");
    ASSERT_TRUE(down.ok()) << down.status;
    leader = AwaitLeader(&fence);
  }
  EXPECT_EQ(leader, paused);
  EXPECT_EQ(copies_[paused]->AwaitEvent("elected "), absl::StrCat(fence));
  EXPECT_TRUE(copies_[paused]->TakeEvents("term-lost").empty());
  CheckTerms(3);
}

}  // namespace
}  // namespace process_test
