// Every backend and every wrapper against the contract, and broken stores against the checks.

#include "kv/conformance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kv/counting_store.h"
#include "kv/faulty_store.h"
#include "kv/logging_store.h"
#include "kv/memory_store.h"
#include "kv/open.h"
#include "kv/store_wrapper.h"
#include "kv/test_util.h"

namespace kv {
namespace {

// --- The contract. A new backend joins with one entry of kBackends. ---

struct Backend {
  const char* name;
  // Opens handle 1 or 2 to one and the same data; the second may be null.
  std::shared_ptr<Store> (*open)(const TempDir& folder, int handle);
};

std::shared_ptr<Store> OpenOrDie(const std::string& url) {
  auto store = Open(url);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *store : nullptr;
}

const Backend kBackends[] = {
    {"Memory", [](const TempDir&, int handle) { return handle == 1 ? NewMemoryStore() : nullptr; }},
    {"Sqlite", [](const TempDir& folder, int) { return OpenOrDie("sqlite:" + (folder / "a.db")); }},
    {"SqliteFull", [](const TempDir& folder, int) { return OpenOrDie("sqlite:" + (folder / "a.db") + "?sync=full"); }},
    {"Counting",
     [](const TempDir&, int handle) -> std::shared_ptr<Store> {
       return handle == 1 ? std::make_shared<CountingStore>(NewMemoryStore()) : nullptr;
     }},
    {"Logging",
     [](const TempDir&, int handle) -> std::shared_ptr<Store> {
       return handle == 1 ? std::make_shared<LoggingStore>(NewMemoryStore(), [](const std::string&) {}) : nullptr;
     }},
    {"Faulty",
     [](const TempDir&, int handle) -> std::shared_ptr<Store> {
       return handle == 1 ? std::make_shared<FaultyStore>(NewMemoryStore()) : nullptr;
     }},
};

class ConformanceTest : public testing::TestWithParam<std::tuple<Backend, std::string>> {};

TEST_P(ConformanceTest, Holds) {
  const TempDir folder;
  const Backend& backend = std::get<0>(GetParam());
  const std::shared_ptr<Store> store = backend.open(folder, 1);
  ASSERT_NE(store, nullptr);
  const std::shared_ptr<Store> second = backend.open(folder, 2);
  ConformanceOptions options;
  options.second = second.get();
  options.only = std::get<1>(GetParam());
  options.rounds = 10;
  for (const Failure& failure : RunConformance(*store, options)) ADD_FAILURE() << failure.message;
  const auto left = store->List("", Soon());
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_TRUE(left->empty()) << left->size() << " keys were left behind, such as " << left->front().key;
}

INSTANTIATE_TEST_SUITE_P(All, ConformanceTest,
                         testing::Combine(testing::ValuesIn(kBackends), testing::ValuesIn(ConformanceChecks())),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param).name) + "_" + std::get<1>(test.param);
                         });

// --- The checks: each of these stores breaks the contract in one way, and is found out. ---

class IgnoresDeadline : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Put(std::string_view key, std::string_view value, absl::Time) override {
    return StoreWrapper::Put(key, value, absl::InfiniteFuture());
  }
};

class UpdatesBlindly : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Update(std::string_view key, std::string_view value, Revision, absl::Time deadline) override {
    return StoreWrapper::Put(key, value, deadline);
  }
};

// Reads, compares and writes in three steps.
class UpdatesInSteps : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override {
    const auto entry = StoreWrapper::Get(key, deadline);
    if (!entry.ok()) return {entry.status(), 0, std::nullopt};
    if (entry->revision != expected) return {absl::AbortedError("moved"), 0, std::nullopt};
    // Long enough for the others to come in between.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return StoreWrapper::Put(key, value, deadline);
  }
};

class CreatesOver : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return StoreWrapper::Put(key, value, deadline);
  }
};

class DeletesBlindly : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Delete(std::string_view key, Revision, absl::Time deadline) override {
    const auto entry = StoreWrapper::Get(key, deadline);
    if (!entry.ok()) return {entry.status(), 0, std::nullopt};
    return StoreWrapper::Delete(key, entry->revision, deadline);
  }
};

class ConfusesCodes : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    WriteResult result = StoreWrapper::Create(key, value, deadline);
    if (absl::IsAlreadyExists(result.status)) result.status = absl::AbortedError("exists");
    return result;
  }
};

// What an engine does that counts 0 as "no condition".
class TakesZeroAsAny : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override {
    if (expected == 0) return StoreWrapper::Put(key, value, deadline);
    return StoreWrapper::Update(key, value, expected, deadline);
  }
};

