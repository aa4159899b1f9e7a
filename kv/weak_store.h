// A Store that promises as little as a cache server does, over one that keeps everything: for tests of what is built on
// stores.
//
// Fault model. It has no watch and no List, and entries carry no age. Revisions are times in microseconds: of every
// write the largest of the former one + 1 and the clock's. So they do not grow over an eviction if the next writer's
// clock is behind. On demand an entry vanishes without a trace (Evict), or all do at once (Restart), also while calls
// are under way. What is not modelled: a full server, and revisions that come back.
//
// Give each copy of a test a View with a clock of its own, or let all use one. Beneath, the wrapped store may fail.

#ifndef KV_WEAK_STORE_H_
#define KV_WEAK_STORE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "kv/store_wrapper.h"

namespace kv {

// Thread-safe. No thread of its own, and no waiting.
class WeakStore : public StoreWrapper {
 public:
  using Clock = std::function<absl::Time()>;

  // Calls go to `base`; Evict and Restart to `data`, which lies beneath it (or is the same) and must be able to list.
  WeakStore(std::shared_ptr<Store> base, std::shared_ptr<Store> data, Clock clock);
  ~WeakStore() override;

  // The same entries, seen by a process whose clock is another, over a `base` of its own (null: this one's).
  std::shared_ptr<WeakStore> View(Clock clock, std::shared_ptr<Store> base = nullptr) const;

  // The entry is gone. False if there was none.
  bool Evict(std::string_view key);
  // All entries whose key begins with `prefix` are gone. Returns how many.
  int EvictAll(std::string_view prefix);
  // The server begins anew, empty.
  int Restart() { return EvictAll(""); }

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override;
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override;
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override;
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override;
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override;
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override;
  const Traits& traits() const override { return traits_; }

 private:
  struct Revisions;
  WeakStore(std::shared_ptr<Store> base, std::shared_ptr<Store> data, Clock clock, std::shared_ptr<Revisions> shared);

  Revision Shown(std::string_view key, Revision real) const;
  Entry Shown(std::string_view key, Entry entry) const;
  WriteResult Shown(std::string_view key, WriteResult result) const;
  Revision Real(std::string_view key, Revision shown) const;

  const std::shared_ptr<Store> data_;
  const Clock clock_;
  const std::shared_ptr<Revisions> revisions_;
  Traits traits_;
};

}  // namespace kv

#endif  // KV_WEAK_STORE_H_
