#include "coord/election.h"

#include <memory>
#include <string>
#include <utility>
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

// What a standing candidate is told.
struct Told {
  std::vector<uint64_t> elected;
  int lost = 0;
  std::vector<std::string> leaders;
  std::unique_ptr<Candidate> candidate;

  CandidateOptions Options(const std::string& value) {
    CandidateOptions options;
    options.value = value;
    options.on_elected = [this](const std::shared_ptr<const Grant>& term) { elected.push_back(term->fence()); };
    options.on_lost = [this] { ++lost; };
    options.on_new_leader = [this](const LeaderInfo& leader) { leaders.push_back(leader.value); };
    return options;
  }
};

class ElectionTest : public ::testing::Test {
 protected:
  absl::Time Soon() { return world_.In(absl::Seconds(5)); }
  void Settle() { world_.runtime().RunUntilIdle(); }
  void Sleep(absl::Duration duration) { world_.runtime().SleepFor(duration); }

  World world_{13};
  std::unique_ptr<Cluster> a_ = world_.Join("a");
  std::unique_ptr<Cluster> b_ = world_.Join("b");
};

TEST_F(ElectionTest, CampaignProclaimsItsValueInTheSameWrite) {
  const kv::CallCounts before = world_.store().Snapshot("test/election/");
  auto term = a_->Election("e").Campaign("http://a", Soon());
  ASSERT_TRUE(IsOk(term));
  EXPECT_EQ((world_.store().Snapshot("test/election/") - before).writes(), 1);
  auto leader = b_->Election("e").Leader();
  ASSERT_TRUE(IsOk(leader));
  ASSERT_NE(*leader, nullptr);
  EXPECT_EQ((*leader)->value, "http://a");
  EXPECT_EQ((*leader)->instance, "a");
  EXPECT_EQ((*leader)->session, a_->session());
  EXPECT_EQ((*leader)->fence, term->fence());
}

TEST_F(ElectionTest, AWaitingCandidatesValueIsProclaimedByTheHandOverItself) {
  auto term = a_->Election("e").Campaign("http://a", Soon());
  auto next = InBackground(world_, [&] { return b_->Election("e").Campaign("http://b", world_.In(absl::Hours(1))); });
  const kv::CallCounts before = world_.store().Snapshot("test/election/");
  ASSERT_TRUE(IsOk(a_->Election("e").Resign(*term)));
  Settle();
  ASSERT_TRUE(next->ok());
  EXPECT_EQ((world_.store().Snapshot("test/election/") - before).calls(), 1);
  EXPECT_EQ((*a_->Election("e").Leader())->value, "http://b");
  EXPECT_GT(next->grant->fence(), term->fence());
}

TEST_F(ElectionTest, NobodyLeadsAtFirstAndAfterResigning) {
  Election election = b_->Election("e");
  auto leader = election.Leader();
  ASSERT_TRUE(IsOk(leader));
  EXPECT_EQ(*leader, nullptr);
  auto term = a_->Election("e").Campaign("x", Soon());
  Settle();
  EXPECT_NE(*election.Leader(), nullptr);
  ASSERT_TRUE(IsOk(term->Release()));
  Settle();
  EXPECT_EQ(*election.Leader(), nullptr);
}

TEST_F(ElectionTest, ProclaimChangesTheValueOfTheLeaderAlone) {
  auto term = a_->Election("e").Campaign("one", Soon());
  ASSERT_TRUE(IsOk(a_->Election("e").Proclaim(*term, "two", Soon())));
  Settle();
  EXPECT_EQ((*b_->Election("e").Leader())->value, "two");
  EXPECT_EQ((*b_->Election("e").Leader())->fence, term->fence());
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a_->Election("e").Proclaim(*term, std::string(1025, 'x'), Soon()),
                 "at most 1024 bytes; this is 1025"));
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, b_->Election("e").Campaign(std::string(1025, 'x'), Soon()), "1024"));
  auto other = b_->Election("other").Campaign("o", Soon());
  EXPECT_TRUE(
      Is(StatusCode::kFailedPrecondition, a_->Election("e").Proclaim(*other, "x", Soon()), "not a term of this"));
  ASSERT_TRUE(IsOk(term->Release()));
  EXPECT_TRUE(
      Is(StatusCode::kFailedPrecondition, a_->Election("e").Proclaim(*term, "x", Soon()), "does not lead any more"));
  auto bytes = a_->Election("e").Campaign(std::string("\xff\0z", 3), Soon());
  ASSERT_TRUE(IsOk(bytes));
  Settle();
  EXPECT_EQ((*b_->Election("e").Leader())->value, std::string("\xff\0z", 3));
}

