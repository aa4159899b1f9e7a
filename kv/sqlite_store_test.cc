// The SQLite store within one process: what it makes of files, and what it says about them.

#include "kv/sqlite_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kv/test_util.h"

namespace kv {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// A plain connection, as another program would have it.
class Raw {
 public:
  explicit Raw(const std::string& path) {
    EXPECT_EQ(sqlite3_open(path.c_str(), &db_), SQLITE_OK);
    sqlite3_busy_timeout(db_, 20000);
  }
  ~Raw() { sqlite3_close(db_); }
  void Run(const std::string& sql) {
    EXPECT_EQ(sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db_);
  }
  int64_t Int(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    EXPECT_EQ(sqlite3_prepare_v2(db_, sql.c_str(), -1, &statement, nullptr), SQLITE_OK) << sqlite3_errmsg(db_);
    EXPECT_EQ(sqlite3_step(statement), SQLITE_ROW);
    const int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
  }

 private:
  sqlite3* db_ = nullptr;
};

class SqliteStoreTest : public testing::Test {
 protected:
  std::shared_ptr<Store> Open(SqliteStoreOptions options = {}) {
    auto store = OpenSqliteStore(path_, Soon(), std::move(options));
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? *store : nullptr;
  }
  std::string OpenError(absl::StatusCode code, SqliteStoreOptions options = {}) {
    const auto store = OpenSqliteStore(path_, Soon(), std::move(options));
    EXPECT_EQ(store.status().code(), code) << store.status();
    return std::string(store.status().message());
  }
  // Calls `store` until it works again; the cause is gone.
  static bool ComesBack(Store& store, const std::string& key) {
    const absl::Time until = In(absl::Seconds(20));
    while (absl::Now() < until) {
      const auto entry = store.Get(key, Soon());
      if (entry.ok() || absl::IsNotFound(entry.status())) return true;
      EXPECT_TRUE(absl::IsUnavailable(entry.status())) << entry.status();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  TempDir folder_;
  const std::string path_ = folder_ / "coord.db";
};

// --- Opening. ---

TEST_F(SqliteStoreTest, SurvivesReopening) {
  const Revision revision = Open()->Put("a", "1", Soon()).revision;
  const auto store = Open();
  const auto entry = store->Get("a", Soon());
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->value, "1");
  EXPECT_EQ(entry->revision, revision);
  EXPECT_GT(store->Put("b", "1", Soon()).revision, revision);
}

TEST_F(SqliteStoreTest, RevisionsGrowOverDeletesAndReopening) {
  auto store = Open();
  const Revision first = store->Create("a", "1", Soon()).revision;
  const Revision deleted = store->Delete("a", first, Soon()).revision;
  EXPECT_GT(deleted, first);
  store.reset();
  store = Open();
  EXPECT_GT(store->Create("a", "1", Soon()).revision, deleted);
}

TEST_F(SqliteStoreTest, AnEmptyFileIsTaken) {
  std::ofstream(path_).close();
  EXPECT_TRUE(Open()->Put("a", "1", Soon()).ok());
}

TEST_F(SqliteStoreTest, AFileThatIsNoDatabaseIsRefusedAndLeftAlone) {
  const std::string text(5000, 'x');
  std::ofstream(path_) << text;
  EXPECT_EQ(OpenError(absl::StatusCode::kFailedPrecondition),
            "sqlite: " + path_ + " is not a SQLite database; choose another path, or move the file away");
  std::string now;
  std::ifstream(path_) >> now;
  EXPECT_EQ(now, text);
  EXPECT_FALSE(fs::exists(path_ + "-bell"));
}

TEST_F(SqliteStoreTest, ADatabaseOfAnotherProgramIsRefusedAndLeftAlone) {
  Raw(path_).Run("CREATE TABLE theirs(x); PRAGMA application_id=77");
  const auto size = fs::file_size(path_);
  EXPECT_EQ(OpenError(absl::StatusCode::kFailedPrecondition),
            "sqlite: " + path_ +
                " belongs to another program (its application id is 77); nothing was changed in it;"
                " choose another path");
  EXPECT_EQ(fs::file_size(path_), size);
  EXPECT_EQ(Raw(path_).Int("SELECT count(*) FROM sqlite_master"), 1);
  EXPECT_FALSE(fs::exists(path_ + "-bell"));
  EXPECT_FALSE(fs::exists(path_ + "-wal"));
}

TEST_F(SqliteStoreTest, ADatabaseOfAnotherProgramWithoutAnIdIsRefused) {
  Raw(path_).Run("CREATE TABLE theirs(x)");
  EXPECT_THAT(OpenError(absl::StatusCode::kFailedPrecondition),
              HasSubstr("belongs to another program (its application id is 0)"));
}

TEST_F(SqliteStoreTest, ANewerSchemaIsRefused) {
  Open();
  Raw(path_).Run("PRAGMA user_version=2");
  EXPECT_EQ(OpenError(absl::StatusCode::kFailedPrecondition),
            "sqlite: " + path_ +
                " has schema 2, made by a newer version of this program, which knows schema 1; upgrade"
                " this program or choose another path");
}

TEST_F(SqliteStoreTest, ADamagedFileIsDataLoss) {
  auto store = Open();
  for (int i = 0; i < 200; ++i) store->Put("key-" + std::to_string(i), std::string(500, 'v'), Soon());
  store.reset();
  const auto size = fs::file_size(path_);
  ASSERT_GT(size, 16384u);
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);
    file << std::string(size - 4096, '\x5a');
  }
  EXPECT_THAT(
      OpenError(absl::StatusCode::kDataLoss),
      HasSubstr(path_ + " is damaged (database disk image is malformed); stop every program that uses it, keep a"
                        " copy, then put a backup in its place or remove it"));
}

