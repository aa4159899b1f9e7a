#include "coord/atomic_value.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/test_core.h"
#include "gtest/gtest.h"

namespace coord {
namespace {

using internal::SimWorld;
using internal::TestCopy;
using kv::CallKind;
using kv::Fault;

constexpr char kKey[] = "demo/value/quota";

absl::StatusOr<std::string> Increment(const std::optional<std::string>& now) {
  return std::to_string((now ? std::stoi(*now) : 0) + 1);
}

class AtomicValueTest : public ::testing::Test {
 protected:
  AtomicValueTest() : copy_(world_.NewCopy()), other_(world_.NewCopy()), value_(copy_->Value("quota")) {}

  kv::CallCounts Counts() { return copy_->counting->Snapshot(kKey); }
  absl::Time Soon() { return copy_->Soon(); }
  std::string Stored() {
    absl::StatusOr<Versioned> now = other_->Value("quota").Get(Soon());
    return now.ok() ? now->value : absl::IsNotFound(now.status()) ? "absent" : now.status().ToString();
  }
  void PutRaw(const std::string& text) { ASSERT_TRUE(world_.store->Put(kKey, text, Soon()).ok()); }
  std::string Raw() { return world_.store->Get(kKey, Soon())->value; }

  SimWorld world_;
  std::unique_ptr<TestCopy> copy_;
  std::unique_ptr<TestCopy> other_;
  AtomicValue value_;
};

#define EXPECT_CODE(status_expression, status_code, text)                       \
  do {                                                                          \
    const absl::Status got = (status_expression);                               \
    EXPECT_EQ(got.code(), status_code) << got;                                  \
    EXPECT_NE(std::string(got.message()).find(text), std::string::npos) << got; \
  } while (false)

TEST_F(AtomicValueTest, LivesThroughItsOperations) {
  EXPECT_CODE(value_.Get(Soon()).status(), absl::StatusCode::kNotFound, "value \"quota\" does not exist");
  absl::StatusOr<Revision> first = value_.CompareAndSet({}, "a", Soon());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->epoch, "e1");
  EXPECT_CODE(value_.CompareAndSet({}, "b", Soon()).status(), absl::StatusCode::kAborted, "read it again");
  absl::StatusOr<Revision> second = value_.CompareAndSet(*first, "b", Soon());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_GT(second->number, first->number);
  EXPECT_CODE(value_.CompareAndSet(*first, "c", Soon()).status(), absl::StatusCode::kAborted, "read it again");
  EXPECT_CODE(value_.Delete(*first, Soon()), absl::StatusCode::kAborted, "read it again");
  EXPECT_CODE(value_.Delete({}, Soon()), absl::StatusCode::kAborted, "exists");
  EXPECT_EQ(value_.Get(Soon())->revision, *second);
  EXPECT_EQ(value_.Get(Soon())->value, "b");
  EXPECT_TRUE(value_.Set("c", Soon()).ok());
  absl::StatusOr<Versioned> updated = value_.Update(
      [](const std::optional<std::string>& now) -> absl::StatusOr<std::string> { return *now + "d"; }, Soon());
  ASSERT_TRUE(updated.ok());
  EXPECT_EQ(updated->value, "cd");
  EXPECT_EQ(Stored(), "cd");
  EXPECT_TRUE(value_.Delete(updated->revision, Soon()).ok());
  EXPECT_CODE(value_.Delete(updated->revision, Soon()), absl::StatusCode::kNotFound, "does not exist");
  EXPECT_CODE(value_.Delete({}, Soon()), absl::StatusCode::kNotFound, "does not exist");
  EXPECT_TRUE(value_.Set("e", Soon()).ok()) << "created again";
}

TEST_F(AtomicValueTest, CostsOneWriteWarmAndTwoCallsCold) {
  ASSERT_TRUE(value_.Update(Increment, Soon()).ok());
  EXPECT_EQ(Counts().gets, 1);
  EXPECT_EQ(Counts().writes(), 1);
  auto cost = [&](auto call) {
    const kv::CallCounts before = Counts();
    call();
    const kv::CallCounts spent = Counts() - before;
    return std::to_string(spent.reads()) + " reads, " + std::to_string(spent.writes()) + " writes";
  };
  Revision revision;
  EXPECT_EQ(cost([&] { ASSERT_TRUE(value_.Update(Increment, Soon()).ok()); }), "0 reads, 1 writes");
  EXPECT_EQ(cost([&] { revision = *value_.Set("7", Soon()); }), "0 reads, 1 writes");
  EXPECT_EQ(cost([&] { revision = *value_.CompareAndSet(revision, "8", Soon()); }), "0 reads, 1 writes");
  EXPECT_EQ(cost([&] { ASSERT_TRUE(value_.Get(Soon()).ok()); }), "1 reads, 0 writes");
  EXPECT_EQ(cost([&] { ASSERT_TRUE(copy_->Value("quota").Update(Increment, Soon()).ok()); }), "0 reads, 1 writes")
      << "handles of one name share what they know";
  EXPECT_EQ(cost([&] { ASSERT_TRUE(value_.Delete(value_.Get(Soon())->revision, Soon()).ok()); }), "1 reads, 1 writes");
  EXPECT_EQ(copy_->core->counters.cell_writes, static_cast<uint64_t>(Counts().writes()));
  EXPECT_EQ(copy_->core->counters.cell_reads, static_cast<uint64_t>(Counts().reads()));
}

TEST_F(AtomicValueTest, AConflictIsSeenAndTheFunctionCalledAgain) {
  ASSERT_TRUE(value_.Set("1", Soon()).ok());
  ASSERT_TRUE(other_->Value("quota").Set("10", Soon()).ok());
  const kv::CallCounts before = Counts();
  int calls = 0;
  absl::StatusOr<Versioned> updated = value_.Update(
      [&](const std::optional<std::string>& now) {
        ++calls;
        return Increment(now);
      },
      Soon());
  ASSERT_TRUE(updated.ok());
  EXPECT_EQ(updated->value, "11");
  EXPECT_EQ(calls, 2);
  EXPECT_EQ((Counts() - before).writes(), 2);
  EXPECT_EQ((Counts() - before).reads(), 0) << "the lost write has brought the winner's state";
  EXPECT_EQ(copy_->core->counters.cell_conflicts, 1u);
}

TEST_F(AtomicValueTest, ARefusalOfTheFunctionCountsOnlyForTheNewestState) {
  ASSERT_TRUE(value_.Set("10", Soon()).ok());
  ASSERT_TRUE(other_->Value("quota").Set("3", Soon()).ok());
  auto limited = [](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
    if (std::stoi(*now) >= 10) return absl::ResourceExhaustedError("all are used");
    return Increment(now);
  };
  absl::StatusOr<Versioned> updated = value_.Update(limited, Soon());
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->value, "4");
  ASSERT_TRUE(value_.Set("10", Soon()).ok());
  const kv::CallCounts before = Counts();
  EXPECT_CODE(value_.Update(limited, Soon()).status(), absl::StatusCode::kResourceExhausted, "all are used");
  EXPECT_EQ((Counts() - before).writes(), 0);
}

