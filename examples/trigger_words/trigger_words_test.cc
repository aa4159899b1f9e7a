// Real copies of the plugin: processes that share a sqlite store and are asked by HTTP.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "examples/trigger_words/deployment.h"
#include "examples/trigger_words/testing.h"

namespace trigger_words {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

class TriggerWords : public PluginTest {};

TEST_F(TriggerWords, AWordSetOnOneCopyAlertsOnTheOthersWithin100Ms) {
  StartAll();
  std::vector<absl::Duration> times;
  for (int i = 0; i < 9; ++i) {
    const std::string word = absl::StrCat("word", i);
    ASSERT_TRUE(copies_[i % 3]->Do("POST", "/triggers", word).ok());
    const absl::Time set = absl::Now();
    for (const int other : {(i + 1) % 3, (i + 2) % 3}) {
      ASSERT_TRUE(WaitUntil(kSoon, [&] { return Post(other, "a post with " + word + "!") == Words{word}; })) << word;
    }
    times.push_back(absl::Now() - set);
  }
  std::sort(times.begin(), times.end());
  // The middle one, for this machine may be busy with other tests.
  EXPECT_LT(times[times.size() / 2], absl::Milliseconds(100));
}

TEST_F(TriggerWords, WordsMatchWholeAndInAnyCaseAndKeepTheirSpelling) {
  StartAll();
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "Straße\n").ok());
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "c++").ok());
  EXPECT_THAT(Post(0, "C++ in der STRASSE"), ElementsAre("c++", "Straße"));
  EXPECT_THAT(Post(0, "Straßenbahn"), IsEmpty());
  // The same word, spelled otherwise: still one.
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "STRASSE").ok());
  EXPECT_EQ(Get(0, "/triggers").body, "[\"c++\",\"STRASSE\"]\n");
  ASSERT_TRUE(copies_[0]->Do("DELETE", "/triggers/stra%C3%9Fe").ok());
  EXPECT_EQ(Get(0, "/triggers").body, "[\"c++\"]\n");
}

TEST_F(TriggerWords, DeletedWordsAlertNowhereAndMayBeAbsent) {
  StartAll();
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "a/b%").ok());
  ASSERT_TRUE(WaitUntil(kSoon, [&] { return Post(1, "a/b%") == Words{"a/b%"}; }));
  EXPECT_EQ(copies_[1]->Call("DELETE", "/triggers/a%2Fb%25")->status, 204);
  EXPECT_THAT(Post(1, "a/b%"), IsEmpty());
  EXPECT_TRUE(WaitUntil(kSoon, [&] { return Post(2, "a/b%").empty(); }));
  EXPECT_EQ(copies_[1]->Call("DELETE", "/triggers/a%2Fb%25")->status, 204);
  EXPECT_EQ(copies_[1]->Call("DELETE", "/triggers/never")->status, 204);
}

TEST_F(TriggerWords, WordsOutliveARestartOfAllCopies) {
  StartAll();
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "hello").ok());
  ASSERT_TRUE(copies_[1]->Do("POST", "/triggers", "привет").ok());
  copies_[0]->process().Kill();
  for (int i : {1, 2}) EXPECT_EQ(copies_[i]->Stop().value_or(-1), 0);
  StartAll();
  for (int i : {0, 1, 2}) {
    EXPECT_EQ(Get(i, "/triggers").body, "[\"hello\",\"привет\"]\n");
    EXPECT_THAT(Post(i, "Hello, ПРИВЕТ"), ElementsAre("hello", "привет"));
  }
}

TEST_F(TriggerWords, StatusNamesCopySessionLeaderFenceAndWords) {
  StartAll();
  const absl::StatusOr<CopyStatus> leader = WaitForLeader(Running(), 0, kSoon);
  ASSERT_TRUE(leader.ok()) << leader.status();
  EXPECT_THAT(leader->leader, StartsWith("server-"));
  ASSERT_TRUE(copies_[1]->Do("POST", "/triggers", "hello").ok());
  const absl::StatusOr<CopyStatus> status = copies_[1]->Status();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->copy, "server-2");
  EXPECT_EQ(status->state, "attached");
  EXPECT_EQ(status->store, "connected");
  EXPECT_FALSE(status->session.empty());
  EXPECT_NE(status->session, copies_[0]->Status()->session);
  EXPECT_THAT(status->triggers, ElementsAre("hello"));
}