TEST_F(SqliteStoreTest, DamageFoundLaterIsDataLossAndEndsWithTheFile) {
  auto store = Open();
  for (int i = 0; i < 200; ++i) store->Put("key-" + std::to_string(i), std::string(500, 'v'), Soon());
  store.reset();
  {
    // The last pages: entries, while the schema in front stays whole.
    const auto size = fs::file_size(path_);
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(size - 8 * 4096));
    file << std::string(8 * 4096, '\x5a');
  }
  SqliteStoreOptions options;
  options.recreate_after = absl::ZeroDuration();
  store = Open(options);
  const auto entries = store->List("", Soon());
  EXPECT_TRUE(absl::IsDataLoss(entries.status())) << entries.status();
  EXPECT_THAT(std::string(entries.status().message()), HasSubstr("keep a copy"));
  fs::remove(path_);
  ASSERT_TRUE(ComesBack(*store, "key-0"));
  EXPECT_TRUE(store->List("", Soon())->empty());
}

TEST_F(SqliteStoreTest, NetworkFileSystemsAreRefused) {
  SqliteStoreOptions options;
  const std::vector<std::pair<uint64_t, std::string>> types = {{0x6969, "NFS"},      {0xFF534D42, "CIFS"},
                                                               {0xFE534D42, "SMB2"}, {0x517B, "SMB"},
                                                               {0x65735546, "FUSE"}, {0x01021997, "9P"}};
  for (const auto& [type, name] : types) {
    options.file_system_type = [type = type](const std::string&) { return type; };
    EXPECT_EQ(OpenError(absl::StatusCode::kFailedPrecondition, options),
              "sqlite: " + path_ + " is on a file system of type " + name +
                  ", where locks between processes do not hold; choose a path on a local disk");
    EXPECT_FALSE(fs::exists(path_));
  }
  options.file_system_type = [this](const std::string& asked) {
    EXPECT_EQ(asked, folder_.path());
    return 0xEF53;  // ext4
  };
  Open(options);
}

TEST_F(SqliteStoreTest, PathsThatCannotBe) {
  const auto error = [](const std::string& path, absl::StatusCode code) {
    const auto store = OpenSqliteStore(path, Soon());
    EXPECT_EQ(store.status().code(), code) << store.status();
    return std::string(store.status().message());
  };
  EXPECT_EQ(error(folder_ / "", absl::StatusCode::kInvalidArgument),
            "sqlite: \"" + folder_.path() + "/\" names a folder; name the database file");
  EXPECT_EQ(error(folder_.path(), absl::StatusCode::kUnavailable),
            "sqlite: " + folder_.path() + " is a folder, not a database; move it away or choose another path");
  EXPECT_EQ(error(folder_ / "no/coord.db", absl::StatusCode::kUnavailable),
            "sqlite: " + (folder_ / "no/coord.db") +
                ": its folder cannot be used; make it or choose another path (No such file or directory)");
  fs::create_symlink(folder_ / "nowhere", folder_ / "link");
  EXPECT_EQ(error(folder_ / "link", absl::StatusCode::kUnavailable),
            "sqlite: " + (folder_ / "link") + " is a symbolic link that leads nowhere");
  EXPECT_EQ(error(":memory:", absl::StatusCode::kInvalidArgument),
            "sqlite: a database in memory cannot be shared; use the store memory:");
}

