#include "coord/fenced_cell.h"

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/cells/fencing.h"
#include "coord/internal/held.h"
#include "coord/internal/test_core.h"
#include "gtest/gtest.h"

namespace coord {
namespace {

using internal::Held;
using internal::SimWorld;
using internal::TestCopy;
using kv::CallKind;
using kv::Fault;

#define EXPECT_CODE(status_expression, status_code, text)                       \
  do {                                                                          \
    const absl::Status got = (status_expression);                               \
    EXPECT_EQ(got.code(), status_code) << got;                                  \
    EXPECT_NE(std::string(got.message()).find(text), std::string::npos) << got; \
  } while (false)

class FencedCellTest : public ::testing::Test {
 protected:
  FencedCellTest() : copy_(world_.NewCopy()), other_(world_.NewCopy()) {}

  std::shared_ptr<Held> Hold(TestCopy& copy, uint64_t fence, const std::string& name = "importer",
                             const std::string& kind = "mutex") {
    auto lock = std::make_shared<internal::GrantName>();
    lock->kind = kind;
    lock->name = name;
    auto held = std::make_shared<Held>();
    held->core = copy.core;
    held->name = std::move(lock);
    held->session = std::make_shared<internal::SessionLife>();
    held->session->valid_until_ns = absl::ToUnixNanos(world_.runtime.Now() + absl::Hours(1));
    held->fence = fence;
    return held;
  }

  // What FencedCell does with the state of a Grant.
  absl::Status Set(TestCopy& copy, const std::shared_ptr<Held>& held, const std::string& value) {
    return Update(
        copy, held, [&](const std::optional<std::string>&) { return value; }, true);
  }
  absl::Status Update(TestCopy& copy, const std::shared_ptr<Held>& held, const UpdateFunction& fn,
                      bool always = false) {
    auto cell = copy.core->cells->FindCell("demo/fenced/position", "fenced cell \"position\"");
    return internal::ModifyFenced(*copy.core, *cell, held, fn, always, copy.Soon()).status();
  }
  Fenced Stored() {
    absl::StatusOr<Fenced> now = internal::CellTestPeer::MakeFencedCell(other_->core, "position").Get(other_->Soon());
    return now.ok() ? *now : Fenced{std::string(now.status().message()), {}, 0};
  }
  int64_t Writes(TestCopy& copy) { return copy.counting->Snapshot("demo/fenced/").writes(); }

