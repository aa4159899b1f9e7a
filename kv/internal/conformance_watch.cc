// What watches deliver, in which order, and when they end.

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kv/internal/conformance_check.h"
#include "kv/internal/deadline.h"

namespace kv::internal {
namespace {

// Follows a watch: keeps what it shows, and notes what breaks the contract. Must outlive the watch.
class Follower {
 public:
  Follower(Check* check, std::string prefix) : check_(*check), prefix_(std::move(prefix)) {}

  bool Start(Store& store) {
    auto watch = store.WatchPrefix(prefix_, [this](const WatchEvent& event) { On(event); });
    if (!check_.ExpectOk(watch.status(), "WatchPrefix")) return false;
    watch_ = *std::move(watch);
    return true;
  }
  void Stop() { watch_.reset(); }

  // Waits until the watch has shown `key` at `revision` (0: absent) or later; notes a failure when it does not.
  bool Await(const std::string& key, Revision revision, const std::string& what) {
    return AwaitThat(what, [&] {
      mutex_.AssertHeld();
      const auto it = shown_.find(key);
      return revision == 0 ? synced_ && it == shown_.end() : it != shown_.end() && it->second.revision >= revision;
    });
  }
  bool AwaitSynced() {
    return AwaitThat("the end of the snapshot", [&] {
      mutex_.AssertHeld();
      return synced_;
    });
  }

  std::map<std::string, Entry> Shown() {
    MutexLock lock(mutex_);
    return shown_;
  }
  std::vector<WatchEvent> Events() {
    MutexLock lock(mutex_);
    return events_;
  }

 private:
  void On(const WatchEvent& event) {
    check_.Expect(running_.fetch_add(1) == 0, "two callbacks of one watch ran at a time");
    MutexLock lock(mutex_);
    events_.push_back(event);
    switch (event.kind) {
      case WatchKind::kPut:
      case WatchKind::kDelete:
        OnChange(event);
        break;
      case WatchKind::kSynced:
        check_.Expect(!synced_, "a watch reported the end of a snapshot twice");
        synced_ = true;
        break;
      case WatchKind::kResync:
      case WatchKind::kEpochChanged:
        check_.Expect(synced_, "a watch began again before its snapshot was complete");
        synced_ = false;
        newest_ = 0;
        shown_.clear();
        break;
    }
    changed_.NotifyAll();
    running_.fetch_sub(1);
  }

  void OnChange(const WatchEvent& event) KV_REQUIRES(mutex_) {
    check_.Expect(event.key.compare(0, prefix_.size(), prefix_) == 0,
                  absl::StrCat("a watch of \"", prefix_, "\" got an event of the key \"", event.key, "\""));
    const Revision revision = event.entry.revision;
    if (synced_ && revision != 0 && !check_.deviations.no_monotonic_revisions) {
      check_.Expect(revision > newest_, absl::StrCat("a watch got revision ", revision, " after ", newest_));
    }
    newest_ = std::max(newest_, revision);
    if (event.kind == WatchKind::kPut) shown_[event.key] = event.entry;
    if (event.kind == WatchKind::kDelete) shown_.erase(event.key);
    if (event.kind == WatchKind::kDelete) check_.Expect(synced_, "a snapshot contained a delete");
  }

  bool AwaitThat(const std::string& what, const std::function<bool()>& holds) {
    const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(check_.options.event_timeout);
    bool done;
    {
      MutexLock lock(mutex_);
      while (!(done = holds()) && changed_.WaitUntil(mutex_, until)) {
      }
    }
    return check_.Expect(done, absl::StrCat("a watch did not show ", what, " within ",
                                            absl::FormatDuration(check_.options.event_timeout)));
  }