struct BadRequest {
  const char* method;
  std::string target;
  std::string body;
  int status;
  const char* sentence;
};

TEST_F(TriggerWords, BadInputIsAnsweredWithASentence) {
  Start(0);
  const std::vector<BadRequest> requests = {
      {"POST", "/triggers", "", 400, "the word is empty; send one word, for example: hello"},
      {"POST", "/triggers", "two words", 400, "a trigger is a single word without spaces; set each word by itself"},
      {"POST", "/triggers", std::string(65, 'a'), 400, "the word has 65 characters; at most 64 are allowed"},
      {"POST", "/triggers", "\xff", 400, "the word is not valid UTF-8 from byte 0 on"},
      {"POST", "/triggers", "a\x07", 400, "the word contains U+0007, a control or invisible character; remove it"},
      {"POST", "/triggers", std::string(70000, 'a'), 413, "the body is too large; at most 65536 bytes are allowed"},
      {"DELETE", "/triggers/", "", 400, "the word is empty; name it in the path, for example: DELETE /triggers/hello"},
      {"DELETE", "/triggers/%zz", "", 400,
       "a '%' in the path must be followed by two hexadecimal digits; encode '%' itself as %25"},
      {"DELETE", "/triggers/%ff", "", 400, "the word is not valid UTF-8 from byte 0 on"},
      {"DELETE", "/triggers/a%00", "", 400, "the word contains U+0000, a control or invisible character; remove it"},
      {"DELETE", "/triggers/a%0Ab", "", 400, "a trigger is a single word without spaces; set each word by itself"},
      {"POST", "/posts", "", 400, "the post is empty; send its text as the body"},
      {"POST", "/posts", "\xc3", 400, "the post is not valid UTF-8 from byte 0 on"},
      {"POST", "/posts", std::string("a\0b", 3), 400,
       "the post contains the control character U+0000; send plain text"},
      {"POST", "/posts", std::string(65537, 'a'), 413, "the body is too large; at most 65536 bytes are allowed"},
      {"GET", "/nothing", "", 404,
       "there is no such path; see /triggers, /posts, /status, /step-down, /healthz, /readyz, /metrics"},
      {"POST", "/nothing", "x", 404,
       "there is no such path; see /triggers, /posts, /status, /step-down, /healthz, /readyz, /metrics"},
      {"PUT", "/triggers", "hello", 405, "this path has only: GET, HEAD, POST"},
      {"GET", "/posts", "", 405, "this path has only: POST"},
      {"DELETE", "/triggers", "", 405, "this path has only: GET, HEAD, POST"},
      {"GET", "/triggers/hello", "", 405, "this path has only: DELETE"},
      {"POST", "/metrics", "", 405, "this path has only: GET, HEAD"},
  };
  for (const BadRequest& request : requests) {
    const absl::StatusOr<HttpReply> reply = copies_[0]->Call(request.method, request.target, request.body);
    ASSERT_TRUE(reply.ok()) << request.target << ": " << reply.status();
    EXPECT_EQ(reply->status, request.status) << request.method << " " << request.target;
    EXPECT_EQ(reply->body, std::string(request.sentence) + "\n");
  }
  EXPECT_EQ(copies_[0]->Call("PUT", "/triggers", "x")->allow, "GET, HEAD, POST");
  EXPECT_EQ(Get(0, "/triggers").body, "[]\n");
  EXPECT_EQ(copies_[0]->Call("POST", "/posts", std::string(65536, 'a'))->status, 200);
}