TEST_F(SqliteStoreTest, ASymbolicLinkLeadsToTheSameStore) {
  const auto store = Open();
  store->Put("a", "1", Soon());
  fs::create_symlink(path_, folder_ / "link.db");
  const auto linked = OpenSqliteStore(folder_ / "link.db", Soon());
  ASSERT_TRUE(linked.ok()) << linked.status();
  EXPECT_EQ((*linked)->Get("a", Soon())->value, "1");
}

TEST_F(SqliteStoreTest, ManyOpenersOfANewFileAgree) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([this, i] {
      const auto store = Open();
      ASSERT_NE(store, nullptr);
      EXPECT_TRUE(store->Create("key-" + std::to_string(i), "v", Soon()).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Open()->List("", Soon())->size(), 8u);
  EXPECT_EQ(Raw(path_).Int("SELECT count(*) FROM changes WHERE op = 2"), 1) << "made more than once";
}

TEST_F(SqliteStoreTest, EntriesCanBeReadInSqlitesOwnTool) {
  Open()->Put("demo/mutex/m", "{\"owner\":1}", Soon());
  EXPECT_EQ(Raw(path_).Int("SELECT count(*) FROM entries WHERE key = 'demo/mutex/m' AND value = "
                           "CAST('{\"owner\":1}' AS BLOB) AND typeof(key) = 'text'"),
            1);
}

// --- Full, and locked. ---

TEST_F(SqliteStoreTest, AFullStoreSaysSoAndTakesWritesAgainWithRoom) {
  SqliteStoreOptions options;
  options.max_pages = 30;
  const auto store = Open(options);
  ASSERT_TRUE(store->Put("a", "1", Soon()).ok());
  WriteResult result;
  int written = 0;
  for (; written < 100; ++written) {
    result = store->Put("big-" + std::to_string(written), std::string(4000, 'v'), Soon());
    if (!result.ok()) break;
  }
  EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
  EXPECT_EQ(result.status.message(),
            "sqlite: " + path_ + " cannot grow: the disk is full (database or disk is full); make room");
  EXPECT_TRUE(absl::IsNotFound(store->Get("big-" + std::to_string(written), Soon()).status()));
  EXPECT_EQ(store->Get("a", Soon())->value, "1");
  const auto entry = store->Get("big-0", Soon());
  EXPECT_TRUE(store->Delete("big-0", entry->revision, Soon()).ok());
  EXPECT_TRUE(store->Put("b", "small", Soon()).ok());
}

// A real full disk: a small tmpfs, where this process may mount one.
TEST_F(SqliteStoreTest, AFullDiskSaysSoAndLosesNothing) {
  const std::string disk = folder_ / "disk";
  fs::create_directory(disk);
  if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=512k") != 0) GTEST_SKIP() << "no right to mount a tmpfs";
  struct Unmount {
    const std::string& path;
    ~Unmount() { umount2(path.c_str(), MNT_DETACH); }
  };
  const Unmount unmount{disk};
  {
    const auto opened = OpenSqliteStore(disk + "/coord.db", Soon());
    ASSERT_TRUE(opened.ok()) << opened.status();
    Store& store = **opened;
    ASSERT_TRUE(store.Put("a", "acknowledged", Soon()).ok());
    std::ofstream filler(disk + "/filler");
    while (filler << std::string(4096, 'x') << std::flush) {
    }
    filler.close();
    std::string acknowledged = "acknowledged";
    WriteResult result;
    for (int i = 0; i < 1000; ++i) {
      const std::string value = std::to_string(i) + std::string(2000, 'v');
      result = store.Put("a", value, Soon());
      if (!result.ok()) break;
      acknowledged = value;
    }
    EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
    EXPECT_THAT(std::string(result.status.message()), HasSubstr("cannot grow: the disk is full"));
    EXPECT_EQ(store.Get("a", Soon())->value, acknowledged);
    fs::remove(disk + "/filler");
    EXPECT_TRUE(store.Put("a", "again", Soon()).ok());
    EXPECT_EQ(store.Get("a", Soon())->value, "again");
  }
}

TEST_F(SqliteStoreTest, AnotherHandleOfThisProcessThatHoldsTheLockIsNamed) {
  const auto store = Open();
  Raw other(path_);
  other.Run("BEGIN IMMEDIATE");
  const WriteResult result = store->Put("a", "1", In(absl::Milliseconds(150)));
  EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
  EXPECT_THAT(std::string(result.status.message()),
              testing::MatchesRegex("sqlite: .*coord.db is locked by another store of this process, which has not "
                                    "committed for 0.[1-9] s"));
  EXPECT_TRUE(absl::IsNotFound(store->Get("a", Soon()).status())) << "reads go on";
  other.Run("ROLLBACK");
  EXPECT_TRUE(store->Put("a", "1", Soon()).ok());
}

TEST_F(SqliteStoreTest, CallsThatQueueEndAtTheirOwnDeadlines) {
  const auto store = Open();
  Raw other(path_);
  other.Run("BEGIN IMMEDIATE");
  std::thread patient([&] { EXPECT_TRUE(store->Put("patient", "1", Soon()).ok()); });
  const absl::Time start = absl::Now();
  // The patient one holds the lane by now, or this one takes it; either way it ends in time.
  const WriteResult result = store->Put("hasty", "1", In(absl::Milliseconds(100)));
  EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
  other.Run("ROLLBACK");
  patient.join();
  EXPECT_TRUE(absl::IsNotFound(store->Get("hasty", Soon()).status())) << "an Unavailable write was applied later";
}

// --- The file goes away, and comes back. ---

TEST_F(SqliteStoreTest, AFolderInItsPlaceIsSaidAndAllGoesOnWhenItIsBack) {
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  const Revision revision = store->Put("a", "1", Soon()).revision;
  ASSERT_TRUE(recorder.AwaitValue("1"));
  fs::rename(path_, path_ + ".away");
  fs::create_directory(path_);
  const std::string sentence = "sqlite: " + path_ + " is a folder, not a database; move it away or choose another path";
  EXPECT_EQ(store->Get("a", Soon()).status(), absl::UnavailableError(sentence));
  EXPECT_EQ(store->Put("a", "2", Soon()).status, absl::UnavailableError(sentence));
  EXPECT_EQ(store->List("", Soon()).status(), absl::UnavailableError(sentence));
  fs::remove(path_);
  fs::rename(path_ + ".away", path_);
  ASSERT_TRUE(ComesBack(*store, "a"));
  EXPECT_EQ(store->Get("a", Soon())->revision, revision);
  EXPECT_TRUE(store->Update("a", "2", revision, Soon()).ok());
  ASSERT_TRUE(recorder.AwaitValue("2"));
  for (const WatchEvent& event : recorder.Events()) EXPECT_NE(event.kind, WatchKind::kEpochChanged);
}

// The log lies at the old path; what it holds goes into the file before the store lets go of it.
TEST_F(SqliteStoreTest, AMovedFileTakesItsLatestCommitsAlong) {
  auto store = Open();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(store->Put("a", std::to_string(i), Soon()).ok());
  fs::rename(path_, folder_ / "away.db");
  EXPECT_TRUE(absl::IsUnavailable(store->Put("a", "lost", Soon()).status));
  EXPECT_TRUE(absl::IsUnavailable(store->Get("a", Soon()).status()));
  const auto moved = OpenSqliteStore(folder_ / "away.db", Soon());
  ASSERT_TRUE(moved.ok()) << moved.status();
  EXPECT_EQ((*moved)->Get("a", Soon())->value, "9");
}

TEST_F(SqliteStoreTest, ARemovedFileIsMissedForAWhile) {
  SqliteStoreOptions options;
  options.recreate_after = absl::Hours(1);
  const auto store = Open(options);
  ASSERT_TRUE(store->Put("a", "1", Soon()).ok());
  fs::remove(path_);
  const absl::Status gone = absl::UnavailableError(
      "sqlite: " + path_ + " is gone; unless it comes back, a new database is made there after 1h");
  EXPECT_EQ(store->Put("a", "2", Soon()).status, gone);
  EXPECT_EQ(store->Get("a", Soon()).status(), gone);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(SqliteStoreTest, ARemovedFileIsMadeAnewAsAnotherIncarnation) {
  SqliteStoreOptions options;
  options.recreate_after = absl::ZeroDuration();
  const auto store = Open(options);
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  const Revision old = store->Put("a", "1", Soon()).revision;
  ASSERT_TRUE(recorder.AwaitValue("1"));
  fs::remove(path_);
  ASSERT_TRUE(ComesBack(*store, "a"));
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kEpochChanged));
  EXPECT_TRUE(absl::IsNotFound(store->Update("a", "2", old, Soon()).status));
  const WriteResult fresh = store->Create("a", "3", Soon());
  ASSERT_TRUE(fresh.ok()) << fresh.status;
  EXPECT_GT(fresh.revision, old);
  ASSERT_TRUE(recorder.AwaitValue("3"));
}