TEST_F(AtomicValueTest, NothingIsWrittenForThePresentValue) {
  ASSERT_TRUE(other_->Value("quota").Set("same", Soon()).ok());
  absl::StatusOr<Versioned> updated =
      value_.Update([](const std::optional<std::string>&) -> absl::StatusOr<std::string> { return "same"; }, Soon());
  ASSERT_TRUE(updated.ok());
  EXPECT_EQ(updated->revision, value_.Get(Soon())->revision);
  EXPECT_EQ(Counts().writes(), 0);
}

TEST_F(AtomicValueTest, TheFunctionMayUseTheSameValue) {
  ASSERT_TRUE(value_.Set("1", Soon()).ok());
  int calls = 0;
  absl::StatusOr<Versioned> updated = value_.Update(
      [&](const std::optional<std::string>& now) {
        if (++calls == 1) {
          EXPECT_TRUE(value_.Update(Increment, Soon()).ok());
          EXPECT_TRUE(value_.Get(Soon()).ok());
        }
        return Increment(now);
      },
      Soon());
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->value, "3");
  EXPECT_EQ(calls, 2);
}

TEST(AtomicValueThreads, IncrementsOfManyThreadsAndCopiesAreExact) {
  std::shared_ptr<kv::Store> store = kv::NewMemoryStore();
  constexpr int kCopies = 2, kThreads = 4, kEach = 100;
  std::vector<std::unique_ptr<TestCopy>> copies;
  for (int i = 0; i < kCopies; ++i) copies.push_back(std::make_unique<TestCopy>(RealRuntime(), store));
  std::vector<std::thread> threads;
  for (int i = 0; i < kCopies * kThreads; ++i) {
    threads.emplace_back([&copy = *copies[i % kCopies]] {
      AtomicValue value = copy.Value("count");
      for (int n = 0; n < kEach; ++n) {
        absl::StatusOr<Versioned> updated = value.Update(Increment, copy.In(absl::Minutes(5)));
        ASSERT_TRUE(updated.ok()) << updated.status();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(copies[0]->Value("count").Get(copies[0]->Soon())->value, std::to_string(kCopies * kThreads * kEach));
}

// ---- Outcomes that are not known at first.

TEST_F(AtomicValueTest, ALostReplyOfAnAppliedWriteIsFoundOutByItsNonce) {
  copy_->Fail(CallKind::kCreate, Fault::kDropReply, 1);
  absl::StatusOr<Revision> revision = value_.Set("a", Soon());
  ASSERT_TRUE(revision.ok()) << revision.status();
  EXPECT_EQ(Counts().writes(), 1);
  EXPECT_EQ(*revision, value_.Get(Soon())->revision);

  copy_->Fail(CallKind::kUpdate, Fault::kDropReply, 1);
  EXPECT_TRUE(value_.Set("b", Soon()).ok());
  copy_->Fail(CallKind::kUpdate, Fault::kDropReply, 1);
  revision = value_.CompareAndSet(value_.Get(Soon())->revision, "c", Soon());
  ASSERT_TRUE(revision.ok()) << revision.status();
  copy_->Fail(CallKind::kUpdate, Fault::kDropReply, 1);
  int calls = 0;
  absl::StatusOr<Versioned> updated = value_.Update(
      [&](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
        ++calls;
        return *now + "d";
      },
      Soon());
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(Stored(), "cd");
  EXPECT_EQ(copy_->core->counters.unknown_outcomes, 4u);
}

TEST_F(AtomicValueTest, ALostReplyOfADeleteCannotBeTold) {
  const Revision revision = *value_.Set("a", Soon());
  copy_->Fail(CallKind::kDelete, Fault::kDropReply, 1);
  EXPECT_CODE(value_.Delete(revision, Soon()), absl::StatusCode::kDeadlineExceeded, "by this call or by another");
  EXPECT_EQ(Stored(), "absent");
}

TEST_F(AtomicValueTest, AWriteThatNeverArrivedIsSentAgainOverTheSameRevision) {
  const Revision first = *value_.Set("1", Soon());
  copy_->Fail(CallKind::kUpdate, Fault::kApplyLate, 1);
  EXPECT_TRUE(value_.Update(Increment, Soon()).ok());
  copy_->faulty->DropHeld();
  EXPECT_EQ(Stored(), "2");
  copy_->Fail(CallKind::kUpdate, Fault::kApplyLate, 1);
  const Revision revision = *value_.CompareAndSet(value_.Get(Soon())->revision, "3", Soon());
  copy_->Fail(CallKind::kDelete, Fault::kApplyLate, 1);
  EXPECT_TRUE(value_.Delete(revision, Soon()).ok());
  EXPECT_EQ(Stored(), "absent");
  EXPECT_NE(first, revision);
}

TEST_F(AtomicValueTest, AWriteThatArrivesAfterItsRepetitionIsWithoutEffect) {
  ASSERT_TRUE(value_.Set("1", Soon()).ok());
  copy_->Fail(CallKind::kUpdate, Fault::kApplyLate, 1);
  ASSERT_TRUE(value_.Update(Increment, Soon()).ok());
  ASSERT_TRUE(other_->Value("quota").Set("50", Soon()).ok());
  const std::vector<kv::WriteResult> late = copy_->faulty->ReleaseHeld();
  ASSERT_EQ(late.size(), 1u);
  EXPECT_FALSE(late[0].ok());
  EXPECT_EQ(Stored(), "50");
}

TEST_F(AtomicValueTest, AWriteThatArrivesBeforeItsRepetitionCountsOnce) {
  ASSERT_TRUE(value_.Set("1", Soon()).ok());
  int updates = 0;
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (call.kind != CallKind::kUpdate) return Fault::kNone;
    if (++updates == 1) return Fault::kApplyLate;
    EXPECT_TRUE(copy_->faulty->ReleaseHeld()[0].ok());
    return Fault::kNone;
  });
  absl::StatusOr<Versioned> updated = value_.Update(Increment, Soon());
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updates, 2);
  EXPECT_EQ(Stored(), "2");
}

TEST_F(AtomicValueTest, AnUnknownWriteThatWasOvertakenIsNeverRepeated) {
  ASSERT_TRUE(value_.Set("1", Soon()).ok());
  int calls = 0;
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (call.kind == CallKind::kUpdate) return Fault::kApplyLate;
    EXPECT_TRUE(other_->Value("quota").Set("90", Soon()).ok());
    return Fault::kNone;
  });
  const absl::Status status = value_
                                  .Update(
                                      [&](const std::optional<std::string>& now) {
                                        ++calls;
                                        return Increment(now);
                                      },
                                      Soon())
                                  .status();
  EXPECT_CODE(status, absl::StatusCode::kDeadlineExceeded, "may have been applied, or may still be");
  EXPECT_CODE(status, absl::StatusCode::kDeadlineExceeded, "read it again before you repeat");
  EXPECT_EQ(calls, 1);
  copy_->faulty->SetHook(nullptr);
  EXPECT_EQ(Stored(), "90");
}