  SimWorld world_;
  std::unique_ptr<TestCopy> copy_;
  std::unique_ptr<TestCopy> other_;
};

TEST_F(FencedCellTest, TheHolderWritesAndEverybodyReads) {
  EXPECT_EQ(Stored().value, "fenced cell \"position\" does not exist");
  std::shared_ptr<Held> held = Hold(*copy_, 7);
  ASSERT_TRUE(Set(*copy_, held, "1").ok());
  ASSERT_TRUE(Set(*copy_, held, "2").ok());
  EXPECT_EQ(Stored().value, "2");
  EXPECT_EQ(Stored().fence, 7u);
  EXPECT_EQ(Stored().revision.epoch, "e1");
  ASSERT_TRUE(Update(*copy_, held, [](const auto& now) -> absl::StatusOr<std::string> { return *now + "3"; }).ok());
  EXPECT_EQ(Stored().value, "23");
}

TEST_F(FencedCellTest, AnOlderFenceThanTheNewestSeenIsRefused) {
  std::shared_ptr<Held> stale = Hold(*copy_, 7);
  ASSERT_TRUE(Set(*copy_, stale, "old").ok());
  ASSERT_TRUE(Set(*other_, Hold(*other_, 9), "new").ok());
  // It does not know of its loss: only the fence tells.
  EXPECT_CODE(Set(*copy_, stale, "spoilt"), absl::StatusCode::kFailedPrecondition,
              "a later holder of \"mutex/importer\" has written it already (its fence is 9, this grant's is 7)");
  EXPECT_CODE(Update(*copy_, stale, [](const auto&) -> absl::StatusOr<std::string> { return "spoilt"; }),
              absl::StatusCode::kFailedPrecondition, "a later holder");
  EXPECT_EQ(Stored().value, "new");
  EXPECT_EQ(Stored().fence, 9u);
}

TEST_F(FencedCellTest, AnUpdateThatChangesNothingStillRaisesTheFence) {
  std::shared_ptr<Held> stale = Hold(*copy_, 7);
  ASSERT_TRUE(Set(*copy_, stale, "same").ok());
  auto same = [](const std::optional<std::string>&) -> absl::StatusOr<std::string> { return "same"; };
  std::shared_ptr<Held> later = Hold(*other_, 9);
  ASSERT_TRUE(Update(*other_, later, same).ok());
  EXPECT_EQ(Stored().fence, 9u);
  EXPECT_FALSE(Set(*copy_, stale, "spoilt").ok());
  const int64_t before = Writes(*other_);
  ASSERT_TRUE(Update(*other_, later, same).ok());
  EXPECT_EQ(Writes(*other_), before);
}

TEST_F(FencedCellTest, TheFirstWriteBindsTheCellToItsLock) {
  ASSERT_TRUE(Set(*copy_, Hold(*copy_, 7), "1").ok());
  EXPECT_CODE(Set(*copy_, Hold(*copy_, 100, "exporter"), "2"), absl::StatusCode::kFailedPrecondition,
              "it is guarded by \"mutex/importer\", and the grant is of \"mutex/exporter\"");
  EXPECT_CODE(Set(*copy_, Hold(*copy_, 100, "importer", "election"), "2"), absl::StatusCode::kFailedPrecondition,
              "the grant is of \"election/importer\"");
  EXPECT_EQ(Stored().value, "1");
}

TEST_F(FencedCellTest, WhatIsNotAValidExclusiveGrantSendsNothing) {
  auto refused = [&](const std::shared_ptr<Held>& held, const std::string& text) {
    EXPECT_CODE(Set(*copy_, held, "x"), absl::StatusCode::kFailedPrecondition, text);
  };
  refused(nullptr, "the grant is empty");
  std::shared_ptr<Held> held = Hold(*copy_, 7);
  held->released = true;
  refused(held, "was released");
  held = Hold(*copy_, 7);
  held->exclusive = false;
  refused(held, "is shared with others");
  held = Hold(*copy_, 7);
  held->lost = true;
  refused(held, "is lost");
  held = Hold(*copy_, 7);
  held->session->lost = true;
  refused(held, "is lost");
  held = Hold(*copy_, 7);
  held->session->valid_until_ns = absl::ToUnixNanos(world_.runtime.Now());
  refused(held, "is lost");
  refused(Hold(*other_, 7), "comes from another Cluster");
  EXPECT_EQ(copy_->counting->Snapshot("demo/fenced/").calls(), 0);
}

TEST_F(FencedCellTest, TheGrantIsCheckedAgainBeforeEveryAttempt) {
  std::shared_ptr<Held> held = Hold(*copy_, 7);
  ASSERT_TRUE(Set(*copy_, held, "1").ok());
  int attempts = 0;
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (!call.write()) return Fault::kNone;
    ++attempts;
    held->session->lost = true;  // while the first attempt is under way
    return Fault::kFailBefore;
  });
  EXPECT_CODE(Set(*copy_, held, "2"), absl::StatusCode::kFailedPrecondition, "is lost");
  EXPECT_EQ(attempts, 1);
  EXPECT_EQ(Stored().value, "1");
}

TEST_F(FencedCellTest, AGrantThatIsLostWhileTheFunctionRunsWritesNothing) {
  std::shared_ptr<Held> held = Hold(*copy_, 7);
  EXPECT_CODE(Update(*copy_, held,
                     [&](const auto&) -> absl::StatusOr<std::string> {
                       held->session->lost = true;
                       return "x";
                     }),
              absl::StatusCode::kFailedPrecondition, "is lost");
  EXPECT_EQ(Writes(*copy_), 0);
}

TEST_F(FencedCellTest, ALostReplyIsSettledAndALateWriteCannotSpoil) {
  std::shared_ptr<Held> held = Hold(*copy_, 7);
  copy_->Fail(CallKind::kCreate, Fault::kDropReply, 1);
  ASSERT_TRUE(Set(*copy_, held, "1").ok());
  // The write is held back on its way; the copy loses the lock, and the successor writes before it arrives.
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (!call.write()) return Fault::kNone;
    held->session->lost = true;
    return Fault::kApplyLate;
  });
  EXPECT_CODE(Set(*copy_, held, "late"), absl::StatusCode::kDeadlineExceeded, "may have been applied");
  ASSERT_TRUE(Set(*other_, Hold(*other_, 9), "new").ok());
  copy_->faulty->SetHook(nullptr);
  EXPECT_FALSE(copy_->faulty->ReleaseHeld()[0].ok());
  EXPECT_EQ(Stored().value, "new");
}

TEST_F(FencedCellTest, TheHandleRefusesBadNames) {
  FencedCell bad = internal::CellTestPeer::MakeFencedCell(copy_->core, "a\nb");
  EXPECT_CODE(bad.Get(copy_->Soon()).status(), absl::StatusCode::kInvalidArgument, "fenced cell name");
}

TEST_F(FencedCellTest, CallsAfterLeaveAreCancelled) {
  std::shared_ptr<Held> held = Hold(*copy_, 7);
  copy_->Leave();
  EXPECT_CODE(Set(*copy_, held, "1"), absl::StatusCode::kCancelled, "has left");
}

}  // namespace
}  // namespace coord
