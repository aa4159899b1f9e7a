// A Store that forwards everything to another: derive from it and override what is to differ.

#ifndef KV_STORE_WRAPPER_H_
#define KV_STORE_WRAPPER_H_

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "kv/store.h"

namespace kv {

// Thread-safe as the wrapped store is. Requires a store that is not null.
class StoreWrapper : public Store {
 public:
  explicit StoreWrapper(std::shared_ptr<Store> base) : base_(std::move(base)) {}

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override { return base_->Get(key, deadline); }
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return base_->Create(key, value, deadline);
  }
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override {
    return base_->Update(key, value, expected, deadline);
  }
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override {
    return base_->Delete(key, expected, deadline);
  }
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override {
    return base_->Put(key, value, deadline);
  }
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override {
    return base_->List(prefix, deadline);
  }
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override {
    return base_->WatchPrefix(prefix, std::move(callback));
  }
  const Traits& traits() const override { return base_->traits(); }
  Connection connection() const override { return base_->connection(); }

  const std::shared_ptr<Store>& base() const { return base_; }

 private:
  const std::shared_ptr<Store> base_;
};

}  // namespace kv

#endif  // KV_STORE_WRAPPER_H_
