// SharedMap on a store that can neither list nor watch, and drops what it likes: an index names the keys.

#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/records.h"
#include "coord/internal/test_core.h"
#include "coord/runtime.h"
#include "coord/shared_map.h"
#include "gtest/gtest.h"
#include "kv/counting_store.h"
#include "kv/faulty_store.h"
#include "kv/store.h"
#include "kv/store_wrapper.h"
#include "kv/weak_store.h"

namespace coord {
namespace {

using internal::SimWorld;
using internal::TestCopy;
using kv::CallKind;
using kv::Fault;

constexpr char kEntries[] = "demo/map/words/";
constexpr char kIndex[] = "demo/map_index/words";

// Takes values of `limit` bytes at most.
class SmallStore : public kv::StoreWrapper {
 public:
  SmallStore(std::shared_ptr<kv::Store> below, size_t limit)
      : StoreWrapper(std::move(below)), traits_(base()->traits()) {
    traits_.max_value_bytes = limit;
  }
  const kv::Traits& traits() const override { return traits_; }

 private:
  kv::Traits traits_;
};

class MapIndexTest : public ::testing::Test {
 protected:
  std::unique_ptr<TestCopy> NewCopy() { return std::make_unique<TestCopy>(world_.runtime, weak_); }
  absl::Time Soon() { return world_.runtime.WallNow() + absl::Seconds(10); }
  // Long enough for one poll of every copy, by its jitter.
  void Poll(int times = 1) { world_.runtime.SleepFor(absl::Seconds(10) / 8 * 1.51 * times); }
  static std::string Text(const SharedMap& map) {
    std::string text;
    for (const auto& [key, now] : *map.Get()) absl::StrAppend(&text, key, "=", now.value, " ");
    return text;
  }
  // The keys that the index names, in one line.
  std::string Index() {
    auto entry = weak_->Get(kIndex, Soon());
    if (!entry.ok()) return "none";
    std::string text = internal::ParseCellRecord(entry->value, "index")->value;
    for (char& c : text) c = c == '\n' ? ' ' : c;
    return text;
  }

  SimWorld world_;
  const std::shared_ptr<kv::WeakStore> weak_ =
      std::make_shared<kv::WeakStore>(world_.store, world_.store, [this] { return world_.runtime.WallNow(); });
  const std::unique_ptr<TestCopy> a_ = NewCopy(), b_ = NewCopy();
  const std::shared_ptr<SharedMap> map_ = a_->Map("words"), far_ = b_->Map("words");
};

TEST_F(MapIndexTest, CopiesFindEachOthersKeysByPolling) {
  ASSERT_TRUE(map_->Set("hello", "1", Soon()).ok());
  ASSERT_TRUE(far_->Set("gr\xc3\xbc\xc3\x9f a/b *>", "2", Soon()).ok());
  Poll();
  EXPECT_EQ(Text(*map_), "gr\xc3\xbc\xc3\x9f a/b *>=2 hello=1 ");
  EXPECT_EQ(Text(*far_), Text(*map_));
  ASSERT_TRUE(far_->Remove("hello", Soon()).ok());
  ASSERT_TRUE(map_->Update(
                      "new", [](const auto&) { return "3"; }, Soon())
                  .ok());
  ASSERT_TRUE(map_->CompareAndSet("newer", Revision(), "4", Soon()).ok());
  Poll();
  EXPECT_EQ(Text(*map_), "gr\xc3\xbc\xc3\x9f a/b *>=2 new=3 newer=4 ");
  EXPECT_EQ(Text(*far_), Text(*map_));
  EXPECT_EQ(Text(*NewCopy()->Map("words")), Text(*map_));
}

TEST_F(MapIndexTest, ANewKeyIsTwoWritesAndAnOldOneIsOne) {
  kv::CallCounts before = a_->counting->Snapshot();
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  EXPECT_EQ((a_->counting->Snapshot() - before).writes(), 2) << "the first one makes the index";
  before = a_->counting->Snapshot();
  ASSERT_TRUE(map_->Set("b", "1", Soon()).ok());
  EXPECT_EQ((a_->counting->Snapshot() - before).writes(), 2);
  EXPECT_EQ((a_->counting->Snapshot() - before).reads(), 0);
  before = a_->counting->Snapshot();
  ASSERT_TRUE(map_->Set("a", "2", Soon()).ok());
  ASSERT_TRUE(map_->Remove("b", Soon()).ok());
  ASSERT_TRUE(map_->Set("b", "2", Soon()).ok());
  EXPECT_EQ((a_->counting->Snapshot() - before).calls(), 3) << "a key that went stays in the index for a while";
}

TEST_F(MapIndexTest, AKeyIsInTheIndexBeforeItsEntryExists) {
  bool named = false;
  a_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (call.kind == CallKind::kCreate && call.key == std::string(kEntries) + "a") named = Index() == "a ";
    return Fault::kNone;
  });
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  EXPECT_TRUE(named);
}

