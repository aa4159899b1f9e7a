#include "kv/open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <string>

#include "kv/test_util.h"

namespace kv {
namespace {

using testing::HasSubstr;

std::string OpenError(const std::string& url, absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  const auto store = Open(url);
  EXPECT_EQ(store.status().code(), code) << store.status();
  return std::string(store.status().message());
}

TEST(OpenTest, Refusals) {
  EXPECT_EQ(OpenError("etcd://user:hunter2@h"),
            "the URL \"etcd://user:***@h\" has an unknown scheme; known are memory:, sqlite:, nats:, memcached:");
  EXPECT_EQ(OpenError("memory:x"), "the memory store takes no path: write memory:");
  EXPECT_EQ(OpenError("memory:?a=b"), "the URL has the unknown parameter \"a\"; known for memory: none");
  EXPECT_EQ(OpenError("sqlite:a.db?snyc=full"), "the URL has the unknown parameter \"snyc\"; known for sqlite: sync");
  EXPECT_EQ(OpenError("sqlite:a.db?sync=always"), "the parameter sync is \"normal\" (the default) or \"full\"");
  EXPECT_EQ(OpenError("sqlite://host/a.db"),
            "a sqlite store is a file and has no host: write sqlite:PATH, or sqlite:///PATH");
  EXPECT_EQ(OpenError("sqlite://"), "the sqlite URL has no path: write sqlite: for the default one");
  EXPECT_EQ(OpenError("sqlite::memory:"), "sqlite: a database in memory cannot be shared; use the store memory:");
  EXPECT_EQ(OpenError("sqlite:/"), "sqlite: \"/\" names a folder; name the database file");
}

TEST(OpenTest, ServerUrlsAreRefusedBeforeAnythingIsSent) {
  EXPECT_EQ(OpenError("nats://h?replicas=2"), "the nats URL: the parameter replicas is 1, 3 or 5");
  EXPECT_EQ(OpenError("nats:h"), "the nats URL names no server: write nats://HOST:4222");
  EXPECT_EQ(OpenError("memcached:h"), "the memcached URL names no server: write memcached://HOST:11211");
  EXPECT_EQ(OpenError("memcached://h1,h2"),
            "a memcached URL names one server: the revisions of several are unrelated, so that no lock would hold; for "
            "a store that outlives a server use nats: with replicas=3");
  EXPECT_EQ(OpenError("memcached://u:hunter2@h"),
            "a memcached URL has no user and no password: the server takes whoever reaches it, so let only the copies");
  EXPECT_EQ(OpenError("memcached://h?bucket=b"),
            "the URL has the unknown parameter \"bucket\"; known for memcached: prefix");
  EXPECT_THAT(OpenError("nats://u@h?password_env=NO_SUCH_VARIABLE", absl::StatusCode::kFailedPrecondition),
              HasSubstr("the environment variable NO_SUCH_VARIABLE, which should hold the password, is not set"));
}

TEST(OpenTest, MemoryStoresAreApart) {
  const auto one = Open("memory:");
  const auto two = Open("memory:");
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_TRUE((*one)->Put("a", "1", Soon()).ok());
  EXPECT_TRUE(absl::IsNotFound((*two)->Get("a", Soon()).status()));
}

TEST(OpenTest, SqliteByPathInAllForms) {
  const TempDir folder;
  for (const std::string& url : {"sqlite:" + (folder / "a b.db"), "sqlite:" + (folder / "a%20b.db?sync=full"),
                                 "SQLite://" + (folder / "a b.db")}) {
    const auto store = Open(url);
    ASSERT_TRUE(store.ok()) << url << ": " << store.status();
    EXPECT_EQ((*store)->traits().durable, url.find("full") != std::string::npos);
    EXPECT_TRUE((*store)->Put("a", url, Soon()).ok());
    EXPECT_EQ((*store)->Get("a", Soon())->value, url);
  }
}

TEST(OpenTest, TheDefaultPathIsMadePrivately) {
  const TempDir folder;
  setenv("XDG_STATE_HOME", (folder / "state").c_str(), 1);
  auto store = Open("sqlite:");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE((*store)->Put("a", "1", Soon()).ok());
  struct stat info;
  ASSERT_EQ(stat((folder / "state/coord").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  ASSERT_EQ(stat((folder / "state/coord/coord.db").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);

  // Without it, or with a relative one, the home folder decides.
  setenv("HOME", folder.path().c_str(), 1);
  setenv("XDG_STATE_HOME", "relative", 1);
  store = Open("sqlite:");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(stat((folder / ".local/state/coord/coord.db").c_str(), &info), 0);
  unsetenv("XDG_STATE_HOME");
  unsetenv("HOME");
  EXPECT_THAT(OpenError("sqlite:", absl::StatusCode::kFailedPrecondition),
              HasSubstr("neither XDG_STATE_HOME nor HOME is set"));
}

}  // namespace
}  // namespace kv
