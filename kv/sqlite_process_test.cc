// The SQLite store shared by processes: counted exactly, pushed to, stopped, killed.
//
// This program runs itself again, as a child that does what its first argument says.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kv/sqlite_store.h"
#include "kv/test_util.h"

extern char** environ;

namespace kv {
namespace {

// --- The children. Each says "ready", does its work at the next line of its input, and answers in lines. ---

std::shared_ptr<Store> OpenOrExit(const std::string& path) {
  SqliteStoreOptions options;
  options.safety_poll = absl::InfiniteDuration();
  auto store = OpenSqliteStore(path, Soon(), options);
  if (store.ok()) return *store;
  std::cout << store.status() << std::endl;
  _exit(2);
}

void AwaitCue() {
  std::cout << "ready" << std::endl;
  std::string line;
  std::getline(std::cin, line);
}

// Adds one to the number at "counter", `times` times.
int Count(const std::string& path, int times) {
  const auto store = OpenOrExit(path);
  AwaitCue();
  for (int done = 0; done < times;) {
    const auto entry = store->Get("counter", In(absl::Minutes(2)));
    if (!entry.ok()) {
      std::cout << entry.status() << std::endl;
      return 1;
    }
    const std::string next = std::to_string(std::atoi(entry->value.c_str()) + 1);
    const WriteResult result = store->Update("counter", next, entry->revision, In(absl::Minutes(2)));
    if (result.ok()) {
      ++done;
    } else if (!absl::IsAborted(result.status)) {
      std::cout << result.status << std::endl;
      return 1;
    }
  }
  std::cout << "done" << std::endl;
  return 0;
}

// Writes 1, 2, 3... to `key`, and says each number when it has been acknowledged, until it is killed.
int WriteForEver(const std::string& path, const std::string& key) {
  const auto store = OpenOrExit(path);
  AwaitCue();
  for (int i = 1;; ++i) {
    const WriteResult result = store->Put(key, std::to_string(i), In(absl::Minutes(2)));
    if (!result.ok()) return 1;
    std::cout << i << std::endl;
  }
}

// Puts each line of its input to `key`.
int WriteLines(const std::string& path, const std::string& key) {
  const auto store = OpenOrExit(path);
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    if (!store->Put(key, line, Soon()).ok()) return 1;
  }
  return 0;
}

// Another program: holds the write lock from the start to the cue.
int HoldLock(const std::string& path) {
  sqlite3* db = nullptr;
  if (sqlite3_open(path.c_str(), &db) != SQLITE_OK) return 1;
  if (sqlite3_exec(db, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) != SQLITE_OK) return 1;
  // Part of a write, so that a kill leaves something to be thrown away.
  sqlite3_exec(db, "UPDATE entries SET value = CAST('torn' AS BLOB)", nullptr, nullptr, nullptr);
  AwaitCue();
  sqlite3_exec(db, "ROLLBACK", nullptr, nullptr, nullptr);
  sqlite3_close(db);
  return 0;
}

int RunChild(const std::vector<std::string>& arguments) {
  const std::string& role = arguments[0];
  if (role == "count") return Count(arguments[1], std::atoi(arguments[2].c_str()));
  if (role == "write-for-ever") return WriteForEver(arguments[1], arguments[2]);
  if (role == "write-lines") return WriteLines(arguments[1], arguments[2]);
  if (role == "hold-lock") return HoldLock(arguments[1]);
  return 3;
}

// --- The parent. ---

class Child {
 public:
  explicit Child(std::vector<std::string> arguments) {
    int to_child[2];
    int from_child[2];
    EXPECT_EQ(pipe2(to_child, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(from_child, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to_child[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from_child[1], 1);
    arguments.insert(arguments.begin(), {"sqlite_process_test", "--child"});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    // By its real path, which gives the child its name.
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    EXPECT_EQ(posix_spawn(&pid_, self.c_str(), &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(to_child[0]);
    close(from_child[1]);
    input_ = to_child[1];
    output_ = fdopen(from_child[0], "r");
  }
  ~Child() {
    if (pid_ > 0 && !reaped_) {
      kill(pid_, SIGKILL);
      Wait();
    }
    if (input_ >= 0) close(input_);
    fclose(output_);
  }

  pid_t pid() const { return pid_; }
  void Signal(int signal) { EXPECT_EQ(kill(pid_, signal), 0); }
  void Say(const std::string& line) {
    const std::string text = line + "\n";
    EXPECT_EQ(write(input_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // The next line of the child's; nothing at its end.
  std::optional<std::string> Line() {
    std::string line;
    for (int c; (c = fgetc(output_)) != EOF;) {
      if (c == '\n') return line;
      line += static_cast<char>(c);
    }
    return std::nullopt;
  }
  // The exit code, or minus the signal.
  int Wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    reaped_ = true;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
  }
  void AwaitStopped() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status));
  }

 private:
  pid_t pid_ = -1;
  bool reaped_ = false;
  int input_ = -1;
  FILE* output_ = nullptr;
};

class SqliteProcessTest : public testing::Test {
 protected:
  std::shared_ptr<Store> Open(absl::Duration safety_poll = absl::InfiniteDuration()) {
    SqliteStoreOptions options;
    options.safety_poll = safety_poll;
    auto store = OpenSqliteStore(path_, Soon(), options);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *store : nullptr;
  }

  TempDir folder_;
  const std::string path_ = folder_ / "coord.db";
};

TEST_F(SqliteProcessTest, EightProcessesCountExactly) {
  constexpr int kProcesses = 8;
  constexpr int kTimes = 200;
  const auto store = Open();
  ASSERT_TRUE(store->Create("counter", "0", Soon()).ok());
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.push_back(std::make_unique<Child>(std::vector<std::string>{"count", path_, std::to_string(kTimes)}));
  }
  for (const auto& child : children) ASSERT_EQ(child->Line(), "ready");
  for (const auto& child : children) child->Say("go");
  for (const auto& child : children) {
    EXPECT_EQ(child->Line(), "done");
    EXPECT_EQ(child->Wait(), 0);
  }
  EXPECT_EQ(store->Get("counter", Soon())->value, std::to_string(kProcesses * kTimes));
}

TEST_F(SqliteProcessTest, ProcessesThatMakeTheFileAtOnceShareIt) {
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < 8; ++i) {
    children.push_back(
        std::make_unique<Child>(std::vector<std::string>{"write-lines", path_, "key-" + std::to_string(i)}));
  }
  for (const auto& child : children) EXPECT_EQ(child->Line(), "ready");
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  for (size_t i = 0; i < children.size(); ++i) children[i]->Say("value-" + std::to_string(i));
  for (size_t i = 0; i < children.size(); ++i) EXPECT_TRUE(recorder.AwaitValue("value-" + std::to_string(i)));
}

// With the safety poll off, an event can only come by the bell.
TEST_F(SqliteProcessTest, AWriteOfAnotherProcessIsPushed) {
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("key", recorder.Callback());
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kSynced));
  Child writer({"write-lines", path_, "key"});
  ASSERT_EQ(writer.Line(), "ready");
  for (int i = 0; i < 50; ++i) {
    writer.Say(std::to_string(i));
    ASSERT_TRUE(recorder.AwaitValue(std::to_string(i)));
  }
}

TEST_F(SqliteProcessTest, AProgramThatHoldsTheLockIsNamed) {
  const auto store = Open();
  const Revision revision = store->Put("a", "1", Soon()).revision;
  Child holder({"hold-lock", path_});
  ASSERT_EQ(holder.Line(), "ready");
  const WriteResult result = store->Put("a", "2", In(absl::Milliseconds(300)));
  EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
  EXPECT_THAT(std::string(result.status.message()),
              testing::MatchesRegex("sqlite: .*/coord.db is locked by process " + std::to_string(holder.pid()) +
                                    " \\(sqlite_process_\\), which has not committed for 0.[2-9] s"));
  EXPECT_EQ(store->Get("a", Soon())->revision, revision) << "reads go on";
  holder.Say("go");
  EXPECT_EQ(holder.Wait(), 0);
  EXPECT_TRUE(store->Update("a", "2", revision, Soon()).ok());
}

TEST_F(SqliteProcessTest, AProcessStoppedInsideACommitIsNamedAndAllGoesOnWhenItContinues) {
  const auto store = Open();
  const Revision revision = store->Put("a", "1", Soon()).revision;
  Child holder({"hold-lock", path_});
  ASSERT_EQ(holder.Line(), "ready");
  holder.Signal(SIGSTOP);
  holder.AwaitStopped();
  const WriteResult result = store->Put("a", "2", In(absl::Milliseconds(200)));
  EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
  EXPECT_THAT(std::string(result.status.message()), testing::EndsWith("; it is stopped: continue it (kill -CONT " +
                                                                      std::to_string(holder.pid()) + ") or end it"));
  holder.Say("go");
  holder.Signal(SIGCONT);
  EXPECT_EQ(holder.Wait(), 0);
  EXPECT_TRUE(store->Update("a", "2", revision, Soon()).ok());
}

TEST_F(SqliteProcessTest, AStoppedProcessThatIsKilledLeavesNothingHalfDone) {
  const auto store = Open();
  const Revision revision = store->Put("a", "1", Soon()).revision;
  Child holder({"hold-lock", path_});
  ASSERT_EQ(holder.Line(), "ready");
  holder.Signal(SIGSTOP);
  holder.AwaitStopped();
  // One that waits already goes on as soon as the lock is free.
  std::thread waiting([&] { EXPECT_TRUE(store->Put("b", "1", In(absl::Minutes(1))).ok()); });
  holder.Signal(SIGKILL);
  EXPECT_EQ(holder.Wait(), -SIGKILL);
  waiting.join();
  const auto entry = store->Get("a", Soon());
  EXPECT_EQ(entry->value, "1");
  EXPECT_TRUE(store->Update("a", "2", revision, Soon()).ok());
}

TEST_F(SqliteProcessTest, WhatWasAcknowledgedSurvivesSigkill) {
  for (int round = 0; round < 5; ++round) {
    std::vector<std::unique_ptr<Child>> writers;
    for (int i = 0; i < 3; ++i) {
      writers.push_back(
          std::make_unique<Child>(std::vector<std::string>{"write-for-ever", path_, "key-" + std::to_string(i)}));
    }
    for (const auto& writer : writers) ASSERT_EQ(writer->Line(), "ready");
    for (const auto& writer : writers) writer->Say("go");
    std::vector<int> acknowledged(writers.size(), 0);
    for (size_t i = 0; i < writers.size(); ++i) {
      for (int lines = 0; lines < 20 + round * 7; ++lines) acknowledged[i] = std::atoi(writers[i]->Line()->c_str());
    }
    for (const auto& writer : writers) writer->Signal(SIGKILL);
    for (size_t i = 0; i < writers.size(); ++i) {
      while (const auto line = writers[i]->Line())
        acknowledged[i] = std::max(acknowledged[i], std::atoi(line->c_str()));
      EXPECT_EQ(writers[i]->Wait(), -SIGKILL);
    }
    // Nobody has the file open: this one recovers it.
    const auto store = Open();
    for (size_t i = 0; i < writers.size(); ++i) {
      const auto entry = store->Get("key-" + std::to_string(i), Soon());
      ASSERT_TRUE(entry.ok()) << entry.status();
      // One more may have been committed and not been said.
      EXPECT_GE(std::atoi(entry->value.c_str()), acknowledged[i]);
      EXPECT_LE(std::atoi(entry->value.c_str()), acknowledged[i] + 1);
    }
  }
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &db), SQLITE_OK);
  std::string verdict;
  sqlite3_exec(
      db, "PRAGMA integrity_check",
      [](void* text, int, char** values, char**) {
        *static_cast<std::string*>(text) = values[0];
        return 0;
      },
      &verdict, nullptr);
  sqlite3_close(db);
  EXPECT_EQ(verdict, "ok");
}

