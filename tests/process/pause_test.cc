// A copy that is stopped beyond its ttl and then goes on, with a grant that another copy has by now.

#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>

#include "tests/process/copies.h"

namespace process_test {
namespace {

constexpr absl::Duration kTtl = absl::Seconds(1);

class PauseTest : public CopiesTest {
 protected:
  // `stopped_` owns and has written the cell; `next_` waits.
  void SetUp() override {
    stopped_ = Start("stopped", kTtl);
    // What this copy tells of itself must not hang on its own losses.
    next_ = Start("next", absl::Seconds(20));
    ASSERT_NO_FATAL_FAILURE(Join({stopped_.get(), next_.get()}));
    const Reply held = stopped_->Call("acquire mine lock 20000");
    ASSERT_TRUE(held.ok()) << held.status;
    const Reply written = stopped_->Call("fenced-set cell mine old 10000");
    ASSERT_TRUE(written.ok()) << written.status;
    waiting_ = next_->Send("acquire its lock 30000");
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(*next_, "lock", "stopped", "next"));
  }

  // The stopped copy is replaced.
  void AwaitSuccessor(bool writes) {
    const Reply acquired = next_->Await(waiting_);
    ASSERT_TRUE(acquired.ok()) << acquired.status;
    fence_ = acquired.Number(0);
    if (!writes) return;
    const Reply written = next_->Call("fenced-set cell its new 10000");
    ASSERT_TRUE(written.ok()) << written.status;
  }

  // Whatever the one that was stopped has tried, the lock and the cell are its successor's.
  void CheckSuccessorUntouched(const std::string& value) {
    EXPECT_EQ(next_->Call("is-lost its").text, "0");
    EXPECT_EQ(next_->Call("inspect lock 10000").text, "fence " + std::to_string(fence_) + " owners next waiters");
    const Reply cell = next_->Call("fenced-get cell 10000");
    ASSERT_TRUE(cell.ok()) << cell.status;
    EXPECT_EQ(cell.Word(0), value);
    EXPECT_TRUE(next_->TakeEvents("lost ").empty());
    const Reply mine = next_->Call("fenced-set cell its newer 10000");
    EXPECT_TRUE(mine.ok()) << mine.status;
    const Reply released = next_->Call("release its 10000");
    EXPECT_TRUE(released.ok()) << released.status;
  }

  static void ExpectRefused(const Reply& reply, const std::string& why) {
    EXPECT_EQ(reply.status.code(), absl::StatusCode::kFailedPrecondition) << reply.status;
    EXPECT_NE(std::string(reply.status.message()).find(why), std::string::npos) << reply.status;
  }

  std::unique_ptr<Process> stopped_, next_;
  int waiting_ = 0;
  int64_t fence_ = 0;
};

// The commands wait in the pipe: they are the first that the copy does when it goes on.
TEST_F(PauseTest, AStoppedCopyCannotWriteWhenItGoesOn) {
  stopped_->Signal(SIGSTOP);
  ASSERT_TRUE(stopped_->AwaitStopped());
  ASSERT_NO_FATAL_FAILURE(AwaitSuccessor(true));
  const int writing = stopped_->Send("fenced-set cell mine stale 10000");
  const int asking = stopped_->Send("is-lost mine");
  stopped_->Signal(SIGCONT);
  ExpectRefused(stopped_->Await(writing), "is lost");
  EXPECT_EQ(stopped_->Await(asking).text, "1");
  EXPECT_TRUE(stopped_->AwaitEvent("lost mine").has_value()) << "no loss was signalled";
  ASSERT_NO_FATAL_FAILURE(CheckSuccessorUntouched("new"));
  EXPECT_TRUE(stopped_->TakeEvents("lost mine").empty()) << "the loss was signalled twice";
}

TEST_F(PauseTest, AReleaseAfterTheLossDoesNotTouchTheSuccessor) {
  stopped_->Signal(SIGSTOP);
  ASSERT_TRUE(stopped_->AwaitStopped());
  ASSERT_NO_FATAL_FAILURE(AwaitSuccessor(true));
  const int releasing = stopped_->Send("release mine 10000");
  stopped_->Signal(SIGCONT);
  ExpectRefused(stopped_->Await(releasing), "was lost before it was released");
  ASSERT_NO_FATAL_FAILURE(CheckSuccessorUntouched("new"));
}

// Stopped inside the write, after it was found to hold the lock: it must be found out again before anything is sent.
TEST_F(PauseTest, ACopyStoppedInsideItsWriteIsRefusedAfterItsSuccessorWrote) {
  const int writing = stopped_->Send("fenced-pause cell mine stale 30000");
  ASSERT_TRUE(stopped_->AwaitStopped());
  ASSERT_NO_FATAL_FAILURE(AwaitSuccessor(true));
  stopped_->Signal(SIGCONT);
  const Reply written = stopped_->Await(writing);
  EXPECT_EQ(written.status.code(), absl::StatusCode::kFailedPrecondition) << written.status;
  ASSERT_NO_FATAL_FAILURE(CheckSuccessorUntouched("new"));
}

// The same before the successor has written anything.
TEST_F(PauseTest, ACopyStoppedInsideItsWriteIsRefusedBeforeItsSuccessorWrites) {
  const int writing = stopped_->Send("fenced-pause cell mine stale 30000");
  ASSERT_TRUE(stopped_->AwaitStopped());
  ASSERT_NO_FATAL_FAILURE(AwaitSuccessor(false));
  stopped_->Signal(SIGCONT);
  ExpectRefused(stopped_->Await(writing), "is lost");
  ASSERT_NO_FATAL_FAILURE(CheckSuccessorUntouched("old"));
}

TEST_F(PauseTest, TheCopyJoinsAgainAndQueuesBehindItsSuccessor) {
  const std::string before = stopped_->Call("session").text;
  stopped_->Signal(SIGSTOP);
  ASSERT_TRUE(stopped_->AwaitStopped());
  ASSERT_NO_FATAL_FAILURE(AwaitSuccessor(true));
  stopped_->Signal(SIGCONT);
  EXPECT_TRUE(stopped_->AwaitEvent("lost mine").has_value());
  const int again = stopped_->Send("acquire again lock 30000");
  ASSERT_NO_FATAL_FAILURE(AwaitQueue(*next_, "lock", "next", "stopped"));
  ASSERT_TRUE(next_->Call("release its 10000").ok());
  const Reply acquired = stopped_->Await(again);
  ASSERT_TRUE(acquired.ok()) << acquired.status;
  EXPECT_GT(acquired.Number(0), fence_);
  EXPECT_NE(stopped_->Call("session").text, before);
  const Reply written = stopped_->Call("fenced-set cell again renewed 10000");
  EXPECT_TRUE(written.ok()) << written.status;
}

}  // namespace
}  // namespace process_test
