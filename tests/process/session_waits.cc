// prepare      takes the grants that `waits` gives up or changes
// waits MS     every public call that waits, all at once, each with MS to go: the event "wait CALL CODE MICROSECONDS
// TEXT"
//              of each; then how many there were

#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/process/session.h"

namespace process_test {
namespace {

using coord::Cluster;
using coord::Grant;

struct Prepared {
  Grant to_release;
  Grant to_downgrade;
  Grant term;
  std::unique_ptr<coord::Candidate> candidate;
  std::unique_ptr<Cluster> to_leave;
  std::unique_ptr<Cluster> to_destroy;
  std::shared_ptr<coord::SharedValue> value;
  std::shared_ptr<coord::SharedMap> map;
};

struct Call {
  std::string name;
  std::function<absl::Status(absl::Time deadline)> wait;
};

absl::Status Take(absl::StatusOr<Grant> grant, Grant* to) {
  if (!grant.ok()) return grant.status();
  *to = *std::move(grant);
  return absl::OkStatus();
}

// Another copy, which has something to give up.
absl::StatusOr<std::unique_ptr<Cluster>> Another(Session& session, absl::Time deadline, const std::string& label) {
  absl::StatusOr<std::shared_ptr<kv::Store>> store = session.Store();
  if (!store.ok()) return store.status();
  coord::JoinOptions options = session.Options(*store);
  options.instance = label;
  options.join_timeout = deadline - absl::Now();
  options.leave_timeout = absl::Seconds(1);
  return Cluster::Join(std::move(options));
}

absl::Status Prepare(Session& session, Cluster& cluster, Prepared& prepared) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  absl::Status status = Take(cluster.Mutex("waits/release").Acquire(deadline), &prepared.to_release);
  status.Update(Take(cluster.SharedMutex("waits/downgrade").Acquire(deadline), &prepared.to_downgrade));
  status.Update(Take(cluster.Election("waits/term").Campaign("me", deadline), &prepared.term));
  if (!status.ok()) return status;
  prepared.candidate = cluster.Election("waits/stand").Stand({});
  while (prepared.candidate->Term() == nullptr && absl::Now() < deadline) absl::SleepFor(absl::Milliseconds(1));
  for (auto* other : {&prepared.to_leave, &prepared.to_destroy}) {
    absl::StatusOr<std::unique_ptr<Cluster>> joined = Another(session, deadline, session.flags().instance + "-other");
    if (!joined.ok()) return joined.status();
    *other = *std::move(joined);
  }
  auto value = cluster.SharedValue("waits/value", deadline);
  auto map = cluster.SharedMap("waits/map", deadline);
  if (!value.ok()) return value.status();
  if (!map.ok()) return map.status();
  prepared.value = *std::move(value);
  prepared.map = *std::move(map);
  // A record that is known is followed without a read.
  return cluster.Semaphore("waits/semaphore", 2).SetPermits(3, deadline);
}

absl::StatusOr<std::string> Same(const std::optional<std::string>& now) { return now.value_or("") + "x"; }

std::vector<Call> LockCalls(Cluster& c, Prepared& prepared) {
  return {
      {"Mutex.Acquire", [&c](absl::Time t) { return c.Mutex("waits/a").Acquire(t).status(); }},
      {"Mutex.TryAcquire", [&c](absl::Time t) { return c.Mutex("waits/b").TryAcquire(t).status(); }},
      {"Mutex.Inspect", [&c](absl::Time t) { return c.Mutex("waits/c").Inspect(t).status(); }},
      {"Semaphore.Acquire", [&c](absl::Time t) { return c.Semaphore("waits/d", 3).Acquire(2, t).status(); }},
      {"Semaphore.SetPermits", [&c](absl::Time t) { return c.Semaphore("waits/semaphore", 3).SetPermits(4, t); }},
      {"SharedMutex.Acquire", [&c](absl::Time t) { return c.SharedMutex("waits/e").Acquire(t).status(); }},
      {"SharedMutex.AcquireShared", [&c](absl::Time t) { return c.SharedMutex("waits/f").AcquireShared(t).status(); }},
      {"SharedMutex.Downgrade",
       [&](absl::Time t) { return c.SharedMutex("waits/downgrade").Downgrade(prepared.to_downgrade, t); }},
      {"Grant.Release", [&](absl::Time t) { return prepared.to_release.Release(t - absl::Now()); }},
      {"Election.Campaign", [&c](absl::Time t) { return c.Election("waits/g").Campaign("me", t).status(); }},
      {"Election.Proclaim",
       [&](absl::Time t) { return c.Election("waits/term").Proclaim(prepared.term, "changed", t); }},
      {"Election.Leader", [&c](absl::Time) { return c.Election("waits/h").Leader().status(); }},
      {"Candidate.StepDown", [&](absl::Time t) { return prepared.candidate->StepDown(t - absl::Now()); }},
  };
}

std::vector<Call> CellCalls(Cluster& c, Prepared& prepared) {
  return {
      {"AtomicValue.Get", [&c](absl::Time t) { return c.AtomicValue("waits/a").Get(t).status(); }},
      {"AtomicValue.Set", [&c](absl::Time t) { return c.AtomicValue("waits/b").Set("x", t).status(); }},
      {"AtomicValue.Update", [&c](absl::Time t) { return c.AtomicValue("waits/c").Update(Same, t).status(); }},
      {"FencedCell.Get", [&c](absl::Time t) { return c.FencedCell("waits/d").Get(t).status(); }},
      {"FencedCell.Set", [&](absl::Time t) { return c.FencedCell("waits/e").Set(prepared.term, "x", t).status(); }},
      {"Cluster.SharedValue", [&c](absl::Time t) { return c.SharedValue("waits/f", t).status(); }},
      {"Cluster.SharedMap", [&c](absl::Time t) { return c.SharedMap("waits/g", t).status(); }},
      {"SharedValue.Set", [&](absl::Time t) { return prepared.value->Set("x", t).status(); }},
      {"SharedMap.Set", [&](absl::Time t) { return prepared.map->Set("key", "x", t).status(); }},
      {"SharedMap.Remove", [&](absl::Time t) { return prepared.map->Remove("other", t); }},
  };
}

std::vector<Call> ClusterCalls(Session& session, Cluster& c, Prepared& prepared) {
  coord::PublishOptions reliable;
  reliable.delivery = coord::Delivery::kReliable;
  coord::SubscribeOptions placed;
  placed.cursor = "waits";
  const auto nothing = [](const coord::Event&) {};
  return {
      {"Publish", [&c](absl::Time t) { return c.events().Publish("waits/a", "x", t); }},
      {"Publish.reliable", [&c, reliable](absl::Time t) { return c.events().Publish("waits/a", "x", t, reliable); }},
      {"Subscribe",
       [&c, placed, nothing](absl::Time t) { return c.events().Subscribe("waits/b", nothing, t, placed).status(); }},
      {"Ask", [&c](absl::Time t) { return c.events().Ask("waits/c", "?", t, 1).status(); }},
      {"Break", [&c](absl::Time t) { return c.Break("0123456789abcdef", t); }},
      {"Join", [&session](absl::Time t) { return Another(session, t, "late").status(); }},
      {"kv.Open", [&session](absl::Time t) { return kv::Open(session.flags().store, t - absl::Now()).status(); }},
      {"Leave", [&](absl::Time t) { return prepared.to_leave->Leave(t); }},
      // It has its own bound, leave_timeout, and no status.
      {"~Cluster",
       [&](absl::Time) {
         prepared.to_destroy = nullptr;
         return absl::OkStatus();
       }},
  };
}

absl::StatusOr<std::string> Waits(Session& session, Cluster& cluster, Prepared& prepared, absl::Duration timeout) {
  std::vector<Call> calls = LockCalls(cluster, prepared);
  for (auto&& more : {CellCalls(cluster, prepared), ClusterCalls(session, cluster, prepared)}) {
    calls.insert(calls.end(), more.begin(), more.end());
  }
  std::vector<std::thread> threads;
  for (const Call& call : calls) {
    threads.emplace_back([&session, &call, timeout] {
      const int64_t begun = BootNanos();
      const absl::Status status = call.wait(absl::Now() + timeout);
      const int64_t micros = (BootNanos() - begun) / 1000;
      session.Event(absl::StrCat("wait ", call.name, " ", static_cast<int>(status.code()), " ", micros, " ",
                                 std::string(status.message())));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return absl::StrCat(calls.size());
}

}  // namespace

void AddWaitCommands(Session& session) {
  auto prepared = std::make_shared<Prepared>();
  session.AddJoined("prepare", [&session, prepared](Cluster& cluster, const Arguments&) -> absl::StatusOr<std::string> {
    if (absl::Status status = Prepare(session, cluster, *prepared); !status.ok()) return status;
    return std::string("prepared");
  });
  session.AddJoined("waits", [&session, prepared](Cluster& cluster, const Arguments& arguments) {
    return Waits(session, cluster, *prepared, arguments.Milliseconds(0));
  });
}

}  // namespace process_test
