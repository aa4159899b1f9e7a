#include "coord/internal/event_sequencer.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using Verdict = EventSequencer::Verdict;
using Steps = EventSequencer::Steps;

absl::Time At(int ms) { return absl::UnixEpoch() + absl::Milliseconds(ms); }

// "3 4 gap 5-6 7"
std::string Text(const Steps& steps) {
  std::string text;
  for (const EventSequencer::Step& step : steps) {
    if (!text.empty()) text += " ";
    if (step.kind == EventSequencer::Step::kGap) {
      text += "gap " + std::to_string(step.first) + "-" + std::to_string(step.last);
    } else {
      text += std::to_string(step.first);
    }
  }
  return text;
}

struct Sequencer {
  explicit Sequencer(SequencerLimits limits = {}) : sequencer(limits) {}
  Verdict Offer(uint64_t number, int ms, const std::string& publisher = "p", uint64_t low = 0) {
    return sequencer.Offer(publisher, number, number, At(ms), &steps, low);
  }
  Verdict OfferAbove(uint64_t low, uint64_t number, int ms) { return Offer(number, ms, "p", low); }
  std::string Take() { return Text(std::exchange(steps, {})); }
  EventSequencer sequencer;
  Steps steps;
};

TEST(EventSequencerTest, DeliversInOrderAndDropsRepeats) {
  Sequencer s;
  EXPECT_EQ(s.Offer(1, 0), Verdict::kDelivered);
  EXPECT_EQ(s.Offer(2, 0), Verdict::kDelivered);
  EXPECT_EQ(s.Offer(2, 0), Verdict::kRepeat);
  EXPECT_EQ(s.Offer(1, 0), Verdict::kRepeat);
  EXPECT_EQ(s.Take(), "1 2");
}

// A publisher whose first events were sent again: the third was stored first.
TEST(EventSequencerTest, NumbersThatWereNotStoredYetAreWaitedForAlsoOfANewPublisher) {
  Sequencer s;
  EXPECT_EQ(s.OfferAbove(1, 3, 0), Verdict::kHeld);
  EXPECT_EQ(s.sequencer.NextExpiry(), At(1000));
  EXPECT_EQ(s.OfferAbove(1, 1, 10), Verdict::kDelivered);
  EXPECT_EQ(s.Take(), "1");
  EXPECT_EQ(s.OfferAbove(1, 2, 20), Verdict::kDelivered);
  EXPECT_EQ(s.Take(), "2 3");
  EXPECT_EQ(s.OfferAbove(1, 1, 30), Verdict::kRepeat);
  EXPECT_EQ(s.OfferAbove(4, 4, 40), Verdict::kDelivered);
}

TEST(EventSequencerTest, NumbersBelowLowWereStoredBefore) {
  Sequencer s;
  EXPECT_EQ(s.OfferAbove(7, 9, 0), Verdict::kHeld);
  EXPECT_EQ(s.OfferAbove(7, 6, 0), Verdict::kTooEarly);
  s.sequencer.Expire(At(1000), &s.steps);
  EXPECT_EQ(s.Take(), "gap 7-8 9");
}

// Counting began in the middle of what a publisher had under way: what it has stored since was stored before.
TEST(EventSequencerTest, AHigherLowTellsThatNothingIsMissing) {
  Sequencer s;
  EXPECT_EQ(s.OfferAbove(3, 8, 0), Verdict::kHeld);
  EXPECT_EQ(s.OfferAbove(3, 6, 0), Verdict::kHeld);
  EXPECT_EQ(s.OfferAbove(5, 9, 1), Verdict::kHeld);
  EXPECT_EQ(s.Take(), "");
  EXPECT_EQ(s.OfferAbove(6, 10, 2), Verdict::kHeld);
  EXPECT_EQ(s.Take(), "6");
  EXPECT_EQ(s.OfferAbove(12, 12, 3), Verdict::kHeld);
  EXPECT_EQ(s.Take(), "8 9 10");
  EXPECT_EQ(s.OfferAbove(12, 5, 4), Verdict::kTooEarly);
  // Behind the first one seen a missing number is a gap, whatever low says.
  s.sequencer.Expire(At(1003), &s.steps);
  EXPECT_EQ(s.Take(), "gap 11-11 12");
}

