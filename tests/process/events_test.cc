// Reliable events between processes over the store, with a subscriber that is killed and comes back.

#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/process/copies.h"

namespace process_test {
namespace {

constexpr int kPublishers = 4;
constexpr int kEach = 500;
constexpr int kSubscribers = 3;
constexpr absl::Duration kTtl = absl::Seconds(20);

class EventsTest : public CopiesTest {
 protected:
  std::string FileOf(int subscriber) const { return folder_ / absl::StrCat("events-", subscriber); }

  void Subscribe(Process& copy, int subscriber) const {
    const Reply subscribed =
        copy.Call(absl::StrCat("subscribe news place-", subscriber, " ", FileOf(subscriber), " 20000"));
    ASSERT_TRUE(subscribed.ok()) << subscribed.status;
  }

  // How many different events a subscriber has had.
  size_t Different(int subscriber) const {
    std::set<std::string> different;
    for (const std::string& line : Lines(FileOf(subscriber))) {
      if (line.rfind("event ", 0) == 0) different.insert(line);
    }
    return different.size();
  }

  // Every event came, and within one run of the subscriber each publisher's came once and in their order. Gives the
  // repeats over runs.
  int CheckDeliveries(int subscriber) const {
    std::map<std::string, std::set<int>> had;  // by the publisher's label
    std::map<std::string, int> last;           // of this run
    int runs = 0, repeats = 0;
    for (const std::string& line : Lines(FileOf(subscriber))) {
      const std::vector<std::string> words = Words(line);
      if (line == "begin") {
        last.clear();
        ++runs;
        continue;
      }
      EXPECT_EQ(words.size(), 4u) << "subscriber " << subscriber << ": " << line;
      int n = 0;
      if (words.size() != 4 || !absl::SimpleAtoi(words[3], &n)) continue;
      EXPECT_GT(n, last[words[2]]) << "subscriber " << subscriber << " had them out of order: " << line;
      // Nothing is left out in between, but where a run begins.
      if (last[words[2]] != 0) {
        EXPECT_EQ(n, last[words[2]] + 1) << "subscriber " << subscriber << ": " << line;
      }
      last[words[2]] = n;
      if (!had[words[2]].insert(n).second) ++repeats;
    }
    EXPECT_EQ(had.size(), static_cast<size_t>(kPublishers));
    for (const auto& [publisher, numbers] : had) {
      EXPECT_EQ(numbers.size(), static_cast<size_t>(kEach)) << publisher;
      EXPECT_EQ(*numbers.rbegin(), kEach) << publisher;
    }
    EXPECT_EQ(runs, subscriber == 0 ? 2 : 1);
    return repeats;
  }
};

TEST_F(EventsTest, ReliableEventsReachASubscriberThatWasKilled) {
  std::vector<std::unique_ptr<Process>> subscribers, publishers;
  std::vector<Process*> all;
  for (int i = 0; i < kSubscribers; ++i) subscribers.push_back(Start(absl::StrCat("subscriber-", i), kTtl));
  for (int i = 0; i < kPublishers; ++i) publishers.push_back(Start(absl::StrCat("publisher-", i), kTtl));
  for (const auto& copy : subscribers) all.push_back(copy.get());
  for (const auto& copy : publishers) all.push_back(copy.get());
  ASSERT_NO_FATAL_FAILURE(Join(all));
  for (int i = 0; i < kSubscribers; ++i) ASSERT_NO_FATAL_FAILURE(Subscribe(*subscribers[i], i));

  std::vector<int> tags;
  for (const auto& copy : publishers) tags.push_back(copy->Send(absl::StrCat("publish news 1 ", kEach, " 60000")));
  // In the middle of its events.
  ASSERT_TRUE(Eventually([&] { return Different(0) >= kPublishers * kEach / 4; }));
  subscribers[0]->Kill();
  const size_t before = Different(0);
  for (size_t i = 0; i < tags.size(); ++i) {
    const Reply published = publishers[i]->Await(tags[i]);
    ASSERT_TRUE(published.ok()) << published.status;
  }
  subscribers[0] = Joined("subscriber-0", kTtl);
  ASSERT_NO_FATAL_FAILURE(Subscribe(*subscribers[0], 0));
  for (int i = 0; i < kSubscribers; ++i) {
    EXPECT_TRUE(Eventually([&] { return Different(i) == kPublishers * kEach; }))
        << "subscriber " << i << " had " << Different(i);
  }
  int repeats = 0;
  for (int i = 0; i < kSubscribers; ++i) repeats += CheckDeliveries(i);
  std::cout << "killed after " << before << " of " << kPublishers * kEach << " events; " << repeats
            << " came again after the restart\n";
}

}  // namespace
}  // namespace process_test
