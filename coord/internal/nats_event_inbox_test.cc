#include "coord/internal/nats_event_inbox.h"

#include <string>

#include "gtest/gtest.h"

namespace coord::internal {
namespace {

using Kind = NatsInboxItem::Kind;

NatsInboxItem Item(Delivery delivery, const std::string& payload) {
  NatsInboxItem item;
  item.event.delivery = delivery;
  item.event.payload = payload;
  return item;
}

NatsInboxItem BestEffort(const std::string& payload) { return Item(Delivery::kBestEffort, payload); }
NatsInboxItem Reliable(const std::string& payload) { return Item(Delivery::kReliable, payload); }

// Everything that is in it: payloads, and for marks what they are.
std::string Drain(NatsEventInbox& inbox) {
  std::string text;
  while (const auto item = inbox.Take()) {
    if (!text.empty()) text += " ";
    if (item->kind == Kind::kEvent) text += item->event.payload;
    if (item->kind == Kind::kLost) text += "LOST" + std::to_string(item->lost);
    if (item->kind == Kind::kGap) text += "GAP" + std::to_string(item->sequence);
    if (item->kind == Kind::kPlace) text += "PLACE" + std::to_string(item->sequence);
  }
  return text;
}

NatsInboxItem Mark(Kind kind, uint64_t sequence) {
  NatsInboxItem mark;
  mark.kind = kind;
  mark.sequence = sequence;
  return mark;
}

TEST(NatsEventInboxTest, KeepsOneOrder) {
  NatsEventInbox inbox;
  inbox.AddBestEffort(BestEffort("a"));
  EXPECT_TRUE(inbox.AddReliable(Reliable("b")));
  inbox.AddMark(Mark(Kind::kGap, 7));
  inbox.AddBestEffort(BestEffort("c"));
  EXPECT_EQ(Drain(inbox), "a b GAP7 c");
}

TEST(NatsEventInboxTest, BestEffortEventsThatDoNotFitAreCounted) {
  NatsEventInbox inbox;
  for (size_t i = 0; i < NatsEventInbox::kMaxEvents + 5; ++i) inbox.AddBestEffort(BestEffort("x"));
  for (size_t i = 0; i < NatsEventInbox::kMaxEvents; ++i) EXPECT_EQ(inbox.Take()->event.payload, "x");
  inbox.AddBestEffort(BestEffort("y"));
  inbox.AddLost(2);
  EXPECT_EQ(Drain(inbox), "LOST7 y");
  inbox.AddLost(1);
  EXPECT_EQ(Drain(inbox), "LOST1");
}

TEST(NatsEventInboxTest, EachDeliveryHasItsOwnRoom) {
  NatsEventInbox inbox;
  for (size_t i = 0; i < NatsEventInbox::kMaxEvents; ++i) ASSERT_TRUE(inbox.AddReliable(Reliable("r")));
  EXPECT_FALSE(inbox.AddReliable(Reliable("r")));
  EXPECT_FALSE(inbox.HalfEmpty());
  inbox.AddBestEffort(BestEffort("b"));
  for (size_t i = 0; i <= NatsEventInbox::kMaxEvents / 2; ++i) EXPECT_EQ(inbox.Take()->event.payload, "r");
  EXPECT_TRUE(inbox.HalfEmpty());
  EXPECT_TRUE(inbox.AddReliable(Reliable("r")));
}

TEST(NatsEventInboxTest, BytesAreBoundedToo) {
  NatsEventInbox inbox;
  const std::string large(NatsEventInbox::kMaxBytes, 'x');
  EXPECT_TRUE(inbox.AddReliable(Reliable(large)));  // one always fits
  EXPECT_FALSE(inbox.AddReliable(Reliable("r")));
  EXPECT_EQ(inbox.Take()->event.payload.size(), large.size());
  EXPECT_TRUE(inbox.AddReliable(Reliable("r")));
}

TEST(NatsEventInboxTest, MarksOfAKindInARowAreOne) {
  NatsEventInbox inbox;
  for (uint64_t i = 1; i <= 3; ++i) inbox.AddMark(Mark(Kind::kPlace, i));
  inbox.AddMark(Mark(Kind::kGap, 4));
  EXPECT_EQ(Drain(inbox), "PLACE3 GAP4");
}

}  // namespace
}  // namespace coord::internal