// A hole that a publisher left before the beginning is not this subscriber's, unless it is filled in time.
TEST(EventSequencerTest, WhatIsMissingBeforeTheBeginningIsNoGap) {
  for (const bool comes : {false, true}) {
    Sequencer s;
    s.sequencer.Offer("p", 5, 5, At(0), &s.steps, 0, true);
    s.sequencer.Offer("p", 7, 7, At(0), &s.steps, 0, true);
    EXPECT_EQ(s.OfferAbove(6, 8, 0), Verdict::kHeld);
    EXPECT_EQ(s.OfferAbove(6, 10, 0), Verdict::kHeld);
    EXPECT_EQ(s.Take(), "5");
    if (comes) s.OfferAbove(6, 6, 500);
    EXPECT_EQ(s.Take(), comes ? "6 7 8" : "");
    s.sequencer.Expire(At(1000), &s.steps);
    EXPECT_EQ(s.Take(), comes ? "gap 9-9 10" : "7 8 gap 9-9 10");
    EXPECT_EQ(s.OfferAbove(6, 6, 1100), comes ? Verdict::kRepeat : Verdict::kTooEarly);
    EXPECT_EQ(s.OfferAbove(6, 7, 1100), Verdict::kRepeat);
  }
}

TEST(EventSequencerTest, GivingUpOnTheOldestGapAloneLeavesTheOthers) {
  Sequencer s;
  s.Offer(1, 0, "p");
  s.Offer(1, 0, "q");
  s.Offer(3, 1, "q");
  s.Offer(4, 2, "p");
  s.Take();
  s.sequencer.GiveUpOldest(At(3), &s.steps);
  EXPECT_EQ(s.Take(), "gap 2-2 3");
  EXPECT_TRUE(s.sequencer.Waits("p", 2));
  s.sequencer.GiveUpOldest(At(3), &s.steps);
  EXPECT_EQ(s.Take(), "gap 2-3 4");
  s.sequencer.GiveUpOldest(At(3), &s.steps);
  EXPECT_EQ(s.Take(), "");
}

TEST(EventSequencerTest, CountingBeginsWithTheFirstNumberSeen) {
  Sequencer s;
  EXPECT_EQ(s.Offer(7, 0), Verdict::kDelivered);
  EXPECT_EQ(s.Offer(6, 0), Verdict::kTooEarly);
  EXPECT_EQ(s.Offer(8, 0), Verdict::kDelivered);
  EXPECT_EQ(s.Take(), "7 8");
}

TEST(EventSequencerTest, HoldsWhatComesTooSoonAndReleasesItInOrder) {
  Sequencer s;
  s.Offer(1, 0);
  EXPECT_EQ(s.Offer(4, 0), Verdict::kHeld);
  EXPECT_EQ(s.Offer(3, 0), Verdict::kHeld);
  EXPECT_EQ(s.Offer(4, 0), Verdict::kRepeat);
  EXPECT_TRUE(s.sequencer.Waits("p", 2));
  EXPECT_FALSE(s.sequencer.Waits("p", 3));
  EXPECT_FALSE(s.sequencer.Waits("p", 5));
  EXPECT_FALSE(s.sequencer.Waits("q", 2));
  EXPECT_EQ(s.Offer(2, 900), Verdict::kDelivered);
  EXPECT_EQ(s.Take(), "1 2 3 4");
  EXPECT_EQ(s.sequencer.NextExpiry(), absl::InfiniteFuture());
}

TEST(EventSequencerTest, ReportsAGapAfterTheWaitAndNotBefore) {
  Sequencer s;
  s.Offer(1, 0);
  s.Offer(3, 100);
  s.Offer(6, 500);
  s.Take();
  EXPECT_EQ(s.sequencer.NextExpiry(), At(1100));
  s.sequencer.Expire(At(1099), &s.steps);
  EXPECT_EQ(s.Take(), "");
  s.sequencer.Expire(At(1100), &s.steps);
  EXPECT_EQ(s.Take(), "gap 2-2 3");
  EXPECT_EQ(s.sequencer.NextExpiry(), At(1500));
  s.sequencer.Expire(At(1500), &s.steps);
  EXPECT_EQ(s.Take(), "gap 4-5 6");
  EXPECT_EQ(s.Offer(2, 1600), Verdict::kRepeat) << "its gap was reported";
}

TEST(EventSequencerTest, RestoreGoesOnWhereAnEarlierLifeEnded) {
  Sequencer s;
  s.sequencer.Restore("p", 5);
  EXPECT_EQ(s.Offer(5, 0), Verdict::kRepeat);
  EXPECT_EQ(s.Offer(1, 0), Verdict::kRepeat);
  EXPECT_EQ(s.Offer(7, 0), Verdict::kHeld);
  EXPECT_EQ(s.Offer(6, 0), Verdict::kDelivered);
  EXPECT_EQ(s.Take(), "6 7");
}