TEST_F(AtomicValueTest, ACreationThatAnotherRemovedIsNotRepeated) {
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (call.kind == CallKind::kCreate) return Fault::kDropReply;
    absl::StatusOr<Versioned> now = other_->Value("quota").Get(Soon());
    if (now.ok()) {
      EXPECT_TRUE(other_->Value("quota").Delete(now->revision, Soon()).ok());
    }
    return Fault::kNone;
  });
  EXPECT_CODE(value_.CompareAndSet({}, "token", Soon()).status(), absl::StatusCode::kDeadlineExceeded,
              "not yet created or already removed again");
  EXPECT_EQ(Stored(), "absent");
}

TEST_F(AtomicValueTest, AnOutcomeThatStaysUnknownIsSaidAtTheDeadline) {
  ASSERT_TRUE(value_.Set("1", Soon()).ok());
  copy_->Fail(CallKind::kUpdate, Fault::kApplyLate);
  const absl::Time begun = world_.runtime.Now();
  EXPECT_CODE(value_.Set("2", copy_->In(absl::Seconds(3))).status(), absl::StatusCode::kDeadlineExceeded,
              "may have been applied");
  EXPECT_EQ(world_.runtime.Now() - begun, absl::Seconds(3));
}

// ---- A store that is away, deadlines, Leave.