TEST_F(MapIndexTest, WhereTheIndexCannotBeWrittenNothingIsAndItIsSaid) {
  a_->faulty->SetHook([&](const kv::FaultyCall& call) {
    return call.write() && call.key == kIndex ? Fault::kDropReply : Fault::kNone;
  });
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok()) << "its reread shows that it was";
  a_->faulty->SetHook([&](const kv::FaultyCall& call) {
    return call.write() && call.key == kIndex ? Fault::kFailBefore : Fault::kNone;
  });
  const absl::Status failed = map_->Set("b", "1", Soon()).status();
  EXPECT_EQ(failed.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(std::string(failed.message()).find("the index of map \"words\""), std::string::npos) << failed;
  EXPECT_EQ(weak_->Get(std::string(kEntries) + "b", Soon()).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(map_->Set("a", "2", Soon()).ok());
}

TEST_F(MapIndexTest, AnIndexThatVanishesIsMadeAgainByWhoeverHoldsTheEntries) {
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(map_->Set(key, "1", Soon()).ok());
  Poll();
  ASSERT_TRUE(weak_->Evict(kIndex));
  EXPECT_EQ(Text(*NewCopy()->Map("words")), "") << "who comes now finds nothing";
  Poll();
  EXPECT_EQ(Index(), "a b c ");
  EXPECT_EQ(Text(*map_), "a=1 b=1 c=1 ");
  EXPECT_EQ(Text(*NewCopy()->Map("words")), "a=1 b=1 c=1 ");
  ASSERT_TRUE(weak_->Evict(kIndex));
  ASSERT_TRUE(map_->Set("d", "1", Soon()).ok());
  EXPECT_EQ(Index(), "a b c d ") << "a new key brings the others back at once";
}

TEST_F(MapIndexTest, WithoutIndexAndWithoutACopyThatHeldThemEntriesAreFoundByNameOnly) {
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  a_->Leave();
  b_->Leave();
  ASSERT_TRUE(weak_->Evict(kIndex));
  auto late = NewCopy();
  auto map = late->Map("words");
  Poll(3);
  EXPECT_EQ(Text(*map), "");
  std::string seen;
  ASSERT_TRUE(map->Update(
                     "a",
                     [&](const std::optional<std::string>& now) {
                       seen = now.value_or("none");
                       return seen + "!";
                     },
                     Soon())
                  .ok());
  EXPECT_EQ(seen, "1") << "no value is overwritten unseen";
  EXPECT_EQ(Text(*map), "a=1! ");
}

TEST_F(MapIndexTest, AnEntryThatVanishesIsGoneForAll) {
  for (const char* key : {"a", "b"}) ASSERT_TRUE(map_->Set(key, "1", Soon()).ok());
  Poll();
  ASSERT_TRUE(weak_->Evict(std::string(kEntries) + "a"));
  Poll();
  EXPECT_EQ(Text(*map_), "b=1 ");
  EXPECT_EQ(Text(*far_), "b=1 ");
  ASSERT_TRUE(far_->Set("a", "2", Soon()).ok());
  Poll();
  EXPECT_EQ(Text(*map_), "a=2 b=1 ");
}

TEST_F(MapIndexTest, AfterARestartNothingIsLeft) {
  for (const char* key : {"a", "b"}) ASSERT_TRUE(map_->Set(key, "1", Soon()).ok());
  Poll();
  weak_->Restart();
  Poll(2);
  EXPECT_EQ(Text(*map_), "");
  EXPECT_EQ(Text(*far_), "");
  EXPECT_EQ(Index(), "none") << "there is nothing to restore";
  for (TestCopy* copy : {a_.get(), b_.get()}) {
    copy->core->SetEpochId("e2");
    copy->core->cells->EpochChanged();
  }
  ASSERT_TRUE(map_->Set("c", "1", Soon()).ok());
  Poll();
  EXPECT_EQ(Text(*far_), "c=1 ");
  EXPECT_EQ(Index(), "c ");
}

TEST_F(MapIndexTest, AfterARestartNothingIsLeftOfALargeMapEither) {
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(map_->Set(absl::StrCat("k", i), "1", Soon()).ok());
  Poll(3);
  weak_->Restart();
  Poll();
  EXPECT_EQ(Index(), "none") << "nothing is restored unseen";
  EXPECT_EQ(far_->Get()->size(), 0u);
}

TEST_F(MapIndexTest, AKeyThatIsLongGoneLeavesTheIndex) {
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(map_->Set(key, "1", Soon()).ok());
  ASSERT_TRUE(map_->Remove("b", Soon()).ok());
  world_.runtime.SleepFor(absl::Minutes(59));
  EXPECT_EQ(Index(), "a b c ");
  world_.runtime.SleepFor(absl::Minutes(2));
  EXPECT_EQ(Index(), "a c ");
  const kv::CallCounts before = a_->counting->Snapshot();
  world_.runtime.SleepFor(absl::Minutes(10));
  EXPECT_EQ((a_->counting->Snapshot() - before).writes(), 0) << "once";
}

// Somebody who goes by an index that still names the key creates it just as it is taken out.
TEST_F(MapIndexTest, AKeyThatIsCreatedWhileItIsForgottenIsPutBack) {
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  ASSERT_TRUE(map_->Set("b", "1", Soon()).ok());
  ASSERT_TRUE(map_->Remove("b", Soon()).ok());
  bool created = false;
  for (TestCopy* copy : {a_.get(), b_.get()}) {
    copy->faulty->SetHook([&](const kv::FaultyCall& call) {
      if (call.kind != CallKind::kUpdate || call.key != kIndex || created) return Fault::kNone;
      created = true;
      internal::CellRecord record;
      record.value = "by a copy that is killed at once";
      EXPECT_TRUE(weak_->Create(std::string(kEntries) + "b", Format(record), absl::InfiniteFuture()).ok());
      return Fault::kNone;
    });
  }
  world_.runtime.SleepFor(absl::Minutes(62));
  ASSERT_TRUE(created);
  EXPECT_EQ(Index(), "a b ");
  EXPECT_EQ(Text(*map_), "a=1 b=by a copy that is killed at once ");
  EXPECT_EQ(Text(*far_), Text(*map_));
}

// The other half of that race: the creation comes when the forgetter has looked for the last time.
TEST_F(MapIndexTest, WhoHoldsAKeyThatTheIndexDoesNotNamePutsItBack) {
  ASSERT_TRUE(map_->Set("a", "1", Soon()).ok());
  ASSERT_TRUE(map_->Set("b", "1", Soon()).ok());
  Poll();
  auto entry = weak_->Get(kIndex, Soon());
  internal::CellRecord record = *internal::ParseCellRecord(entry->value, "index");
  record.value = "b\n";
  ASSERT_TRUE(weak_->Update(kIndex, Format(record), entry->revision, Soon()).ok());
  Poll();
  EXPECT_EQ(Index(), "a b ");
}

TEST_F(MapIndexTest, AFullIndexForgetsWhatIsGoneAndThenRefuses) {
  TestCopy small(world_.runtime, std::make_shared<SmallStore>(weak_, 512 + 100));
  auto map = small.Map("words");
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(map->Set(absl::StrCat(i % 10), "1", Soon()).ok());
  for (int i = 0; i < 30; ++i) {
    const std::string key = absl::StrCat("long key ", i);
    ASSERT_TRUE(map->Set(key, "1", Soon()).ok()) << i;
    ASSERT_TRUE(map->Remove(key, Soon()).ok());
  }
  EXPECT_EQ(map->Get()->size(), 10u);
  int fitted = 0;
  absl::Status refused;
  while (refused.ok()) {
    refused = map->Set(absl::StrCat("stays ", fitted), "1", Soon()).status();
    fitted += refused.ok() ? 1 : 0;
  }
  EXPECT_EQ(fitted, 10) << "80 bytes are left, and a key is 8 with its newline";
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(refused.message()).find("spread them over several maps"), std::string::npos) << refused;
  EXPECT_TRUE(map->Set("5", "2", Soon()).ok()) << "what is there can still be written";
}

