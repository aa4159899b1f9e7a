// CountingStore, LoggingStore and FaultyStore.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kv/counting_store.h"
#include "kv/faulty_store.h"
#include "kv/logging_store.h"
#include "kv/memory_store.h"
#include "kv/test_util.h"

namespace kv {
namespace {

using testing::ElementsAre;
using testing::MatchesRegex;

TEST(CountingStoreTest, CountsByKindAndPrefix) {
  CountingStore store(NewMemoryStore());
  const Revision revision = store.Create("p/a", "12345", Soon()).revision;
  EXPECT_FALSE(store.Create("p/a", "1", Soon()).ok());
  EXPECT_TRUE(store.Update("p/a", "123", revision, Soon()).ok());
  EXPECT_TRUE(store.Put("q/b", "1", Soon()).ok());
  EXPECT_TRUE(store.Get("p/a", Soon()).ok());
  EXPECT_FALSE(store.Get("p/c", Soon()).ok());
  EXPECT_TRUE(store.List("p/", Soon()).ok());
  EXPECT_TRUE(store.Delete("p/a", 2, Soon()).ok());

  const CallCounts p = store.Snapshot("p/");
  EXPECT_EQ(ToString(p), "2 gets, 2 creates, 1 updates, 1 deletes, 1 lists, 2 failed, 21 bytes written, 6 bytes read");
  EXPECT_EQ(p.writes(), 4);
  EXPECT_EQ(p.reads(), 3);
  EXPECT_EQ(store.Snapshot().calls(), 8);
  EXPECT_EQ(store.Snapshot("q/").puts, 1);
  EXPECT_EQ(ToString(store.Snapshot("r/")), "no calls");

  const CallCounts before = store.Snapshot();
  EXPECT_TRUE(store.Get("q/b", Soon()).ok());
  EXPECT_EQ(ToString(store.Snapshot() - before), "1 gets, 1 bytes read");
  store.Reset();
  EXPECT_EQ(store.Snapshot().calls(), 0);
}

TEST(CountingStoreTest, CountsWatchesAndTheirEvents) {
  CountingStore store(NewMemoryStore());
  Recorder recorder;
  const auto watch = store.WatchPrefix("p/", recorder.Callback());
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kSynced));
  store.Put("p/a", "1", Soon());
  ASSERT_TRUE(recorder.AwaitValue("1"));
  EXPECT_EQ(store.Snapshot("p/").watches, 1);
  EXPECT_EQ(store.Snapshot("p/").events, 2);
}

TEST(LoggingStoreTest, OneLineACallAndNeverAValue) {
  std::vector<std::string> lines;
  LoggingStore store(NewMemoryStore(), [&](const std::string& line) { lines.push_back(line); });
  const Revision revision = store.Create("p/a", "secret-value", Soon()).revision;
  store.Create("p/a", "secret-value", Soon());
  store.Update("p/a", "secret-value2", revision, Soon());
  (void)store.Get("p/a", Soon());
  (void)store.Get("p/\"b", Soon());
  (void)store.List("p/", Soon());
  store.Delete("p/a", 2, Soon());
  EXPECT_THAT(lines,
              ElementsAre(MatchesRegex(R"re(create "p/a" 12 bytes -> OK, revision 1, in [0-9]+us)re"),
                          MatchesRegex(R"re(create "p/a" 12 bytes -> ALREADY_EXISTS: .*, now at 1, in [0-9]+us)re"),
                          MatchesRegex(R"re(update "p/a" 13 bytes at 1 -> OK, revision 2, in [0-9]+us)re"),
                          MatchesRegex(R"re(get "p/a" -> OK, 13 bytes at 2, in [0-9]+us)re"),
                          MatchesRegex(R"re(get "p/\\"b" -> NOT_FOUND: .*, in [0-9]+us)re"),
                          MatchesRegex(R"re(list "p/" -> OK, 1 entries, in [0-9]+us)re"),
                          MatchesRegex(R"re(delete "p/a" at 2 -> OK, revision 3, in [0-9]+us)re")));
  for (const std::string& line : lines) EXPECT_THAT(line, testing::Not(testing::HasSubstr("secret")));
}

TEST(LoggingStoreTest, LogsEvents) {
  std::mutex mutex;
  std::vector<std::string> lines;
  LoggingStore store(NewMemoryStore(), [&](const std::string& line) {
    std::lock_guard<std::mutex> lock(mutex);
    lines.push_back(line);
  });
  Recorder recorder;
  auto watch = store.WatchPrefix("p/", recorder.Callback());
  store.Put("p/a", "secret-value", Soon());
  ASSERT_TRUE(recorder.AwaitValue("secret-value"));
  watch->reset();
  EXPECT_THAT(lines, testing::Contains("event \"p/\": put \"p/a\" 12 bytes at 1"));
}

// A hook that gives `fault` for writes and nothing else.
FaultyStore::Hook OnWrites(Fault fault) {
  return [fault](const FaultyCall& call) { return call.write() ? fault : Fault::kNone; };
}

