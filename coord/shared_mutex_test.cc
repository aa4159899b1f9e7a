#include "coord/shared_mutex.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/test_world.h"
#include "gtest/gtest.h"

namespace coord::testing {
namespace {

using absl::StatusCode;
using kv::Fault;
using kv::FaultyCall;

constexpr absl::Duration kTtl = absl::Seconds(10);

class SharedMutexTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Settle() { world_.runtime().RunUntilIdle(); }
  kv::CallCounts Calls() { return world_.store().Snapshot("test/shared_mutex/"); }
  std::shared_ptr<Call> Reader(Cluster& copy) {
    return InBackground(world_, [&] { return copy.SharedMutex("s").AcquireShared(world_.In(absl::Hours(1))); });
  }
  std::shared_ptr<Call> Writer(Cluster& copy) {
    return InBackground(world_, [&] { return copy.SharedMutex("s").Acquire(world_.In(absl::Hours(1))); });
  }

  World world_{9};
  std::unique_ptr<Cluster> a_ = world_.Join("a");
  std::unique_ptr<Cluster> b_ = world_.Join("b");
  std::unique_ptr<Cluster> c_ = world_.Join("c");
};

TEST_F(SharedMutexTest, ReadersShareAndAWriterIsAlone) {
  auto ra = a_->SharedMutex("s").AcquireShared(Soon());
  auto rb = b_->SharedMutex("s").AcquireShared(Soon());
  ASSERT_TRUE(IsOk(ra) && IsOk(rb));
  EXPECT_TRUE(
      Is(StatusCode::kResourceExhausted, c_->SharedMutex("s").TryAcquire(Soon()), "shared mutex \"s\" is taken"));
  EXPECT_TRUE(IsOk(c_->SharedMutex("s").TryAcquireShared(Soon())));
  auto writer = Writer(*c_);
  ASSERT_TRUE(IsOk(ra->Release()));
  Settle();
  EXPECT_FALSE(writer->done);
  ASSERT_TRUE(IsOk(rb->Release()));
  Settle();
  ASSERT_TRUE(writer->ok());
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, a_->SharedMutex("s").TryAcquireShared(Soon())));
}

TEST_F(SharedMutexTest, ReadersInARowAreLetInByOneWrite) {
  auto held = a_->SharedMutex("s").Acquire(Soon());
  std::vector<std::shared_ptr<Call>> readers;
  for (int i = 0; i < 3; ++i) {
    readers.push_back(Reader(*b_));
    readers.push_back(Reader(*c_));
  }
  const kv::CallCounts before = Calls();
  ASSERT_TRUE(IsOk(held->Release()));
  Settle();
  for (auto& reader : readers) EXPECT_TRUE(reader->ok());
  EXPECT_EQ((Calls() - before).calls(), 1) << ToString(Calls() - before);
}

TEST_F(SharedMutexTest, AWaitingWriterIsNotStarvedByReaders) {
  auto ra = a_->SharedMutex("s").AcquireShared(Soon());
  auto writer = Writer(*b_);
  auto same_copy = Reader(*a_);
  auto other_copy = Reader(*c_);
  EXPECT_FALSE(same_copy->done) << "also not by readers of a copy that reads already";
  EXPECT_FALSE(other_copy->done);
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, a_->SharedMutex("s").TryAcquireShared(Soon())));
  ASSERT_TRUE(IsOk(ra->Release()));
  Settle();
  ASSERT_TRUE(writer->ok());
  EXPECT_FALSE(same_copy->done);
  ASSERT_TRUE(IsOk(writer->grant->Release()));
  Settle();
  EXPECT_TRUE(same_copy->ok());
  EXPECT_TRUE(other_copy->ok());
}

TEST_F(SharedMutexTest, WaitingReadersAreNotStarvedByWriters) {
  auto held = a_->SharedMutex("s").Acquire(Soon());
  auto reader = Reader(*b_);
  auto next = Writer(*a_);
  ASSERT_TRUE(IsOk(held->Release()));
  Settle();
  EXPECT_TRUE(reader->ok());
  EXPECT_FALSE(next->done);
  ASSERT_TRUE(IsOk(reader->grant->Release()));
  Settle();
  EXPECT_TRUE(next->ok());
}

// Rule: a copy's own readers drain before its writer queues.
TEST_F(SharedMutexTest, AWriterWaitsForItsOwnCopysReadersAndNewOnesQueueBehindIt) {
  auto r1 = a_->SharedMutex("s").AcquireShared(Soon());
  auto r2 = a_->SharedMutex("s").AcquireShared(Soon());
  ASSERT_TRUE(IsOk(r1) && IsOk(r2));
  auto writer = Writer(*a_);
  auto late = Reader(*a_);
  ASSERT_TRUE(IsOk(r1->Release()));
  Settle();
  EXPECT_FALSE(writer->done);
  EXPECT_FALSE(late->done);
  ASSERT_TRUE(IsOk(r2->Release()));
  Settle();
  ASSERT_TRUE(writer->ok());
  EXPECT_FALSE(late->done);
  ASSERT_TRUE(IsOk(writer->grant->Release()));
  Settle();
  EXPECT_TRUE(late->ok());
}