TEST_F(MapIndexTest, APollReadsABoundedNumberAndAllInTurn) {
  constexpr int kKeys = 1000;
  for (int i = 0; i < kKeys; ++i) ASSERT_TRUE(map_->Set(absl::StrCat("k", i), "1", Soon()).ok());
  Poll();
  ASSERT_EQ(far_->Get()->size(), static_cast<size_t>(kKeys));
  Poll();
  const kv::CallCounts before = b_->counting->Snapshot();
  for (int i = 0; i < kKeys; ++i) ASSERT_TRUE(map_->Set(absl::StrCat("k", i), "2", Soon()).ok());
  Poll(10);
  EXPECT_LE((b_->counting->Snapshot() - before).gets, 31 * 257) << "ten jittered polls are thirty at most";
  for (const auto& [key, now] : *far_->Get()) EXPECT_EQ(now.value, "2") << key;
}

TEST_F(MapIndexTest, LinesThatAreNoKeysAreSkipped) {
  internal::CellRecord record;
  record.value = "a\n\n\x01\x02\nb\n" + std::string(300, 'x') + "\nc";
  ASSERT_TRUE(weak_->Put(kIndex, Format(record), Soon()).ok());
  for (const char* key : {"a", "b", "c"}) {
    internal::CellRecord value;
    value.value = key;
    ASSERT_TRUE(weak_->Put(std::string(kEntries) + key, Format(value), Soon()).ok());
  }
  Poll();
  EXPECT_EQ(Text(*map_), "a=a b=b c=c ");
  ASSERT_TRUE(map_->Set("d", "d", Soon()).ok());
  EXPECT_EQ(Index(), "a b c d ");
}