TEST(EventSequencerTest, LoosenReleasesAllAndTakesTheNextNumberAsItComes) {
  Sequencer s;
  s.Offer(1, 0);
  s.Offer(3, 0);
  s.Offer(5, 0);
  s.sequencer.Loosen(&s.steps);
  EXPECT_EQ(s.Take(), "1 3 5");
  EXPECT_EQ(s.sequencer.held(), 0u);
  EXPECT_EQ(s.Offer(4, 0), Verdict::kRepeat);
  EXPECT_EQ(s.Offer(9, 0), Verdict::kDelivered);
  EXPECT_EQ(s.Offer(11, 0), Verdict::kHeld) << "loose for one number alone";
  EXPECT_EQ(s.Take(), "9");
}

TEST(EventSequencerTest, GivesUpOnTheOldestGapWhenTooMuchIsHeld) {
  SequencerLimits limits;
  limits.held = 2;
  Sequencer s(limits);
  s.Offer(1, 0, "a");
  s.Offer(1, 0, "b");
  s.Offer(3, 1, "b");
  s.Offer(3, 2, "a");
  s.Take();
  EXPECT_EQ(s.Offer(5, 3, "a"), Verdict::kHeld);
  EXPECT_EQ(s.Take(), "gap 2-2 3") << "of b, which waited longer";
  EXPECT_EQ(s.sequencer.held(), 2u);
}

TEST(EventSequencerTest, ForgetsThePublisherThatWasSilentLongest) {
  SequencerLimits limits;
  limits.publishers = 2;
  Sequencer s(limits);
  s.Offer(1, 0, "a");
  s.Offer(1, 0, "b");
  s.Offer(3, 0, "b");
  s.Offer(2, 0, "a");
  s.Take();
  s.Offer(9, 0, "c");
  EXPECT_EQ(s.Take(), "gap 2-2 3 9") << "what b held was not lost";
  EXPECT_EQ(s.sequencer.publishers(), 2u);
  EXPECT_EQ(s.sequencer.held(), 0u);
  EXPECT_EQ(s.Offer(2, 0, "a"), Verdict::kRepeat) << "a was heard of later than b";
}

TEST(EventSequencerTest, TheLargestNumberDoesNotWrapAround) {
  Sequencer s;
  const uint64_t last = ~uint64_t{0};
  EXPECT_EQ(s.Offer(last - 1, 0), Verdict::kDelivered);
  EXPECT_EQ(s.Offer(last, 0), Verdict::kDelivered);
  EXPECT_EQ(s.Offer(last, 0), Verdict::kRepeat);
  EXPECT_EQ(s.Offer(1, 0), Verdict::kTooEarly);
}

// Every order of every subset of 1..5, each arrival a millisecond after the other, with the whole sequence sent twice:
// within the wait the result is exactly what arrived, sorted, with a gap for what never did.
TEST(EventSequencerTest, AllOrdersOfAllSubsets) {
  for (unsigned subset = 1; subset < 32; ++subset) {
    std::vector<uint64_t> numbers;
    for (uint64_t n = 1; n <= 5; ++n) {
      if (subset & (1u << (n - 1))) numbers.push_back(n);
    }
    do {
      Sequencer s;
      s.sequencer.Restore("p", 0);  // nothing delivered yet: counting begins at 1
      int ms = 0;
      for (const uint64_t n : numbers) s.Offer(n, ++ms);
      for (const uint64_t n : numbers) EXPECT_EQ(s.Offer(n, ++ms), Verdict::kRepeat);
      s.sequencer.Expire(At(5000), &s.steps);
      std::string expected;
      uint64_t next = 1;
      std::vector<uint64_t> sorted = numbers;
      std::sort(sorted.begin(), sorted.end());
      for (const uint64_t n : sorted) {
        if (!expected.empty()) expected += " ";
        if (n != next) expected += "gap " + std::to_string(next) + "-" + std::to_string(n - 1) + " ";
        expected += std::to_string(n);
        next = n + 1;
      }
      ASSERT_EQ(s.Take(), expected);
    } while (std::next_permutation(numbers.begin(), numbers.end()));
  }
}

// What may be said of a stream after the fact, whatever happened to it.
class Oracle {
 public:
  explicit Oracle(absl::Duration wait) : wait_(wait) {}

  void Offered(const std::string& publisher, uint64_t number, absl::Time now, Verdict verdict) {
    Stream& stream = streams_[publisher];
    if (stream.begin == 0) stream.begin = number;
    const bool known = !stream.arrived.emplace(number, now).second;
    if (number < stream.begin) {
      EXPECT_EQ(verdict, Verdict::kTooEarly);
      stream.arrived.erase(number);
    } else if (known) {
      EXPECT_EQ(verdict, Verdict::kRepeat) << publisher << " " << number;
    }
  }

