#include "kv/weak_store.h"

#include <gtest/gtest.h>

#include <memory>

#include "kv/conformance.h"
#include "kv/faulty_store.h"
#include "kv/memory_store.h"
#include "kv/test_util.h"

namespace kv {
namespace {

class WeakStoreTest : public testing::Test {
 protected:
  absl::Time now_ = absl::FromUnixSeconds(1000);
  std::shared_ptr<Store> data_ = NewMemoryStore();
  WeakStore store_{data_, data_, [this] { return now_; }};
};

TEST_F(WeakStoreTest, KeepsTheContractAsFarAsItClaims) {
  const std::shared_ptr<Store> data = NewMemoryStore();
  WeakStore store(data, data, [] { return absl::Now(); });
  ConformanceOptions options;
  options.rounds = 10;
  for (const Failure& failure : RunConformance(store, options)) ADD_FAILURE() << failure.check << failure.message;
}

TEST_F(WeakStoreTest, RevisionsFollowTheClockAndNeverGoBackWhileTheEntryExists) {
  EXPECT_EQ(store_.Create("a", "1", Soon()).revision, 1000000000u);
  now_ -= absl::Seconds(500);
  EXPECT_EQ(store_.Update("a", "2", 1000000000, Soon()).revision, 1000000001u);
  EXPECT_TRUE(absl::IsAborted(store_.Update("a", "3", 1000000000, Soon()).status));
  EXPECT_EQ(store_.Get("a", Soon())->revision, 1000000001u);
  now_ += absl::Seconds(501);
  EXPECT_EQ(store_.Put("a", "3", Soon()).revision, 1001000000u);
}

TEST_F(WeakStoreTest, WhatIsEvictedIsGoneAndComesBackUnderTheNextWritersClock) {
  const Revision first = store_.Create("a", "1", Soon()).revision;
  EXPECT_TRUE(store_.Evict("a"));
  EXPECT_FALSE(store_.Evict("a"));
  EXPECT_TRUE(absl::IsNotFound(store_.Get("a", Soon()).status()));
  EXPECT_TRUE(absl::IsNotFound(store_.Update("a", "2", first, Soon()).status));
  const std::shared_ptr<WeakStore> behind = store_.View([] { return absl::FromUnixSeconds(7); });
  EXPECT_EQ(behind->Create("a", "2", Soon()).revision, 7000000u);
  EXPECT_EQ(store_.Get("a", Soon())->revision, 7000000u);
  EXPECT_TRUE(absl::IsAborted(store_.Update("a", "3", first, Soon()).status));
}

TEST_F(WeakStoreTest, ARestartLeavesNothing) {
  for (const char* key : {"a", "b/c", "b/d"}) ASSERT_TRUE(store_.Put(key, "1", Soon()).ok());
  EXPECT_EQ(store_.EvictAll("b/"), 2);
  EXPECT_EQ(store_.Restart(), 1);
  EXPECT_TRUE(store_.Create("a", "2", Soon()).ok());
}

TEST_F(WeakStoreTest, AWriteWhoseReplyWasLostGetsItsRevisionWhenItIsSeen) {
  const auto faulty = std::make_shared<FaultyStore>(data_);
  const std::shared_ptr<WeakStore> store = store_.View([this] { return now_; }, faulty);
  const Revision first = store->Create("a", "1", Soon()).revision;
  faulty->SetHook([](const FaultyCall& call) { return call.write() ? Fault::kDropReply : Fault::kNone; });
  EXPECT_TRUE(absl::IsDeadlineExceeded(store->Update("a", "2", first, Soon()).status));
  const absl::StatusOr<Entry> entry = store->Get("a", Soon());
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->value, "2");
  EXPECT_EQ(entry->revision, first + 1);
  EXPECT_FALSE(entry->age.has_value());
}

TEST_F(WeakStoreTest, ClaimsLittle) {
  EXPECT_TRUE(absl::IsUnimplemented(store_.List("", Soon()).status()));
  EXPECT_TRUE(absl::IsUnimplemented(store_.WatchPrefix("", [](const WatchEvent&) {}).status()));
  const Traits& traits = store_.traits();
  EXPECT_FALSE(traits.monotonic_revisions || traits.durable || traits.proves_incarnation || traits.age);
  EXPECT_TRUE(traits.evicting && traits.volatile_storage && traits.linearizable_reads);
}

}  // namespace
}  // namespace kv