TEST_F(TriggerWords, OnlyTheLeaderStepsDownAndAnotherTakesOver) {
  StartAll();
  const absl::StatusOr<CopyStatus> before = WaitForLeader(Running(), 0, kSoon);
  ASSERT_TRUE(before.ok()) << before.status();
  for (Copy* copy : Running()) {
    if (copy->name() == before->leader) continue;
    const absl::StatusOr<HttpReply> reply = copy->Call("POST", "/step-down");
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply->status, 409);
    EXPECT_EQ(reply->body, absl::StrCat(copy->name(), " does not lead, so it cannot step down; ", before->leader,
                                        " does; ask it\n"));
  }
  ASSERT_EQ(ByName(before->leader).Call("POST", "/step-down")->status, 204);
  const absl::StatusOr<CopyStatus> after = WaitForLeader(Running(), before->fence, kSoon);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_NE(after->leader, before->leader);
}

TEST_F(TriggerWords, MetricsCount) {
  Start(0);
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "hello").ok());
  Post(0, "hello");
  Post(0, "nothing");
  EXPECT_FALSE(copies_[0]->Do("POST", "/posts", "").ok());
  const HttpReply metrics = Get(0, "/metrics");
  EXPECT_THAT(metrics.content_type, StartsWith("text/plain"));
  const std::string labels = "{plugin=\"com.example.trigger-words\",instance=\"server-1\"} ";
  EXPECT_THAT(metrics.body, AllOf(HasSubstr("trigger_words_posts_total" + labels + "2\n"),
                                  HasSubstr("trigger_words_alerts_total" + labels + "1\n"),
                                  HasSubstr("trigger_words_refused_total" + labels + "1\n"),
                                  HasSubstr("trigger_words_words" + labels + "1\n"),
                                  HasSubstr("coord_store_connected" + labels + "1\n")));
}

// Holds the write lock of a database as another program could.
class Lock {
 public:
  explicit Lock(const std::string& path) {
    EXPECT_EQ(sqlite3_open_v2(path.c_str(), &db_, SQLITE_OPEN_READWRITE, nullptr), SQLITE_OK);
    sqlite3_busy_timeout(db_, 5000);
    EXPECT_EQ(sqlite3_exec(db_, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db_);
  }
  ~Lock() {
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    sqlite3_close(db_);
  }

 private:
  sqlite3* db_ = nullptr;
};

TEST_F(TriggerWords, ReadyFailsWhileTheStoreIsStuckAndAllGoesOnAfterwards) {
  Start(0);
  ASSERT_TRUE(copies_[0]->Do("POST", "/triggers", "hello").ok());
  EXPECT_EQ(Get(0, "/readyz").status, 200);
  {
    const Lock lock(folder_.path() + "/words.db");
    ASSERT_TRUE(WaitUntil(absl::Seconds(20), [&] { return Get(0, "/readyz").status == 503; }));
    EXPECT_THAT(Get(0, "/readyz").body, StartsWith("not ready: "));
    EXPECT_EQ(Get(0, "/healthz").status, 200);
    const absl::StatusOr<HttpReply> refused = copies_[0]->Call("POST", "/triggers", "world");
    ASSERT_TRUE(refused.ok()) << refused.status();
    EXPECT_EQ(refused->status, 503);
    EXPECT_GT(refused->body.size(), 10u);
    EXPECT_EQ(copies_[0]->Call("POST", "/posts", "no word of ours")->status, 200);
  }
  EXPECT_TRUE(WaitUntil(absl::Seconds(20), [&] { return Get(0, "/readyz").status == 200; }));
  EXPECT_TRUE(WaitUntil(kSoon, [&] { return copies_[0]->Do("POST", "/triggers", "world").ok(); }));
  EXPECT_THAT(Post(0, "hello world"), ElementsAre("hello", "world"));
}

TEST_F(TriggerWords, SigtermEndsItWithin2SecondsWithTheStoreStuckToo) {
  StartAll();
  EXPECT_EQ(copies_[0]->Stop().value_or(-1), 0);
  copies_[1]->process().Signal(SIGINT);
  const absl::StatusOr<int> interrupted = copies_[1]->process().Wait(absl::Seconds(2));
  ASSERT_TRUE(interrupted.ok()) << interrupted.status();
  EXPECT_TRUE(WIFEXITED(*interrupted) && WEXITSTATUS(*interrupted) == 0);
  const Lock lock(folder_.path() + "/words.db");
  const absl::StatusOr<int> code = copies_[2]->Stop();
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(*code, 0);
}

TEST_F(TriggerWords, ALeaderThatLeavesIsReplacedAtOnce) {
  ttl_ = absl::Seconds(30);
  StartAll();
  const absl::StatusOr<CopyStatus> before = WaitForLeader(Running(), 0, kSoon);
  ASSERT_TRUE(before.ok()) << before.status();
  Copy& leader = ByName(before->leader);
  EXPECT_EQ(leader.Stop().value_or(-1), 0);
  Forget(before->leader);
  const absl::StatusOr<CopyStatus> after = WaitForLeader(Running(), before->fence, kSoon);
  EXPECT_TRUE(after.ok()) << after.status();
}

TEST_F(TriggerWords, TwoCopiesAtOnePortAreRefused) {
  Start(0);
  CopyOptions options = Options(1);
  options.port = copies_[0]->port();
  EXPECT_THAT(EndOf(Flags(options)),
              HasSubstr(absl::StrCat("plugin: 127.0.0.1:", options.port,
                                     " is taken by another program; choose another --port, or 0 for any free one")));
}

TEST_F(TriggerWords, HelpIsNoError) {
  absl::StatusOr<PluginProcess> process = PluginProcess::Start(Options(0).binary, {"--help"});
  ASSERT_TRUE(process.ok()) << process.status();
  const absl::StatusOr<int> status = process->Wait(kSoon);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 0) << *status;
}