  void Took(const Steps& steps, absl::Time now) {
    for (const EventSequencer::Step& step : steps) {
      Stream& stream = streams_[step.publisher];
      EXPECT_EQ(step.first, stream.last == 0 ? stream.begin : stream.last + 1)
          << "in order, nothing twice, nothing left out";
      stream.last = step.last;
      if (step.kind == EventSequencer::Step::kDeliver) {
        const auto arrived = stream.arrived.find(step.first);
        ASSERT_NE(arrived, stream.arrived.end());
        EXPECT_LE(now - arrived->second, wait_) << "held for longer than allowed";
        continue;
      }
      for (uint64_t n = step.first; n <= step.last; ++n)
        EXPECT_EQ(stream.arrived.count(n), 0u) << "a gap over what had come";
      const auto behind = stream.arrived.upper_bound(step.last);
      ASSERT_NE(behind, stream.arrived.end());
      // Some event behind the gap has waited in full.
      absl::Time first = absl::InfiniteFuture();
      for (auto it = behind; it != stream.arrived.end(); ++it) first = std::min(first, it->second);
      EXPECT_GE(now - first, wait_) << "given up too soon";
    }
  }

  void AllDelivered() {
    for (auto& [publisher, stream] : streams_) EXPECT_EQ(stream.last, stream.arrived.rbegin()->first);
  }

 private:
  struct Stream {
    uint64_t begin = 0;
    uint64_t last = 0;
    std::map<uint64_t, absl::Time> arrived;
  };
  const absl::Duration wait_;
  std::map<std::string, Stream> streams_;
};

TEST(EventSequencerTest, RandomStreamsAgainstAnOracle) {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    SequencerLimits limits;
    limits.wait = absl::Milliseconds(20);
    EventSequencer sequencer(limits);
    Oracle oracle(limits.wait);
    // Three publishers; a tenth is lost, a fifth comes twice, all of it up to 40 ms late.
    std::multimap<int, std::pair<std::string, uint64_t>> arrivals;
    for (const char* publisher : {"a", "b", "c"}) {
      for (uint64_t n = 1; n <= 60; ++n) {
        const int sent = static_cast<int>(n) * 3;
        if (random() % 10 == 0) continue;
        arrivals.emplace(sent + random() % 40, std::make_pair(publisher, n));
        if (random() % 5 == 0) arrivals.emplace(sent + random() % 40, std::make_pair(publisher, n));
      }
    }
    auto next = arrivals.begin();
    for (int ms = 0; next != arrivals.end() || sequencer.held() > 0; ++ms) {
      Steps steps;
      const bool due = sequencer.NextExpiry() <= At(ms);
      sequencer.Expire(At(ms), &steps);
      EXPECT_EQ(due, !steps.empty());
      oracle.Took(steps, At(ms));
      for (; next != arrivals.end() && next->first == ms; ++next) {
        steps.clear();
        const auto& [publisher, number] = next->second;
        oracle.Offered(publisher, number, At(ms), sequencer.Offer(publisher, number, number, At(ms), &steps));
        oracle.Took(steps, At(ms));
      }
    }
    oracle.AllDelivered();
    if (HasFailure()) return;
  }
}

TEST(EventSequencerTest, StaysWithinItsBoundsWhateverComes) {
  std::mt19937 random(7);
  SequencerLimits limits;
  limits.publishers = 8;
  limits.held = 16;
  EventSequencer sequencer(limits);
  std::set<uint64_t> waiting;  // tokens
  uint64_t token = 0;
  for (int i = 0; i < 20000; ++i) {
    Steps steps;
    const std::string publisher(1, static_cast<char>('a' + random() % 20));
    const Verdict verdict = sequencer.Offer(publisher, 1 + random() % 100, ++token, At(i / 10), &steps);
    if (verdict == Verdict::kHeld || verdict == Verdict::kDelivered) waiting.insert(token);
    for (const EventSequencer::Step& step : steps) {
      if (step.kind == EventSequencer::Step::kDeliver) {
        ASSERT_EQ(waiting.erase(step.token), 1u);
      }
    }
    ASSERT_LE(sequencer.held(), limits.held);
    ASSERT_LE(sequencer.publishers(), limits.publishers);
    ASSERT_EQ(sequencer.held(), waiting.size()) << "every event held is one that is still owed";
  }
}

}  // namespace
}  // namespace coord::internal
