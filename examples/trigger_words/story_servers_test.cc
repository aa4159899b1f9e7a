// The story over servers: those that it starts, and one that is given with a password.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "examples/trigger_words/deployment.h"
#include "examples/trigger_words/testing.h"
#include "tests/servers/servers.h"

namespace trigger_words {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

// Whether the process that "Started NAME, process PID" names has gone.
bool HasGone(const std::string& output, const std::string& name) {
  const std::string words = "Started " + name + ", process ";
  const size_t at = output.find(words);
  if (at == std::string::npos) return false;
  const pid_t pid = std::atoi(output.c_str() + at + words.size());
  return pid > 1 && kill(pid, 0) != 0;
}

const auto kWholeStory =
    AllOf(HasSubstr("server-2  alerts on 'hello', "), HasSubstr("leads, and is killed with SIGKILL"),
          HasSubstr("is back, and knows the words: [hello]"), HasSubstr("alerts, each written once, by "),
          HasSubstr("Nothing is left running."));

TEST(StoryServers, NatsTellsItToItsEnd) {
  const Ran story = RunProgram("story", "--store nats --ttl 1s");
  EXPECT_EQ(story.exit_code, 0) << story.output;
  EXPECT_THAT(story.output, kWholeStory);
  EXPECT_TRUE(HasGone(story.output, "nats-server")) << story.output;
}

TEST(StoryServers, MemcachedTellsItToItsEndWithAWarning) {
  const Ran story = RunProgram("story", "--store memcached --ttl 1s");
  EXPECT_EQ(story.exit_code, 0) << story.output;
  EXPECT_THAT(story.output, AllOf(kWholeStory, HasSubstr("the memcached store cannot carry what locks promise: "),
                                  HasSubstr("\nEvents: nats://127.0.0.1:")));
  EXPECT_TRUE(HasGone(story.output, "nats-server")) << story.output;
  EXPECT_TRUE(HasGone(story.output, "memcached")) << story.output;
}

TEST(StoryServers, AnInterruptEndsTheServersToo) {
  const TemporaryFolder folder;
  ASSERT_EQ(setenv("TMPDIR", folder.path().c_str(), 1), 0);
  const std::string kept = std::getenv("TEST_TMPDIR");
  unsetenv("TEST_TMPDIR");
  absl::StatusOr<PluginProcess> story = PluginProcess::Start(
      Runfile("examples/trigger_words/story"), {"--store", "memcached", "--ttl", "30s"}, folder.path() + "/log");
  setenv("TEST_TMPDIR", kept.c_str(), 1);
  ASSERT_TRUE(story.ok()) << story.status();
  // The three copies, which know the digest's path, and the nats-server; memcached was told where to write its port.
  const std::string port = "MEMCACHED_PORT_FILENAME=" + folder.path();
  EXPECT_TRUE(WaitUntil(kSoon, [&] {
    return CommandLinesWith(folder.path()).size() == 4 && !CommandLinesWith(port, "environ").empty();
  }));
  story->Signal(SIGTERM);
  const absl::StatusOr<int> status = story->Wait(kSoon);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_TRUE(WaitUntil(
      kSoon, [&] { return CommandLinesWith(folder.path()).empty() && CommandLinesWith(port, "environ").empty(); }));
  for (const auto& left : std::filesystem::directory_iterator(folder.path())) EXPECT_EQ(left.path().filename(), "log");
}

class PluginOnNats : public PluginTest {};

TEST_F(PluginOnNats, StatusAndMetricsTellWhetherTheStoreIsConnected) {
  const auto server = servers::NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  CopyOptions options = Options(0);
  options.store = absl::StrCat("nats://", (*server)->address());
  const absl::StatusOr<Copy> copy = Copy::Start(options);
  ASSERT_TRUE(copy.ok()) << copy.status();
  const auto store = [&] { return copy->Status().value().store; };
  const auto metrics = [&] { return copy->Call("GET", "/metrics").value().body; };
  const std::string gauge = "coord_store_connected{plugin=\"com.example.trigger-words\",instance=\"server-1\"} ";
  EXPECT_EQ(store(), "connected");
  EXPECT_THAT(metrics(), HasSubstr(gauge + "1\n"));
  (*server)->Kill();
  EXPECT_TRUE(WaitUntil(kSoon, [&] { return store() == "reconnecting"; }));
  EXPECT_THAT(metrics(), HasSubstr(gauge + "0\n"));
  ASSERT_TRUE((*server)->Start().ok());
  EXPECT_TRUE(WaitUntil(kSoon, [&] { return store() == "connected"; }));
  EXPECT_TRUE(WaitUntil(kSoon, [&] { return copy->Do("GET", "/readyz").ok(); }));
}

class StoryWithPassword : public ::testing::Test {
 protected:
  void SetUp() override {
    servers::NatsServerOptions options;
    options.config = "authorization { user: alice, password: hunter2 }";
    auto server = servers::NatsServer::Run(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  const TemporaryFolder folder_;
  std::unique_ptr<servers::NatsServer> server_;
};

TEST_F(StoryWithPassword, IsToldWithAPasswordFromAFile) {
  std::ofstream(folder_.path() + "/pw") << "hunter2\n";
  const Ran story = RunProgram("story", absl::StrCat("--ttl 1s --store 'nats://alice@", server_->address(),
                                                     "?bucket=told&password_file=", folder_.path(), "/pw'"));
  EXPECT_EQ(story.exit_code, 0) << story.output;
  EXPECT_THAT(story.output, AllOf(kWholeStory, Not(HasSubstr("hunter2")), Not(HasSubstr("warning"))));
}

TEST_F(StoryWithPassword, IsToldWithAPasswordFromTheStandardInput) {
  std::ofstream(folder_.path() + "/pw") << "hunter2\n";
  const Ran story = RunProgram("story", absl::StrCat("--ttl 1s --store 'nats://alice@", server_->address(),
                                                     "?bucket=told&password_file=-' <", folder_.path(), "/pw"));
  EXPECT_EQ(story.exit_code, 0) << story.output;
  EXPECT_THAT(story.output, AllOf(kWholeStory, Not(HasSubstr("hunter2"))));
}

TEST_F(StoryWithPassword, KeepsAPasswordOfItsCommandLineToItself) {
  const std::string log = folder_.path() + "/log";
  absl::StatusOr<PluginProcess> story = PluginProcess::Start(
      Runfile("examples/trigger_words/story"),
      {"--ttl", "30s", "--store", absl::StrCat("nats://alice:hunter2@", server_->address(), "?bucket=told")}, log);
  ASSERT_TRUE(story.ok()) << story.status();
  const std::string copy = absl::StrCat("nats://alice@", server_->address());
  ASSERT_TRUE(WaitUntil(kSoon, [&] { return CommandLinesWith(copy).size() == 3; }));
  EXPECT_THAT(CommandLinesWith(server_->address()), AllOf(::testing::SizeIs(4), Each(Not(HasSubstr("hunter2")))));
  story->Signal(SIGINT);
  EXPECT_TRUE(story->Wait(kSoon).ok());
  std::ifstream file(log);
  const std::string said{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  EXPECT_THAT(said,
              AllOf(HasSubstr("story: warning: a secret was given on the command line"), Not(HasSubstr("hunter2"))));
}

TEST_F(StoryWithPassword, SaysWithoutItThatAWrongOneIsRefused) {
  setenv("WRONG_PASSWORD", "hunter3", 1);
  const Ran plugin = RunProgram("plugin", absl::StrCat("--instance a --store 'nats://alice@", server_->address(),
                                                       "?password_env=WRONG_PASSWORD'"));
  EXPECT_EQ(plugin.exit_code, 1);
  EXPECT_THAT(plugin.output, AllOf(HasSubstr("plugin: "), HasSubstr(server_->address()), Not(HasSubstr("hunter3"))));
}

}  // namespace
}  // namespace trigger_words
