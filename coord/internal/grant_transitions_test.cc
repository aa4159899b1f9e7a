#include "coord/internal/grant_transitions.h"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/internal/records.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coord::internal {
namespace {

constexpr uint64_t kBase = 1000;

// "a1" is session a's ticket 1 of weight 1, "a1*3" the same of weight 3, "a1,2" an entry of two tickets.
GrantEntry Entry(const std::string& text, uint64_t fence = 0) {
  GrantEntry entry;
  entry.session = text.substr(0, 1);
  entry.ttl = absl::Seconds(10);
  entry.since = absl::UnixEpoch();
  entry.fence = fence;
  for (size_t at = 1; at < text.size();) {
    size_t used = 0;
    Ticket ticket{std::stoull(text.substr(at), &used), 1};
    at += used;
    if (at < text.size() && text[at] == '*') {
      ticket.weight = static_cast<uint32_t>(std::stoull(text.substr(at + 1), &used));
      at += used + 1;
    }
    if (at < text.size() && text[at] == ',') ++at;
    entry.tickets.push_back(ticket);
  }
  return entry;
}

// "a1@50 b1 | c1 d2*2": owners with their fences, then the queue.
GrantRecord Record(uint32_t capacity, uint64_t fence, const std::string& text) {
  GrantRecord record;
  record.capacity = capacity;
  record.fence = fence;
  bool owners = true;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    at = end + 1;
    if (word == "|") {
      owners = false;
      continue;
    }
    const size_t mark = word.find('@');
    const uint64_t entry_fence = mark == std::string::npos ? 0 : std::stoull(word.substr(mark + 1));
    (owners ? record.owners : record.queue).push_back(Entry(word.substr(0, mark), entry_fence));
  }
  return record;
}

std::string Show(const GrantRecord& record) {
  const auto show = [](const GrantEntry& entry, bool owner) {
    std::string text = entry.session;
    for (size_t i = 0; i < entry.tickets.size(); ++i) {
      text += (i == 0 ? "" : ",") + std::to_string(entry.tickets[i].id);
      if (entry.tickets[i].weight != 1) text += "*" + std::to_string(entry.tickets[i].weight);
    }
    return owner ? text + "@" + std::to_string(entry.fence) + " " : " " + text;
  };
  std::string text;
  for (const GrantEntry& entry : record.owners) text += show(entry, true);
  text += "|";
  for (const GrantEntry& entry : record.queue) text += show(entry, false);
  return text;
}

GrantChange Change(const std::string& session) {
  GrantChange change;
  change.session = session;
  change.ttl = absl::Seconds(10);
  change.instance = "server-" + session;
  change.now = absl::FromUnixSeconds(1795428000);
  change.nonce = "nonce";
  return change;
}

GrantChange Add(const std::string& session, uint64_t id, uint32_t weight = 1, std::vector<uint64_t> keep = {}) {
  GrantChange change = Change(session);
  change.add = Ticket{id, weight};
  change.keep = std::move(keep);
  return change;
}

GrantChange Keep(const std::string& session, std::vector<uint64_t> keep, std::vector<std::string> take_out = {}) {
  GrantChange change = Change(session);
  change.keep = std::move(keep);
  change.take_out = std::move(take_out);
  return change;
}

struct Case {
  const char* name;
  GrantRecord before;
  GrantChange change;
  std::string after;    // at revision 70: a new owner's fence is 1071
  uint64_t fence = 50;  // of the record, after
};

class ApplyTest : public ::testing::TestWithParam<Case> {};

TEST_P(ApplyTest, MakesTheRecordAndTheSecondTimeNothing) {
  const Case& c = GetParam();
  const absl::StatusOr<GrantRecord> after = Apply(c.before, 70, kBase, c.change);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(Show(*after), c.after);
  EXPECT_EQ(after->fence, c.fence);
  EXPECT_EQ(after->nonce, "nonce");
  EXPECT_EQ(Changes(c.before, c.change), Show(c.before) != c.after || c.before.capacity != after->capacity);
  EXPECT_FALSE(Changes(*after, c.change));
  const absl::StatusOr<GrantRecord> again = Apply(*after, 71, kBase, c.change);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(Format(*again), Format(*after));
}

