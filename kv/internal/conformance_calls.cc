// What each single call returns and does.

#include <algorithm>
#include <string>
#include <vector>

#include "kv/internal/conformance_check.h"

namespace kv::internal {
namespace {

using absl::StatusCode;

// Where a lost write brings the winner along, it is the right one.
void ExpectCurrent(Check& check, const WriteResult& lost, std::string_view value, Revision revision) {
  if (!lost.current.has_value()) return;
  check.Expect(lost.current->value == value && lost.current->revision == revision,
               absl::StrCat("a lost write returned as the current entry one at revision ", lost.current->revision,
                            ", but the entry is at ", revision));
}

void Absent(Check& check) {
  const std::string key = check.Key("a");
  check.ExpectAbsent(check.store, key);
  check.ExpectCode(check.store.Update(key, "v", 1, check.Deadline()).status, StatusCode::kNotFound,
                   "Update of an absent key");
  check.ExpectCode(check.store.Delete(key, 1, check.Deadline()).status, StatusCode::kNotFound,
                   "Delete of an absent key");
  check.ExpectAbsent(check.store, key);
}

void Create(Check& check) {
  const std::string key = check.Key("a");
  const WriteResult first = check.store.Create(key, "one", check.Deadline());
  if (!check.ExpectWritten(first, "Create of an absent key")) return;
  check.ExpectEntry(check.store, key, "one", first.revision);
  const WriteResult second = check.store.Create(key, "two", check.Deadline());
  check.ExpectCode(second.status, StatusCode::kAlreadyExists, "Create of an existing key");
  ExpectCurrent(check, second, "one", first.revision);
  check.ExpectEntry(check.store, key, "one", first.revision);
}

void Update(Check& check) {
  const std::string key = check.Key("a");
  const WriteResult first = check.store.Create(key, "one", check.Deadline());
  if (!check.ExpectWritten(first, "Create")) return;
  const WriteResult second = check.store.Update(key, "two", first.revision, check.Deadline());
  if (!check.ExpectWritten(second, "Update at the current revision")) return;
  check.Expect(second.revision != first.revision, "Update left the revision as it was");
  check.ExpectEntry(check.store, key, "two", second.revision);

  const WriteResult stale = check.store.Update(key, "three", first.revision, check.Deadline());
  check.ExpectCode(stale.status, StatusCode::kAborted, "Update at an old revision");
  ExpectCurrent(check, stale, "two", second.revision);
  const WriteResult ahead = check.store.Update(key, "three", second.revision + 1000, check.Deadline());
  check.ExpectCode(ahead.status, StatusCode::kAborted, "Update at a revision that does not exist yet");
  check.ExpectEntry(check.store, key, "two", second.revision);

  const WriteResult same = check.store.Update(key, "two", second.revision, check.Deadline());
  if (!check.ExpectWritten(same, "Update with an equal value")) return;
  check.Expect(same.revision != second.revision, "Update with an equal value left the revision as it was");
}

void Delete(Check& check) {
  const std::string key = check.Key("a");
  const WriteResult first = check.store.Create(key, "one", check.Deadline());
  const WriteResult second = check.store.Update(key, "two", first.revision, check.Deadline());
  if (!check.ExpectWritten(second, "Update")) return;
  const WriteResult stale = check.store.Delete(key, first.revision, check.Deadline());
  check.ExpectCode(stale.status, StatusCode::kAborted, "Delete at an old revision");
  ExpectCurrent(check, stale, "two", second.revision);
  check.ExpectEntry(check.store, key, "two", second.revision);

  check.ExpectOk(check.store.Delete(key, second.revision, check.Deadline()).status, "Delete at the current revision");
  check.ExpectAbsent(check.store, key);
  check.ExpectCode(check.store.Delete(key, second.revision, check.Deadline()).status, StatusCode::kNotFound,
                   "Delete of a deleted key");
  check.ExpectCode(check.store.Update(key, "three", second.revision, check.Deadline()).status, StatusCode::kNotFound,
                   "Update of a deleted key");
  check.ExpectAbsent(check.store, key);
}

void Put(Check& check) {
  const std::string key = check.Key("a");
  const WriteResult first = check.store.Put(key, "one", check.Deadline());
  if (!check.ExpectWritten(first, "Put of an absent key")) return;
  check.ExpectEntry(check.store, key, "one", first.revision);
  const WriteResult second = check.store.Put(key, "two", check.Deadline());
  if (!check.ExpectWritten(second, "Put of an existing key")) return;
  check.Expect(second.revision != first.revision, "Put left the revision as it was");
  check.ExpectEntry(check.store, key, "two", second.revision);
}

// 0 stands for no revision, so that a conditional write on it must not be taken for an unconditional one.
void RevisionZero(Check& check) {
  const std::string key = check.Key("a");
  const WriteResult first = check.store.Create(key, "one", check.Deadline());
  check.ExpectCode(check.store.Update(key, "two", 0, check.Deadline()).status, StatusCode::kInvalidArgument,
                   "Update at revision 0");
  check.ExpectCode(check.store.Delete(key, 0, check.Deadline()).status, StatusCode::kInvalidArgument,
                   "Delete at revision 0");
  check.ExpectEntry(check.store, key, "one", first.revision);
}

void Recreate(Check& check) {
  const std::string key = check.Key("a");
  Revision old = 0;
  for (int i = 0; i < 5; ++i) {
    const WriteResult created = check.store.Create(key, "one", check.Deadline());
    if (!check.ExpectWritten(created, "Create of a deleted key")) return;
    if (old != 0) {
      check.ExpectCode(check.store.Update(key, "late", old, check.Deadline()).status, StatusCode::kAborted,
                       "Update of a re-created key at its revision of before");
      check.ExpectCode(check.store.Delete(key, old, check.Deadline()).status, StatusCode::kAborted,
                       "Delete of a re-created key at its revision of before");
    }
    check.ExpectEntry(check.store, key, "one", created.revision);
    old = created.revision;
    check.ExpectOk(check.store.Delete(key, old, check.Deadline()).status, "Delete");
  }
}

void Revisions(Check& check) {
  if (check.deviations.no_monotonic_revisions) return;
  Revision newest = 0;
  const auto expect_above = [&](const WriteResult& result, const char* what) {
    check.ExpectOk(result.status, what);
    if (result.revision == 0) return;  // a delete may have none
    check.Expect(result.revision > newest,
                 absl::StrCat(what, " gave revision ", result.revision, ", not above the earlier ", newest));
    newest = std::max(newest, result.revision);
  };
  for (int i = 0; i < 5; ++i) {
    for (const char* name : {"a", "b"}) {
      const std::string key = check.Key(name);
      const WriteResult created = check.store.Create(key, "one", check.Deadline());
      expect_above(created, "Create");
      const WriteResult updated = check.store.Update(key, "two", created.revision, check.Deadline());
      expect_above(updated, "Update");
      const WriteResult put = check.store.Put(key, "three", check.Deadline());
      expect_above(put, "Put");
      expect_above(check.store.Delete(key, put.revision, check.Deadline()), "Delete");
    }
  }
}

void Values(Check& check) {
  std::string every_byte;
  for (int i = 0; i < 512; ++i) every_byte += static_cast<char>(i % 256);
  const std::vector<std::string> values = {"",         std::string(1, '\0'), std::string("a\0b", 3),
                                           every_byte, "\xff\xfe\xc0",       "line\r\nend \"quoted\" 'single' %s ;--"};
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string key = check.Key(absl::StrCat("value-", i));
    const WriteResult created = check.store.Create(key, values[i], check.Deadline());
    if (!check.ExpectWritten(created, absl::StrCat("Create with a value of ", values[i].size(), " bytes"))) continue;
    check.ExpectEntry(check.store, key, values[i], created.revision);
    const WriteResult updated =
        check.store.Update(key, values[values.size() - 1 - i], created.revision, check.Deadline());
    if (!check.ExpectWritten(updated, "Update")) continue;
    check.ExpectEntry(check.store, key, values[values.size() - 1 - i], updated.revision);
  }
}

void PastDeadlines(Check& check) {
  const std::string key = check.Key("a");
  const std::string absent = check.Key("b");
  const WriteResult first = check.store.Create(key, "one", check.Deadline());
  for (const absl::Time past : {absl::Now() - absl::Seconds(1), absl::InfinitePast(), absl::UnixEpoch()}) {
    const auto expect = [&](const absl::Status& status, const char* what) {
      check.ExpectCode(status, StatusCode::kDeadlineExceeded, absl::StrCat(what, " with a deadline in the past"));
    };
    expect(check.store.Get(key, past).status(), "Get");
    expect(check.store.Create(absent, "two", past).status, "Create");
    expect(check.store.Update(key, "two", first.revision, past).status, "Update");
    expect(check.store.Delete(key, first.revision, past).status, "Delete");
    expect(check.store.Put(key, "two", past).status, "Put");
    if (!check.deviations.no_list) expect(check.store.List(check.prefix(), past).status(), "List");
  }
  check.ExpectEntry(check.store, key, "one", first.revision);
  check.ExpectAbsent(check.store, absent);
  check.ExpectOk(check.store.Get(key, absl::InfiniteFuture()).status(), "Get with an infinite deadline");
}

void Age(Check& check) {
  if (check.deviations.no_age) return;
  const std::string key = check.Key("a");
  const absl::Time before = absl::Now();
  check.ExpectWritten(check.store.Put(key, "one", check.Deadline()), "Put");
  const absl::StatusOr<Entry> entry = check.store.Get(key, check.Deadline());
  if (!check.ExpectOk(entry.status(), "Get")) return;
  if (!check.Expect(entry->age.has_value(), "an entry just written has no age, although traits() promises one")) return;
  const absl::Duration most = absl::Now() - before + absl::Seconds(1);
  check.Expect(*entry->age >= absl::ZeroDuration() && *entry->age <= most,
               absl::StrCat("an entry just written has the age ", absl::FormatDuration(*entry->age)));
}

// Another handle sees what this one did, at once, and the other way round.
void TwoHandles(Check& check) {
  if (check.options.second == nullptr) return;
  Store& second = *check.options.second;
  const std::string key = check.Key("a");
  const WriteResult created = check.store.Create(key, "one", check.Deadline());
  if (!check.ExpectWritten(created, "Create")) return;
  check.ExpectEntry(second, key, "one", created.revision);
  const WriteResult updated = second.Update(key, "two", created.revision, check.Deadline());
  if (!check.ExpectWritten(updated, "Update through the second handle at a revision of the first")) return;
  check.ExpectEntry(check.store, key, "two", updated.revision);
  check.ExpectCode(check.store.Update(key, "three", created.revision, check.Deadline()).status, StatusCode::kAborted,
                   "Update at a revision that the second handle replaced");
  check.ExpectOk(second.Delete(key, updated.revision, check.Deadline()).status, "Delete through the second handle");
  check.ExpectAbsent(check.store, key);
  check.ExpectWritten(check.store.Create(key, "four", check.Deadline()),
                      "Create of a key that the second handle deleted");
}

}  // namespace

std::vector<NamedCheck> CallChecks() {
  return {{"absent", Absent},     {"create", Create},
          {"update", Update},     {"delete", Delete},
          {"put", Put},           {"revision_zero", RevisionZero},
          {"recreate", Recreate}, {"revisions", Revisions},
          {"values", Values},     {"past_deadlines", PastDeadlines},
          {"age", Age},           {"two_handles", TwoHandles}};
}

}  // namespace kv::internal
