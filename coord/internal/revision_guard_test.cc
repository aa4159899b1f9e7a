#include "coord/internal/revision_guard.h"

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "kv/store.h"

namespace coord::internal {
namespace {

// Answers every write with the revision that the test says, after it has done what the test says.
class ScriptedStore : public kv::Store {
 public:
  kv::Revision next = 0;
  std::function<void()> during;

  absl::StatusOr<kv::Entry> Get(std::string_view, absl::Time) override { return kv::Entry{"", next, std::nullopt}; }
  kv::WriteResult Create(std::string_view, std::string_view, absl::Time) override { return Write(); }
  kv::WriteResult Update(std::string_view, std::string_view, kv::Revision, absl::Time) override { return Write(); }
  kv::WriteResult Delete(std::string_view, kv::Revision, absl::Time) override { return Write(); }
  kv::WriteResult Put(std::string_view, std::string_view, absl::Time) override { return Write(); }
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(std::string_view, absl::Time) override {
    return absl::UnimplementedError("no list");
  }
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view, kv::WatchCallback) override {
    return absl::UnimplementedError("no watch");
  }
  const kv::Traits& traits() const override { return traits_; }

 private:
  kv::WriteResult Write() {
    const kv::Revision revision = next;
    if (const auto now = std::exchange(during, nullptr)) now();
    return {absl::OkStatus(), revision, std::nullopt};
  }

  kv::Traits traits_;
};

class RevisionGuardTest : public ::testing::Test {
 protected:
  RevisionGuardTest() {
    guard_.OnRollback([this](uint64_t) { ++proofs_; });
  }
  void Write(kv::Revision revision) {
    store_->next = revision;
    ASSERT_TRUE(guard_.Update("k", "v", 1, absl::InfiniteFuture()).ok());
  }

  const std::shared_ptr<ScriptedStore> store_ = std::make_shared<ScriptedStore>();
  RevisionGuard guard_{store_};
  int proofs_ = 0;
};

TEST_F(RevisionGuardTest, AWriteBelowWhatWasSeenBeforeProvesALossOncePerEpoch) {
  Write(10);
  Write(11);
  EXPECT_EQ(proofs_, 0);
  Write(11);
  EXPECT_EQ(proofs_, 1);
  Write(3);
  EXPECT_EQ(proofs_, 1) << "it is known already";
  guard_.Reset();
  Write(4);
  EXPECT_EQ(proofs_, 1) << "a new epoch begins anew";
  Write(2);
  EXPECT_EQ(proofs_, 2);
  EXPECT_EQ(guard_.highest_ever(), 11u);
}

TEST_F(RevisionGuardTest, RepliesInAnotherOrderThanTheirWritesProveNothing) {
  Write(10);
  store_->next = 11;
  store_->during = [this] { Write(12); };  // sent later, and back sooner
  ASSERT_TRUE(guard_.Update("k", "v", 1, absl::InfiniteFuture()).ok());
  EXPECT_EQ(proofs_, 0);
  EXPECT_EQ(guard_.highest(), 12u);
}

TEST_F(RevisionGuardTest, ReadsProveNothing) {
  Write(10);
  store_->next = 3;
  ASSERT_TRUE(guard_.Get("k", absl::InfiniteFuture()).ok());
  EXPECT_EQ(proofs_, 0);
  EXPECT_EQ(guard_.highest(), 10u);
}

TEST_F(RevisionGuardTest, AReplyFromBeforeAResetCountsForNothing) {
  Write(10);
  store_->next = 11;
  store_->during = [this] { guard_.Reset(); };
  ASSERT_TRUE(guard_.Update("k", "v", 1, absl::InfiniteFuture()).ok());
  EXPECT_EQ(guard_.highest(), 0u);
  Write(1);
  EXPECT_EQ(proofs_, 0);
}

}  // namespace
}  // namespace coord::internal
