#include "coord/semaphore.h"

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

class SemaphoreTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Settle() { world_.runtime().RunUntilIdle(); }
  std::shared_ptr<Call> Start(Semaphore semaphore, uint32_t permits) {
    return InBackground(
        world_, [this, semaphore, permits]() mutable { return semaphore.Acquire(permits, world_.In(absl::Hours(1))); });
  }

  World world_{5};
  std::unique_ptr<Cluster> a_ = world_.Join("a");
  std::unique_ptr<Cluster> b_ = world_.Join("b");
  std::unique_ptr<Cluster> c_ = world_.Join("c");
};

TEST_F(SemaphoreTest, PermitsAddUpOverCopiesAndThreads) {
  auto one = a_->Semaphore("s", 5).Acquire(2, Soon());
  auto two = a_->Semaphore("s", 5).Acquire(1, Soon());
  auto three = b_->Semaphore("s", 5).Acquire(2, Soon());
  ASSERT_TRUE(IsOk(one) && IsOk(two) && IsOk(three));
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, c_->Semaphore("s", 5).TryAcquire(1, Soon()),
                 "semaphore \"s\" is taken: held by copy \"a\""));
  auto info = c_->Semaphore("s", 5).Inspect(Soon());
  ASSERT_TRUE(IsOk(info));
  EXPECT_EQ(info->capacity, 5u);
  ASSERT_EQ(info->owners.size(), 2u) << "a copy has one entry, which weighs the sum of its tickets";
  EXPECT_EQ(info->owners[0].weight, 3u);
  EXPECT_EQ(info->owners[1].weight, 2u);
  ASSERT_TRUE(IsOk(one->Release()));
  EXPECT_FALSE(two->Lost());
  world_.runtime().RunUntilIdle();  // the push of the release arrives
  EXPECT_TRUE(IsOk(c_->Semaphore("s", 5).TryAcquire(2, Soon())));
}

TEST_F(SemaphoreTest, ALargeRequestIsNotOvertaken) {
  auto held = a_->Semaphore("s", 3).Acquire(2, Soon());
  auto large = Start(b_->Semaphore("s", 3), 3);
  auto small = Start(c_->Semaphore("s", 3), 1);
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, a_->Semaphore("s", 3).TryAcquire(1, Soon())));
  world_.runtime().SleepFor(kTtl * 2);
  EXPECT_FALSE(large->done);
  EXPECT_FALSE(small->done) << "one permit is free, but who asked first waits for it";
  ASSERT_TRUE(IsOk(held->Release()));
  Settle();
  ASSERT_TRUE(large->ok());
  EXPECT_FALSE(small->done);
  ASSERT_TRUE(IsOk(large->grant->Release()));
  Settle();
  EXPECT_TRUE(small->ok());
}

TEST_F(SemaphoreTest, OneReleaseLetsSeveralWaitersIn) {
  auto held = a_->Semaphore("s", 3).Acquire(3, Soon());
  auto first = Start(b_->Semaphore("s", 3), 1);
  auto second = Start(c_->Semaphore("s", 3), 2);
  const kv::CallCounts before = world_.store().Snapshot("test/semaphore/");
  ASSERT_TRUE(IsOk(held->Release()));
  Settle();
  EXPECT_TRUE(first->ok());
  EXPECT_TRUE(second->ok());
  EXPECT_EQ((world_.store().Snapshot("test/semaphore/") - before).calls(), 1);
}

TEST_F(SemaphoreTest, BadNumbersAreRefusedBySentence) {
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a_->Semaphore("s", 0).Acquire(1, Soon()), "1 to 4294967294 permits"));
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a_->Semaphore("s", 0xffffffff).Acquire(1, Soon()), "1 to 4294967294"));
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a_->Semaphore("s", 3).Acquire(0, Soon()), "ask for 1 to 3"));
  EXPECT_TRUE(
      Is(StatusCode::kInvalidArgument, a_->Semaphore("s", 3).Acquire(4, Soon()), "4 permits of semaphore \"s\""));
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a_->Semaphore("s", 3).TryAcquire(4, Soon()), "ask for 1 to 3"));
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a_->Semaphore("s", 3).SetPermits(0, Soon()), "1 to 4294967294"));
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a_->Semaphore("s\n", 3).SetPermits(2, Soon()), "semaphore name"));
}

// Rule: the capacity lives in the record; a handle made with another number is refused.
TEST_F(SemaphoreTest, AHandleWithAnotherNumberIsRefusedBySentence) {
  ASSERT_TRUE(IsOk(a_->Semaphore("s", 3).Acquire(1, Soon())));
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, b_->Semaphore("s", 4).Acquire(1, Soon()),
                 "semaphore \"s\" has 3 permits, and this handle was made with 4: use the same number"));
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, b_->Semaphore("s", 4).TryAcquire(1, Soon()), "SetPermits"));
  EXPECT_TRUE(IsOk(b_->Semaphore("s", 3).Acquire(3, Soon()))) << "the number outlives the last grant";
}

TEST_F(SemaphoreTest, SetPermitsUpLetsWaitersInAndKeepsThisHandle) {
  Semaphore mine = a_->Semaphore("s", 1);
  auto held = mine.Acquire(1, Soon());
  auto waiting = Start(mine, 1);
  auto other = Start(b_->Semaphore("s", 1), 1);
  ASSERT_TRUE(IsOk(mine.SetPermits(2, Soon())));
  Settle();
  EXPECT_TRUE(waiting->ok()) << waiting->grant.status() << ": requests of this handle go on";
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, other->grant, "has 2 permits")) << "those of old handles are refused";
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, b_->Semaphore("s", 1).Acquire(1, Soon()), "has 2 permits"));
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, mine.TryAcquire(1, Soon())));
  EXPECT_TRUE(Is(StatusCode::kResourceExhausted, b_->Semaphore("s", 2).TryAcquire(1, Soon())));
}