class ReturnsWrongWinner : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override {
    WriteResult result = StoreWrapper::Update(key, value, expected, deadline);
    if (result.current.has_value()) result.current->value = std::string(value);
    return result;
  }
};

class FoldsCase : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  static std::string Fold(std::string_view key) {
    std::string folded(key);
    for (char& c : folded) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return folded;
  }
  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override {
    return StoreWrapper::Get(Fold(key), deadline);
  }
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return StoreWrapper::Create(Fold(key), value, deadline);
  }
};

class CutsAtNul : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return StoreWrapper::Create(key, value.substr(0, value.find('\0')), deadline);
  }
};

class LosesEmptyValues : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override {
    auto entry = StoreWrapper::Get(key, deadline);
    if (entry.ok() && entry->value.empty()) return absl::NotFoundError("empty");
    return entry;
  }
};

// Returns for each key what it read first.
class ReadsStale : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto it = seen_.find(std::string(key));
    if (it != seen_.end()) return it->second;
    auto entry = StoreWrapper::Get(key, deadline);
    if (entry.ok()) seen_[std::string(key)] = *entry;
    return entry;
  }
  std::mutex mutex_;
  std::map<std::string, Entry> seen_;
};

class ListsBackwards : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override {
    auto entries = StoreWrapper::List(prefix, deadline);
    if (entries.ok()) std::reverse(entries->begin(), entries->end());
    return entries;
  }
};

// As LIKE does with a prefix that nobody escaped.
class ListsByPattern : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override {
    return StoreWrapper::List(prefix.substr(0, prefix.find_first_of("%_")), deadline);
  }
};

class ListsByFolder : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override {
    return StoreWrapper::List(prefix.substr(0, prefix.rfind('/') + 1), deadline);
  }
};

class Claims : public StoreWrapper {
 public:
  explicit Claims(std::shared_ptr<Store> base) : StoreWrapper(std::move(base)), claimed_(StoreWrapper::traits()) {}
  const Traits& traits() const override { return claimed_; }

 protected:
  Traits claimed_;
};

class ClaimsSmallerLimits : public Claims {
 public:
  explicit ClaimsSmallerLimits(std::shared_ptr<Store> base) : Claims(std::move(base)) {
    claimed_.max_key_bytes = 300;
    claimed_.max_value_bytes = 1000;
  }
};

class ClaimsLargerLimits : public Claims {
 public:
  explicit ClaimsLargerLimits(std::shared_ptr<Store> base) : Claims(std::move(base)) {
    claimed_.max_key_bytes *= 2;
    claimed_.max_value_bytes *= 2;
  }
};

class ClaimsAge : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override {
    auto entry = StoreWrapper::Get(key, deadline);
    if (entry.ok()) entry->age.reset();
    return entry;
  }
};

class TakesAnyKey : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override {
    auto entry = StoreWrapper::Get(key, deadline);
    if (absl::IsInvalidArgument(entry.status())) return absl::NotFoundError("no such key");
    return entry;
  }
};

// Counts revisions anew for every creation: what a per-key version does.
class CountsPerKey : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  struct Real {
    Revision base = 0;
    Revision shown = 0;
  };
  WriteResult Show(std::string_view key, WriteResult result, bool created) {
    std::lock_guard<std::mutex> lock(mutex_);
    Real& real = real_[std::string(key)];
    if (result.ok()) {
      real.shown = created ? 1 : real.shown + 1;
      real.base = result.revision;
      result.revision = real.shown;
    }
    result.current.reset();
    return result;
  }
  Revision ToBase(std::string_view key, Revision shown) {
    std::lock_guard<std::mutex> lock(mutex_);
    const Real& real = real_[std::string(key)];
    return real.shown == shown ? real.base : 1000000000;
  }
  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override {
    auto entry = StoreWrapper::Get(key, deadline);
    std::lock_guard<std::mutex> lock(mutex_);
    if (entry.ok()) entry->revision = real_[std::string(key)].shown;
    return entry;
  }
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Show(key, StoreWrapper::Create(key, value, deadline), true);
  }
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override {
    return Show(key, StoreWrapper::Put(key, value, deadline), false);
  }
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override {
    return Show(key, StoreWrapper::Update(key, value, ToBase(key, expected), deadline), false);
  }
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override {
    WriteResult result = StoreWrapper::Delete(key, ToBase(key, expected), deadline);
    result.revision = 0;
    result.current.reset();
    return result;
  }
  std::mutex mutex_;
  std::map<std::string, Real> real_;
};