TEST_F(AtomicValueTest, AStoreThatRefusesForAWhileIsTriedAgain) {
  copy_->Fail(CallKind::kCreate, Fault::kFailBefore, 5);
  EXPECT_TRUE(value_.Set("a", Soon()).ok());
  copy_->Fail(CallKind::kGet, Fault::kFailBefore, 5);
  EXPECT_TRUE(value_.Get(Soon()).ok());
  copy_->Fail(CallKind::kDelete, Fault::kFailBefore, 5);
  EXPECT_TRUE(value_.Delete(value_.Get(Soon())->revision, Soon()).ok());
}

TEST_F(AtomicValueTest, ADeadStoreEndsEveryCallAtItsDeadlineWithTheReason) {
  const Revision revision = *value_.Set("1", Soon());
  copy_->faulty->SetHook([](const kv::FaultyCall&) { return Fault::kFailBefore; });
  auto expect = [&](const std::string& text, auto call) {
    const absl::Time begun = world_.runtime.Now();
    EXPECT_CODE(call(copy_->In(absl::Seconds(5))), absl::StatusCode::kUnavailable, text);
    EXPECT_EQ(world_.runtime.Now() - begun, absl::Seconds(5));
  };
  expect("cannot read value \"quota\": the store did not answer",
         [&](absl::Time by) { return value_.Get(by).status(); });
  expect("value \"quota\" was not written", [&](absl::Time by) { return value_.Set("2", by).status(); });
  expect("value \"quota\" was not written", [&](absl::Time by) { return value_.Update(Increment, by).status(); });
  expect("value \"quota\" was not written",
         [&](absl::Time by) { return value_.CompareAndSet(revision, "2", by).status(); });
  expect("value \"quota\" was not written", [&](absl::Time by) { return value_.Delete(revision, by); });
}