GrantChange Reweigh(GrantChange change, uint64_t id, uint32_t weight) {
  change.reweigh = Ticket{id, weight};
  return change;
}

GrantChange Capacity(GrantChange change, uint32_t capacity) {
  change.set_capacity = capacity;
  return change;
}

INSTANTIATE_TEST_SUITE_P(
    Table, ApplyTest,
    ::testing::Values(
        Case{"TakesAFreeLock", Record(1, 50, "|"), Add("a", 1), "a1@1071 |", 1071},
        Case{"QueuesBehindAnOwner", Record(1, 50, "a1@50 |"), Add("b", 1), "a1@50 | b1"},
        Case{"QueuesAtTheTail", Record(1, 50, "a1@50 | b1"), Add("c", 1), "a1@50 | b1 c1"},
        Case{"ReleaseFrees", Record(1, 50, "a1@50 |"), Keep("a", {}), "|"},
        Case{"ReleaseHandsOver", Record(1, 50, "a1@50 | b1 c1"), Keep("a", {}), "b1@1071 | c1", 1071},
        Case{"ReleaseOfWhatIsGoneDoesNothing", Record(1, 50, "b1@50 | c1"), Keep("a", {}), "b1@50 | c1"},
        Case{"ReleaseAndQueueAgainGoesBehindOthers", Record(1, 50, "a1@50 | b1"), Add("a", 2), "b1@1071 | a2", 1071},
        Case{"ReleaseAndTakeAgainIsANewGrant", Record(1, 50, "a1@50 |"), Add("a", 2), "a2@1071 |", 1071},
        Case{"GiveUpWhileWaiting", Record(1, 50, "a1@50 | b1 c1"), Keep("b", {}), "a1@50 | c1"},
        Case{"AnUnusedTicketIsRemovedEverywhere", Record(2, 50, "a1,2@50 | b1 a3"), Keep("a", {2}), "a2@50 b1@1071 |",
             1071},
        Case{"KeptTicketsStay", Record(1, 50, "a1@50 | a2"), Keep("a", {1, 2}), "a1@50 | a2"},
        Case{"AddOfAKnownTicketKeepsItsPlace", Record(1, 50, "a1@50 | b1 c1"), Add("b", 1), "a1@50 | b1 c1"},
        Case{"AddOfAnOwnedTicketChangesNothing", Record(1, 50, "a1@50 | b1"), Add("a", 1), "a1@50 | b1"},
        Case{"DeadOwnerIsTakenOutByTheHead", Record(1, 50, "a1@50 | b1 c1"), Keep("b", {1}, {"a"}), "b1@1071 | c1", 1071},
        Case{"DeadOwnerAndHeadInOneWrite", Record(1, 50, "a1@50 | b1 c1"), Keep("c", {1}, {"a", "b"}), "c1@1071 |", 1071},
        Case{"DeadSessionOwnsAndWaits", Record(1, 50, "a1@50 | a2 b1"), Keep("b", {1}, {"a"}), "b1@1071 |", 1071},
        Case{"TakeOutWithATry", Record(1, 50, "a1@50 |"),
             [] {
               GrantChange change = Add("b", 1);
               change.take_out = {"a"};
               return change;
             }(),
             "b1@1071 |", 1071},
        Case{"SemaphoreFits", Record(3, 50, "a1*2@50 |"), Add("b", 1), "a1*2@50 b1@1071 |", 1071},
        Case{"SemaphoreDoesNotFit", Record(3, 50, "a1*2@50 |"), Add("b", 1, 2), "a1*2@50 | b1*2"},
        Case{"NobodyOvertakesAHeadThatDoesNotFit", Record(3, 50, "a1*2@50 | b1*2"), Add("c", 1), "a1*2@50 | b1*2 c1"},
        Case{"OneReleaseGrantsSeveral", Record(3, 50, "a1*3@50 | b1 c1 d1*2"), Keep("a", {}),
             "b1@1071 c1@1071 | d1*2", 1071},
        Case{"MorePermitsOfOneCopyJoinItsEntry", Record(3, 50, "a1@50 |"), Add("a", 2, 2, {1}), "a1,2*2@50 |", 1071},
        Case{"AWaiterIsGrantedTicketByTicket", Record(3, 50, "a1*2@50 | b1,2 c1"), Keep("c", {1}), "a1*2@50 b1@1071 | b2 c1",
             1071},
        Case{"ASecondRequestJoinsTheLastWaiter", Record(2, 50, "a1*2@50 | b1"), Add("b", 2, 1, {1}), "a1*2@50 | b1,2"},
        Case{"ReadersShare", Record(kUnbounded, 50, "a1@50 |"), Add("b", 1), "a1@50 b1@1071 |", 1071},
        Case{"WriterWaitsForReaders", Record(kUnbounded, 50, "a1@50 |"), Add("b", 1, kUnbounded),
             "a1@50 | b1*4294967295"},
        Case{"ReadersWaitBehindAWriter", Record(kUnbounded, 50, "a1@50 | b1*4294967295"), Add("c", 1),
             "a1@50 | b1*4294967295 c1"},
        Case{"DowngradeLetsTheReadersIn", Record(kUnbounded, 50, "a1*4294967295@50 | b1 c1 d1*4294967295 e1"),
             Reweigh(Keep("a", {1}), 1, 1), "a1@50 b1@1071 c1@1071 | d1*4294967295 e1", 1071},
        Case{"DowngradeTwiceIsOnce", Record(kUnbounded, 50, "a1@50 |"), Reweigh(Keep("a", {1}), 1, 1), "a1@50 |"},
        Case{"FewerPermitsRevokeNothing", Record(3, 50, "a1@50 b1@50 c1@50 | d1"), Capacity(Keep("d", {1}), 1),
             "a1@50 b1@50 c1@50 | d1"},
        Case{"AboveTheCapacityNothingIsGranted", Record(1, 50, "a1@50 b1@50 | d1"), Keep("a", {}), "b1@50 | d1"},
        Case{"MorePermitsGrantAtOnce", Record(1, 50, "a1@50 | b1 c1 d1"), Capacity(Keep("a", {1}), 3),
             "a1@50 b1@1071 c1@1071 | d1", 1071},
        Case{"TheFenceGrowsBeyondTheRecords", Record(1, 5000, "|"), Add("a", 1), "a1@5001 |", 5001},
        Case{"AnUnsetFenceIsTheRevisionOfItsWrite", Record(1, 0, "a1@0 |"), Add("b", 1), "a1@1070 | b1", 1070},
        Case{"TheFenceAfterAnUnsetOneIsLarger", Record(1, 0, "a1@0 | b1"), Keep("a", {}), "b1@1071 |", 1071}),
    [](const ::testing::TestParamInfo<Case>& c) { return c.param.name; });

