// What the conformance checks share.

#ifndef KV_INTERNAL_CONFORMANCE_CHECK_H_
#define KV_INTERNAL_CONFORMANCE_CHECK_H_

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/conformance.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"

namespace kv::internal {

// What one check works with. Expect, Key and Deadline may be called from several threads.
class Check {
 public:
  Check(Store* checked, const ConformanceOptions& given, const Deviations& allowed, std::string check_prefix)
      : store(*checked), options(given), deviations(allowed), prefix_(std::move(check_prefix)) {}

  Store& store;
  const ConformanceOptions& options;
  const Deviations& deviations;

  // A key of this check's own; remembered for the removal.
  std::string Key(std::string_view name) {
    std::string key = prefix_ + std::string(name);
    MutexLock lock(mutex_);
    keys_.insert(key);
    return key;
  }
  const std::string& prefix() const { return prefix_; }
  absl::Time Deadline() const { return absl::Now() + options.call_timeout; }

  // Notes a failure unless `holds`.
  bool Expect(bool holds, const std::string& message) {
    if (!holds) {
      MutexLock lock(mutex_);
      failures_.push_back(message);
    }
    return holds;
  }

  bool ExpectCode(const absl::Status& status, absl::StatusCode code, const std::string& what) {
    return Expect(status.code() == code,
                  absl::StrCat(what, " gave ", status.ToString(), " instead of ", absl::StatusCodeToString(code)));
  }
  bool ExpectOk(const absl::Status& status, const std::string& what) {
    return ExpectCode(status, absl::StatusCode::kOk, what);
  }
  // A successful write, which also has a revision.
  bool ExpectWritten(const WriteResult& result, const std::string& what) {
    return ExpectOk(result.status, what) && Expect(result.revision != 0, absl::StrCat(what, " gave no revision"));
  }

  // Reads until `key` has `revision` where reads may be stale; else once. Notes a failure where value or revision
  // differ.
  bool ExpectEntry(Store& from, const std::string& key, std::string_view value, Revision revision);
  // As ExpectEntry, for a key that must not exist.
  bool ExpectAbsent(Store& from, const std::string& key);

  std::vector<std::string> TakeFailures() {
    MutexLock lock(mutex_);
    return std::exchange(failures_, {});
  }
  std::set<std::string> keys() {
    MutexLock lock(mutex_);
    return keys_;
  }

 private:
  const std::string prefix_;
  Mutex mutex_;
  std::set<std::string> keys_ KV_GUARDED_BY(mutex_);
  std::vector<std::string> failures_ KV_GUARDED_BY(mutex_);
};

struct NamedCheck {
  const char* name;
  void (*run)(Check& check);
};

// One table for each file of checks.
std::vector<NamedCheck> CallChecks();
std::vector<NamedCheck> KeyChecks();
std::vector<NamedCheck> ConcurrencyChecks();
std::vector<NamedCheck> WatchChecks();

// Runs `body` on `threads` threads that begin together, each with its number.
void RunThreads(int threads, const std::function<void(int)>& body);

}  // namespace kv::internal

#endif  // KV_INTERNAL_CONFORMANCE_CHECK_H_