// Whatever is dropped and whatever fails: in the end all copies show what is in the store, and the index names it.
TEST_F(MapIndexTest, EverythingAtRandomEndsInAgreement) {
  for (uint64_t seed = 1; seed <= 10 && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    const auto pick = [&random](int below) { return static_cast<int>(random() % static_cast<uint64_t>(below)); };
    weak_->Restart();
    std::vector<std::unique_ptr<TestCopy>> copies;
    std::vector<std::shared_ptr<SharedMap>> maps;
    for (int i = 0; i < 3; ++i) {
      copies.push_back(NewCopy());
      maps.push_back(copies.back()->Map("words"));
    }
    bool calm = false;
    for (auto& copy : copies) {
      copy->faulty->SetHook([&](const kv::FaultyCall&) {
        const int dice = calm ? 100 : pick(100);
        return dice < 3 ? Fault::kFailBefore : dice < 6 ? Fault::kDropReply : Fault::kNone;
      });
    }
    std::vector<std::unique_ptr<Thread>> threads;
    for (auto& map : maps) {
      threads.push_back(world_.runtime.StartThread("user", [&, map] {
        for (int i = 0; i < 60; ++i) {
          const std::string key = absl::StrCat("k", pick(12));
          if (pick(3) == 0) {
            map->Remove(key, Soon()).IgnoreError();
          } else {
            map->Set(key, absl::StrCat(i), Soon()).IgnoreError();
          }
          world_.runtime.SleepFor(absl::Milliseconds(pick(pick(10) == 0 ? 5000 : 100)));
        }
      }));
    }
    for (int i = 0; i < 20; ++i) {
      world_.runtime.SleepFor(absl::Milliseconds(pick(1500)));
      weak_->Evict(pick(2) == 0 ? std::string(kIndex) : absl::StrCat(kEntries, "k", pick(12)));
    }
    threads.clear();
    calm = true;
    Poll(3);
    std::string stored;
    auto entries = world_.store->List(kEntries, absl::InfiniteFuture());
    for (const kv::KeyedEntry& entry : *entries) {
      absl::StrAppend(&stored, entry.key.substr(sizeof(kEntries) - 1), "=",
                      internal::ParseCellRecord(entry.entry.value, "entry")->value, " ");
    }
    for (auto& map : maps) EXPECT_EQ(Text(*map), stored);
    const std::string named = " " + Index();
    for (const auto& [key, now] : *maps[0]->Get()) {
      EXPECT_NE(named.find(" " + key + " "), std::string::npos) << key << " in" << named;
    }
    for (auto& copy : copies) copy->faulty->SetHook(nullptr);
  }
}

}  // namespace
}  // namespace coord