TEST(FaultyStoreTest, FailBeforeAppliesNothing) {
  FaultyStore store(NewMemoryStore());
  store.SetHook([](const FaultyCall&) { return Fault::kFailBefore; });
  EXPECT_EQ(store.Put("a", "1", Soon()).status,
            absl::UnavailableError("faulty: the store cannot be reached (injected)"));
  EXPECT_TRUE(absl::IsUnavailable(store.Get("a", Soon()).status()));
  EXPECT_TRUE(absl::IsUnavailable(store.List("", Soon()).status()));
  EXPECT_TRUE(absl::IsUnavailable(store.WatchPrefix("", [](const WatchEvent&) {}).status()));
  store.SetHook(nullptr);
  EXPECT_TRUE(absl::IsNotFound(store.Get("a", Soon()).status()));
}

TEST(FaultyStoreTest, DropReplyAppliesAndDoesNotTell) {
  FaultyStore store(NewMemoryStore());
  store.SetHook(OnWrites(Fault::kDropReply));
  const WriteResult result = store.Create("a", "1", Soon());
  EXPECT_EQ(result.status, absl::DeadlineExceededError("faulty: the reply was lost (injected)"));
  EXPECT_EQ(result.revision, 0u);
  EXPECT_EQ(store.Get("a", Soon())->value, "1");
}

TEST(FaultyStoreTest, ApplyLateAppliesWhenReleasedAndOnlyIfItStillCan) {
  FaultyStore store(NewMemoryStore());
  const Revision revision = store.Create("a", "1", Soon()).revision;
  store.SetHook(OnWrites(Fault::kApplyLate));
  EXPECT_TRUE(absl::IsDeadlineExceeded(store.Update("a", "late", revision, Soon()).status));
  EXPECT_TRUE(absl::IsDeadlineExceeded(store.Update("a", "later", revision, Soon()).status));
  EXPECT_EQ(store.held(), 2u);
  EXPECT_EQ(store.Get("a", Soon())->value, "1");
  const std::vector<WriteResult> results = store.ReleaseHeld();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_TRUE(results[0].ok());
  EXPECT_TRUE(absl::IsAborted(results[1].status));
  EXPECT_EQ(store.Get("a", Soon())->value, "late");
  EXPECT_TRUE(absl::IsDeadlineExceeded(store.Put("a", "lost", Soon()).status));
  store.DropHeld();
  EXPECT_TRUE(store.ReleaseHeld().empty());
}

TEST(FaultyStoreTest, BlockHoldsTheCallerUntilUnblock) {
  FaultyStore store(NewMemoryStore());
  store.SetHook(OnWrites(Fault::kBlock));
  WriteResult result;
  std::thread writer([&] { result = store.Put("a", "1", Soon()); });
  while (store.blocked() == 0) std::this_thread::yield();
  EXPECT_TRUE(absl::IsNotFound(store.Get("a", Soon()).status()));
  store.Unblock();
  writer.join();
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(store.Get("a", Soon())->value, "1");
  EXPECT_EQ(store.Put("a", "2", In(absl::Milliseconds(1))).status,
            absl::UnavailableError("faulty: blocked until the deadline (injected)"));
  EXPECT_EQ(store.Get("a", Soon())->value, "1");
}

TEST(FaultyStoreTest, AHookSeesKindKeyAndNumber) {
  FaultyStore store(NewMemoryStore());
  std::vector<std::string> calls;
  store.SetHook([&](const FaultyCall& call) {
    calls.push_back(std::to_string(call.number) + " " + call.key + (call.write() ? " write" : ""));
    return call.number == 2 ? Fault::kFailBefore : Fault::kNone;
  });
  EXPECT_TRUE(store.Put("a", "1", Soon()).ok());
  EXPECT_FALSE(store.Put("b", "1", Soon()).ok());
  EXPECT_TRUE(store.Get("a", Soon()).ok());
  EXPECT_THAT(calls, ElementsAre("1 a write", "2 b write", "3 a"));
}

// A base that delivers on the spot, so that these tests have one thread.
std::shared_ptr<Store> ImmediateStore() {
  MemoryStoreOptions options;
  options.executor = [](const std::function<void()>& task) { task(); };
  return NewMemoryStore(options);
}

TEST(FaultyStoreTest, PausedEventsComeLaterAndInOrder) {
  FaultyStore store(ImmediateStore());
  Recorder recorder;
  auto watch = store.WatchPrefix("", recorder.Callback());
  store.PauseWatches();
  store.Put("a", "1", Soon());
  store.Put("a", "2", Soon());
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced"));
  store.ResumeWatches();
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced", "put a=1", "put a=2"));
  store.PauseWatches();
  store.Put("a", "3", Soon());
  watch->reset();
  store.ResumeWatches();
  EXPECT_EQ(recorder.Events().size(), 3u) << "an event came after the end of its watch";
}

TEST(FaultyStoreTest, DroppedEventsAreMadeUpForByAResync) {
  FaultyStore store(ImmediateStore());
  Recorder recorder;
  const auto watch = store.WatchPrefix("", recorder.Callback());
  store.SetEventFilter([](const WatchEvent& event) { return event.kind != WatchKind::kPut; });
  store.Put("a", "1", Soon());
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced"));
  store.SetEventFilter(nullptr);
  store.Interrupt(WatchKind::kResync);
  store.Put("a", "2", Soon());
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced", "resync", "put a=1", "synced", "put a=2"));
  store.Interrupt(WatchKind::kEpochChanged);
  EXPECT_THAT(Texts(recorder.Events()),
              ElementsAre("synced", "resync", "put a=1", "synced", "put a=2", "epoch changed", "put a=2", "synced"));
}

}  // namespace
}  // namespace kv