  Check& check_;
  const std::string prefix_;
  std::atomic<int> running_{0};
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, Entry> shown_ KV_GUARDED_BY(mutex_);
  std::vector<WatchEvent> events_ KV_GUARDED_BY(mutex_);
  bool synced_ KV_GUARDED_BY(mutex_) = false;
  Revision newest_ KV_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<Watch> watch_;  // last: ends before what its callback uses
};

// False where there is nothing to check.
bool HasWatch(Check& check) {
  if (!check.deviations.no_watch) return true;
  const auto watch = check.store.WatchPrefix(check.prefix(), [](const WatchEvent&) {});
  check.ExpectCode(watch.status(), absl::StatusCode::kUnimplemented, "WatchPrefix");
  return false;
}

void SnapshotThenChanges(Check& check) {
  if (!HasWatch(check)) return;
  const std::string a = check.Key("in/a");
  const std::string b = check.Key("in/b");
  const std::string gone = check.Key("in/gone");
  check.store.Put(a, "old", check.Deadline());
  const WriteResult before = check.store.Put(a, "one", check.Deadline());
  const WriteResult doomed = check.store.Put(gone, "x", check.Deadline());
  check.store.Delete(gone, doomed.revision, check.Deadline());
  check.store.Put(check.Key("inside"), "x", check.Deadline());
  Follower follower(&check, check.prefix() + "in/");
  if (!follower.Start(check.store) || !follower.AwaitSynced()) return;
  const std::vector<WatchEvent> snapshot = follower.Events();
  check.Expect(snapshot.size() == 2 && snapshot[0].key == a && snapshot[0].entry.value == "one" &&
                   snapshot[0].entry.revision == before.revision && snapshot[1].kind == WatchKind::kSynced,
               absl::StrCat("the snapshot of one entry came as ", snapshot.size(), " events"));

  const WriteResult created = check.store.Create(b, "two", check.Deadline());
  const WriteResult updated = check.store.Update(a, "three", before.revision, check.Deadline());
  follower.Await(b, created.revision, "a created key");
  if (!follower.Await(a, updated.revision, "an updated key")) return;
  check.Expect(follower.Shown()[a].value == "three", "a watch showed another value than was written");
  check.store.Delete(a, updated.revision, check.Deadline());
  follower.Await(a, 0, "a delete");
  const WriteResult again = check.store.Create(a, "", check.Deadline());
  follower.Await(a, again.revision, "a re-created key");
}

void WatchOfOneKey(Check& check) {
  if (!HasWatch(check)) return;
  Follower follower(&check, check.Key("a"));
  if (!follower.Start(check.store) || !follower.AwaitSynced()) return;
  // None but the last two begin with the watched key.
  for (const char* name : {"A", "b", "%", "_", "*"}) check.store.Put(check.Key(name), "x", check.Deadline());
  check.store.Put(check.Key("a/b"), "x", check.Deadline());
  const WriteResult last = check.store.Put(check.Key("a"), "x", check.Deadline());
  follower.Await(check.Key("a"), last.revision, "a change of the watched key");
  check.Expect(follower.Shown().size() == 2, "a watch showed more or less than the keys under its prefix");
}

void OrderUnderLoad(Check& check) {
  if (!HasWatch(check)) return;
  Follower follower(&check, check.prefix());
  if (!follower.Start(check.store)) return;
  std::map<std::string, Revision> newest;  // 0: deleted
  Mutex mutex;
  RunThreads(check.options.threads, [&](int i) {
    Store& store = check.options.second != nullptr && i % 2 == 1 ? *check.options.second : check.store;
    const std::string key = check.Key(absl::StrCat("key-", i));
    Revision revision = 0;
    for (int round = 0; round < check.options.rounds; ++round) {
      const WriteResult put = store.Put(key, absl::StrCat("round ", round), check.Deadline());
      if (!check.ExpectWritten(put, "Put")) return;
      revision = put.revision;
      if ((round + i) % 3 == 0) {
        store.Delete(key, revision, check.Deadline());
        revision = 0;
      }
    }
    MutexLock lock(mutex);
    newest[key] = revision;
  });
  for (const auto& [key, revision] : newest) follower.Await(key, revision, "the last state of a key written often");
}

void ManyWatches(Check& check) {
  if (!HasWatch(check)) return;
  constexpr int kWatches = 100;
  std::vector<std::unique_ptr<Follower>> followers;
  for (int i = 0; i < kWatches; ++i) {
    followers.push_back(std::make_unique<Follower>(&check, check.Key(absl::StrCat("key-", i, "/"))));
    if (!followers.back()->Start(check.store)) return;
  }
  for (int i = 0; i < kWatches; ++i) {
    const std::string key = check.Key(absl::StrCat("key-", i, "/x"));
    const WriteResult put = check.store.Put(key, "one", check.Deadline());
    if (!followers[static_cast<size_t>(i)]->Await(key, put.revision, "a change, with many watches,")) return;
  }
}

void NoCallbackAfterTheEnd(Check& check) {
  if (!HasWatch(check)) return;
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop && check.store.Put(check.Key("a"), "x", check.Deadline()).ok()) {
    }
  });
  for (int round = 0; round < check.options.rounds; ++round) {
    // On the heap, so that a memory checker sees a late callback as well.
    const auto ended = std::make_shared<std::atomic<bool>>(false);
    const auto late = std::make_shared<std::atomic<bool>>(false);
    const auto calls = std::make_shared<std::atomic<int>>(0);
    auto watch = check.store.WatchPrefix(check.prefix(), [ended, late, calls](const WatchEvent&) {
      if (*ended) *late = true;
      calls->fetch_add(1);
      std::this_thread::yield();
      if (*ended) *late = true;
    });
    if (!check.ExpectOk(watch.status(), "WatchPrefix")) break;
    for (int spin = 0; spin < 1000 && *calls < round % 4; ++spin) std::this_thread::yield();
    watch->reset();
    *ended = true;
    for (int spin = 0; spin < 20; ++spin) std::this_thread::yield();
    if (!check.Expect(!*late, "a callback ran after the destructor of its watch had returned")) break;
  }
  stop = true;
  writer.join();
}

