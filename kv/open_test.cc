#include "kv/open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <string>

#include "kv/test_util.h"
#include "kv/url.h"

namespace kv {
namespace {

using testing::HasSubstr;

std::string OpenError(const std::string& url, absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  const auto store = Open(url);
  EXPECT_EQ(store.status().code(), code) << store.status();
  return std::string(store.status().message());
}

TEST(ParseUrlTest, Parts) {
  const auto url = ParseUrl("NATS://u:p@h1:4222,h2/x%20y?bucket=b%26c&replicas=3");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_EQ(url->scheme, "nats");
  EXPECT_EQ(url->authority, "u:p@h1:4222,h2");
  EXPECT_EQ(url->path, "/x y");
  EXPECT_EQ(url->Parameter("bucket"), "b&c");
  EXPECT_EQ(url->Parameter("replicas"), "3");
  EXPECT_EQ(url->Parameter("other"), std::nullopt);
  EXPECT_FALSE(ParseUrl("sqlite:a")->authority.has_value());
  EXPECT_EQ(ParseUrl("sqlite:a:b@c.db")->path, "a:b@c.db");
  EXPECT_EQ(ParseUrl("sqlite:a.db?sync=")->Parameter("sync"), "");
}

TEST(ParseUrlTest, RefusalsAreSentences) {
  const auto error = [](std::string_view url) { return std::string(ParseUrl(url).status().message()); };
  EXPECT_EQ(error(""), "the store URL is empty; a simple one is sqlite:");
  EXPECT_EQ(error("/var/lib/coord.db"), "the store URL has no scheme; write, for example, sqlite:PATH");
  EXPECT_EQ(error("1x:a"), "the store URL has no scheme; write, for example, sqlite:PATH");
  EXPECT_EQ(error("sqlite:a\nb"), "the store URL has a control character");
  EXPECT_EQ(error(std::string_view("sqlite:a\0b", 10)), "the store URL has a control character");
  EXPECT_EQ(error("sqlite:100%"), "the store URL has a '%' that no two hexadecimal digits follow; write '%25'");
  EXPECT_EQ(error("sqlite:%g0"), "the store URL has a '%' that no two hexadecimal digits follow; write '%25'");
  EXPECT_EQ(error("sqlite:a%00b"), "the store URL has an escaped NUL character");
  EXPECT_EQ(error("sqlite:a#b"), "the store URL has a '#'; in a path write it as '%23'");
  EXPECT_EQ(error("sqlite:a?sync"), "the store URL has a query parameter that is not of the form name=value");
  EXPECT_EQ(error("sqlite:a?=full"), "the store URL has a query parameter that is not of the form name=value");
  EXPECT_EQ(error("sqlite:a?sync=full&sync=normal"), "the store URL gives the parameter \"sync\" twice");
}

TEST(RedactUrlTest, HidesSecretsOnly) {
  EXPECT_EQ(RedactUrl("sqlite:/a/b@c.db?sync=full"), "sqlite:/a/b@c.db?sync=full");
  EXPECT_EQ(RedactUrl("nats://h1:4222,h2?bucket=b"), "nats://h1:4222,h2?bucket=b");
  EXPECT_EQ(RedactUrl("nats://user:hunter2@h:4222/x"), "nats://user:***@h:4222/x");
  EXPECT_EQ(RedactUrl("nats://s3cr3t@h"), "nats://***@h");
  EXPECT_EQ(RedactUrl("nats://h?bucket=b&token=hunter2&Password=x&replicas=3"),
            "nats://h?bucket=b&token=***&Password=***&replicas=3");
}

// However a password is written, it does not come out.
TEST(RedactUrlTest, HidesRatherTooMuch) {
  for (const char* url : {"nats://u:hunter2@h1,u:hunter2@h2", "nats://h1,u:hunter2@h2", "nats://u:a,hunter2@h",
                          "nats://u:a/hunter2@h", "nats://u:a?hunter2@h", "nats://u:a@hunter2@h", "nats:u:hunter2@h",
                          "u:hunter2@h", "hunter2@h", "://u:hunter2@h", "sqlite://u:hunter2@h/x", "nats://:hunter2@h",
                          "nats://h?api_key=hunter2", "nats://h?a=b&jwt=hunter2&c=d", "nats://h?auth=hunter2?"}) {
    EXPECT_EQ(RedactUrl(url).find("hunter2"), std::string::npos) << RedactUrl(url);
  }
}

TEST(OpenTest, Refusals) {
  EXPECT_EQ(OpenError("etcd://user:hunter2@h"),
            "the store URL \"etcd://user:***@h\" has an unknown scheme; known are memory:, sqlite:");
  EXPECT_EQ(OpenError("memory:x"), "the memory store takes no path: write memory:");
  EXPECT_EQ(OpenError("memory:?a=b"), "the store URL has the unknown parameter \"a\"; known for memory: none");
  EXPECT_EQ(OpenError("sqlite:a.db?snyc=full"),
            "the store URL has the unknown parameter \"snyc\"; known for sqlite: sync");
  EXPECT_EQ(OpenError("sqlite:a.db?sync=always"), "the parameter sync is \"normal\" (the default) or \"full\"");
  EXPECT_EQ(OpenError("sqlite://host/a.db"),
            "a sqlite store is a file and has no host: write sqlite:PATH, or sqlite:///PATH");
  EXPECT_EQ(OpenError("sqlite://"), "the sqlite URL has no path: write sqlite: for the default one");
  EXPECT_EQ(OpenError("sqlite::memory:"), "sqlite: a database in memory cannot be shared; use the store memory:");
  EXPECT_EQ(OpenError("sqlite:/"), "sqlite: \"/\" names a folder; name the database file");
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
