// A Store that counts the calls made through it. Budgets are asserted with it: calls, not times.
//
//   auto counting = std::make_shared<kv::CountingStore>(store);
//   ...
//   const kv::CallCounts before = counting->Snapshot("demo/mutex/");
//   mutex.Acquire(deadline);
//   EXPECT_EQ((counting->Snapshot("demo/mutex/") - before).writes(), 1);

#ifndef KV_COUNTING_STORE_H_
#define KV_COUNTING_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kv/internal/mutex.h"
#include "kv/store_wrapper.h"

namespace kv {

// A call is counted when it begins, whatever comes of it.
struct CallCounts {
  int64_t gets = 0;
  int64_t creates = 0;
  int64_t updates = 0;
  int64_t deletes = 0;
  int64_t puts = 0;
  int64_t lists = 0;
  int64_t watches = 0;
  int64_t failed = 0;         // calls of any kind that did not return Ok
  int64_t events = 0;         // watch events delivered
  int64_t bytes_written = 0;  // of keys and values sent
  int64_t bytes_read = 0;     // of values returned by Get and List, not by watches

  int64_t writes() const { return creates + updates + deletes + puts; }
  int64_t reads() const { return gets + lists; }
  int64_t calls() const { return writes() + reads() + watches; }

  CallCounts& operator+=(const CallCounts& other);
  friend CallCounts operator-(CallCounts a, const CallCounts& b);
};

// "2 gets, 1 create, 0 updates, ..." of what is not zero; for test messages.
std::string ToString(const CallCounts& counts);

// Thread-safe. Remembers one CallCounts for every key and prefix that was ever asked for: for tests and diagnosis.
class CountingStore : public StoreWrapper {
 public:
  using StoreWrapper::StoreWrapper;

  // All calls since the start or the last Reset. A List or a watch counts under its prefix.
  CallCounts Snapshot() const;
  // Those whose key or prefix begins with `prefix`.
  CallCounts Snapshot(std::string_view prefix) const;
  void Reset();

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override;
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override;
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override;
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override;
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override;
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override;

 private:
  void Add(std::string_view key, const CallCounts& counts) const;
  WriteResult Finish(std::string_view key, WriteResult result) const;

  mutable internal::Mutex mutex_;
  mutable std::map<std::string, CallCounts, std::less<>> by_key_ KV_GUARDED_BY(mutex_);
};

}  // namespace kv

#endif  // KV_COUNTING_STORE_H_