// Rule: lowering n revokes nothing.
TEST_F(SemaphoreTest, SetPermitsDownRevokesNothingAndAdmitsNobodyUntilEnoughCameBack) {
  Semaphore mine = a_->Semaphore("s", 3);
  auto one = mine.Acquire(1, Soon());
  auto two = mine.Acquire(2, Soon());
  auto too_much = Start(mine, 3);
  ASSERT_TRUE(IsOk(mine.SetPermits(2, Soon())));
  Settle();
  EXPECT_FALSE(one->Lost());
  EXPECT_FALSE(two->Lost());
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, too_much->grant, "can never be had: it has 2"));
  auto waiting = Start(b_->Semaphore("s", 2), 1);
  ASSERT_TRUE(IsOk(one->Release()));
  Settle();
  EXPECT_FALSE(waiting->done) << "two of two are still out";
  ASSERT_TRUE(IsOk(two->Release()));
  Settle();
  EXPECT_TRUE(waiting->ok());
}

TEST_F(SemaphoreTest, SetPermitsToTheSameNumberAndOnANewName) {
  Semaphore fresh = a_->Semaphore("fresh", 2);
  ASSERT_TRUE(IsOk(fresh.SetPermits(7, Soon())));
  EXPECT_TRUE(IsOk(b_->Semaphore("fresh", 7).Acquire(7, Soon())));
  const absl::Time begun = world_.runtime().Now();
  EXPECT_TRUE(IsOk(fresh.SetPermits(7, Soon())));
  EXPECT_EQ(world_.runtime().Now(), begun);
}

TEST_F(SemaphoreTest, SetPermitsWhoseReplyIsLostIsKnownToBeDone) {
  Semaphore mine = a_->Semaphore("s", 2);
  ASSERT_TRUE(IsOk(mine.Acquire(1, Soon())));
  bool used = false;
  const FaultHook hook(world_.faults(), [&](const FaultyCall& call) {
    return call.write() && !std::exchange(used, true) ? Fault::kDropReply : Fault::kNone;
  });
  EXPECT_TRUE(IsOk(mine.SetPermits(5, Soon())));
  EXPECT_TRUE(IsOk(mine.Acquire(5, Soon())));
  world_.faults().SetHook(nullptr);  // it refers to `used`
}

// A store that refuses for good.
class RefusingStore : public kv::StoreWrapper {
 public:
  using StoreWrapper::StoreWrapper;
  bool refuse = false;
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override {
    if (refuse) return {absl::PermissionDeniedError("the disk is write-protected: ask its owner"), 0, std::nullopt};
    return StoreWrapper::Update(key, value, expected, deadline);
  }
};

TEST_F(SemaphoreTest, WhatTheStoreRefusesForGoodIsReportedAtOnce) {
  JoinOptions options = world_.Options("d");
  auto refusing = std::make_shared<RefusingStore>(options.store);
  options.store = refusing;
  auto d = world_.Join(options);
  Semaphore mine = d->Semaphore("s", 2);
  ASSERT_TRUE(IsOk(mine.Acquire(1, Soon())));
  auto term = d->Election("e").Campaign("one", Soon());
  refusing->refuse = true;
  const absl::Time begun = world_.runtime().Now();
  EXPECT_TRUE(Is(StatusCode::kPermissionDenied, mine.SetPermits(1, world_.In(absl::Hours(1))), "ask its owner"));
  EXPECT_TRUE(Is(StatusCode::kPermissionDenied, mine.Acquire(1, world_.In(absl::Hours(1))), "ask its owner"));
  EXPECT_TRUE(Is(StatusCode::kPermissionDenied, d->Election("e").Proclaim(*term, "two", world_.In(absl::Hours(1))),
                 "ask its owner"));
  EXPECT_LT(world_.runtime().Now() - begun, absl::Seconds(1));
  refusing->refuse = false;
  EXPECT_TRUE(IsOk(mine.Acquire(2, Soon()))) << "the number has not changed";
}

TEST_F(SemaphoreTest, ADeadCopysPermitsComeBack) {
  Process dead(world_, 1, "dead");
  auto* grant = LeftBehind(absl::StatusOr<Grant>(absl::UnknownError("")));
  dead.Run([&] { *grant = dead->Semaphore("s", 3).Acquire(2, Soon()); });
  auto mine = a_->Semaphore("s", 3).Acquire(1, Soon());
  ASSERT_TRUE(IsOk(*grant) && IsOk(mine));
  dead.Kill();
  const absl::Time died = world_.runtime().Now();
  auto waiting = Start(b_->Semaphore("s", 3), 2);
  world_.runtime().SleepFor(kTtl * 2);
  ASSERT_TRUE(waiting->ok());
  EXPECT_LE(waiting->at - died, kTtl + absl::Milliseconds(1));
  EXPECT_FALSE(mine->Lost()) << "a living owner stays";
}

TEST_F(SemaphoreTest, ACancelledLargeRequestLetsThoseBehindIn) {
  auto held = a_->Semaphore("s", 3).Acquire(2, Soon());
  CancelSource cancel;
  auto large =
      InBackground(world_, [&] { return b_->Semaphore("s", 3).Acquire(3, absl::InfiniteFuture(), cancel.token()); });
  auto small = Start(c_->Semaphore("s", 3), 1);
  cancel.Cancel();
  Settle();
  EXPECT_TRUE(Is(StatusCode::kCancelled, large->grant));
  EXPECT_TRUE(small->ok());
}

}  // namespace
}  // namespace coord::testing