// What was proclaimed in one term does not come back in the next.
TEST_F(ElectionTest, ALaterTermOfTheSameCopyProclaimsItsOwnValue) {
  auto term = a_->Election("e").Campaign("one", Soon());
  ASSERT_TRUE(IsOk(a_->Election("e").Proclaim(*term, "two", Soon())));
  auto next = InBackground(world_, [&] { return a_->Election("e").Campaign("three", world_.In(absl::Hours(1))); });
  ASSERT_TRUE(IsOk(term->Release()));
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(next->ok());
  EXPECT_EQ((*b_->Election("e").Leader())->value, "three");
  ASSERT_TRUE(IsOk(next->grant->Release()));
  auto last = a_->Election("e").Campaign("four", Soon());
  Sleep(absl::Seconds(1));
  EXPECT_EQ((*b_->Election("e").Leader())->value, "four");
}

TEST_F(ElectionTest, ObserveTellsThePresentLeaderAndEveryLaterOneButNotRepeats) {
  auto term = a_->Election("e").Campaign("one", Soon());
  std::vector<std::string> seen;
  Subscription subscription =
      b_->Election("e").Observe([&](const LeaderInfo& leader) { seen.push_back(leader.value); });
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(IsOk(a_->Election("e").Proclaim(*term, "two", Soon())));
  Sleep(kTtl * 2);
  world_.faults().Interrupt(kv::WatchKind::kResync);
  Sleep(absl::Seconds(1));
  EXPECT_EQ(seen, (std::vector<std::string>{"one", "two"}));
  subscription = Subscription();
  ASSERT_TRUE(IsOk(a_->Election("e").Proclaim(*term, "three", Soon())));
  Sleep(absl::Seconds(1));
  EXPECT_EQ(seen.size(), 2u);
}

TEST_F(ElectionTest, ObserveOfABadNameOrAfterLeaveIsEmpty) {
  EXPECT_FALSE(a_->Election("a\n").Observe([](const LeaderInfo&) {}));
  EXPECT_TRUE(Is(StatusCode::kInvalidArgument, a_->Election("a\n").Leader(), "election name"));
  Election election = a_->Election("e");
  ASSERT_TRUE(IsOk(election.Leader()));
  ASSERT_TRUE(IsOk(a_->Leave(Soon())));
  EXPECT_FALSE(election.Observe([](const LeaderInfo&) {}));
  EXPECT_TRUE(Is(StatusCode::kCancelled, election.Leader(), "has left"));
}

TEST_F(ElectionTest, LeaderSaysWhyItCannotRead) {
  world_.faults().SetHook([](const FaultyCall&) { return Fault::kFailBefore; });
  const absl::Time begun = world_.runtime().Now();
  EXPECT_TRUE(Is(StatusCode::kUnavailable, a_->Election("e").Leader()));
  EXPECT_LE(world_.runtime().Now() - begun, absl::Seconds(2));
  world_.faults().SetHook(nullptr);
  ASSERT_TRUE(IsOk(a_->Election("damaged").Campaign("x", Soon())));
  Edit(world_, KeyOf(world_, "election", "damaged"), "\"owners\":[", "\"owners\":{");
  EXPECT_TRUE(Is(StatusCode::kDataLoss, b_->Election("damaged").Leader(), "is damaged"));
  EXPECT_TRUE(IsOk(a_->Election("e").Leader()));
}

TEST_F(ElectionTest, WithoutAWatchLeaderIsLateByAnEighthOfATtlAtMost) {
  JoinOptions options = world_.Options("c");
  Shaped(options)->shape.watch = false;
  auto c = world_.Join(options);
  Election election = c->Election("e");
  ASSERT_TRUE(IsOk(election.Leader()));
  auto term = a_->Election("e").Campaign("x", Soon());
  Sleep(kTtl / 8 + absl::Milliseconds(10));
  ASSERT_NE(*election.Leader(), nullptr);
  EXPECT_EQ((*election.Leader())->value, "x");
}

// ------------------------------------------------------------------------------------------ standing