TEST_F(SharedMutexTest, TheReadersOfOneCopyShareATicketAndTheLastOneGivesItUp) {
  auto r1 = a_->SharedMutex("s").AcquireShared(Soon());
  const kv::CallCounts before = Calls();
  auto r2 = a_->SharedMutex("s").AcquireShared(Soon());
  ASSERT_TRUE(IsOk(r2));
  ASSERT_TRUE(IsOk(r1->Release()));
  EXPECT_EQ((Calls() - before).calls(), 0);
  EXPECT_FALSE(r2->Lost());
  EXPECT_TRUE(r1->Lost());
  ASSERT_TRUE(IsOk(r2->Release()));
  EXPECT_EQ((Calls() - before).writes(), 1);
  EXPECT_TRUE(IsFree(world_, "shared_mutex", "s"));
}

// Rule: downgrade is one write that also grants the readers next in line.
TEST_F(SharedMutexTest, DowngradeLetsTheReadersInByTheSameWrite) {
  auto held = a_->SharedMutex("s").Acquire(Soon());
  auto reader = Reader(*b_);
  auto writer = Writer(*c_);
  const uint64_t fence = held->fence();
  const kv::CallCounts before = Calls();
  ASSERT_TRUE(IsOk(a_->SharedMutex("s").Downgrade(*held, Soon())));
  Settle();
  EXPECT_EQ((Calls() - before).calls(), 1) << ToString(Calls() - before);
  EXPECT_TRUE(reader->ok());
  EXPECT_FALSE(writer->done);
  EXPECT_FALSE(held->Lost());
  EXPECT_EQ(held->fence(), fence);
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, a_->SharedMutex("s").Downgrade(*held, Soon()), "shared already"));
  ASSERT_TRUE(IsOk(held->Release()));
  ASSERT_TRUE(IsOk(reader->grant->Release()));
  Settle();
  EXPECT_TRUE(writer->ok());
}

TEST_F(SharedMutexTest, DowngradeOfWhatIsNotAnExclusiveGrantIsRefused) {
  auto read = a_->SharedMutex("s").AcquireShared(Soon());
  auto mutex = a_->Mutex("s").Acquire(Soon());
  auto other = a_->SharedMutex("other").Acquire(Soon());
  Grant none;
  SharedMutex shared = a_->SharedMutex("s");
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, shared.Downgrade(*read, Soon()), "shared already"));
  for (Grant* grant : {&*mutex, &*other, &none}) {
    EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, shared.Downgrade(*grant, Soon()), "not of this shared mutex"));
    EXPECT_EQ(grant == &none, grant->Lost());
  }
  auto foreign = b_->SharedMutex("third").Acquire(Soon());
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, a_->SharedMutex("third").Downgrade(*foreign, Soon())));
  ASSERT_TRUE(IsOk(other->Release()));
  EXPECT_TRUE(
      Is(StatusCode::kFailedPrecondition, a_->SharedMutex("other").Downgrade(*other, Soon()), "lost or released"));
}

// Rule: what a write gives up is given up here first, whatever the reply.
TEST_F(SharedMutexTest, ADowngradeWithoutAnAnswerCountsAsSharedAndIsToldTheStoreLater) {
  auto held = a_->SharedMutex("s").Acquire(Soon());
  auto reader = Reader(*b_);
  world_.faults().SetHook([](const FaultyCall& call) {
    return call.key.find("/shared_mutex/") != std::string::npos ? Fault::kFailBefore : Fault::kNone;
  });
  EXPECT_TRUE(Is(StatusCode::kUnavailable, a_->SharedMutex("s").Downgrade(*held, world_.In(absl::Seconds(1))),
                 "the downgrade is not confirmed by the store yet"));
  auto own_reader = Reader(*a_);
  world_.faults().SetHook(nullptr);
  world_.runtime().SleepFor(kTtl);
  EXPECT_TRUE(reader->ok());
  EXPECT_TRUE(own_reader->ok());
  EXPECT_FALSE(held->Lost());
}

TEST_F(SharedMutexTest, ReadersAndWriterOfADeadCopyGiveWay) {
  for (const bool shared : {true, false}) {
    SCOPED_TRACE(shared);
    Process dead(world_, shared ? 1 : 2, "dead");
    auto* grant = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
    dead.Run([&] {
      *grant = shared ? dead->SharedMutex("s").AcquireShared(Soon()) : dead->SharedMutex("s").Acquire(Soon());
    });
    ASSERT_TRUE(IsOk(*grant));
    dead.Kill();
    auto writer = Writer(*a_);
    world_.runtime().SleepFor(kTtl + absl::Seconds(1));
    ASSERT_TRUE(writer->ok());
  }
}

TEST_F(SharedMutexTest, AsyncReadersAndWriters) {
  int done = 0;
  std::vector<Grant> grants;
  const auto keep = [&](absl::StatusOr<Grant> grant) {
    ASSERT_TRUE(IsOk(grant));
    ++done;
    grants.push_back(*std::move(grant));
  };
  a_->SharedMutex("s").AcquireSharedAsync(Soon(), keep);
  b_->SharedMutex("s").AcquireSharedAsync(Soon(), keep);
  Settle();
  EXPECT_EQ(done, 2);
  c_->SharedMutex("s").AcquireAsync(Soon(), keep);
  Settle();
  EXPECT_EQ(done, 2);
  grants.clear();
  Settle();
  EXPECT_EQ(done, 3);
}

}  // namespace
}  // namespace coord::testing
