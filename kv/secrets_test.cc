#include "kv/secrets.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "kv/internal/secret_source.h"
#include "kv/test_util.h"

namespace kv {
namespace {

using testing::HasSubstr;

TEST(RedactUrlTest, HidesSecretsOnly) {
  EXPECT_EQ(RedactUrl("sqlite:/a/b@c.db?sync=full"), "sqlite:/a/b@c.db?sync=full");
  EXPECT_EQ(RedactUrl("nats://h1:4222,h2?bucket=b"), "nats://h1:4222,h2?bucket=b");
  EXPECT_EQ(RedactUrl("nats://user:hunter2@h:4222/x"), "nats://user:***@h:4222/x");
  EXPECT_EQ(RedactUrl("nats://s3cr3t@h"), "nats://***@h");
  EXPECT_EQ(RedactUrl("nats://h?bucket=b&token=hunter2&Password=x&replicas=3"),
            "nats://h?bucket=b&token=***&Password=***&replicas=3");
  EXPECT_EQ(RedactUrl("nats://u@h?password_file=/etc/pw&tls_key=/k&creds=/c"),
            "nats://u@h?password_file=/etc/pw&tls_key=/k&creds=/c");
  EXPECT_EQ(RedactUrl("nats://u:hunter2@h?password_env=PW"), "nats://u:***@h?password_env=PW");
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

struct Wiped {
  bool found = false;
  std::vector<std::string> words;
};

Wiped Wipe(std::vector<std::string> words) {
  words.insert(words.begin(), "program");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  Wiped wiped;
  wiped.found = WipeSecrets(static_cast<int>(argv.size()), argv.data());
  wiped.words.assign(words.begin() + 1, words.end());
  return wiped;
}

TEST(WipeSecretsTest, OverwritesSecretsInPlaceAndNothingElse) {
  const auto expect = [](const std::string& word, const std::string& wiped) {
    const Wiped result = Wipe({word});
    EXPECT_EQ(result.words[0], wiped);
    EXPECT_EQ(result.found, word != wiped) << word;
  };
  expect("nats://u:hunter2@h:4222?bucket=b", "nats://u:*******@h:4222?bucket=b");
  expect("--store=nats://u:hunter2@h", "--store=nats://u:*******@h");
  expect("NATS://u:hunter2@h", "NATS://u:*******@h");
  expect("nats://h?token=hunter2&bucket=b", "nats://h?token=*******&bucket=b");
  expect("nats://hunter2@h1,h2", "nats://*******@h1,h2");
  expect("nats://u:hunter2@h?token=x", "nats://u:*******@h?token=*");
  expect("other://u:hunter2@h", "other://u:*******@h");
  expect("nats:u:hunter2@h", "nats:u:*******@h");
  for (const char* word : {"nats://h1,h2?bucket=b", "nats://u@h?password_file=/etc/pw", "nats://u@h?password_env=PW",
                           "--store", "-", "sqlite:/a/u:b@c.db", "--store=sqlite:///u:b@c.db", "a@b", "u:p@h",
                           "--name=u:p@h", "", "nats://u:@h", "nats://h?creds=/c&tls_key=/k"}) {
    expect(word, word);
  }
}

TEST(WipeSecretsTest, AllWordsButTheFirst) {
  const Wiped wiped = Wipe({"--store", "nats://u:a@h", "x", "--events=nats://u:b@h"});
  EXPECT_TRUE(wiped.found);
  EXPECT_THAT(wiped.words, testing::ElementsAre("--store", "nats://u:*@h", "x", "--events=nats://u:*@h"));
}

// What others see of this process.
std::string CommandLine() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Runs this program again with `words`, as a program that is given a secret; see main. Its exit code.
int RunChild(std::vector<std::string> words, const std::string& input = "/dev/null") {
  words.insert(words.begin(), {"/proc/self/exe", "--child"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, input.c_str(), O_RDONLY, 0);
  pid_t pid = -1;
  EXPECT_EQ(posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, argv.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(WipeSecretsTest, TheProcessListShowsNoSecretAfterwards) {
  EXPECT_EQ(RunChild({"--store=nats://user:hunter2@h", "nats://h?token=hunter2"}), 0);
}

TEST(SecretsToEnvironmentTest, MovesWhatIsInTheUrl) {
  const auto moved = [](const std::string& url) { return SecretsToEnvironment(url, "KV_TEST").value(); };
  EXPECT_EQ(moved("nats://u%40x:hunter2@h1,[::1]:7?bucket=b%26c"),
            "nats://u%40x@h1:4222,[::1]:7?bucket=b%26c&password_env=KV_TEST_PASSWORD");
  EXPECT_STREQ(getenv("KV_TEST_PASSWORD"), "hunter2");
  EXPECT_EQ(moved("nats://h?token=hunter%33&tls=on"), "nats://h:4222?tls=on&token_env=KV_TEST_TOKEN");
  EXPECT_STREQ(getenv("KV_TEST_TOKEN"), "hunter3");
  for (const char* url : {"nats://h1,h2:3?bucket=b", "nats://u@h?password_file=/f", "nats://h?token_env=X",
                          "sqlite:/a/b@c.db", "memcached://h"}) {
    EXPECT_EQ(moved(url), url);
  }
  EXPECT_EQ(SecretsToEnvironment("nats://u:p@h", "A=B").status().message(),
            "\"A=B_PASSWORD\" cannot be the name of a variable");
  EXPECT_THAT(std::string(SecretsToEnvironment("nats://u:p@", "A").status().message()), HasSubstr("lacks a host"));
}

std::string WriteFile(const TempDir& folder, const std::string& text) {
  std::ofstream(folder / "secret", std::ios::binary | std::ios::trunc) << text;
  return folder / "secret";
}

TEST(SecretSourceTest, TheFirstLineOfAFile) {
  const TempDir folder;
  const auto read = [&](const std::string& text) { return ReadSecretFile("password", WriteFile(folder, text)); };
  EXPECT_EQ(read("hunter2").value(), "hunter2");
  EXPECT_EQ(read("hunter2\n").value(), "hunter2");
  EXPECT_EQ(read("hunter2\r\nmore").value(), "hunter2");
  EXPECT_EQ(read(" a b \n").value(), " a b ");
  EXPECT_EQ(read(std::string(4096, 'x') + "\n" + std::string(9999, 'y')).value(), std::string(4096, 'x'));
  const auto error = [&](const std::string& text) {
    const auto line = read(text);
    EXPECT_EQ(line.status().code(), absl::StatusCode::kFailedPrecondition);
    return std::string(line.status().message());
  };
  EXPECT_EQ(error(""), "the password file \"" + (folder / "secret") + "\" begins with an empty line");
  EXPECT_THAT(error("\nhunter2"), HasSubstr("begins with an empty line"));
  EXPECT_THAT(error(std::string(4097, 'x')), HasSubstr("begins with more than 4096 bytes in a line"));
  EXPECT_THAT(error(std::string("a\0b", 3)), HasSubstr("holds a NUL character"));
  EXPECT_EQ(ReadSecretFile("token", folder / "absent").status().message(),
            "the token file \"" + (folder / "absent") + "\" cannot be read: No such file or directory");
  EXPECT_THAT(std::string(ReadSecretFile("token", folder.path()).status().message()), HasSubstr("Is a directory"));
}

TEST(SecretSourceTest, AVariable) {
  setenv("KV_TEST_VARIABLE", "hunter2", 1);
  EXPECT_EQ(ReadSecretVariable("password", "KV_TEST_VARIABLE").value(), "hunter2");
  setenv("KV_TEST_VARIABLE", "", 1);
  EXPECT_EQ(ReadSecretVariable("password", "KV_TEST_VARIABLE").status().message(),
            "the environment variable KV_TEST_VARIABLE, which should hold the password, is empty");
  unsetenv("KV_TEST_VARIABLE");
  EXPECT_EQ(ReadSecretVariable("token", "KV_TEST_VARIABLE").status().message(),
            "the environment variable KV_TEST_VARIABLE, which should hold the token, is not set");
  EXPECT_EQ(ReadSecretVariable("token", "hunter2!").status().message(),
            "the parameter token_env takes the name of a variable");
}

TEST(SecretSourceTest, TheStandardInput) {
  const TempDir folder;
  EXPECT_EQ(RunChild({"--stdin"}, WriteFile(folder, "hunter2\nnext\n")), 0);
  EXPECT_EQ(RunChild({"--stdin"}, WriteFile(folder, "other\n")), 10);
  EXPECT_EQ(RunChild({"--stdin"}, WriteFile(folder, "")), 11);
}

// As a program that was given secrets on its command line.
int WipeAndLook(int argc, char** argv) {
  if (CommandLine().find("hunter2") == std::string::npos) return 20;
  if (!WipeSecrets(argc, argv)) return 21;
  if (CommandLine().find("hunter2") != std::string::npos) return 22;
  return CommandLine().find("--store=nats://user:*******@h") != std::string::npos ? 0 : 23;
}

// As a program whose URLs say password_file=-, twice.
int ReadInput() {
  const auto line = ReadStandardInputLine(Soon());
  if (!line.ok()) return line.status().message() == "the standard input begins with an empty line" ? 11 : 12;
  if (*line != "hunter2") return 10;
  const auto url = SecretsToEnvironment("nats://u@h?password_file=-", "KV_TEST");
  if (!url.ok() || *url != "nats://u@h:4222?password_env=KV_TEST_PASSWORD") return 13;
  if (std::string(getenv("KV_TEST_PASSWORD")) != "hunter2") return 14;
  std::string rest;
  std::getline(std::cin, rest);
  return rest == "next" ? 0 : 15;
}

}  // namespace
}  // namespace kv

int main(int argc, char** argv) {
  if (argc > 2 && std::string(argv[1]) == "--child") {
    return std::string(argv[2]) == "--stdin" ? kv::ReadInput() : kv::WipeAndLook(argc, argv);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
