#include "kv/memory_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "kv/internal/mutex.h"
#include "kv/test_util.h"

namespace kv {
namespace {

using testing::ElementsAre;

// Tasks that a test runs when it likes.
class ManualExecutor {
 public:
  std::function<void(std::function<void()>)> Function() {
    return [this](std::function<void()> task) {
      EXPECT_EQ(internal::Mutex::HeldByThisThread(), 0) << "a task was handed over under a mutex";
      tasks_.push_back(std::move(task));
    };
  }
  size_t size() const { return tasks_.size(); }
  void RunAll() {
    while (!tasks_.empty()) {
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
    }
  }

 private:
  std::deque<std::function<void()>> tasks_;
};

TEST(MemoryStoreTest, AgesFollowTheGivenClock) {
  absl::Duration uptime = absl::Seconds(100);
  MemoryStoreOptions options;
  options.uptime = [&] { return uptime; };
  const auto store = NewMemoryStore(options);
  store->Put("a", "1", absl::InfiniteFuture());
  EXPECT_EQ(store->Get("a", absl::InfiniteFuture())->age, absl::ZeroDuration());
  uptime += absl::Seconds(7);
  EXPECT_EQ(store->Get("a", absl::InfiniteFuture())->age, absl::Seconds(7));
  EXPECT_EQ(store->List("", absl::InfiniteFuture())->front().entry.age, absl::Seconds(7));
  EXPECT_EQ(store->Create("a", "2", absl::InfiniteFuture()).current->age, absl::Seconds(7));
  store->Put("a", "2", absl::InfiniteFuture());
  EXPECT_EQ(store->Get("a", absl::InfiniteFuture())->age, absl::ZeroDuration());
}

TEST(MemoryStoreTest, DeadlinesFollowTheGivenClock) {
  absl::Time now = absl::FromUnixSeconds(1000);
  MemoryStoreOptions options;
  options.wall_now = [&] { return now; };
  const auto store = NewMemoryStore(options);
  EXPECT_TRUE(store->Put("a", "1", absl::FromUnixSeconds(1001)).ok());
  now = absl::FromUnixSeconds(1001);
  const WriteResult late = store->Put("a", "2", absl::FromUnixSeconds(1001));
  EXPECT_TRUE(absl::IsDeadlineExceeded(late.status));
  EXPECT_EQ(late.status.message(), "memory: the deadline had passed before the call");
  EXPECT_EQ(store->Get("a", absl::InfiniteFuture())->value, "1");
}

TEST(MemoryStoreTest, RevisionsCountFromOne) {
  const auto store = NewMemoryStore();
  EXPECT_EQ(store->Create("a", "1", Soon()).revision, 1u);
  EXPECT_EQ(store->Put("b", "1", Soon()).revision, 2u);
  EXPECT_EQ(store->Delete("a", 1, Soon()).revision, 3u);
  EXPECT_EQ(store->Create("a", "1", Soon()).revision, 4u);
}

TEST(MemoryStoreTest, AWatchThatLagsGetsResyncAndSnapshot) {
  MemoryStoreOptions options;
  options.max_queued_events = 3;
  const auto store = NewMemoryStore(options);
  Recorder recorder;
  std::promise<void> blocked;
  std::promise<void> release;
  bool first = true;
  auto watch = store->WatchPrefix("a", [&](const WatchEvent& event) {
    recorder.Callback()(event);
    if (!std::exchange(first, false)) return;
    blocked.set_value();
    release.get_future().wait();
  });
  blocked.get_future().wait();  // in the callback of the snapshot's end
  for (int i = 0; i < 10; ++i) store->Put("a1", std::to_string(i), Soon());
  store->Put("a2", "x", Soon());
  store->Put("b", "x", Soon());
  release.set_value();
  ASSERT_TRUE(recorder.AwaitCount(5));
  store->Put("a2", "y", Soon());
  ASSERT_TRUE(recorder.AwaitCount(6));
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced", "resync", "put a1=9", "put a2=x", "synced", "put a2=y"));
}

TEST(MemoryStoreTest, AWatchWithinItsBoundGetsEveryChange) {
  MemoryStoreOptions options;
  options.max_queued_events = 3;
  ManualExecutor executor;
  options.executor = executor.Function();
  const auto store = NewMemoryStore(options);
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  executor.RunAll();
  for (int i = 0; i < 3; ++i) store->Put("a", std::to_string(i), Soon());
  executor.RunAll();
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced", "put a=0", "put a=1", "put a=2"));
}

TEST(MemoryStoreTest, AnExecutorGetsOneTaskAtATime) {
  MemoryStoreOptions options;
  ManualExecutor executor;
  options.executor = executor.Function();
  const auto store = NewMemoryStore(options);
  Recorder recorder;
  auto watch = store->WatchPrefix("", recorder.Callback());
  store->Put("a", "1", Soon());
  store->Put("a", "2", Soon());
  EXPECT_EQ(executor.size(), 1u);
  EXPECT_TRUE(recorder.Events().empty()) << "an event came before its task ran";
  executor.RunAll();
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("put a=2", "synced"));
  store->Put("a", "3", Soon());
  EXPECT_EQ(executor.size(), 1u);
  executor.RunAll();
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("put a=2", "synced", "put a=3"));
}

TEST(MemoryStoreTest, WithAnExecutorAnEndedWatchIsSilentAndItsTasksHarmless) {
  MemoryStoreOptions options;
  ManualExecutor executor;
  options.executor = executor.Function();
  auto store = NewMemoryStore(options);
  Recorder recorder;
  auto watch = store->WatchPrefix("", recorder.Callback());
  executor.RunAll();
  store->Put("a", "1", Soon());
  watch->reset();
  store.reset();
  executor.RunAll();  // a task may outlive the store
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced"));
}

TEST(MemoryStoreTest, AnExecutorMayRunTasksAtOnce) {
  MemoryStoreOptions options;
  options.executor = [](const std::function<void()>& task) { task(); };
  const auto store = NewMemoryStore(options);
  std::vector<std::string> seen;
  const auto watch = store->WatchPrefix("", [&](const WatchEvent& event) {
    seen.push_back(event.entry.value);
    // A change made by a callback comes after the present event, not inside it.
    if (event.entry.value == "1") store->Put("a", "2", Soon());
    seen.push_back("end");
  });
  store->Put("a", "1", Soon());
  EXPECT_THAT(seen, ElementsAre("", "end", "1", "end", "2", "end"));
}

TEST(MemoryStoreTest, ACallbackHoldsNoMutex) {
  const auto store = NewMemoryStore();
  std::promise<int> held;
  bool first = true;
  const auto watch = store->WatchPrefix("", [&](const WatchEvent&) {
    if (std::exchange(first, false)) held.set_value(internal::Mutex::HeldByThisThread());
  });
  EXPECT_EQ(held.get_future().get(), 0);
}

}  // namespace
}  // namespace kv
