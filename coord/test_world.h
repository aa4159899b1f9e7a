// What the tests of the lock family share beside coord/testing.h: stores of other shapes, slow stores, copies that are
// processes of their own, and calls in the background.

#ifndef COORD_TEST_WORLD_H_
#define COORD_TEST_WORLD_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/internal/executor.h"
#include "coord/internal/records.h"
#include "coord/sim_runtime.h"
#include "coord/testing.h"
#include "gtest/gtest.h"
#include "kv/store_wrapper.h"

namespace coord::testing {

// What belongs to a copy that is killed: never destroyed, for its copy cannot clean up any more, and no leak.
template <typename T>
T* LeftBehind(T value) {
  static auto* const all = new std::vector<T*>();
  all->push_back(new T(std::move(value)));
  return all->back();
}

inline ::testing::AssertionResult IsOk(const absl::Status& status) {
  if (status.ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << status.ToString();
}

template <typename T>
::testing::AssertionResult IsOk(const absl::StatusOr<T>& result) {
  return IsOk(result.status());
}

inline ::testing::AssertionResult Is(absl::StatusCode code, const absl::Status& status, const std::string& part = "") {
  const bool named = std::string(status.message()).find(part) != std::string::npos;
  if (status.code() == code && named) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << status.ToString() << "; wanted " << absl::StatusCodeToString(code)
                                       << " with \"" << part << "\"";
}

template <typename T>
::testing::AssertionResult Is(absl::StatusCode code, const absl::StatusOr<T>& result, const std::string& part = "") {
  return Is(code, result.status(), part);
}

// A store that promises other things than the one below it.
class ShapedStore : public kv::StoreWrapper {
 public:
  explicit ShapedStore(std::shared_ptr<kv::Store> below) : StoreWrapper(std::move(below)), shape(base()->traits()) {}

  kv::Traits shape;  // set before the first use

  const kv::Traits& traits() const override { return shape; }
  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Time deadline) override {
    absl::StatusOr<kv::Entry> entry = StoreWrapper::Get(key, deadline);
    if (entry.ok() && !shape.age) entry->age = std::nullopt;
    return entry;
  }
  kv::WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Aged(StoreWrapper::Create(key, value, deadline));
  }
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override {
    return Aged(StoreWrapper::Update(key, value, expected, deadline));
  }
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override {
    absl::StatusOr<std::vector<kv::KeyedEntry>> entries = StoreWrapper::List(prefix, deadline);
    if (entries.ok() && !shape.age) {
      for (kv::KeyedEntry& entry : *entries) entry.entry.age = std::nullopt;
    }
    return entries;
  }
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view prefix, kv::WatchCallback callback) override {
    if (!shape.watch) return absl::UnimplementedError("no watch");
    return StoreWrapper::WatchPrefix(prefix, [this, callback = std::move(callback)](const kv::WatchEvent& event) {
      kv::WatchEvent shaped = event;
      if (!shape.age) shaped.entry.age = std::nullopt;
      callback(shaped);
    });
  }

 private:
  kv::WriteResult Aged(kv::WriteResult result) const {
    if (result.current && !shape.age) result.current->age = std::nullopt;
    return result;
  }
};

inline std::shared_ptr<ShapedStore> Shaped(JoinOptions& options) {
  auto store = std::make_shared<ShapedStore>(options.store);
  options.store = store;
  return store;
}

// A store whose calls take virtual time: `before` the base is asked and `after` it has answered. What does not fit
// before the deadline is DeadlineExceeded, with the write applied or not, as it came.
class SlowStore : public kv::StoreWrapper {
 public:
  struct Delay {
    absl::Duration before, after;
  };
  using Hook = std::function<Delay(std::string_view key, bool write)>;

  SlowStore(SimRuntime& runtime, std::shared_ptr<kv::Store> below)
      : StoreWrapper(std::move(below)), runtime_(runtime) {}