TEST_F(AtomicValueTest, WritesThatAlwaysLoseEndAtTheDeadlineWithTheReason) {
  ASSERT_TRUE(value_.Set("1", Soon()).ok());
  int attempts = 0;
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (call.kind != CallKind::kUpdate) return Fault::kNone;
    ++attempts;
    EXPECT_TRUE(other_->Value("quota").Set("other", Soon()).ok());
    return Fault::kNone;
  });
  const absl::Time begun = world_.runtime.Now();
  EXPECT_CODE(value_.Set("2", copy_->In(absl::Seconds(10))).status(), absl::StatusCode::kUnavailable,
              "value \"quota\" was not written: others changed it again and again");
  EXPECT_EQ(world_.runtime.Now() - begun, absl::Seconds(10));
  EXPECT_GT(attempts, 100) << "waits grow to 100 ms and no more";
  EXPECT_LT(attempts, 220) << "waits grow";
  EXPECT_EQ(copy_->core->counters.cell_conflicts, static_cast<uint64_t>(attempts));
}

TEST_F(AtomicValueTest, NothingIsSentAfterTheDeadline) {
  const kv::CallCounts before = Counts();
  const absl::Time past = copy_->In(-absl::Seconds(1));
  EXPECT_CODE(value_.Get(past).status(), absl::StatusCode::kDeadlineExceeded, "nothing was sent");
  EXPECT_CODE(value_.Set("1", past).status(), absl::StatusCode::kDeadlineExceeded, "nothing was sent");
  EXPECT_CODE(value_.Delete({"e1", 1}, past), absl::StatusCode::kDeadlineExceeded, "nothing was sent");
  EXPECT_EQ((Counts() - before).calls(), 0);
}

TEST_F(AtomicValueTest, CallsAfterLeaveAreCancelled) {
  const Revision revision = *value_.Set("1", Soon());
  copy_->Leave();
  const kv::CallCounts before = Counts();
  EXPECT_CODE(value_.Get(Soon()).status(), absl::StatusCode::kCancelled, "has left");
  EXPECT_CODE(value_.Set("2", Soon()).status(), absl::StatusCode::kCancelled, "has left");
  EXPECT_CODE(value_.CompareAndSet(revision, "2", Soon()).status(), absl::StatusCode::kCancelled, "has left");
  EXPECT_CODE(value_.Update(Increment, Soon()).status(), absl::StatusCode::kCancelled, "has left");
  EXPECT_CODE(value_.Delete(revision, Soon()), absl::StatusCode::kCancelled, "has left");
  EXPECT_EQ((Counts() - before).calls(), 0);
}

TEST_F(AtomicValueTest, LeaveEndsWaitsAtOnce) {
  copy_->faulty->SetHook([](const kv::FaultyCall&) { return Fault::kFailBefore; });
  absl::Status first, second;
  std::unique_ptr<Thread> a =
      world_.runtime.StartThread("a", [&] { first = value_.Set("1", absl::InfiniteFuture()).status(); });
  std::unique_ptr<Thread> b =
      world_.runtime.StartThread("b", [&] { second = value_.Set("2", absl::InfiniteFuture()).status(); });
  world_.runtime.SleepFor(absl::Seconds(1));
  const absl::Time begun = world_.runtime.Now();
  copy_->Leave();
  a.reset();
  b.reset();
  EXPECT_EQ(world_.runtime.Now(), begun);
  EXPECT_CODE(first, absl::StatusCode::kCancelled, "has left");
  EXPECT_CODE(second, absl::StatusCode::kCancelled, "has left");
}

