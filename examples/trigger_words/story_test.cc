// The story that ./quickstart plays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "examples/trigger_words/testing.h"

namespace trigger_words {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Told {
  int exit_code = -1;
  std::string output;  // and errors
};

Told Tell(const std::string& flags) {
  FILE* const pipe = popen((Runfile("examples/trigger_words/story") + " " + flags + " 2>&1").c_str(), "r");
  Told told;
  std::array<char, 4096> buffer{};
  while (const size_t size = fread(buffer.data(), 1, buffer.size(), pipe)) told.output.append(buffer.data(), size);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) told.exit_code = WEXITSTATUS(status);
  return told;
}

TEST(Story, IsToldToItsEnd) {
  const Told told = Tell("--ttl 1s");
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
  const Told told = Tell("--ttl 1s --words hello,urgent --posts " + posts);
  EXPECT_EQ(told.exit_code, 0) << told.output;
  EXPECT_THAT(told.output, AllOf(HasSubstr("line 5 was refused: the post is not valid UTF-8 from byte 0 on"),
                                 HasSubstr("4 posts, of which 3 alerted"), HasSubstr("  hello: 2\n"),
                                 HasSubstr("  urgent: 2\n"), HasSubstr("3 alerts, each written once, by 1 leader(s)")));
}

TEST(Story, RefusesWhatItCannotTell) {
  const Told nats = Tell("--store nats://127.0.0.1:4222");
  EXPECT_EQ(nats.exit_code, 1);
  EXPECT_THAT(nats.output, HasSubstr("--store nats is not supported by this version; use sqlite"));
  const Told posts = Tell("--posts /nonexistent/posts");
  EXPECT_EQ(posts.exit_code, 1);
  EXPECT_THAT(posts.output, HasSubstr("--posts /nonexistent/posts cannot be read; name a file of posts, one a line"));
}

TEST(Story, LeavesNothingWhenItIsInterrupted) {
  const TemporaryFolder folder;
  ASSERT_EQ(setenv("TMPDIR", folder.path().c_str(), 1), 0);
  unsetenv("TEST_TMPDIR");
  absl::StatusOr<PluginProcess> story =
      PluginProcess::Start(Runfile("examples/trigger_words/story"), {"--ttl", "30s"}, folder.path() + "/log");
  ASSERT_TRUE(story.ok()) << story.status();
  const auto running = [&] {
    size_t copies = 0;
    for (const auto& process : std::filesystem::directory_iterator("/proc")) {
      std::ifstream file(process.path() / "cmdline", std::ios::binary);
      const std::string words{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
      copies += words.find("sqlite:" + folder.path()) != std::string::npos ? 1 : 0;
    }
    return copies;
  };
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
