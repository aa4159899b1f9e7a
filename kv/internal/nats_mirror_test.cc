// The copy in memory and what is remembered of deletes, without a server.

#include "kv/internal/nats_mirror.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kv/internal/nats_deletes.h"
#include "kv/test_util.h"

namespace kv::internal {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

NatsMirror::Change Put(const std::string& key, const std::string& value, Revision revision) {
  return {key, value, revision, false};
}
NatsMirror::Change Marker(const std::string& key, Revision revision) { return {key, "", revision, true}; }

class NatsMirrorTest : public testing::Test {
 protected:
  // A copy of these, complete.
  uint64_t Load(const std::vector<NatsMirror::Change>& changes, uint64_t incarnation = 1) {
    const uint64_t load = mirror_.BeginLoad(incarnation, 0);
    for (const NatsMirror::Change& change : changes) EXPECT_TRUE(mirror_.Apply(load, change, false));
    mirror_.Expect(load, changes.size());
    return load;
  }
  bool AwaitTexts(Recorder& recorder, const std::vector<std::string>& texts) {
    return recorder.Await([&](const auto& events) { return Texts(events) == texts; });
  }

  NatsDeletes deletes_{absl::Seconds(10)};
  std::vector<std::pair<std::string, Revision>> dead_;
  NatsMirror mirror_{&deletes_,
                     [this](const std::string& key, Revision revision) { dead_.emplace_back(key, revision); }};
};

TEST_F(NatsMirrorTest, SnapshotThenChanges) {
  Recorder recorder;
  const auto watch = mirror_.Add("a", recorder.Callback(), 0);
  const uint64_t load = Load({Put("b", "other", 1), Put("a2", "x", 2), Put("a1", "y", 3)});
  EXPECT_TRUE(AwaitTexts(recorder, {"put a1=y", "put a2=x", "synced"}));
  mirror_.Apply(load, Put("a1", "z", 4), true);
  mirror_.Apply(load, Put("b", "w", 5), true);
  mirror_.Apply(load, Marker("a2", 6), true);
  mirror_.Apply(load, Marker("a3", 7), true);  // nobody has seen it
  mirror_.Apply(load, Put("a2", "back", 8), true);
  EXPECT_TRUE(AwaitTexts(recorder, {"put a1=y", "put a2=x", "synced", "put a1=z", "delete a2", "put a2=back"}))
      << testing::PrintToString(Texts(recorder.Events()));
  EXPECT_EQ(mirror_.Find("a1")->revision, 4u);
  EXPECT_EQ(mirror_.Size(), 3u);
}

TEST_F(NatsMirrorTest, ANewCopyIsAResyncThatForgetsWhatHasGone) {
  Recorder recorder;
  const uint64_t first = Load({Put("a", "1", 1), Put("b", "1", 2)});
  const auto watch = mirror_.Add("", recorder.Callback(), 0);
  ASSERT_TRUE(recorder.AwaitCount(3));
  mirror_.Broken(first);
  EXPECT_FALSE(mirror_.Apply(first, Put("late", "x", 9), true) && mirror_.Find("late").has_value());
  Load({Put("b", "2", 5)});
  EXPECT_TRUE(AwaitTexts(recorder, {"put a=1", "put b=1", "synced", "resync", "put b=2", "synced"}));
}

TEST_F(NatsMirrorTest, AnotherIncarnationIsToldAtOnce) {
  Recorder recorder;
  Load({Put("a", "1", 100)});
  const auto watch = mirror_.Add("", recorder.Callback(), 0);
  ASSERT_TRUE(recorder.AwaitCount(2));
  mirror_.Reset(2);
  EXPECT_TRUE(AwaitTexts(recorder, {"put a=1", "synced", "epoch changed"})) << "before there is a copy";
  mirror_.Reset(3);  // nothing was seen since: nothing more to forget
  EXPECT_FALSE(mirror_.Find("a").has_value());
  Load({Put("a", "new", 1)}, 3);
  EXPECT_TRUE(AwaitTexts(recorder, {"put a=1", "synced", "epoch changed", "put a=new", "synced"}));
}

TEST_F(NatsMirrorTest, WhatIsOlderThanTheCopyBetraysTheConsumer) {
  const uint64_t load = Load({Put("a", "1", 5)});
  EXPECT_FALSE(mirror_.Apply(load, Put("b", "1", 5), true));
  EXPECT_FALSE(mirror_.Skip(load, 4, true));
  EXPECT_TRUE(mirror_.Skip(load, 6, true));
  EXPECT_FALSE(mirror_.Apply(load, Put("c", "1", 6), true));
}

TEST_F(NatsMirrorTest, ACopyEndsAtTheLastMessageWhereSomeWereRemovedMeanwhile) {
  const uint64_t load = mirror_.BeginLoad(1, 0);
  mirror_.Expect(load, 5);
  mirror_.Apply(load, Put("a", "1", 1), false);
  EXPECT_EQ(mirror_.Loading(), 1u);
  EXPECT_FALSE(mirror_.Size().has_value());
  mirror_.Apply(load, Put("b", "1", 4), true);
  EXPECT_FALSE(mirror_.Loading().has_value());
  EXPECT_EQ(mirror_.Size(), 2u);
}

TEST_F(NatsMirrorTest, ASnapshotWaitsForWhatItsProcessHasWritten) {
  Recorder recorder;
  const uint64_t load = Load({Put("a", "1", 1)});
  const auto watch = mirror_.Add("", recorder.Callback(), 2);
  mirror_.Apply(load, Put("b", "own", 2), true);
  EXPECT_TRUE(AwaitTexts(recorder, {"put a=1", "put b=own", "synced"}));
  // But not for ever.
  Recorder late;
  const auto late_watch = mirror_.Add("", late.Callback(), 1000);
  EXPECT_TRUE(late.AwaitKind(WatchKind::kSynced));
}

TEST_F(NatsMirrorTest, AnEntryThatCameBackIsNotShown) {
  const uint64_t load = Load({Put("a", "1", 1), Put("b", "1", 2)});
  mirror_.Apply(load, Marker("a", 3), true);
  Recorder recorder;
  const auto watch = mirror_.Add("", recorder.Callback(), 0);
  ASSERT_TRUE(recorder.AwaitCount(2));
  Load({Put("a", "1", 1), Put("b", "1", 2)});
  EXPECT_TRUE(AwaitTexts(recorder, {"put b=1", "synced", "resync", "put b=1", "synced"}));
  EXPECT_THAT(dead_, ElementsAre(Pair("a", 1u)));
}

TEST_F(NatsMirrorTest, TooManyEventsBecomeAResync) {
  const uint64_t load = Load({});
  Recorder recorder;
  Mutex mutex;
  CondVar changed;
  bool entered = false;
  bool go = false;
  const auto record = recorder.Callback();
  const auto watch = mirror_.Add(
      "",
      [&](const WatchEvent& event) {
        {
          MutexLock lock(mutex);
          entered = true;
          changed.NotifyAll();
          while (!go) changed.Wait(mutex);
        }
        record(event);
      },
      0);
  {
    MutexLock lock(mutex);
    while (!entered) changed.Wait(mutex);
  }
  const Revision last = NatsMirror::kMaxQueuedEvents + 10;
  for (Revision revision = 1; revision <= last; ++revision) mirror_.Apply(load, Put("a", "x", revision), true);
  {
    MutexLock lock(mutex);
    go = true;
    changed.NotifyAll();
  }
  EXPECT_TRUE(AwaitTexts(recorder, {"synced", "resync", "put a=x", "synced"}))
      << testing::PrintToString(recorder.Events().size());
  EXPECT_EQ(recorder.Events()[2].entry.revision, last);
}

// --- What is remembered of deletes. ---

const SteadyTime kNow = SteadyTime() + std::chrono::hours(1);

std::vector<std::string> Names(const std::vector<NatsDeletes::Marker>& markers) {
  std::vector<std::string> names;
  for (const NatsDeletes::Marker& marker : markers) names.push_back(marker.key);
  return names;
}

TEST(NatsDeletesTest, OwnMarkersAreDueAfterTheLingerOthersLater) {
  NatsDeletes deletes(absl::Seconds(10));
  deletes.Deleted(1, "own", 5, true, kNow);
  deletes.Deleted(1, "other", 6, false, kNow);
  EXPECT_THAT(deletes.TakeDue(kNow + seconds(9), 10), IsEmpty());
  EXPECT_THAT(Names(deletes.TakeDue(kNow + seconds(10), 10)), ElementsAre("own"));
  EXPECT_THAT(deletes.TakeDue(kNow + seconds(10), 10), IsEmpty()) << "once";
  EXPECT_THAT(deletes.TakeOverdue(kNow + seconds(29), 10), IsEmpty());
  EXPECT_EQ(deletes.Standing(kNow + seconds(30)).overdue, 1u);
  EXPECT_THAT(Names(deletes.TakeOverdue(kNow + seconds(30), 10)), ElementsAre("other"));
  // Both are still known to be deleted.
  EXPECT_TRUE(deletes.IsDead("own", 4));
  EXPECT_FALSE(deletes.IsDead("own", 6));
  EXPECT_EQ(deletes.Find("other"), 6u);
  EXPECT_FALSE(deletes.FindStanding("other").has_value());
}

TEST(NatsDeletesTest, AnOwnMarkerComesTwiceInEitherOrder) {
  NatsDeletes deletes(absl::Seconds(10));
  deletes.Deleted(1, "a", 5, false, kNow);  // by the watch
  deletes.Deleted(1, "a", 5, true, kNow);
  deletes.Deleted(1, "b", 6, true, kNow);
  deletes.Deleted(1, "b", 6, false, kNow);
  EXPECT_EQ(deletes.Standing(kNow).standing, 2u);
  EXPECT_THAT(Names(deletes.TakeDue(kNow + seconds(10), 10)), ElementsAre("a", "b"));
  EXPECT_THAT(deletes.TakeOverdue(kNow + seconds(60), 10), IsEmpty());
}

TEST(NatsDeletesTest, AKeyThatIsWrittenAgainIsNotDeletedAnyMore) {
  NatsDeletes deletes(absl::Seconds(10));
  deletes.Deleted(1, "a", 5, true, kNow);
  deletes.Written(1, "a", 4);  // of before
  EXPECT_TRUE(deletes.Find("a").has_value());
  deletes.Written(1, "a", 7);
  EXPECT_FALSE(deletes.Find("a").has_value());
  deletes.Deleted(1, "a", 9, true, kNow + seconds(5));
  const auto due = deletes.TakeDue(kNow + seconds(20), 10);
  ASSERT_THAT(Names(due), testing::Contains("a"));
  EXPECT_EQ(due.back().revision, 9u);
}

TEST(NatsDeletesTest, WhatWasNotRemovedIsDueAgain) {
  NatsDeletes deletes(absl::Seconds(10));
  deletes.Deleted(1, "a", 5, true, kNow);
  const auto due = deletes.TakeDue(kNow + seconds(10), 10);
  deletes.GiveBack(1, due[0], kNow + seconds(11));
  EXPECT_EQ(deletes.NextDue(), kNow + seconds(11));
  EXPECT_THAT(deletes.TakeDue(kNow + seconds(10), 10), IsEmpty());
  EXPECT_THAT(Names(deletes.TakeDue(kNow + seconds(11), 10)), ElementsAre("a"));
  deletes.Removed(1, due[0]);
  EXPECT_EQ(deletes.Standing(kNow + seconds(11)).standing, 0u);
}

TEST(NatsDeletesTest, AnotherIncarnationForgetsAndIgnoresWhatIsToldLate) {
  NatsDeletes deletes(absl::Seconds(10));
  deletes.Deleted(1, "a", 5, true, kNow);
  deletes.Reset(2);
  EXPECT_FALSE(deletes.Find("a").has_value());
  EXPECT_FALSE(deletes.NextDue().has_value());
  deletes.Deleted(1, "late", 6, true, kNow);
  deletes.GiveBack(1, {"late", 6}, kNow);
  EXPECT_FALSE(deletes.Find("late").has_value());
  EXPECT_THAT(deletes.TakeDue(kNow + seconds(60), 10), IsEmpty());
}

TEST(NatsDeletesTest, IsBounded) {
  NatsDeletes deletes(absl::Seconds(10), /*max_keys=*/100);
  for (Revision i = 1; i <= 1000; ++i) deletes.Deleted(1, std::to_string(i), i, i % 2 == 0, kNow);
  EXPECT_LE(deletes.Standing(kNow).standing, 100u);
  EXPECT_FALSE(deletes.Find("1").has_value());
  EXPECT_TRUE(deletes.Find("1000").has_value());
  // Of too many own markers the oldest are due at once.
  EXPECT_THAT(deletes.TakeDue(kNow, 1000), SizeIs(400));
  for (Revision i = 1001; i <= 2000; ++i) deletes.Deleted(1, "same", i, false, kNow);
  EXPECT_EQ(deletes.Find("same"), 2000u);
}

}  // namespace
}  // namespace kv::internal
