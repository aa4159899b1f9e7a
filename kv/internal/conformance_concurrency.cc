// What several threads, and several handles, do to one key at a time.

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "kv/internal/conformance_check.h"

namespace kv::internal {
namespace {

// Threads take turns over the handles that there are.
Store& Handle(Check& check, int thread) {
  return check.options.second != nullptr && thread % 2 == 1 ? *check.options.second : check.store;
}

// One round of a contest: exactly one of the writes wins, and the entry is the winner's.
struct Contest {
  std::vector<WriteResult> results;

  // The winner's number, or -1 where there is not exactly one.
  int Judge(Check& check, const char* what, absl::StatusCode losing) const {
    int winner = -1;
    int winners = 0;
    for (size_t i = 0; i < results.size(); ++i) {
      if (results[i].ok()) {
        winner = static_cast<int>(i);
        ++winners;
      } else {
        check.ExpectCode(results[i].status, losing, absl::StrCat("the loser of concurrent ", what));
      }
    }
    check.Expect(winners == 1, absl::StrCat(winners, " of ", results.size(), " concurrent ", what,
                                            " succeeded; it must be exactly one"));
    return winners == 1 ? winner : -1;
  }
};

void ConcurrentCreate(Check& check) {
  const int threads = check.options.threads;
  for (int round = 0; round < check.options.rounds; ++round) {
    const std::string key = check.Key(absl::StrCat("key-", round));
    Contest contest;
    contest.results.resize(static_cast<size_t>(threads));
    RunThreads(threads, [&](int i) {
      contest.results[static_cast<size_t>(i)] = Handle(check, i).Create(key, absl::StrCat("by ", i), check.Deadline());
    });
    const int winner = contest.Judge(check, "Creates", absl::StatusCode::kAlreadyExists);
    if (winner < 0) return;
    check.ExpectEntry(check.store, key, absl::StrCat("by ", winner),
                      contest.results[static_cast<size_t>(winner)].revision);
  }
}

void ConcurrentUpdate(Check& check) {
  const int threads = check.options.threads;
  const std::string key = check.Key("a");
  WriteResult last = check.store.Create(key, "start", check.Deadline());
  if (!check.ExpectWritten(last, "Create")) return;
  for (int round = 0; round < check.options.rounds; ++round) {
    Contest contest;
    contest.results.resize(static_cast<size_t>(threads));
    RunThreads(threads, [&](int i) {
      contest.results[static_cast<size_t>(i)] =
          Handle(check, i).Update(key, absl::StrCat("by ", i), last.revision, check.Deadline());
    });
    const int winner = contest.Judge(check, "Updates at one revision", absl::StatusCode::kAborted);
    if (winner < 0) return;
    last = contest.results[static_cast<size_t>(winner)];
    check.ExpectEntry(check.store, key, absl::StrCat("by ", winner), last.revision);
  }
}

void ConcurrentDelete(Check& check) {
  const int threads = check.options.threads;
  for (int round = 0; round < check.options.rounds; ++round) {
    const std::string key = check.Key(absl::StrCat("key-", round));
    const WriteResult created = check.store.Create(key, "one", check.Deadline());
    if (!check.ExpectWritten(created, "Create")) return;
    std::atomic<int> winners{0};
    RunThreads(threads, [&](int i) {
      const WriteResult result = i % 2 == 0
                                     ? Handle(check, i / 2).Delete(key, created.revision, check.Deadline())
                                     : Handle(check, i / 2).Update(key, "two", created.revision, check.Deadline());
      if (result.ok()) ++winners;
    });
    check.Expect(winners == 1, absl::StrCat(winners.load(), " of ", threads,
                                            " concurrent Deletes and Updates at one revision succeeded"));
  }
}

void CountByUpdate(Check& check) {
  const std::string key = check.Key("counter");
  if (!check.ExpectWritten(check.store.Create(key, "0", check.Deadline()), "Create")) return;
  const int threads = check.options.threads;
  const int rounds = check.options.rounds;
  RunThreads(threads, [&](int i) {
    Store& store = Handle(check, i);
    for (int done = 0; done < rounds;) {
      const absl::StatusOr<Entry> entry = store.Get(key, check.Deadline());
      if (!check.ExpectOk(entry.status(), "Get")) return;
      const std::string next = std::to_string(std::atoi(entry->value.c_str()) + 1);
      const WriteResult result = store.Update(key, next, entry->revision, check.Deadline());
      if (result.ok()) ++done;
      if (!result.ok() && !absl::IsAborted(result.status)) {
        check.ExpectOk(result.status, "Update");
        return;
      }
    }
  });
  const absl::StatusOr<Entry> entry = check.store.Get(key, check.Deadline());
  if (!check.ExpectOk(entry.status(), "Get")) return;
  check.Expect(
      entry->value == std::to_string(threads * rounds),
      absl::StrCat(threads, " threads counted to ", entry->value, " by Update; the right sum is ", threads * rounds));
}

void LastWriterWins(Check& check) {
  const int threads = check.options.threads;
  const std::string key = check.Key("a");
  Mutex mutex;
  std::map<Revision, std::string> writes;
  RunThreads(threads, [&](int i) {
    for (int round = 0; round < check.options.rounds; ++round) {
      const std::string value = absl::StrCat(i, "/", round);
      const WriteResult result = Handle(check, i).Put(key, value, check.Deadline());
      if (!check.ExpectWritten(result, "Put")) return;
      MutexLock lock(mutex);
      check.Expect(writes.emplace(result.revision, value).second,
                   absl::StrCat("two concurrent Puts got the same revision ", result.revision));
    }
  });
  if (writes.empty() || check.deviations.no_monotonic_revisions) return;
  check.ExpectEntry(check.store, key, writes.rbegin()->second, writes.rbegin()->first);
}

}  // namespace

std::vector<NamedCheck> ConcurrencyChecks() {
  return {{"concurrent_create", ConcurrentCreate},
          {"concurrent_update", ConcurrentUpdate},
          {"concurrent_delete", ConcurrentDelete},
          {"count_by_update", CountByUpdate},
          {"last_writer_wins", LastWriterWins}};
}

}  // namespace kv::internal