TEST_F(ElectionTest, StandbysTakeOverInTurnAndAreTold) {
  Told a, b;
  a.candidate = a_->Election("e").Stand(a.Options("A"));
  Settle();
  b.candidate = b_->Election("e").Stand(b.Options("B"));
  Sleep(absl::Seconds(1));
  ASSERT_EQ(a.elected.size(), 1u);
  EXPECT_TRUE(b.elected.empty());
  ASSERT_NE(a.candidate->Term(), nullptr);
  EXPECT_EQ(a.candidate->Term()->fence(), a.elected[0]);
  EXPECT_EQ(b.candidate->Term(), nullptr);
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, b.candidate->StepDown(), "does not lead"));

  ASSERT_TRUE(IsOk(a.candidate->StepDown()));
  EXPECT_EQ(a.candidate->Term(), nullptr);
  Sleep(absl::Seconds(1));
  ASSERT_EQ(b.elected.size(), 1u);
  EXPECT_GT(b.elected[0], a.elected[0]);
  EXPECT_EQ(a.lost, 0) << "stepping down is no loss";

  ASSERT_TRUE(IsOk(b.candidate->StepDown()));
  Sleep(absl::Seconds(1));
  EXPECT_EQ(a.elected.size(), 2u) << "who stepped down stands at the end of the line";
  EXPECT_EQ(a.leaders, (std::vector<std::string>{"A", "B", "A"}));
  EXPECT_EQ(b.leaders, (std::vector<std::string>{"A", "B", "A"}));

  a.candidate = nullptr;
  Sleep(absl::Seconds(1));
  EXPECT_EQ(b.elected.size(), 2u) << "a withdrawn leader hands over";
  b.candidate = nullptr;
  Sleep(kTtl * 3);
  EXPECT_TRUE(IsFree(world_, "election", "e"));
  EXPECT_EQ(a.elected.size() + b.elected.size(), 4u);
}

TEST_F(ElectionTest, ASingleCandidateStepsDownAndLeadsAgainWithAGreaterFence) {
  Told a;
  a.candidate = a_->Election("e").Stand(a.Options("A"));
  Settle();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(IsOk(a.candidate->StepDown()));
    Sleep(absl::Seconds(1));
  }
  ASSERT_EQ(a.elected.size(), 4u);
  for (size_t i = 1; i < 4; ++i) EXPECT_GT(a.elected[i], a.elected[i - 1]);
}

TEST_F(ElectionTest, ProclaimOfACandidateHoldsForLaterTermsToo) {
  Told a;
  a.candidate = a_->Election("e").Stand(a.Options("one"));
  Settle();
  ASSERT_TRUE(IsOk(a.candidate->Proclaim("two", Soon())));
  Settle();
  EXPECT_EQ((*b_->Election("e").Leader())->value, "two");
  ASSERT_TRUE(IsOk(a.candidate->StepDown()));
  Sleep(absl::Seconds(1));
  EXPECT_EQ((*b_->Election("e").Leader())->value, "two");
}

// Rule: a grant dies with its session even if the copy rejoins; an election alone campaigns again by itself.
TEST_F(ElectionTest, AfterALossTheCandidateCampaignsAgainUnderTheNewSession) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    World world(seed);
    auto a = world.Join("a");
    auto b = world.Join("b");
    Told told;
    told.candidate = a->Election("e").Stand(told.Options("A"));
    auto plain = a->Mutex("m").Acquire(world.In(absl::Seconds(1)));
    world.runtime().SleepFor(absl::Seconds(1));
    auto term = told.candidate->Term();
    ASSERT_NE(term, nullptr);
    const std::string session = a->session();
    ASSERT_TRUE(IsOk(b->Break(session, world.In(absl::Seconds(5)))));
    world.runtime().SleepFor(kTtl * 3);
    EXPECT_NE(a->session(), session);
    EXPECT_TRUE(term->Lost());
    EXPECT_TRUE(plain->Lost()) << "grants stay lost";
    EXPECT_EQ(told.lost, 1);
    ASSERT_EQ(told.elected.size(), 2u);
    EXPECT_GT(told.elected[1], told.elected[0]);
    ASSERT_NE(told.candidate->Term(), nullptr);
    EXPECT_FALSE(told.candidate->Term()->Lost());
    const auto record = RecordOf(world, "election", "e");
    ASSERT_EQ(record->owners.size(), 1u);
    EXPECT_EQ(record->owners[0].session, a->session());
    EXPECT_TRUE(record->queue.empty()) << "one candidacy, not two";
  }
}

TEST_F(ElectionTest, AWithdrawnCandidacyDoesNotSurviveAReconnect) {
  Told a;
  a.candidate = a_->Election("e").Stand(a.Options("A"));
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(IsOk(b_->Break(a_->session(), Soon())));
  a.candidate = nullptr;
  Sleep(kTtl * 3);
  EXPECT_EQ(a.elected.size(), 1u);
  EXPECT_TRUE(IsFree(world_, "election", "e"));
}