TEST_F(SqliteStoreTest, AMissingFolderIsUnavailableAndNeverMade) {
  fs::create_directory(folder_ / "sub");
  SqliteStoreOptions options;
  options.recreate_after = absl::ZeroDuration();
  const auto opened = OpenSqliteStore(folder_ / "sub/coord.db", Soon(), options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  Store& store = **opened;
  const Revision revision = store.Put("a", "1", Soon()).revision;
  fs::rename(folder_ / "sub", folder_ / "gone");
  EXPECT_EQ(store.Put("a", "2", Soon()).status,
            absl::UnavailableError("sqlite: " + (folder_ / "sub/coord.db") +
                                   ": its folder cannot be used; make it or choose another path (No such file or "
                                   "directory)"));
  EXPECT_FALSE(fs::exists(folder_ / "sub"));
  fs::rename(folder_ / "gone", folder_ / "sub");
  ASSERT_TRUE(ComesBack(store, "a"));
  EXPECT_EQ(store.Get("a", Soon())->revision, revision);
}

// A backup put back holds entries at revisions that were seen; none of them may match.
TEST_F(SqliteStoreTest, ARestoredBackupIsAnotherIncarnation) {
  const auto store = Open();
  Recorder recorder;
  const Revision kept = store->Put("kept", "1", Soon()).revision;
  Raw(path_).Run("VACUUM INTO '" + (folder_ / "backup.db") + "'");
  const auto watch = store->WatchPrefix("", recorder.Callback());
  const Revision lost = store->Put("kept", "2", Soon()).revision;
  ASSERT_TRUE(recorder.AwaitValue("2"));
  fs::rename(folder_ / "backup.db", path_);
  ASSERT_TRUE(ComesBack(*store, "kept"));
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kEpochChanged));
  const auto entry = store->Get("kept", Soon());
  ASSERT_TRUE(entry.ok()) << entry.status();
  EXPECT_EQ(entry->value, "1");
  EXPECT_GT(entry->revision, lost);
  EXPECT_TRUE(absl::IsAborted(store->Update("kept", "3", kept, Soon()).status));
  EXPECT_TRUE(absl::IsAborted(store->Update("kept", "3", lost, Soon()).status));
  EXPECT_TRUE(store->Update("kept", "3", entry->revision, Soon()).ok());
}