TEST(Apply, ANewRecordTakesTheHandlesCapacityAndLeavesTheFenceOpen) {
  GrantChange change = Add("a", 1);
  change.capacity = 3;
  EXPECT_TRUE(Changes(std::nullopt, change));
  const absl::StatusOr<GrantRecord> record = Apply(std::nullopt, 0, kBase, change);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(Show(*record), "a1@0 |");
  EXPECT_EQ(record->fence, 0u);
  EXPECT_EQ(record->capacity, 3u);
  EXPECT_EQ(record->owners[0].instance, "server-a");
  EXPECT_EQ(record->owners[0].since, change.now);
  EXPECT_EQ(ResolveFence(record->owners[0].fence, 70, kBase), 1070u);
  EXPECT_EQ(ResolveFence(5, 70, kBase), 5u);
}

TEST(Apply, NothingToDoOnANameWithoutRecord) {
  EXPECT_FALSE(Changes(std::nullopt, Keep("a", {})));
  EXPECT_TRUE(Changes(std::nullopt, Capacity(Keep("a", {}), 2)));
}

TEST(Apply, KeepsWhatANewerVersionWrote) {
  GrantRecord record = Record(1, 50, "a1@50 | b1");
  record.minor = 7;
  record.extra = "{\"x\":1}";
  record.queue[0].extra = "{\"y\":2}";
  const absl::StatusOr<GrantRecord> after = Apply(record, 70, kBase, Keep("a", {}));
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->minor, 7);
  EXPECT_EQ(after->extra, "{\"x\":1}");
  EXPECT_EQ(after->owners[0].extra, "{\"y\":2}");
}