// Watches whose events pass a function that returns what becomes of each.
class EditsEvents : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override {
    return StoreWrapper::WatchPrefix(prefix, [this, callback](const WatchEvent& event) { Edit(event, callback); });
  }
  virtual void Edit(const WatchEvent& event, const WatchCallback& callback) = 0;
};

class HidesDeletes : public EditsEvents {
  using EditsEvents::EditsEvents;
  void Edit(const WatchEvent& event, const WatchCallback& callback) override {
    if (event.kind != WatchKind::kDelete) callback(event);
  }
};

class NeverSyncs : public EditsEvents {
  using EditsEvents::EditsEvents;
  void Edit(const WatchEvent& event, const WatchCallback& callback) override {
    if (event.kind != WatchKind::kSynced) callback(event);
  }
};

class RepeatsEvents : public EditsEvents {
  using EditsEvents::EditsEvents;
  void Edit(const WatchEvent& event, const WatchCallback& callback) override {
    callback(event);
    if (event.kind == WatchKind::kPut) callback(event);
  }
};

class LosesSomeEvents : public EditsEvents {
  using EditsEvents::EditsEvents;
  void Edit(const WatchEvent& event, const WatchCallback& callback) override {
    if (event.entry.revision % 7 != 0 || event.kind != WatchKind::kPut) callback(event);
  }
};

class WatchesEverything : public StoreWrapper {
  using StoreWrapper::StoreWrapper;
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view, WatchCallback callback) override {
    return StoreWrapper::WatchPrefix("", std::move(callback));
  }
};

// Ends the watch only when the next one ends.
class EndsLate : public StoreWrapper {
 public:
  using StoreWrapper::StoreWrapper;
  ~EndsLate() override {
    std::lock_guard<std::mutex> lock(mutex_);
    late_.clear();
  }

 private:
  class LateWatch : public Watch {
   public:
    LateWatch(EndsLate* store, std::unique_ptr<Watch> inner) : store_(*store), inner_(std::move(inner)) {}
    ~LateWatch() override {
      std::vector<std::unique_ptr<Watch>> ended;
      std::lock_guard<std::mutex> lock(store_.mutex_);
      ended.swap(store_.late_);
      store_.late_.push_back(std::move(inner_));
    }

   private:
    EndsLate& store_;
    std::unique_ptr<Watch> inner_;
  };
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override {
    auto inner = StoreWrapper::WatchPrefix(prefix, std::move(callback));
    if (!inner.ok()) return inner.status();
    return std::make_unique<LateWatch>(this, *std::move(inner));
  }
  std::mutex mutex_;
  std::vector<std::unique_ptr<Watch>> late_;
};

struct Mutant {
  const char* name;
  std::shared_ptr<Store> (*make)(std::shared_ptr<Store> base);
  const char* check;    // one that must find it
  const char* message;  // a part of what it says
};

template <typename T>
std::shared_ptr<Store> Make(std::shared_ptr<Store> base) {
  return std::make_shared<T>(std::move(base));
}

const Mutant kMutants[] = {
    {"IgnoresDeadline", Make<IgnoresDeadline>, "past_deadlines", "Put with a deadline in the past gave OK"},
    {"UpdatesBlindly", Make<UpdatesBlindly>, "update", "Update at an old revision gave OK"},
    {"UpdatesInSteps", Make<UpdatesInSteps>, "concurrent_update", "it must be exactly one"},
    {"CreatesOver", Make<CreatesOver>, "create", "Create of an existing key gave OK"},
    {"DeletesBlindly", Make<DeletesBlindly>, "delete", "Delete at an old revision gave OK"},
    {"ConfusesCodes", Make<ConfusesCodes>, "create", "gave ABORTED: exists instead of ALREADY_EXISTS"},
    {"TakesZeroAsAny", Make<TakesZeroAsAny>, "revision_zero", "Update at revision 0 gave OK"},
    {"ReturnsWrongWinner", Make<ReturnsWrongWinner>, "update", "a lost write returned as the current entry"},
    {"FoldsCase", Make<FoldsCase>, "awkward_keys", "Create of the key \"A\" gave ALREADY_EXISTS"},
    {"CutsAtNul", Make<CutsAtNul>, "values", "Get returned another value"},
    {"LosesEmptyValues", Make<LosesEmptyValues>, "values", "Get of a key at revision"},
    {"ReadsStale", Make<ReadsStale>, "values", "Get returned another value"},
    {"ListsBackwards", Make<ListsBackwards>, "list", "in the order of their bytes"},
    {"ListsByPattern", Make<ListsByPattern>, "list", "List of the prefix \"a%\" returned"},
    {"ListsByFolder", Make<ListsByFolder>, "list", "List of the prefix \"b\" returned"},
    {"ClaimsSmallerKeyLimit", Make<ClaimsSmallerLimits>, "key_limit", "Create of a key of 301 bytes gave OK"},
    {"ClaimsSmallerValueLimit", Make<ClaimsSmallerLimits>, "value_limit", "Put with a value of 1001 bytes gave OK"},
    {"ClaimsLargerLimits", Make<ClaimsLargerLimits>, "value_limit", "Create with a value of 2097152 bytes gave"},
    {"ClaimsAge", Make<ClaimsAge>, "age", "has no age, although traits() promises one"},
    {"TakesAnyKey", Make<TakesAnyKey>, "bad_keys", "Get of a key with a NUL character gave NOT_FOUND"},
    {"CountsPerKey", Make<CountsPerKey>, "revisions", "not above the earlier"},
    {"CountsPerKeyReuse", Make<CountsPerKey>, "recreate",
     "Update of a re-created key at its revision of before gave OK"},
    {"HidesDeletes", Make<HidesDeletes>, "watch_snapshot_then_changes", "a watch did not show a delete"},
    {"NeverSyncs", Make<NeverSyncs>, "watch_snapshot_then_changes", "a watch did not show the end of the snapshot"},
    {"RepeatsEvents", Make<RepeatsEvents>, "watch_snapshot_then_changes", "a watch got revision"},
    {"LosesSomeEvents", Make<LosesSomeEvents>, "watch_many", "a watch did not show a change"},
    {"WatchesEverything", Make<WatchesEverything>, "watch_of_one_key", "got an event of the key"},
    {"EndsLate", Make<EndsLate>, "watch_end", "a callback ran after the destructor"},
};