// A callback may call the store, and end another watch.
void CallsFromACallback(Check& check) {
  if (!HasWatch(check)) return;
  const std::string key = check.Key("a");
  const std::string answer = check.Key("answer");
  std::unique_ptr<Watch> other;
  auto opened = check.store.WatchPrefix(check.Key("other"), [](const WatchEvent&) {});
  if (!check.ExpectOk(opened.status(), "WatchPrefix")) return;
  other = *std::move(opened);
  Follower follower(&check, answer);
  if (!follower.Start(check.store)) return;
  auto watch = check.store.WatchPrefix(key, [&](const WatchEvent& event) {
    if (event.kind != WatchKind::kPut || event.entry.value != "go") return;
    other.reset();
    check.ExpectOk(check.store.Get(key, check.Deadline()).status(), "Get from inside a watch callback");
    check.ExpectOk(check.store.Put(answer, "done", check.Deadline()).status, "Put from inside a watch callback");
  });
  if (!check.ExpectOk(watch.status(), "WatchPrefix")) return;
  check.store.Put(key, "go", check.Deadline());
  follower.Await(answer, 1, "what another watch's callback wrote");
  watch->reset();
}

void AcrossHandles(Check& check) {
  if (check.options.second == nullptr || !HasWatch(check)) return;
  Store& second = *check.options.second;
  const std::string key = check.Key("a");
  Follower here(&check, check.prefix());
  Follower there(&check, check.prefix());
  if (!here.Start(check.store) || !there.Start(second)) return;
  const WriteResult put = second.Put(key, "one", check.Deadline());
  here.Await(key, put.revision, "a write of another handle");
  const WriteResult updated = check.store.Update(key, "two", put.revision, check.Deadline());
  there.Await(key, updated.revision, "a write of another handle");
  check.store.Delete(key, updated.revision, check.Deadline());
  there.Await(key, 0, "a delete by another handle");
  here.Await(key, 0, "a delete");
}

}  // namespace

std::vector<NamedCheck> WatchChecks() {
  return {{"watch_snapshot_then_changes", SnapshotThenChanges},
          {"watch_of_one_key", WatchOfOneKey},
          {"watch_order_under_load", OrderUnderLoad},
          {"watch_many", ManyWatches},
          {"watch_end", NoCallbackAfterTheEnd},
          {"watch_calls_from_a_callback", CallsFromACallback},
          {"watch_across_handles", AcrossHandles}};
}

}  // namespace kv::internal