TEST_F(ElectionTest, StandingGoesOnOnceADamagedRecordIsMended) {
  ASSERT_TRUE(IsOk(a_->Election("e").Campaign("x", Soon())));
  const std::string key = KeyOf(world_, "election", "e");
  Edit(world_, key, "\"v\":\"1.0\"", "\"v\":\"2.0\"");
  Told b;
  b.candidate = b_->Election("e").Stand(b.Options("B"));
  const kv::CallCounts before = world_.store().Snapshot("test/election/");
  Sleep(kTtl * 3);
  EXPECT_TRUE(b.elected.empty());
  EXPECT_LE((world_.store().Snapshot("test/election/") - before).gets, 110) << "at most one read per ttl/32";
  EXPECT_NE(world_.log().find("newer version"), std::string::npos);
  Edit(world_, key, "\"v\":\"2.0\"", "\"v\":\"1.0\"");
  Sleep(absl::Seconds(2));
  EXPECT_EQ(b.elected.size(), 1u);
}

TEST_F(ElectionTest, ACandidateMayBeDestroyedInsideAnyOfItsCallbacks) {
  for (const int which : {0, 1, 2}) {
    SCOPED_TRACE(which);
    World world(29);
    auto a = world.Join("a");
    auto b = world.Join("b");
    std::unique_ptr<Candidate> candidate;
    int calls = 0;
    const auto destroy = [&] {
      ++calls;
      candidate = nullptr;
    };
    CandidateOptions options;
    if (which == 0) options.on_elected = [&](const std::shared_ptr<const Grant>&) { destroy(); };
    if (which == 1) options.on_lost = destroy;
    if (which == 2) options.on_new_leader = [&](const LeaderInfo&) { destroy(); };
    candidate = a->Election("e").Stand(std::move(options));
    world.runtime().SleepFor(absl::Seconds(1));
    if (which == 1) {
      ASSERT_TRUE(IsOk(b->Break(a->session(), world.In(absl::Seconds(5)))));
    }
    world.runtime().SleepFor(kTtl * 3);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(candidate, nullptr);
    const absl::Time begun = world.runtime().Now();
    EXPECT_TRUE(IsOk(b->Election("e").Campaign("B", world.In(absl::Seconds(5)))));
    EXPECT_EQ(world.runtime().Now(), begun) << "nobody else leads";
  }
}

TEST_F(ElectionTest, DestroyingACandidateWaitsForItsRunningCallback) {
  bool inside = false, finished = false;
  CandidateOptions options;
  options.on_elected = [&](const std::shared_ptr<const Grant>&) {
    inside = true;
    Sleep(absl::Seconds(30));
    finished = true;
  };
  auto candidate = a_->Election("e").Stand(std::move(options));
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(inside);
  candidate = nullptr;
  EXPECT_TRUE(finished);
}

TEST_F(ElectionTest, ACandidateMayOutliveItsCluster) {
  Told a;
  a.candidate = a_->Election("e").Stand(a.Options("A"));
  Sleep(absl::Seconds(1));
  a_ = nullptr;
  EXPECT_EQ(a.candidate->Term(), nullptr);
  EXPECT_TRUE(Is(StatusCode::kFailedPrecondition, a.candidate->StepDown()));
  a.candidate = nullptr;
  EXPECT_TRUE(IsFree(world_, "election", "e"));
}

// M02: no phantom leader: a campaign that returns leads, whatever happened while it waited.
TEST_F(ElectionTest, ACampaignWhoseSessionIsLostWhileItWaitsLeadsOnlyUnderTheNewOne) {
  auto term = a_->Election("e").Campaign("A", Soon());
  const std::string before = b_->session();
  auto waiting = InBackground(world_, [&] { return b_->Election("e").Campaign("B", world_.In(absl::Hours(1))); });
  ASSERT_TRUE(IsOk(a_->Break(before, Soon())));
  Sleep(kTtl * 3);
  EXPECT_FALSE(waiting->done);
  ASSERT_TRUE(IsOk(term->Release()));
  Sleep(absl::Seconds(1));
  ASSERT_TRUE(waiting->ok());
  EXPECT_FALSE(waiting->grant->Lost());
  EXPECT_NE(b_->session(), before);
  EXPECT_EQ(RecordOf(world_, "election", "e")->owners[0].session, b_->session());
}

}  // namespace
}  // namespace coord::testing
