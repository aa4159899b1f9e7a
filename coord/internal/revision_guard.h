// Notes the highest revision that this copy has seen, and the writes that prove a store which has forgotten: a
// successful write whose revision is not above every one seen before it was sent. Reads and snapshots prove nothing.

#ifndef COORD_INTERNAL_REVISION_GUARD_H_
#define COORD_INTERNAL_REVISION_GUARD_H_

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "kv/store_wrapper.h"

namespace coord::internal {

class RevisionGuard : public kv::StoreWrapper {
 public:
  explicit RevisionGuard(std::shared_ptr<kv::Store> store);

  kv::Revision highest() const { return highest_.load(std::memory_order_acquire); }

  // Called, on the thread of the write, with the first proof since the last Reset.
  void OnRollback(std::function<void()> fn) { on_rollback_ = std::move(fn); }

  // A new epoch has begun: what was seen before means nothing.
  void Reset();

  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Time deadline) override;
  kv::WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override;
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override;
  kv::WriteResult Delete(std::string_view key, kv::Revision expected, absl::Time deadline) override;
  kv::WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override;
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override;
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view prefix, kv::WatchCallback callback) override;

 private:
  void Note(kv::Revision revision);
  kv::WriteResult Check(kv::WriteResult result, kv::Revision seen_before);

  std::atomic<kv::Revision> highest_{0};
  std::atomic<bool> proved_{false};
  std::function<void()> on_rollback_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_REVISION_GUARD_H_
