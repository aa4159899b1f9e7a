#include "kv/nats_store.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_core.h"

namespace kv {
namespace {

using internal::MutexLock;
using internal::NatsCore;
using internal::NatsPresent;
using internal::SteadyTime;

WriteResult Failed(absl::Status status) { return {std::move(status), 0, std::nullopt}; }

class NatsStore : public Store {
 public:
  explicit NatsStore(std::shared_ptr<NatsCore> core) : core_(std::move(core)) {}

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override {
    const absl::StatusOr<SteadyTime> until = Begin(key, "", deadline);
    if (!until.ok()) return until.status();
    absl::StatusOr<NatsPresent> present = core_->reads().Read(key, *until);
    if (!present.ok()) return present.status();
    if (!present->entry.has_value()) return absl::NotFoundError("nats: no such key");
    return *std::move(present->entry);
  }

  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    const absl::StatusOr<SteadyTime> until = Begin(key, value, deadline);
    return until.ok() ? core_->writes().Create(key, value, *until) : Failed(until.status());
  }

  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override {
    if (expected == 0) return NoRevision();
    const absl::StatusOr<SteadyTime> until = Begin(key, value, deadline);
    return until.ok() ? core_->writes().Update(key, value, expected, *until) : Failed(until.status());
  }

  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override {
    if (expected == 0) return NoRevision();
    const absl::StatusOr<SteadyTime> until = Begin(key, "", deadline);
    if (!until.ok()) return Failed(until.status());
    WriteResult result = core_->writes().Delete(key, expected, *until);
    if (result.ok()) core_->StartCleaning();
    return result;
  }

  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override {
    const absl::StatusOr<SteadyTime> until = Begin(key, value, deadline);
    return until.ok() ? core_->writes().Put(key, value, *until) : Failed(until.status());
  }

  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override {
    const std::optional<SteadyTime> until = internal::SteadyDeadline(deadline);
    if (!until.has_value()) return Late();
    return core_->reads().List(prefix, *until);
  }

  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override {
    return core_->AddWatch(prefix, std::move(callback));
  }

  const Traits& traits() const override { return core_->traits(); }
  Connection connection() const override { return core_->connection(); }

 private:
  static absl::Status Late() { return absl::DeadlineExceededError("nats: the deadline had passed before the call"); }
  static WriteResult NoRevision() {
    return Failed(absl::InvalidArgumentError("nats: 0 is not a revision; use Create for an absent key"));
  }

  absl::StatusOr<SteadyTime> Begin(std::string_view key, std::string_view value, absl::Time deadline) const {
    absl::Status status = CheckKey(key, core_->traits());
    if (status.ok()) status = CheckValue(value, core_->traits());
    if (!status.ok()) return status;
    const std::optional<SteadyTime> until = internal::SteadyDeadline(deadline);
    if (!until.has_value()) return Late();
    return *until;
  }

  const std::shared_ptr<NatsCore> core_;
};

// The cores of this process that are in use.
struct Registry {
  struct Use {
    const NatsConnection* connection;
    NatsStoreOptions options;
    std::weak_ptr<NatsCore> core;
  };

  // The one that serves this, or nothing.
  std::shared_ptr<NatsCore> Find(const NatsConnection* connection, const NatsStoreOptions& options) KV_REQUIRES(mutex) {
    uses.erase(std::remove_if(uses.begin(), uses.end(), [](const Use& use) { return use.core.expired(); }), uses.end());
    for (const Use& use : uses) {
      if (use.connection != connection || !Equal(use.options, options)) continue;
      if (std::shared_ptr<NatsCore> core = use.core.lock()) return core;
    }
    return nullptr;
  }

  static bool Equal(const NatsStoreOptions& a, const NatsStoreOptions& b) {
    return a.bucket == b.bucket && a.replicas == b.replicas && a.file_storage == b.file_storage &&
           a.sync_always == b.sync_always && a.delete_linger == b.delete_linger;
  }

  internal::Mutex mutex;
  std::vector<Use> uses KV_GUARDED_BY(mutex);
};

Registry& Cores() {
  static Registry* const registry = new Registry;
  return *registry;
}

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenNatsStore(std::shared_ptr<NatsConnection> connection,
                                                     const NatsStoreOptions& options, absl::Time deadline) {
  const std::optional<SteadyTime> until = internal::SteadyDeadline(deadline);
  if (!until.has_value()) return absl::DeadlineExceededError("nats: the deadline had passed before the call");
  std::shared_ptr<NatsCore> core;
  {
    MutexLock lock(Cores().mutex);
    core = Cores().Find(connection.get(), options);
  }
  if (core != nullptr) return std::make_shared<NatsStore>(std::move(core));
  absl::StatusOr<std::shared_ptr<NatsCore>> opened = NatsCore::Open(connection, options, *until);
  if (!opened.ok()) return opened.status();
  {
    MutexLock lock(Cores().mutex);
    core = Cores().Find(connection.get(), options);
    if (core == nullptr) {
      core = *std::move(opened);
      Cores().uses.push_back({connection.get(), options, core});
    }
  }
  return std::make_shared<NatsStore>(std::move(core));
}

}  // namespace kv