// SQLite alone would replay the log of the lost file into the one that takes its place.
TEST_F(SqliteStoreTest, ALogIsNotReplayedIntoAnotherFile) {
  SqliteStoreOptions options;
  options.recreate_after = absl::ZeroDuration();
  const auto store = Open(options);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(store->Put("old-" + std::to_string(i), std::string(1000, 'o'), Soon()).ok());
  }
  fs::rename(path_, folder_ / "away.db");
  ASSERT_TRUE(ComesBack(*store, "a"));
  EXPECT_TRUE(store->List("", Soon())->empty());
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(store->Put("new-" + std::to_string(i), std::string(1000, 'n'), Soon()).ok());
  }
  // Back over the new one, whose log and index still lie there.
  fs::rename(folder_ / "away.db", path_);
  ASSERT_TRUE(fs::exists(path_ + "-wal"));
  ASSERT_TRUE(ComesBack(*store, "a"));
  const auto entries = store->List("", Soon());
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ(entries->size(), 50u);
  for (const KeyedEntry& each : *entries) EXPECT_EQ(each.entry.value, std::string(1000, 'o')) << each.key;
  // And for one that has no memory of what was there.
  const auto fresh = Open();
  EXPECT_EQ(fresh->List("", Soon())->size(), 50u);
  EXPECT_TRUE(fs::exists(path_ + "-wal.orphan"));
}

// The contents set back in the very file, which only the counter shows.
TEST_F(SqliteStoreTest, AStoreThatForgotIsRecognisedByItsCounter) {
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  const Revision first = store->Put("a", "1", Soon()).revision;
  const Revision second = store->Put("a", "2", Soon()).revision;
  ASSERT_TRUE(recorder.AwaitValue("2"));
  Raw(path_).Run("UPDATE entries SET value = '1', revision = revision - 1; DELETE FROM changes WHERE revision = " +
                 std::to_string(second));
  const WriteResult result = store->Update("a", "3", first, Soon());
  EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("has lost writes that were seen before"));
  EXPECT_TRUE(absl::IsAborted(store->Update("a", "3", first, Soon()).status));
  EXPECT_GT(store->Get("a", Soon())->revision, second);
  EXPECT_TRUE(recorder.AwaitKind(WatchKind::kEpochChanged));
}

