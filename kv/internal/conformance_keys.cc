// Which keys and sizes are taken, that no key reaches another, and what List returns.

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "kv/internal/conformance_check.h"

namespace kv::internal {
namespace {

using absl::StatusCode;

// What engines and protocols treat specially, and pairs that a careless escape or fold would make one.
std::vector<std::string> AwkwardKeys() {
  return {"a",
          "A",
          "a/",
          "a/b",
          "a//b",
          "a%",
          "a%25",
          "a%2F",
          "a_",
          "a_b",
          "axb",
          "a*",
          "a>",
          "a.b",
          "a..b",
          "../a",
          "./a",
          ".",
          "..",
          "a b",
          " a",
          "a ",
          "a'b",
          "a\"b",
          "a\\b",
          "a;b",
          "a--b",
          "a?b",
          "a#b",
          "a[b]",
          "a{b}",
          "a$b",
          "$KV.a",
          "a:b",
          "a|b",
          "a\xc3\xa4",
          "\xc3\x84",
          "\xc3\xa4",
          "a\xcc\x88",
          "\xf0\x9f\x94\x92",
          "\xe2\x80\x8b",
          "ab",
          "a\xf4\x8f\xbf\xbf"};
}

void AwkwardKeysAreApart(Check& check) {
  std::map<std::string, Revision> written;
  for (const std::string& name : AwkwardKeys()) {
    const WriteResult created = check.store.Create(check.Key(name), "value of " + name, check.Deadline());
    if (check.ExpectWritten(created, absl::StrCat("Create of the key \"", name, "\"")))
      written[name] = created.revision;
  }
  for (const auto& [name, revision] : written) {
    check.ExpectEntry(check.store, check.Key(name), "value of " + name, revision);
  }
  // Deleting one leaves the others.
  std::vector<std::string> names;
  for (const auto& [name, revision] : written) names.push_back(name);
  for (size_t i = 0; i < names.size(); i += 2) {
    check.ExpectOk(check.store.Delete(check.Key(names[i]), written[names[i]], check.Deadline()).status,
                   absl::StrCat("Delete of the key \"", names[i], "\""));
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (i % 2 == 0) check.ExpectAbsent(check.store, check.Key(names[i]));
    if (i % 2 == 1) check.ExpectEntry(check.store, check.Key(names[i]), "value of " + names[i], written[names[i]]);
  }
}

void ListIsExact(Check& check) {
  if (check.deviations.no_list) {
    check.ExpectCode(check.store.List(check.prefix(), check.Deadline()).status(), StatusCode::kUnimplemented, "List");
    return;
  }
  std::map<std::string, std::string> written;
  for (const std::string& name : AwkwardKeys()) {
    const std::string key = check.Key(name);
    if (check.ExpectWritten(check.store.Put(key, "value of " + name, check.Deadline()), "Put")) {
      written[key] = "value of " + name;
    }
  }
  std::vector<std::string> prefixes = AwkwardKeys();
  prefixes.insert(prefixes.end(), {"", "b", "a/b/c", "a\xc3", "%", "_", "*"});
  for (const std::string& name : prefixes) {
    const std::string prefix = check.prefix() + name;
    const auto listed = check.store.List(prefix, check.Deadline());
    if (!check.ExpectOk(listed.status(), absl::StrCat("List of the prefix \"", name, "\""))) continue;
    std::vector<std::string> expected;
    for (const auto& each : written) {
      if (each.first.compare(0, prefix.size(), prefix) == 0) expected.push_back(each.first);
    }
    std::vector<std::string> keys;
    for (const KeyedEntry& each : *listed) {
      keys.push_back(each.key);
      const auto it = written.find(each.key);
      check.Expect(it != written.end() && it->second == each.entry.value && each.entry.revision != 0,
                   absl::StrCat("List returned a wrong entry for the key \"", each.key, "\""));
    }
    check.Expect(keys == expected,
                 absl::StrCat("List of the prefix \"", name, "\" returned ", keys.size(), " keys; expected were ",
                              expected.size(), " in the order of their bytes"));
  }
}

void ListFollowsWrites(Check& check) {
  if (check.deviations.no_list) return;
  const std::string key = check.Key("a");
  const WriteResult first = check.store.Put(key, "one", check.Deadline());
  const WriteResult second = check.store.Update(key, "two", first.revision, check.Deadline());
  auto listed = check.store.List(check.prefix(), check.Deadline());
  if (check.ExpectOk(listed.status(), "List") && check.Expect(listed->size() == 1, "List did not return one entry")) {
    check.Expect(listed->front().entry.value == "two" && listed->front().entry.revision == second.revision,
                 "List returned an entry that had been replaced before");
  }
  check.ExpectOk(check.store.Delete(key, second.revision, check.Deadline()).status, "Delete");
  listed = check.store.List(check.prefix(), check.Deadline());
  if (check.ExpectOk(listed.status(), "List")) check.Expect(listed->empty(), "List returned a deleted key");
}

// Each method refuses a bad key, and nothing comes of it.
void ExpectRefused(Check& check, const std::string& key, const std::string& what) {
  const auto expect = [&](const absl::Status& status, const char* method) {
    check.ExpectCode(status, StatusCode::kInvalidArgument, absl::StrCat(method, " of ", what));
  };
  expect(check.store.Get(key, check.Deadline()).status(), "Get");
  expect(check.store.Create(key, "v", check.Deadline()).status, "Create");
  expect(check.store.Update(key, "v", 1, check.Deadline()).status, "Update");
  expect(check.store.Delete(key, 1, check.Deadline()).status, "Delete");
  expect(check.store.Put(key, "v", check.Deadline()).status, "Put");
}

void BadKeys(Check& check) {
  const std::string& prefix = check.prefix();
  ExpectRefused(check, "", "an empty key");
  ExpectRefused(check, prefix + std::string("a\0b", 3), "a key with a NUL character");
  ExpectRefused(check, prefix + "a\nb", "a key with a line end");
  ExpectRefused(check, prefix + "a\tb", "a key with a tab");
  ExpectRefused(check, prefix + "a\x7f", "a key with a DEL character");
  ExpectRefused(check, prefix + "a\xc2\x85", "a key with a C1 control character");
  ExpectRefused(check, prefix + "a\xff", "a key with a byte that no UTF-8 has");
  ExpectRefused(check, prefix + "a\xc3", "a key that ends within a UTF-8 sequence");
  ExpectRefused(check, prefix + "a\xc0\xaf", "a key with an overlong UTF-8 sequence");
  ExpectRefused(check, prefix + "a\xed\xa0\x80", "a key with a UTF-8 surrogate");
  ExpectRefused(check, prefix + "a\xf4\x90\x80\x80", "a key above U+10FFFF");
}

void KeyLimit(Check& check) {
  const size_t limit = check.store.traits().max_key_bytes;
  const std::string longest = check.Key(std::string(limit - check.prefix().size(), 'k'));
  const WriteResult created = check.store.Create(longest, "one", check.Deadline());
  if (check.ExpectWritten(created, absl::StrCat("Create of a key of ", limit, " bytes"))) {
    check.ExpectEntry(check.store, longest, "one", created.revision);
  }
  const std::string other = check.Key(longest.substr(check.prefix().size(), limit - check.prefix().size() - 1) + "x");
  check.ExpectWritten(check.store.Create(other, "two", check.Deadline()),
                      "Create of a key that differs in its last byte");
  check.ExpectEntry(check.store, longest, "one", created.revision);
  ExpectRefused(check, longest + "k", absl::StrCat("a key of ", limit + 1, " bytes"));
}

void ValueLimit(Check& check) {
  const size_t limit = check.store.traits().max_value_bytes;
  const std::string key = check.Key("a");
  const std::string largest(limit, 'v');
  const WriteResult created = check.store.Create(key, largest, check.Deadline());
  if (!check.ExpectWritten(created, absl::StrCat("Create with a value of ", limit, " bytes"))) return;
  check.ExpectEntry(check.store, key, largest, created.revision);
  const std::string larger(limit + 1, 'w');
  const auto expect = [&](const absl::Status& status, const char* method) {
    check.ExpectCode(status, StatusCode::kInvalidArgument,
                     absl::StrCat(method, " with a value of ", limit + 1, " bytes"));
  };
  expect(check.store.Create(check.Key("b"), larger, check.Deadline()).status, "Create");
  expect(check.store.Update(key, larger, created.revision, check.Deadline()).status, "Update");
  expect(check.store.Put(key, larger, check.Deadline()).status, "Put");
  check.ExpectEntry(check.store, key, largest, created.revision);
  check.ExpectAbsent(check.store, check.Key("b"));
}

}  // namespace

std::vector<NamedCheck> KeyChecks() {
  return {{"awkward_keys", AwkwardKeysAreApart},
          {"list", ListIsExact},
          {"list_follows_writes", ListFollowsWrites},
          {"bad_keys", BadKeys},
          {"key_limit", KeyLimit},
          {"value_limit", ValueLimit}};
}

}  // namespace kv::internal
