// A long queue of processes.

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/process/copies.h"

namespace process_test {
namespace {

constexpr int kCopies = 64;

class QueueTest : public CopiesTest {};

TEST_F(QueueTest, SixtyFourProcessesAreServedInTheOrderInWhichTheyCame) {
  // Above every deadline below: nobody is served by silence, nor by the look at the record that each takes once per
  // ttl. What serves them is the push of the record.
  constexpr absl::Duration kTtl = absl::Minutes(10);
  const auto first = Joined("first", kTtl);
  std::vector<std::unique_ptr<Process>> copies;
  std::vector<Process*> joining;
  for (int i = 0; i < kCopies; ++i) {
    copies.push_back(Start(absl::StrCat("copy-", i), kTtl));
    joining.push_back(copies.back().get());
  }
  ASSERT_NO_FATAL_FAILURE(Join(joining));
  const Reply held = first->Call("acquire a lock 20000");
  ASSERT_TRUE(held.ok()) << held.status;

  std::vector<int> tags;
  std::string waiters;
  for (const auto& copy : copies) {
    tags.push_back(copy->Send("turn lock 200000 " + folder_ / "log"));
    absl::StrAppend(&waiters, waiters.empty() ? "" : " ", copy->instance());
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*first, "lock", "first", waiters));
  }
  const Reply released = first->Call("release a 20000");
  ASSERT_TRUE(released.ok()) << released.status;

  int64_t last_release = released.Number(0);
  int64_t last_fence = held.Number(0);
  std::vector<int64_t> micros;
  for (size_t i = 0; i < copies.size(); ++i) {
    const Reply turn = copies[i]->Await(tags[i], absl::Seconds(200));
    ASSERT_TRUE(turn.ok()) << i << ": " << turn.status;
    EXPECT_GT(turn.Number(0), last_fence) << i;
    EXPECT_GT(turn.Number(1), last_release) << i << " was in before the one ahead of it let go";
    micros.push_back((turn.Number(1) - last_release) / 1000);
    last_fence = turn.Number(0);
    last_release = turn.Number(2);
  }
  const std::vector<std::string> served = Lines(folder_ / "log");
  ASSERT_EQ(served.size(), copies.size());
  for (size_t i = 0; i < copies.size(); ++i) EXPECT_EQ(served[i], copies[i]->instance());
  std::sort(micros.begin(), micros.end());
  std::cout << "from a release to the next copy's grant, " << kCopies << " processes: median "
            << micros[micros.size() / 2] << " us, longest " << micros.back() << " us\n";
}

}  // namespace
}  // namespace process_test
