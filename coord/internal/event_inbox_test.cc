#include "coord/internal/event_inbox.h"

#include <string>

#include "gtest/gtest.h"
#include "kv/store.h"

namespace coord::internal {
namespace {

kv::WatchEvent Put(kv::Revision revision, const std::string& key = "demo/event/t/p-1", size_t bytes = 1) {
  kv::WatchEvent event;
  event.key = key;
  event.entry.revision = revision;
  event.entry.value = std::string(bytes, 'x');
  return event;
}

kv::WatchEvent Kind(kv::WatchKind kind) {
  kv::WatchEvent event;
  event.kind = kind;
  return event;
}

// "1 2 [4] 3": revisions, and the reasons of marks in brackets.
std::string Drain(EventInbox& inbox) {
  std::string text;
  while (auto item = inbox.Take()) {
    if (!text.empty()) text += " ";
    text += item->reload != 0 ? "[" + std::to_string(item->reload) + "]" : std::to_string(item->revision);
  }
  return text;
}

TEST(EventInboxTest, PassesEventsOfAWatchInSync) {
  EventInbox inbox;
  inbox.Begin(true);
  EXPECT_TRUE(inbox.Add(Put(1)));
  EXPECT_TRUE(inbox.Add(Put(2)));
  EXPECT_FALSE(inbox.Add(Kind(kv::WatchKind::kDelete)));
  EXPECT_FALSE(inbox.Add(Kind(kv::WatchKind::kSynced)));
  EXPECT_EQ(Drain(inbox), "1 2");
}

TEST(EventInboxTest, LeavesOutASnapshotAndMarksItsEnd) {
  EventInbox inbox;
  inbox.Begin(false);
  EXPECT_FALSE(inbox.Add(Put(5)));
  EXPECT_FALSE(inbox.Add(Put(3)));
  EXPECT_TRUE(inbox.Add(Kind(kv::WatchKind::kSynced)));
  inbox.Add(Put(6));
  inbox.Add(Kind(kv::WatchKind::kResync));
  inbox.Add(Put(6));
  inbox.Add(Kind(kv::WatchKind::kSynced));
  inbox.Add(Put(7));
  inbox.Add(Kind(kv::WatchKind::kEpochChanged));
  inbox.Add(Kind(kv::WatchKind::kSynced));
  inbox.Add(Kind(kv::WatchKind::kResync));
  inbox.Add(Kind(kv::WatchKind::kSynced));
  EXPECT_EQ(Drain(inbox), "[1] 6 [1] 7 [9]");
}

TEST(EventInboxTest, WhatComesBeforeBeginIsReadAgain) {
  EventInbox inbox;
  inbox.Add(Put(1));
  inbox.Begin(true);
  inbox.Add(Put(2));
  EXPECT_EQ(Drain(inbox), "[1] 2");
}

TEST(EventInboxTest, AResyncBeforeBeginIsNotTakenForInSync) {
  EventInbox inbox;
  inbox.Add(Kind(kv::WatchKind::kResync));
  inbox.Begin(true);  // read before the resync began
  inbox.Add(Put(2));
  inbox.Add(Kind(kv::WatchKind::kSynced));
  EXPECT_EQ(Drain(inbox), "[1]");
}

TEST(EventInboxTest, ASnapshotThatEndsBeforeBeginIsOver) {
  EventInbox inbox;
  inbox.Add(Put(1));
  inbox.Add(Kind(kv::WatchKind::kSynced));
  inbox.Begin(false);  // read before its end
  inbox.Add(Put(2));
  EXPECT_EQ(Drain(inbox), "[1] 2");
}

TEST(EventInboxTest, IsBoundedInEventsAndCountsWhatIsLost) {
  EventInbox inbox;
  inbox.Begin(true);
  for (size_t i = 1; i <= EventInbox::kMaxEvents; ++i) inbox.Add(Put(i));
  EXPECT_FALSE(inbox.Add(Put(5000)));
  EXPECT_FALSE(inbox.Add(Put(5001, "demo/event/t/p~1")));
  for (size_t i = 1; i <= EventInbox::kMaxEvents; ++i) ASSERT_EQ(inbox.Take()->revision, i);
  EXPECT_FALSE(inbox.Add(Put(5002))) << "left out until the topic is read again";
  inbox.Capture();
  inbox.Add(Put(5003));
  EXPECT_EQ(Drain(inbox), "[2] 5003");
  EXPECT_EQ(inbox.TakeLost(), 1u);
  EXPECT_EQ(inbox.TakeLost(), 0u);
}

TEST(EventInboxTest, IsBoundedInBytes) {
  EventInbox inbox;
  inbox.Begin(true);
  const size_t mib = 1 << 20;
  for (int i = 1; i <= 20; ++i) inbox.Add(Put(static_cast<kv::Revision>(i), "demo/event/t/p-1", mib));
  size_t kept = 0;
  while (auto item = inbox.Take()) kept += item->value.size();
  EXPECT_LE(kept, EventInbox::kMaxBytes);
  EXPECT_GE(kept, 15 * mib);
}

}  // namespace
}  // namespace coord::internal
