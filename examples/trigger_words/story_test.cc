// The story that ./quickstart plays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include "examples/trigger_words/testing.h"

namespace trigger_words {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Story, IsToldToItsEnd) {
  const Ran told = RunProgram("story", "--ttl 1s");
  EXPECT_EQ(told.exit_code, 0) << told.output;
  EXPECT_THAT(told.output,
              AllOf(HasSubstr("server-2  alerts on 'hello', "), HasSubstr("server-3  alerts on 'hello', "),
                    HasSubstr("leads, and is killed with SIGKILL"), HasSubstr(" after the kill; the fence grew from "),
                    HasSubstr("is back, and knows the words: [hello]"), HasSubstr("alerts, each written once, by ")));
}

TEST(Story, FeedsAFileOfPosts) {
  const TemporaryFolder folder;
  const std::string posts = folder.path() + "/posts";
  std::ofstream(posts) << "hello\n\nnothing here\r\nHELLO, urgent!\n\xff\nthe end is urgent";
  const Ran told = RunProgram("story", "--ttl 1s --words hello,urgent --posts " + posts);
  EXPECT_EQ(told.exit_code, 0) << told.output;
  EXPECT_THAT(told.output, AllOf(HasSubstr("line 5 was refused: the post is not valid UTF-8 from byte 0 on"),
                                 HasSubstr("4 posts, of which 3 alerted"), HasSubstr("  hello: 2\n"),
                                 HasSubstr("  urgent: 2\n"), HasSubstr("3 alerts, each written once, by 1 leader(s)")));
}

TEST(Story, RefusesWhatItCannotTell) {
  const auto refused = [](const std::string& flags, const std::string& sentence) {
    const Ran story = RunProgram("story", flags);
    EXPECT_EQ(story.exit_code, 1);
    EXPECT_THAT(story.output, HasSubstr(sentence));
  };
  refused("--store mysql", "--store is sqlite, nats, memcached or the URL of a store; see --help");
  refused("--store memory:", "--store memory: is private to one process, and the story has three; use sqlite");
  refused("--store mysql://h",
          "the URL \"mysql://h\" has an unknown scheme; known are memory:, sqlite:, nats:, memcached:");
  refused("--store nats://u@h?password_env=NO_SUCH_VARIABLE",
          "the environment variable NO_SUCH_VARIABLE, which should hold the password, is not set");
  refused("--posts /nonexistent/posts", "--posts /nonexistent/posts cannot be read; name a file of posts, one a line");
}

TEST(Story, LeavesNothingWhenItIsInterrupted) {
  const TemporaryFolder folder;
  ASSERT_EQ(setenv("TMPDIR", folder.path().c_str(), 1), 0);
  unsetenv("TEST_TMPDIR");
  absl::StatusOr<PluginProcess> story =
      PluginProcess::Start(Runfile("examples/trigger_words/story"), {"--ttl", "30s"}, folder.path() + "/log");
  ASSERT_TRUE(story.ok()) << story.status();
  const auto running = [&] { return CommandLinesWith("sqlite:" + folder.path()).size(); };
  ASSERT_TRUE(WaitUntil(kSoon, [&] { return running() == 3; }));
  story->Signal(SIGINT);
  const absl::StatusOr<int> status = story->Wait(kSoon);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 130);
  EXPECT_TRUE(WaitUntil(kSoon, [&] { return running() == 0; }));
  for (const auto& left : std::filesystem::directory_iterator(folder.path())) EXPECT_EQ(left.path().filename(), "log");
}

}  // namespace
}  // namespace trigger_words