TEST_F(AtomicValueTest, OneWriteOfAProcessIsUnderWayAtATime) {
  ASSERT_TRUE(value_.Set("0", Soon()).ok());
  int under_way = 0, most = 0;
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (!call.write()) return Fault::kNone;
    most = std::max(most, ++under_way);
    world_.runtime.SleepFor(absl::Milliseconds(10));
    --under_way;
    return Fault::kNone;
  });
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < 5; ++i) {
    threads.push_back(world_.runtime.StartThread("w", [&] {
      for (int n = 0; n < 4; ++n) EXPECT_TRUE(value_.Update(Increment, Soon()).ok());
    }));
  }
  threads.clear();
  EXPECT_EQ(most, 1);
  EXPECT_EQ(Stored(), "20");
  EXPECT_EQ(Counts().updates, 20) << "threads of one process learn from each other without asking the store";
}

TEST_F(AtomicValueTest, AWriteThatWaitsForAnotherEndsAtItsDeadline) {
  copy_->core->options.call_timeout = absl::Minutes(1);
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (call.write()) world_.runtime.SleepFor(absl::Seconds(5));
    return Fault::kNone;
  });
  absl::Status first, second;
  std::unique_ptr<Thread> a = world_.runtime.StartThread("a", [&] { first = value_.Set("1", Soon()).status(); });
  world_.runtime.SleepFor(absl::Seconds(1));
  const absl::Time begun = world_.runtime.Now();
  second = value_.Set("2", copy_->In(absl::Seconds(1))).status();
  EXPECT_CODE(second, absl::StatusCode::kUnavailable, "an earlier write of this process to value \"quota\"");
  EXPECT_EQ(world_.runtime.Now() - begun, absl::Seconds(1));
  a.reset();
  EXPECT_TRUE(first.ok()) << first;
  EXPECT_EQ(Stored(), "1");
}

// ---- Epochs, versions, bad input.

TEST_F(AtomicValueTest, ARevisionOfAnotherEpochIsAborted) {
  const Revision revision = *value_.Set("1", Soon());
  copy_->core->SetEpochId("e2");
  const kv::CallCounts before = Counts();
  EXPECT_CODE(value_.CompareAndSet(revision, "2", Soon()).status(), absl::StatusCode::kAborted, "replaced or reset");
  EXPECT_CODE(value_.Delete(revision, Soon()), absl::StatusCode::kAborted, "replaced or reset");
  EXPECT_EQ((Counts() - before).calls(), 0);
  ASSERT_TRUE(value_.Update(Increment, Soon()).ok());
  EXPECT_EQ((Counts() - before).gets, 1) << "what was known of the old epoch must not be written over";
  EXPECT_EQ(value_.Get(Soon())->revision.epoch, "e2");
  EXPECT_CODE(value_.CompareAndSet({}, "2", Soon()).status(), absl::StatusCode::kAborted, "read it again");
}

TEST_F(AtomicValueTest, AnEpochThatChangesDuringAWriteStopsIt) {
  ASSERT_TRUE(value_.Set("1", Soon()).ok());
  bool once = true;
  copy_->faulty->SetHook([&](const kv::FaultyCall& call) {
    if (call.kind != CallKind::kUpdate || !std::exchange(once, false)) return Fault::kNone;
    copy_->core->SetEpochId("e2");
    return Fault::kFailBefore;
  });
  const kv::CallCounts before = Counts();
  absl::StatusOr<Versioned> updated = value_.Update(Increment, Soon());
  ASSERT_TRUE(updated.ok());
  EXPECT_EQ(updated->revision.epoch, "e2");
  EXPECT_EQ((Counts() - before).gets, 1);
  EXPECT_EQ((Counts() - before).updates, 2);
}