TEST_F(SqliteProcessTest, AWriterKilledBeforeTheBellIsFoundByTheSafetyPoll) {
  const auto store = Open(absl::Milliseconds(10));
  Recorder recorder;
  const auto watch = store->WatchPrefix("key", recorder.Callback());
  Child writer({"write-for-ever", path_, "key"});
  ASSERT_EQ(writer.Line(), "ready");
  writer.Say("go");
  for (int lines = 0; lines < 10; ++lines) writer.Line();
  writer.Signal(SIGKILL);
  writer.Wait();
  EXPECT_TRUE(recorder.AwaitValue(store->Get("key", Soon())->value));
}

TEST_F(SqliteProcessTest, ManyWatchingProcessesAllHear) {
  // The children write; this process holds many stores, each with a watch thread of its own.
  constexpr int kStores = 32;
  std::vector<std::shared_ptr<Store>> stores;
  std::vector<std::unique_ptr<Recorder>> recorders;
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < kStores; ++i) {
    stores.push_back(Open());
    recorders.push_back(std::make_unique<Recorder>());
    auto watch = stores.back()->WatchPrefix("key", recorders.back()->Callback());
    ASSERT_TRUE(watch.ok());
    watches.push_back(*std::move(watch));
  }
  Child writer({"write-lines", path_, "key"});
  ASSERT_EQ(writer.Line(), "ready");
  for (const auto& recorder : recorders) ASSERT_TRUE(recorder->AwaitKind(WatchKind::kSynced));
  writer.Say("hello");
  for (const auto& recorder : recorders) EXPECT_TRUE(recorder->AwaitValue("hello"));
  watches.clear();
}

}  // namespace

int ChildMain(const std::vector<std::string>& arguments) { return RunChild(arguments); }

}  // namespace kv

int main(int argc, char** argv) {
  if (argc > 2 && std::string(argv[1]) == "--child") return kv::ChildMain({argv + 2, argv + argc});
  testing::InitGoogleMock(&argc, argv);
  return RUN_ALL_TESTS();
}