class MutantTest : public testing::TestWithParam<Mutant> {};

TEST_P(MutantTest, IsFoundOut) {
  const auto store = GetParam().make(NewMemoryStore());
  ConformanceOptions options;
  options.only = GetParam().check;
  options.rounds = 200;
  options.event_timeout = absl::Milliseconds(200);
  std::vector<std::string> messages;
  for (const Failure& failure : RunConformance(*store, options)) messages.push_back(failure.message);
  EXPECT_THAT(messages, testing::Contains(testing::HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(All, MutantTest, testing::ValuesIn(kMutants),
                         [](const auto& test) { return std::string(test.param.name); });

// --- The runner itself. ---

class WithoutListAndWatch : public Claims {
 public:
  explicit WithoutListAndWatch(std::shared_ptr<Store> base) : Claims(std::move(base)) {
    claimed_.list = claimed_.watch = claimed_.age = claimed_.monotonic_revisions = false;
  }
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view, absl::Time) override {
    return absl::UnimplementedError("no list");
  }
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view, WatchCallback) override {
    return absl::UnimplementedError("no watch");
  }
};

TEST(RunConformanceTest, WhatTraitsDoNotClaimIsNotAsked) {
  const auto base = NewMemoryStore();
  WithoutListAndWatch store(base);
  for (const Failure& failure : RunConformance(store)) ADD_FAILURE() << failure.check << ": " << failure.message;
  EXPECT_TRUE(base->List("", Soon())->empty());
}

TEST(RunConformanceTest, StaysUnderItsPrefixAndLeavesOtherKeys) {
  const auto store = NewMemoryStore();
  store->Put("precious", "data", Soon());
  Recorder recorder;
  {
    auto watch = store->WatchPrefix("", recorder.Callback());
    ASSERT_TRUE(watch.ok());
    ConformanceOptions options;
    options.prefix = "here/";
    options.rounds = 5;
    EXPECT_THAT(RunConformance(*store, options), testing::IsEmpty());
  }
  for (const WatchEvent& event : recorder.Events()) {
    if (event.key.empty() || event.key == "precious") continue;
    EXPECT_EQ(event.key.substr(0, 5), "here/");
  }
  const auto left = store->List("", Soon());
  ASSERT_EQ(left->size(), 1u);
  EXPECT_EQ(left->front().entry.value, "data");
}

TEST(RunConformanceTest, AStoreThatIsDownGivesFailuresAndEnds) {
  FaultyStore store(NewMemoryStore());
  store.SetHook([](const FaultyCall&) { return Fault::kFailBefore; });
  ConformanceOptions options;
  options.event_timeout = absl::Milliseconds(10);
  options.rounds = 2;
  const std::vector<Failure> failures = RunConformance(store, options);
  ASSERT_FALSE(failures.empty());
  EXPECT_THAT(failures.front().message, testing::HasSubstr("UNAVAILABLE"));
}

}  // namespace
}  // namespace kv
