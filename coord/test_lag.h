// A store whose reads lag: a Get may answer from the past, as a reader does that has lost touch with those who write.
// Writes are never late, and conditional ones compare with the present.

#ifndef COORD_TEST_LAG_H_
#define COORD_TEST_LAG_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/store_wrapper.h"

namespace coord::testing {

// What the entries were, for all LaggingStores over one store. Only writes through these are in it.
struct History {
  struct State {
    absl::Time since;
    std::optional<kv::Entry> entry;
  };
  std::map<std::string, std::vector<State>, std::less<>> by_key;
  std::function<absl::Time()> now;  // true time, one for all
};

class LaggingStore : public kv::StoreWrapper {
 public:
  // How far in the past a Get of this key is answered. Zero: not at all.
  using Lag = std::function<absl::Duration(std::string_view key)>;

  // `data` lies beneath `below`, and does not fail.
  LaggingStore(std::shared_ptr<kv::Store> below, std::shared_ptr<kv::Store> data, std::shared_ptr<History> history)
      : StoreWrapper(std::move(below)),
        data_(std::move(data)),
        history_(std::move(history)),
        traits_(base()->traits()) {
    traits_.linearizable_reads = traits_.proves_incarnation = traits_.age = false;
  }

  Lag lag;
  const kv::Traits& traits() const override { return traits_; }
  void Blind() { traits_.watch = false; }

  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Time deadline) override {
    absl::StatusOr<kv::Entry> entry = StoreWrapper::Get(key, deadline);
    if (!entry.ok() && !absl::IsNotFound(entry.status())) return entry;
    const absl::Duration behind = lag ? lag(key) : absl::ZeroDuration();
    if (behind > absl::ZeroDuration()) entry = Past(key, history_->now() - behind);
    if (entry.ok()) entry->age = std::nullopt;
    return entry;
  }
  kv::WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Noted(key, StoreWrapper::Create(key, value, deadline));
  }
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override {
    return Noted(key, StoreWrapper::Update(key, value, expected, deadline));
  }
  kv::WriteResult Delete(std::string_view key, kv::Revision expected, absl::Time deadline) override {
    return Noted(key, StoreWrapper::Delete(key, expected, deadline));
  }

 private:
  absl::StatusOr<kv::Entry> Past(std::string_view key, absl::Time then) const {
    const auto found = history_->by_key.find(key);
    std::optional<kv::Entry> entry;
    if (found != history_->by_key.end()) {
      for (const History::State& state : found->second) {
        if (state.since <= then) entry = state.entry;
      }
    }
    if (!entry) return absl::NotFoundError("no such key, some time ago");
    return *entry;
  }

  // Also after an error: what it did is seen anyway. The winner of a conflict is not told, so that it is read.
  kv::WriteResult Noted(std::string_view key, kv::WriteResult result) {
    const absl::StatusOr<kv::Entry> entry = data_->Get(key, absl::InfiniteFuture());
    History::State state{history_->now(), std::nullopt};
    if (entry.ok()) state.entry = *entry;
    history_->by_key[std::string(key)].push_back(std::move(state));
    result.current = std::nullopt;
    return result;
  }

  const std::shared_ptr<kv::Store> data_;
  const std::shared_ptr<History> history_;
  kv::Traits traits_;
};

}  // namespace coord::testing

#endif  // COORD_TEST_LAG_H_