TEST(Apply, SetsTheValueOfOwnEntriesOnly) {
  GrantChange change = Keep("a", {1});
  change.value = "leader's address";
  const GrantRecord record = Record(1, 50, "a1@50 | b1");
  EXPECT_TRUE(Changes(record, change));
  const absl::StatusOr<GrantRecord> after = Apply(record, 70, kBase, change);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->owners[0].value, "leader's address");
  EXPECT_EQ(after->fence, 50u);
  EXPECT_FALSE(Changes(*after, change));
  change.session = "b";
  const absl::StatusOr<GrantRecord> waiter = Apply(record, 70, kBase, change);
  ASSERT_TRUE(waiter.ok()) << waiter.status();
  EXPECT_EQ(waiter->owners[0].value, "");
  EXPECT_EQ(waiter->queue[0].value, "leader's address");
  change.session = "stranger";
  EXPECT_FALSE(Changes(record, change));
}

TEST(Apply, RefusesWithASentence) {
  const auto error = [](const GrantRecord& record, const GrantChange& change) {
    EXPECT_TRUE(Changes(record, change)) << "so that the caller meets the error";
    return Apply(record, 70, kBase, change).status();
  };
  const GrantRecord record = Record(3, 50, "a1*2@50 | b1*3 c1");
  EXPECT_EQ(error(record, Add("d", 1, 0)),
            absl::InvalidArgumentError("a request of weight 0 can never be granted: ask for 1 to 3"));
  EXPECT_EQ(error(record, Add("d", 1, 4)),
            absl::InvalidArgumentError("a request of weight 4 can never be granted: ask for 1 to 3"));
  EXPECT_EQ(error(record, Add("d", 0)), absl::InvalidArgumentError("a ticket's id must be at least 1"));
  EXPECT_EQ(error(record, Add("b", 2, 1, {1})),
            absl::FailedPreconditionError("this copy already waits, and others behind it: a further request must wait "
                                          "in this process until then"));
  EXPECT_EQ(error(record, Reweigh(Keep("a", {1}), 1, 3)),
            absl::InvalidArgumentError(
                "a grant of weight 2 cannot be lowered to 3: the new weight must be from 1 to the old one"));
  EXPECT_EQ(error(record, Reweigh(Keep("a", {1}), 1, 0)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(error(record, Reweigh(Keep("b", {1}), 1, 1)),
            absl::FailedPreconditionError("a request that does not own the lock cannot give up a part of it"));
  EXPECT_EQ(error(record, Capacity(Keep("a", {1}), 0)), absl::InvalidArgumentError("a capacity must be at least 1"));
}

TEST(Apply, BoundsTheRecord) {
  GrantRecord record = Record(1, 50, "a1@50 |");
  for (size_t i = 1; i < kMaxEntries; ++i) {
    record.queue.push_back(Entry("b1"));
    record.queue.back().session = std::to_string(i);
  }
  EXPECT_EQ(Apply(record, 70, kBase, Add("z", 1)).status(),
            absl::ResourceExhaustedError("the lock has 257 owners and waiters with 257 requests; at most 256 with 4096 "
                                         "are allowed: try again later"));
  EXPECT_TRUE(Apply(record, 70, kBase, Keep("a", {})).ok());
  record = Record(kUnbounded, 50, "a1@50 |");
  std::vector<uint64_t> keep = {1};
  for (uint64_t id = 2; id <= kMaxTickets; ++id) {
    record.owners[0].tickets.push_back({id, 1});
    keep.push_back(id);
  }
  EXPECT_TRUE(Apply(record, 70, kBase, Keep("a", keep)).ok());
  EXPECT_EQ(Apply(record, 70, kBase, Add("a", 9999, 1, keep)).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Queries, SeeWhoStandsWhere) {
  const GrantRecord record = Record(3, 50, "a1*2@50 c1@50 | b1*2 c2 d1");
  EXPECT_EQ(FindOwner(record, "a")->fence, 50u);
  EXPECT_EQ(FindOwner(record, "b"), nullptr);
  EXPECT_EQ(FindWaiter(record, "c")->tickets[0].id, 2u);
  EXPECT_EQ(FindWaiter(record, "a"), nullptr);
  EXPECT_EQ(OwnedWeight(record), 3u);
  EXPECT_EQ(Weight(Entry("a1*4294967295,2*4294967295")), 8589934590u);
  EXPECT_TRUE(OthersWait(record, "b"));
  EXPECT_FALSE(OthersWait(Record(1, 50, "b1@50 | a1"), "a"));
  EXPECT_TRUE(OthersPresent(Record(1, 50, "b1@50 | a1"), "a"));
  EXPECT_FALSE(OthersPresent(Record(1, 50, "a1@50 | a2"), "a"));
  const auto names = [](const std::vector<const GrantEntry*>& entries) {
    std::string all;
    for (const GrantEntry* entry : entries) all += entry->session;
    return all;
  };
  EXPECT_EQ(names(FindAhead(record, "d").owners), "ac");
  EXPECT_EQ(names(FindAhead(record, "d").waiters), "bc");
  EXPECT_EQ(names(FindAhead(record, "c").owners), "a") << "nobody stands before himself";
  EXPECT_EQ(names(FindAhead(record, "c").waiters), "b");
  EXPECT_EQ(names(FindAhead(record, "z").waiters), "bcd") << "where a new request would stand";
  EXPECT_FALSE(Hopeless(record, "b"));
  EXPECT_TRUE(Hopeless(Record(1, 50, "a1@50 | b1*2"), "b"));
}

// The protocol once more, written down naively: a list of requests in the order in which they came.
class Oracle {
 public:
  explicit Oracle(uint32_t capacity) : capacity_(capacity) {}

  struct Request {
    std::string session;
    uint64_t id;
    uint32_t weight;
    bool owns;
  };

  void Do(const GrantChange& change) {
    std::deque<Request> left;
    for (const Request& r : requests_) {
      const auto& out = change.take_out;
      const auto& keep = change.keep;
      const bool taken_out = std::find(out.begin(), out.end(), r.session) != out.end();
      const bool wanted = r.session != change.session || std::find(keep.begin(), keep.end(), r.id) != keep.end() ||
                          (change.add.has_value() && change.add->id == r.id);
      if (!taken_out && wanted) left.push_back(r);
    }
    requests_ = std::move(left);
    if (change.set_capacity.has_value()) capacity_ = *change.set_capacity;
    bool known = false;
    for (Request& r : requests_) {
      if (change.reweigh.has_value() && r.session == change.session && r.id == change.reweigh->id) {
        r.weight = change.reweigh->weight;
      }
      known = known || (change.add.has_value() && r.session == change.session && r.id == change.add->id);
    }
    if (change.add.has_value() && !known) {
      requests_.push_back({change.session, change.add->id, change.add->weight, false});
    }
    granted_.clear();
    for (Request& r : requests_) {
      if (r.owns) continue;
      if (Owned() + r.weight > capacity_) break;
      r.owns = true;
      granted_.push_back(r.session);
    }
  }

  uint64_t Owned() const {
    uint64_t sum = 0;
    for (const Request& r : requests_) sum += r.owns ? r.weight : 0;
    return sum;
  }

  // Owned tickets of each session, and the queue in its order, one word a request.
  std::string Show() const {
    std::map<std::string, std::map<uint64_t, uint32_t>> owned;
    std::string queue;
    for (const Request& r : requests_) {
      if (r.owns) owned[r.session][r.id] = r.weight;
      if (!r.owns) queue += " " + r.session + std::to_string(r.id) + "*" + std::to_string(r.weight);
    }
    std::string text;
    for (const auto& [session, tickets] : owned) {
      for (const auto& [id, weight] : tickets)
        text += session + std::to_string(id) + "*" + std::to_string(weight) + " ";
    }
    return text + "|" + queue;
  }

  std::deque<Request> requests_;
  std::vector<std::string> granted_;
  uint32_t capacity_;
};

std::string Flat(const GrantRecord& record) {
  Oracle oracle(record.capacity);
  for (const GrantEntry& owner : record.owners) {
    for (const Ticket& t : owner.tickets) oracle.requests_.push_back({owner.session, t.id, t.weight, true});
  }
  for (const GrantEntry& waiter : record.queue) {
    for (const Ticket& t : waiter.tickets) oracle.requests_.push_back({waiter.session, t.id, t.weight, false});
  }
  return oracle.Show();
}

class RandomTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  // A change that the protocol allows: one waiting entry a session.
  GrantChange Next(const Oracle& oracle) {
    const std::string session(1, static_cast<char>('a' + random_() % 4));
    GrantChange change = Change(session);
    bool waits = false, last = !oracle.requests_.empty();
    for (const Oracle::Request& r : oracle.requests_) {
      if (r.session == session && (r.owns || random_() % 4 != 0)) change.keep.push_back(r.id);
      if (r.session == session && random_() % 3 == 0 && !change.keep.empty()) change.keep.pop_back();
      if (!r.owns) last = r.session == session;
      waits = waits || (!r.owns && r.session == session);
      if (r.session == session && r.owns && r.weight > 1 && random_() % 3 == 0 && change.keep.size() > 0 &&
          change.keep.back() == r.id) {
        change.reweigh = Ticket{r.id, static_cast<uint32_t>(1 + random_() % (r.weight - 1))};
      }
    }
    // Keeping the reweighed ticket is the caller's duty.
    if (change.reweigh.has_value()) change.keep.push_back(change.reweigh->id);
    if (random_() % 8 == 0) change.take_out.push_back(std::string(1, static_cast<char>('a' + random_() % 4)));
    if (change.take_out == std::vector<std::string>{session}) change.take_out.clear();
    uint32_t capacity = oracle.capacity_;
    if (capacity != 1 && capacity != kUnbounded && random_() % 10 == 0) {
      capacity = static_cast<uint32_t>(2 + random_() % 4);
      change.set_capacity = capacity;
    }
    if (random_() % 2 == 0 && (!waits || (last && change.take_out.empty()))) {
      const uint32_t weight = capacity == kUnbounded ? (random_() % 3 == 0 ? kUnbounded : 1)
                                                     : static_cast<uint32_t>(1 + random_() % capacity);
      change.add = Ticket{++ticket_, weight};
    }
    return change;
  }

  std::mt19937 random_{GetParam()};
  uint64_t ticket_ = 0;
};

TEST_P(RandomTest, AgreesWithTheOracle) {
  const uint32_t capacity = GetParam() % 3 == 0 ? 1 : GetParam() % 3 == 1 ? 4 : kUnbounded;
  SCOPED_TRACE(::testing::Message() << "seed " << GetParam() << " capacity " << capacity);
  Oracle oracle(capacity);
  std::optional<GrantRecord> record;
  uint64_t store_revision = 0, revision = 0, highest = 0;
  int grants = 0;
  for (int step = 0; step < 500; ++step) {
    GrantChange change = Next(oracle);
    change.capacity = capacity;
    const absl::StatusOr<GrantRecord> next = Apply(record, revision, kBase, change);
    ASSERT_TRUE(next.ok()) << next.status() << " at step " << step;
    if (record.has_value() && !Changes(record, change)) {
      ASSERT_EQ(Flat(*next), Flat(*record));
    }
    oracle.Do(change);
    ASSERT_EQ(Flat(*next), oracle.Show()) << "at step " << step;
    store_revision += 1 + random_() % 3;  // other keys are written meanwhile
    const uint64_t fence = ResolveFence(next->fence, store_revision, kBase);
    if (!oracle.granted_.empty()) {
      ++grants;
      ASSERT_GT(fence, highest) << "a write that adds an owner must raise the fence, at step " << step;
    } else if (record.has_value()) {
      ASSERT_EQ(fence, highest) << "at step " << step;
    }
    for (const GrantEntry& owner : next->owners) ASSERT_LE(ResolveFence(owner.fence, store_revision, kBase), fence);
    highest = fence;
    // What a later copy reads is the text.
    const absl::StatusOr<GrantRecord> read = ParseGrantRecord(Format(*next), "lock record");
    ASSERT_TRUE(read.ok()) << read.status();
    record = *read;
    revision = store_revision;
    const bool free = record->owners.empty() && record->queue.empty();
    if (free && oracle.capacity_ == capacity && random_() % 4 == 0) {  // removed, and made again later
      record.reset();
      revision = 0;
    }
  }
  EXPECT_GT(grants, 30);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomTest, ::testing::Range(0u, 30u));

}  // namespace
}  // namespace coord::internal
