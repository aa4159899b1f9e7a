// Eight processes change one file under one lock.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/process/process.h"

namespace process_test {
namespace {

constexpr int kCopies = 8;
constexpr int kIncrements = 200;

class ExclusionTest : public testing::Test {
 protected:
  void StartAll(absl::Duration ttl) {
    for (int i = 0; i < kCopies; ++i) {
      Process::Options options;
      options.store = "sqlite:" + folder_ / "coord.db";
      options.instance = absl::StrCat("copy-", i);
      options.ttl = ttl;
      copies_.push_back(std::make_unique<Process>(options));
    }
    for (auto& copy : copies_) {
      const Reply joined = copy->Call("join");
      ASSERT_TRUE(joined.ok()) << joined.status;
    }
  }

  int Count(size_t copy, int die_at = 0) {
    return copies_[copy]->Send(absl::StrCat("count counter ", folder_.path(), " ", kIncrements, " ", die_at));
  }

  std::map<std::string, int64_t> Counter() const {
    std::map<std::string, int64_t> counts;
    for (const std::string& line : Lines(folder_ / "counter")) {
      const std::vector<std::string> words = Words(line);
      EXPECT_EQ(words.size(), 2u) << "the counter is torn: " << line;
      if (words.size() == 2) counts[words[0]] = std::atoll(words[1].c_str());
    }
    counts.erase("fence");
    return counts;
  }

  // How often each copy entered, after a check that each entered with a fence above all before it.
  std::map<std::string, int64_t> CheckLog() const {
    std::map<std::string, int64_t> entered;
    uint64_t last = 0;
    for (const std::string& line : Lines(folder_ / "log")) {
      const std::vector<std::string> words = Words(line);
      EXPECT_EQ(words.size(), 2u) << "the log is torn: " << line;
      if (words.size() != 2) break;
      const uint64_t fence = std::strtoull(words[0].c_str(), nullptr, 10);
      EXPECT_GT(fence, last) << words[1] << " entered with a fence that is not above the one before";
      last = fence;
      ++entered[words[1]];
    }
    return entered;
  }

  TemporaryFolder folder_;
  std::vector<std::unique_ptr<Process>> copies_;
};

TEST_F(ExclusionTest, EightCopiesLoseNoIncrement) {
  // Nobody dies: a ttl that no pause of the machine exceeds.
  ASSERT_NO_FATAL_FAILURE(StartAll(absl::Seconds(30)));
  std::vector<int> tags;
  for (size_t i = 0; i < kCopies; ++i) tags.push_back(Count(i));
  for (size_t i = 0; i < kCopies; ++i) {
    const Reply counted = copies_[i]->Await(tags[i]);
    ASSERT_TRUE(counted.ok()) << counted.status;
    EXPECT_EQ(counted.text, absl::StrCat(kIncrements, " 0"));
  }
  int64_t sum = 0;
  for (const auto& [copy, count] : Counter()) {
    EXPECT_EQ(count, kIncrements) << copy;
    sum += count;
  }
  EXPECT_EQ(sum, kCopies * kIncrements);
  int64_t entered = 0;
  for (const auto& [copy, count] : CheckLog()) entered += count;
  EXPECT_EQ(entered, kCopies * kIncrements);
}

// One is killed from outside at some moment, one dies between its read and its write, holding the lock for certain.
TEST_F(ExclusionTest, TwoKilledCopiesLeaveTheirIncrementsWholeOrAbsent) {
  const unsigned seed = std::random_device()();
  std::mt19937 random(seed);
  const int die_at = 1 + static_cast<int>(random() % (kIncrements / 2));
  const size_t kill_after = random() % (kCopies * kIncrements / 2);
  std::cout << "seed " << seed << ": copy-0 dies in increment " << die_at << ", copy-1 after entry " << kill_after
            << " of all\n";
  ASSERT_NO_FATAL_FAILURE(StartAll(absl::Seconds(2)));
  std::vector<int> tags = {Count(0, die_at)};
  for (size_t i = 1; i < kCopies; ++i) tags.push_back(Count(i));
  ASSERT_TRUE(Eventually([&] { return Lines(folder_ / "log").size() >= kill_after; }));
  copies_[1]->Kill();
  for (size_t i = 2; i < kCopies; ++i) {
    const Reply counted = copies_[i]->Await(tags[i]);
    ASSERT_TRUE(counted.ok()) << counted.status;
    EXPECT_EQ(counted.Number(0), kIncrements);
    if (counted.Number(1) != 0) std::cout << copies_[i]->instance() << " lost its grant " << counted.text << "\n";
  }
  const int status = copies_[0]->AwaitEnd();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;

  std::map<std::string, int64_t> counter = Counter();
  std::map<std::string, int64_t> entered = CheckLog();
  for (size_t i = 2; i < kCopies; ++i) EXPECT_EQ(counter[copies_[i]->instance()], kIncrements) << i;
  EXPECT_EQ(counter["copy-0"], die_at - 1);
  EXPECT_GE(entered["copy-0"], die_at);
  // The other one may have been killed between an increment and saying so.
  const int64_t said = static_cast<int64_t>(copies_[1]->TakeEvents("counted ").size());
  EXPECT_GE(counter["copy-1"], said);
  EXPECT_LE(counter["copy-1"], said + 1);
}

}  // namespace
}  // namespace process_test