TEST_F(TriggerWords, BadFlagsAreRefusedWithASentence) {
  EXPECT_THAT(EndOf({}), HasSubstr("--instance is missing: name this copy, for example --instance server-1"));
  EXPECT_THAT(EndOf({"--instance", "a", "--port", "70000"}), HasSubstr("--port must be 0 to 65535"));
  EXPECT_THAT(EndOf({"--instance", "a", "--accept-weaker", "extra"}), HasSubstr("'extra' is no flag; see --help"));
  EXPECT_THAT(EndOf({"--instance", "a", "--store", store_, "--events", "x:"}),
              HasSubstr("the URL of events \"x:\" has an unknown scheme; known are nats:, store:"));
  EXPECT_THAT(EndOf({"--instance", "a", "--store", store_, "--max-ttl", "5s"}),
              HasSubstr("ttl is 10s; it must be from 100ms to 5s"));
  EXPECT_THAT(EndOf({"--instance", "a", "--store", "nowhere:x"}), HasSubstr("sqlite:"));
  EXPECT_THAT(EndOf({"--instance", "a", "--store", store_, "--plugin", "a/b"}), HasSubstr("plugin"));
  EXPECT_THAT(EndOf({"--instance", "a", "--listen", "192.0.2.1"}), HasSubstr("cannot listen on 192.0.2.1:0"));
  EXPECT_THAT(EndOf({"--instance", "a", "--digest", folder_.path()}), HasSubstr("digest"));
}

TEST_F(TriggerWords, GuaranteesArePrintedOfAllStoresOrOfOne) {
  const Ran all = RunProgram("plugin", "--guarantees");
  EXPECT_EQ(all.exit_code, 0);
  EXPECT_THAT(all.output, AllOf(StartsWith("sqlite:PATH\n"), HasSubstr("\nmemcached://HOST\n"),
                                HasSubstr("sync_interval: always"), HasSubstr("  --accept-weaker     needed\n")));
  const Ran one = RunProgram("plugin", "--guarantees --store " + store_ + "?sync=full");
  EXPECT_EQ(one.exit_code, 0);
  EXPECT_THAT(one.output, AllOf(StartsWith("sqlite:PATH?sync=full\n"), Not(HasSubstr("memcached"))));
  EXPECT_EQ(RunProgram("plugin", "--guarantees --store nowhere:x").exit_code, 1);
}

TEST_F(TriggerWords, ASecretOnTheCommandLineIsWipedWithAWarning) {
  const std::string said = EndOf({"--instance", "a", "--store", "nats://u:hunter2@127.0.0.1:1"});
  EXPECT_THAT(said, AllOf(HasSubstr("plugin: warning: a secret was given on the command line"),
                          HasSubstr("cannot connect"), Not(HasSubstr("hunter2"))));
}

}  // namespace
}  // namespace trigger_words
