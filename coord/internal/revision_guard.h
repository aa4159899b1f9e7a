// Notes the highest revision that this copy has seen, and the writes that prove a store which has forgotten: a
// successful write whose revision is not above every one seen before it was sent. Reads and snapshots prove nothing,
// and neither do pushes: one that comes late could belong to another epoch.

#ifndef COORD_INTERNAL_REVISION_GUARD_H_
#define COORD_INTERNAL_REVISION_GUARD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kv/internal/mutex.h"
#include "kv/store_wrapper.h"

namespace coord::internal {

class RevisionGuard : public kv::StoreWrapper {
 public:
  explicit RevisionGuard(std::shared_ptr<kv::Store> store);

  // The highest revision seen in the present epoch, by calls and pushes.
  kv::Revision highest() const;

  // The highest revision seen at all, by pushes and in earlier epochs too: no fence that was given out under an epoch
  // known here lies above that epoch's time plus this.
  kv::Revision highest_ever() const { return ever_.load(std::memory_order_acquire); }

  // Called, on the thread of the write, with the first proof since the last Reset, and with how many Resets there had
  // been when that write was sent.
  void OnRollback(std::function<void(uint64_t resets)> fn) { on_rollback_ = std::move(fn); }

  // A new epoch has begun: what was seen before means nothing.
  void Reset();
  uint64_t resets() const;

  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Time deadline) override;
  kv::WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override;
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override;
  kv::WriteResult Delete(std::string_view key, kv::Revision expected, absl::Time deadline) override;
  kv::WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override;
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override;
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view prefix, kv::WatchCallback callback) override;

 private:
  // What was known when a call was sent. What comes back from before a Reset counts for nothing.
  struct Before {
    kv::Revision highest = 0;
    uint64_t epoch = 0;
  };
  Before Now() const;
  void NoteEver(kv::Revision revision);
  void NotePush(const kv::WatchEvent& event);
  void Note(const Before& before, kv::Revision revision);
  kv::WriteResult Check(const Before& before, kv::WriteResult result);

  mutable kv::internal::Mutex mu_;
  kv::Revision highest_ KV_GUARDED_BY(mu_) = 0;
  uint64_t epoch_ KV_GUARDED_BY(mu_) = 0;       // counts the Resets
  kv::Revision pushed_ KV_GUARDED_BY(mu_) = 0;  // the highest of the watch's events since the epoch changed
  bool proved_ KV_GUARDED_BY(mu_) = false;
  std::atomic<kv::Revision> ever_{0};
  std::function<void(uint64_t resets)> on_rollback_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_REVISION_GUARD_H_
