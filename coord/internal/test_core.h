// Copies of a plugin for tests of the cells, without sessions and locks: each has a Core, a store that counts, and one
// that fails on demand. Copies of one world share its data.

#ifndef COORD_INTERNAL_TEST_CORE_H_
#define COORD_INTERNAL_TEST_CORE_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/atomic_value.h"
#include "coord/fenced_cell.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/core.h"
#include "coord/internal/executor.h"
#include "coord/internal/hub.h"
#include "coord/options.h"
#include "coord/runtime.h"
#include "coord/shared_map.h"
#include "coord/shared_value.h"
#include "coord/sim_runtime.h"
#include "gtest/gtest.h"
#include "kv/counting_store.h"
#include "kv/faulty_store.h"
#include "kv/memory_store.h"
#include "kv/store.h"

namespace coord::internal {

struct CellTestPeer {
  static AtomicValue MakeAtomicValue(std::shared_ptr<Core> core, std::string name) {
    return AtomicValue(std::move(core), std::move(name));
  }
  static FencedCell MakeFencedCell(std::shared_ptr<Core> core, std::string name) {
    return FencedCell(std::move(core), std::move(name));
  }
  static absl::StatusOr<std::shared_ptr<SharedValue>> OpenSharedValue(std::shared_ptr<Core> core, std::string name,
                                                                      absl::Time deadline) {
    return SharedValue::Open(std::move(core), name, deadline);
  }
  static absl::StatusOr<std::shared_ptr<SharedMap>> OpenSharedMap(std::shared_ptr<Core> core, std::string name,
                                                                  absl::Time deadline) {
    return SharedMap::Open(std::move(core), name, deadline);
  }
};

// A store without a watch.
class NoWatchStore : public kv::StoreWrapper {
 public:
  explicit NoWatchStore(std::shared_ptr<kv::Store> base)
      : StoreWrapper(std::move(base)), traits_(this->base()->traits()) {
    traits_.watch = false;
  }
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view, kv::WatchCallback) override {
    return absl::UnimplementedError("no watch");
  }
  const kv::Traits& traits() const override { return traits_; }

 private:
  kv::Traits traits_;
};

class TestCopy {
 public:
  TestCopy(Runtime& runtime, std::shared_ptr<kv::Store> base)
      : faulty(std::make_shared<kv::FaultyStore>(std::move(base))),
        counting(std::make_shared<kv::CountingStore>(faulty)) {
    JoinOptions options;
    options.store = counting;
    options.plugin = "demo";
    options.instance = "copy";
    options.runtime = &runtime;
    options.log = [this](LogLevel, std::string_view line) { log.emplace_back(line); };
    core = std::make_shared<Core>(std::move(options));
    core->SetEpochId("e1");
    core->cells = std::make_shared<CellEngine>(core.get());
    EXPECT_TRUE(core->hub->Start().ok());
  }
  ~TestCopy() { Leave(); }

  // As Cluster::Leave, as far as cells are concerned.
  void Leave() {
    if (core == nullptr) return;
    const absl::Time until = core->runtime->Now() + absl::Seconds(10);
    core->closed = true;
    core->hub->Stop();
    core->cells->Stop(until);
    core->callbacks->Stop(until);
  }

  AtomicValue Value(std::string name) { return CellTestPeer::MakeAtomicValue(core, std::move(name)); }

  std::shared_ptr<SharedValue> Shared(std::string name) {
    auto value = CellTestPeer::OpenSharedValue(core, std::move(name), Soon());
    EXPECT_TRUE(value.ok()) << value.status();
    return value.ok() ? *value : nullptr;
  }

  std::shared_ptr<SharedMap> Map(std::string name) {
    auto map = CellTestPeer::OpenSharedMap(core, std::move(name), Soon());
    EXPECT_TRUE(map.ok()) << map.status();
    return map.ok() ? *map : nullptr;
  }

  absl::Time In(absl::Duration duration) { return core->runtime->WallNow() + duration; }
  absl::Time Soon() { return In(absl::Seconds(10)); }

  // Every call whose kind is `kind` (and only the first `times`) ends as `fault`.
  void Fail(kv::CallKind kind, kv::Fault fault, int times = 1 << 30) {
    auto left = std::make_shared<int>(times);
    faulty->SetHook([kind, fault, left](const kv::FaultyCall& call) {
      return call.kind == kind && (*left)-- > 0 ? fault : kv::Fault::kNone;
    });
  }

  const std::shared_ptr<kv::FaultyStore> faulty;
  const std::shared_ptr<kv::CountingStore> counting;
  std::shared_ptr<Core> core;
  std::vector<std::string> log;  // written by the threads of the copy: read it when they are idle
};

// Virtual time. The store's watch runs on a simulated thread.
class SimWorld {
 public:
  SimWorld() : store_thread_(runtime, "store") {
    kv::MemoryStoreOptions options;
    options.wall_now = [this] { return runtime.WallNow(); };
    options.uptime = [this] { return runtime.Now() - absl::UnixEpoch(); };
    options.executor = [this](std::function<void()> task) { store_thread_.Post(std::move(task)); };
    store = kv::NewMemoryStore(std::move(options));
  }
  ~SimWorld() { store_thread_.Stop(absl::InfiniteFuture()); }

  std::unique_ptr<TestCopy> NewCopy() { return std::make_unique<TestCopy>(runtime, store); }

  SimRuntime runtime;

 private:
  Executor store_thread_;

 public:
  std::shared_ptr<kv::Store> store;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_TEST_CORE_H_