// --- Watches. ---

TEST_F(SqliteStoreTest, AWatchThatLagsBehindTheLogGetsResync) {
  SqliteStoreOptions options;
  options.change_log = 10;
  const auto store = Open(options);
  Recorder recorder;
  std::mutex mutex;
  std::unique_lock<std::mutex> blocked(mutex);
  const auto watch = store->WatchPrefix("", [&](const WatchEvent& event) {
    recorder.Callback()(event);
    std::lock_guard<std::mutex> wait(mutex);
  });
  ASSERT_TRUE(recorder.AwaitCount(1));  // the callback of the empty snapshot's end, now blocked
  for (int i = 0; i < 600; ++i) ASSERT_TRUE(store->Put("a", std::to_string(i), Soon()).ok());
  blocked.unlock();
  ASSERT_TRUE(recorder.AwaitCount(4));
  store->Put("b", "x", Soon());
  ASSERT_TRUE(recorder.AwaitValue("x"));
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced", "resync", "put a=599", "synced", "put b=x"));
}

TEST_F(SqliteStoreTest, AWatchThatLagsWithinTheLogMissesNoDelete) {
  const auto store = Open();
  Recorder recorder;
  std::mutex mutex;
  std::unique_lock<std::mutex> blocked(mutex);
  const auto watch = store->WatchPrefix("", [&](const WatchEvent& event) {
    recorder.Callback()(event);
    std::lock_guard<std::mutex> wait(mutex);
  });
  ASSERT_TRUE(recorder.AwaitCount(1));
  const Revision first = store->Put("a", "1", Soon()).revision;
  store->Put("b", "1", Soon());
  store->Delete("a", first, Soon());
  store->Put("a", "2", Soon());
  store->Put("b", "2", Soon());
  blocked.unlock();
  ASSERT_TRUE(recorder.AwaitCount(4));
  // The first values were folded away; the delete was not.
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced", "delete a", "put a=2", "put b=2"));
}

TEST_F(SqliteStoreTest, TheChangeLogIsTrimmed) {
  SqliteStoreOptions options;
  options.change_log = 100;
  const auto store = Open(options);
  for (int i = 0; i < 1500; ++i) store->Put("a", "x", Soon());
  EXPECT_LE(Raw(path_).Int("SELECT count(*) FROM changes"), 100 + 256);
}

TEST_F(SqliteStoreTest, AStoreOfTheSameProcessIsPushedTo) {
  SqliteStoreOptions only_bell;
  only_bell.safety_poll = absl::InfiniteDuration();
  const auto one = Open(only_bell);
  const auto two = Open(only_bell);
  Recorder recorder;
  const auto watch = two->WatchPrefix("a", recorder.Callback());
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kSynced));
  for (int i = 0; i < 100; ++i) {
    one->Put("a", std::to_string(i), Soon());
    ASSERT_TRUE(recorder.AwaitValue(std::to_string(i)));
  }
}

TEST_F(SqliteStoreTest, WithoutABellTheSafetyPollFindsTheChange) {
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("a", recorder.Callback());
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kSynced));
  // A program that commits and rings no bell, as one that was killed between the two.
  Raw(path_).Run(
      "INSERT INTO changes(key, op) VALUES('a', 0); INSERT INTO entries SELECT 'a', CAST('silent' AS BLOB), "
      "max(revision), 0, 0 FROM changes");
  EXPECT_TRUE(recorder.AwaitValue("silent"));
  EXPECT_FALSE(store->Get("a", Soon())->age.has_value()) << "an entry that another clock stamped has no age";
}

TEST_F(SqliteStoreTest, NotUsableInTheChildOfAFork) {
  const auto store = Open();
  const pid_t child = fork();
  if (child == 0) {
    const absl::Status status = store->Put("a", "1", Soon()).status;
    _exit(absl::IsFailedPrecondition(status) &&
                  status.message() ==
                      "sqlite: this store was opened before a fork and cannot be used in the child "
                      "process; open it anew there"
              ? 0
              : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(store->Put("a", "1", Soon()).ok());
}

}  // namespace
}  // namespace kv