  Hook hook;

  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Time deadline) override {
    const Delay delay = Ask(key, false);
    if (!Pass(delay.before, deadline)) return absl::DeadlineExceededError("slow: no answer");
    absl::StatusOr<kv::Entry> entry = StoreWrapper::Get(key, deadline);
    if (!Pass(delay.after, deadline)) return absl::DeadlineExceededError("slow: no answer");
    return entry;
  }
  kv::WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Write(key, deadline, [&] { return StoreWrapper::Create(key, value, deadline); });
  }
  kv::WriteResult Update(std::string_view key, std::string_view value, kv::Revision expected,
                         absl::Time deadline) override {
    return Write(key, deadline, [&] { return StoreWrapper::Update(key, value, expected, deadline); });
  }

 private:
  Delay Ask(std::string_view key, bool write) { return hook ? hook(key, write) : Delay{}; }

  bool Pass(absl::Duration delay, absl::Time deadline) {
    if (delay <= absl::ZeroDuration()) return true;
    const absl::Duration left = deadline - runtime_.WallNow();
    runtime_.SleepFor(std::min(delay, left));
    return delay < left;
  }

  kv::WriteResult Write(std::string_view key, absl::Time deadline, const std::function<kv::WriteResult()>& write) {
    const Delay delay = Ask(key, true);
    const kv::WriteResult unknown{absl::DeadlineExceededError("slow: no answer"), 0, std::nullopt};
    if (!Pass(delay.before, deadline)) return unknown;
    kv::WriteResult result = write();
    return Pass(delay.after, deadline) ? result : unknown;
  }

  SimRuntime& runtime_;
};

// A store whose watch events come on a thread of the process that made this object, by its clock, and stop with it.
class LocalWatchStore : public kv::StoreWrapper {
 public:
  LocalWatchStore(SimRuntime& runtime, std::shared_ptr<kv::Store> below)
      : StoreWrapper(std::move(below)), events_(std::make_shared<internal::Executor>(runtime, "local-watch")) {}
  ~LocalWatchStore() override { events_->Stop(absl::InfiniteFuture()); }

  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view prefix, kv::WatchCallback callback) override {
    auto local = std::make_unique<LocalWatch>();
    auto inner = StoreWrapper::WatchPrefix(
        prefix, [events = events_, callback = std::move(callback), ended = local->ended](const kv::WatchEvent& event) {
          events->Post([callback, ended, event] {
            if (!*ended) callback(event);  // which never waits, so that it has ended when anybody else runs
          });
        });
    if (!inner.ok()) return inner.status();
    local->inner = *std::move(inner);
    return local;
  }

 private:
  struct LocalWatch : kv::Watch {
    ~LocalWatch() override { *ended = true; }
    std::unique_ptr<kv::Watch> inner;
    std::shared_ptr<bool> ended = std::make_shared<bool>(false);
  };

  const std::shared_ptr<internal::Executor> events_;
};

// Faults for as long as this object lives: declare it after what the hook looks at.
class FaultHook {
 public:
  FaultHook(kv::FaultyStore& store, kv::FaultyStore::Hook hook) : store_(store) { store_.SetHook(std::move(hook)); }
  ~FaultHook() { store_.SetHook(nullptr); }
  FaultHook(const FaultHook&) = delete;
  FaultHook& operator=(const FaultHook&) = delete;

 private:
  kv::FaultyStore& store_;
};

// A call on a simulated thread of its own.
struct Call {
  absl::StatusOr<Grant> grant = absl::UnknownError("still under way");
  bool done = false;
  absl::Time at;  // when it came back
  std::unique_ptr<Thread> thread;

  bool ok() const { return done && grant.ok(); }
};

