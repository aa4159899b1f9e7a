// The README's first example: it is what README shows, short, and it works.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace {

using ::testing::HasSubstr;

std::string Read(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Runfile(const std::string& path) {
  return std::string(std::getenv("TEST_SRCDIR")) + "/" + std::getenv("TEST_WORKSPACE") + "/" + path;
}

struct Ran {
  int exit_code;
  std::string output;
};

Ran RunShell(const std::string& command) {
  FILE* const pipe = popen(command.c_str(), "r");
  Ran ran{-1, ""};
  std::array<char, 4096> buffer{};
  while (const size_t size = fread(buffer.data(), 1, buffer.size(), pipe)) ran.output.append(buffer.data(), size);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) ran.exit_code = WEXITSTATUS(status);
  return ran;
}

TEST(Hello, IsTheReadmesFirstExample) {
  const std::string source = Read(Runfile("examples/hello/hello.cc"));
  EXPECT_LE(std::count(source.begin(), source.end(), '\n'), 20);
  EXPECT_THAT(Read(Runfile("README.md")), HasSubstr("```cpp\n" + source + "```\n"));
}

TEST(Hello, EveryRunHoldsTheLockWithALargerFence) {
  const std::string hello = Runfile("examples/hello/hello");
  ASSERT_EQ(chdir(std::getenv("TEST_TMPDIR")), 0);
  uint64_t last = 0;
  for (const char* name : {"server-1", "server-2", "server-1"}) {
    const Ran ran = RunShell(hello + " " + name);
    EXPECT_EQ(ran.exit_code, 0);
    const std::string start = std::string(name) + " holds the lock, fence ";
    ASSERT_EQ(ran.output.substr(0, start.size()), start);
    const uint64_t fence = std::strtoull(ran.output.c_str() + start.size(), nullptr, 10);
    EXPECT_EQ(ran.output, start + std::to_string(fence) + "\n");
    EXPECT_GT(fence, last);
    last = fence;
  }
}

TEST(Hello, SaysWhatIsWrong) {
  const std::string folder = std::string(std::getenv("TEST_TMPDIR")) + "/taken";
  ASSERT_EQ(std::system(("mkdir -p " + folder + "/hello.db").c_str()), 0);
  const Ran ran = RunShell("cd " + folder + " && " + Runfile("examples/hello/hello") + " 2>&1");
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.output, HasSubstr("hello.db"));
}

}  // namespace
