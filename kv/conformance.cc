#include "kv/conformance.h"

#include <algorithm>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "kv/internal/conformance_check.h"

namespace kv {
namespace internal {

bool Check::ExpectEntry(Store& from, const std::string& key, std::string_view value, Revision revision) {
  const absl::Time until =
      absl::Now() + (deviations.no_linearizable_reads ? options.event_timeout : absl::ZeroDuration());
  while (true) {
    const absl::StatusOr<Entry> entry = from.Get(key, Deadline());
    if (entry.ok() && entry->value == value && entry->revision == revision) return true;
    if (absl::Now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      continue;
    }
    if (!ExpectOk(entry.status(), absl::StrCat("Get of a key at revision ", revision))) return false;
    const bool same_value =
        Expect(entry->value == value,
               absl::StrCat("Get returned another value (", entry->value.size(), " bytes) than the one of ",
                            value.size(), " bytes that was written at revision ", revision));
    return Expect(entry->revision == revision, absl::StrCat("Get returned revision ", entry->revision, " instead of ",
                                                            revision, ", the one that the write returned")) &&
           same_value;
  }
}

bool Check::ExpectAbsent(Store& from, const std::string& key) {
  const absl::Time until =
      absl::Now() + (deviations.no_linearizable_reads ? options.event_timeout : absl::ZeroDuration());
  absl::StatusOr<Entry> entry = from.Get(key, Deadline());
  while (!absl::IsNotFound(entry.status()) && absl::Now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    entry = from.Get(key, Deadline());
  }
  return ExpectCode(entry.status(), absl::StatusCode::kNotFound, "Get of an absent key");
}

void RunThreads(int threads, const std::function<void(int)>& body) {
  Mutex mutex;
  CondVar changed;
  bool go = false;
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      {
        MutexLock lock(mutex);
        while (!go) changed.Wait(mutex);
      }
      body(i);
    });
  }
  {
    MutexLock lock(mutex);
    go = true;
  }
  changed.NotifyAll();
  for (std::thread& thread : running) thread.join();
}

namespace {

std::vector<NamedCheck> AllChecks() {
  std::vector<NamedCheck> all;
  for (const auto& some : {CallChecks(), KeyChecks(), ConcurrencyChecks(), WatchChecks()}) {
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

// Keys that a check wrote and those that List finds: a store that fails may have made others.
absl::Status RemoveKeys(Check& check) {
  std::set<std::string> keys = check.keys();
  if (!check.deviations.no_list) {
    const auto listed = check.store.List(check.prefix(), check.Deadline());
    if (listed.ok()) {
      for (const KeyedEntry& each : *listed) keys.insert(each.key);
    }
  }
  for (const std::string& key : keys) {
    // A key that the store refuses was never written.
    if (!CheckKey(key, check.store.traits()).ok()) continue;
    absl::Status status = absl::AbortedError("");
    for (int tries = 0; absl::IsAborted(status) && tries < 10; ++tries) {
      const absl::StatusOr<Entry> entry = check.store.Get(key, check.Deadline());
      status = entry.ok() ? check.store.Delete(key, entry->revision, check.Deadline()).status : entry.status();
    }
    if (!status.ok() && !absl::IsNotFound(status)) return status;
  }
  return absl::OkStatus();
}

std::string RandomPrefix() {
  std::random_device random;
  return absl::StrCat("conformance-", absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8), "/");
}

}  // namespace
}  // namespace internal

Deviations Deviations::FromTraits(const Traits& traits) {
  Deviations deviations;
  deviations.no_list = !traits.list;
  deviations.no_watch = !traits.watch;
  deviations.no_age = !traits.age;
  deviations.no_monotonic_revisions = !traits.monotonic_revisions;
  deviations.no_linearizable_reads = !traits.linearizable_reads;
  return deviations;
}

std::vector<Failure> RunConformance(Store& store, const ConformanceOptions& options) {
  std::vector<Failure> failures;
  const std::string prefix = options.prefix.empty() ? internal::RandomPrefix() : options.prefix;
  const Deviations deviations = options.deviations.value_or(Deviations::FromTraits(store.traits()));
  for (const internal::NamedCheck& named : internal::AllChecks()) {
    if (!options.only.empty() && options.only != named.name) continue;
    if (options.progress) options.progress(named.name);
    internal::Check check(&store, options, deviations, absl::StrCat(prefix, named.name, "/"));
    named.run(check);
    for (std::string& message : check.TakeFailures()) failures.push_back({named.name, std::move(message)});
    if (const absl::Status status = internal::RemoveKeys(check); !status.ok()) {
      failures.push_back({named.name, absl::StrCat("the keys under \"", check.prefix(),
                                                   "\" could not be removed: ", status.ToString())});
    }
  }
  return failures;
}

std::vector<std::string> ConformanceChecks() {
  std::vector<std::string> names;
  for (const internal::NamedCheck& named : internal::AllChecks()) names.push_back(named.name);
  return names;
}

}  // namespace kv