TEST_F(AtomicValueTest, FieldsOfANewerMinorSurvive) {
  PutRaw("{\"v\":\"1.7\",\"w\":\"n\",\"color\":\"blue\"}\nold");
  EXPECT_EQ(value_.Get(Soon())->value, "old");
  ASSERT_TRUE(value_.Set("set", Soon()).ok());
  EXPECT_NE(Raw().find("\"color\":\"blue\""), std::string::npos) << Raw();
  ASSERT_TRUE(value_.CompareAndSet(value_.Get(Soon())->revision, "compared", Soon()).ok());
  ASSERT_TRUE(value_.Update([](const auto& now) -> absl::StatusOr<std::string> { return *now + "!"; }, Soon()).ok());
  EXPECT_NE(Raw().find("\"color\":\"blue\""), std::string::npos) << Raw();
  EXPECT_NE(Raw().find("\"v\":\"1.7\""), std::string::npos) << Raw();
  EXPECT_EQ(Stored(), "compared!");
}

TEST_F(AtomicValueTest, ANewerMajorIsRefusedAndLeftAlone) {
  const std::string newer = "{\"v\":\"2.0\",\"w\":\"n\"}\nprecious";
  PutRaw(newer);
  for (const absl::Status& status :
       {value_.Get(Soon()).status(), value_.Set("x", Soon()).status(), value_.Update(Increment, Soon()).status(),
        value_.CompareAndSet({"e1", 1}, "x", Soon()).status()}) {
    EXPECT_CODE(status, absl::StatusCode::kFailedPrecondition, "value \"quota\"");
    EXPECT_CODE(status, absl::StatusCode::kFailedPrecondition, "version");
  }
  EXPECT_EQ(Raw(), newer);
}

TEST_F(AtomicValueTest, ADamagedRecordIsRefusedAndLoggedOnce) {
  PutRaw("no record");
  for (const absl::Status& status :
       {value_.Get(Soon()).status(), value_.Set("x", Soon()).status(), value_.Update(Increment, Soon()).status()}) {
    EXPECT_CODE(status, absl::StatusCode::kDataLoss, "value \"quota\"");
  }
  EXPECT_EQ(Raw(), "no record");
  EXPECT_EQ(copy_->log.size(), 1u);
}

TEST_F(AtomicValueTest, AValueOverTheLimitIsRefusedWithTheNumbers) {
  const size_t limit = world_.store->traits().max_value_bytes;
  const absl::Status status = value_.Set(std::string(limit, 'x'), Soon()).status();
  EXPECT_CODE(status, absl::StatusCode::kInvalidArgument,
              "value \"quota\" cannot be " + std::to_string(limit) + " bytes: the store \"memory\" takes");
  EXPECT_EQ(Counts().writes(), 0);
  EXPECT_TRUE(value_.Set(std::string(limit - 200, 'x'), Soon()).ok());
}

TEST_F(AtomicValueTest, AnyBytesAreAValue) {
  const std::string bytes("\0\n\xff{}\r", 6);
  ASSERT_TRUE(value_.Set(bytes, Soon()).ok());
  EXPECT_EQ(Stored(), bytes);
  ASSERT_TRUE(value_.Set("", Soon()).ok());
  EXPECT_EQ(Stored(), "");
}

TEST_F(AtomicValueTest, BadNamesAreRefusedByEveryCall) {
  for (const std::string& name : {std::string(), std::string("../other"), std::string("a\nb"), std::string("*"),
                                  std::string("\xff"), std::string(129, 'x'), std::string("nul\0", 4)}) {
    AtomicValue bad = copy_->Value(name);
    EXPECT_CODE(bad.Get(Soon()).status(), absl::StatusCode::kInvalidArgument, "value name");
    EXPECT_CODE(bad.Set("x", Soon()).status(), absl::StatusCode::kInvalidArgument, "value name");
    EXPECT_CODE(bad.CompareAndSet({}, "x", Soon()).status(), absl::StatusCode::kInvalidArgument, "value name");
    EXPECT_CODE(bad.Update(Increment, Soon()).status(), absl::StatusCode::kInvalidArgument, "value name");
    EXPECT_CODE(bad.Delete({"e1", 1}, Soon()), absl::StatusCode::kInvalidArgument, "value name");
  }
  EXPECT_EQ(copy_->counting->Snapshot().writes(), 0);
}

}  // namespace
}  // namespace coord