inline std::shared_ptr<Call> InBackground(World& world, std::function<absl::StatusOr<Grant>()> fn) {
  auto call = std::make_shared<Call>();
  Call* raw = call.get();
  call->thread = world.runtime().StartThread("call", [&world, raw, fn = std::move(fn)] {
    raw->grant = fn();
    raw->at = world.runtime().Now();
    raw->done = true;
  });
  world.runtime().RunUntilIdle();
  return call;
}

// A copy in a group of its own, which can be paused and killed as a process is.
class Process {
 public:
  Process(World& world, int group, JoinOptions options) : world_(world), group_(group) {
    Run([&] {
      options.store = std::make_shared<LocalWatchStore>(world_.runtime(), options.store);
      cluster_ = world_.Join(std::move(options));
    });
  }
  Process(World& world, int group, const std::string& instance) : Process(world, group, world.Options(instance)) {}
  ~Process() {
    if (cluster_ == nullptr) return;
    Run([&] { cluster_.reset(); });
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  Cluster* operator->() { return cluster_.get(); }

  // Runs `fn` in the process, and waits for it.
  void Run(std::function<void()> fn) {
    auto thread = Start(std::move(fn));
    thread.reset();
  }
  std::unique_ptr<Thread> Start(std::function<void()> fn) {
    return world_.runtime().StartThreadInGroup(group_, "process", std::move(fn));
  }

  void Pause() { world_.runtime().Pause(group_); }
  void Resume() { world_.runtime().Resume(group_); }
  // As SIGKILL does. What it had in memory stays reachable, so that it does not count as a leak.
  void Kill() {
    world_.runtime().Kill(group_);
    LeftBehind(std::move(cluster_));
  }

 private:
  World& world_;
  const int group_;
  std::unique_ptr<Cluster> cluster_;
};

// The key whose parts are "test/<kind>/<some epoch>/<name>", or "" if there is none.
inline std::string KeyOf(World& world, const std::string& kind, const std::string& name) {
  auto entries = world.data().List("test/" + kind + "/", absl::InfiniteFuture());
  std::string key;
  for (const kv::KeyedEntry& entry : *entries) {
    const size_t slash = entry.key.rfind('/');
    if (entry.key.substr(slash + 1) == name) key = entry.key;
  }
  return key;
}

inline std::optional<internal::GrantRecord> RecordOf(World& world, const std::string& kind, const std::string& name) {
  const std::string key = KeyOf(world, kind, name);
  if (key.empty()) return std::nullopt;
  auto entry = world.data().Get(key, absl::InfiniteFuture());
  if (!entry.ok()) return std::nullopt;
  auto record = internal::ParseGrantRecord(entry->value, "record");
  EXPECT_TRUE(IsOk(record)) << entry->value;
  if (!record.ok()) return std::nullopt;
  return *std::move(record);
}

inline std::optional<internal::SessionRecord> SessionOf(World& world, const std::string& session) {
  auto entry = world.data().Get(KeyOf(world, "session", session), absl::InfiniteFuture());
  if (!entry.ok()) return std::nullopt;
  auto record = internal::ParseSessionRecord(entry->value, "record");
  if (!record.ok()) return std::nullopt;
  return *std::move(record);
}

inline bool IsFree(World& world, const std::string& kind, const std::string& name) {
  const auto record = RecordOf(world, kind, name);
  return !record || (record->owners.empty() && record->queue.empty());
}

// Replaces the text `from` in the value of `key` by `to`, as somebody with the store's own tool would.
inline void Edit(World& world, const std::string& key, const std::string& from, const std::string& to) {
  auto entry = world.data().Get(key, absl::InfiniteFuture());
  ASSERT_TRUE(IsOk(entry)) << key;
  const size_t at = entry->value.find(from);
  ASSERT_NE(at, std::string::npos) << entry->value;
  entry->value.replace(at, from.size(), to);
  ASSERT_TRUE(world.data().Put(key, entry->value, absl::InfiniteFuture()).ok());
}

}  // namespace coord::testing

#endif  // COORD_TEST_WORLD_H_
