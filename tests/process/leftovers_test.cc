// What is there when all copies have left.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/process/copies.h"

namespace process_test {
namespace {

class LeftoversTest : public CopiesTest {
 protected:
  std::vector<kv::KeyedEntry> List(const std::string& prefix) const {
    const auto listed = OpenStore()->List(prefix, absl::Now() + absl::Seconds(10));
    EXPECT_TRUE(listed.ok()) << listed.status();
    return listed.ok() ? *listed : std::vector<kv::KeyedEntry>();
  }
};

TEST_F(LeftoversTest, CleanLeavesLeaveFreeLocksEndedSessionsAndNoFilesOfTheirOwn) {
  std::vector<std::unique_ptr<Process>> copies;
  std::vector<Process*> all;
  for (int i = 0; i < 4; ++i) {
    copies.push_back(Start(absl::StrCat("copy-", i), absl::Seconds(30)));
    all.push_back(copies.back().get());
  }
  ASSERT_NO_FATAL_FAILURE(Join(all));
  // One holds, the others wait; one stands for an election; one publishes, one listens.
  ASSERT_TRUE(copies[0]->Call("acquire a lock 20000").ok());
  for (size_t i = 1; i < copies.size(); ++i) copies[i]->Send("acquire a lock 60000");
  ASSERT_TRUE(copies[1]->Call("stand office " + folder_ / "terms").ok());
  ASSERT_TRUE(copies[2]->Call("subscribe news place " + folder_ / "events" + " 10000").ok());
  ASSERT_TRUE(copies[3]->Call("publish news 1 3 10000").ok());
  ASSERT_TRUE(copies[3]->Call("map-open map 10000").ok());
  EXPECT_TRUE(Eventually([&] {
    const std::string text = copies[0]->Call("inspect lock 10000").text;
    return Words(text.substr(text.find("waiters"))).size() == copies.size();
  }));
  for (const auto& copy : copies) {
    const int status = copy->Quit();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << copy->instance() << ": " << status;
  }

  for (const kv::KeyedEntry& lock : List("process-test/mutex/")) {
    EXPECT_NE(lock.entry.value.find("\"owners\":[],\"queue\":[]"), std::string::npos) << lock.entry.value;
  }
  EXPECT_EQ(List("process-test/mutex/").size(), 1u);
  for (const kv::KeyedEntry& office : List("process-test/election/")) {
    EXPECT_NE(office.entry.value.find("\"owners\":[],\"queue\":[]"), std::string::npos) << office.entry.value;
  }
  const std::vector<kv::KeyedEntry> sessions = List("process-test/session/");
  EXPECT_EQ(sessions.size(), copies.size());
  for (const kv::KeyedEntry& session : sessions) {
    EXPECT_NE(session.entry.value.find("\"mark\":\"ended\""), std::string::npos) << session.entry.value;
  }

  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD) << "a child process is left";
  std::set<std::string> files;
  for (const auto& file : std::filesystem::directory_iterator(folder_.path())) files.insert(file.path().filename());
  EXPECT_EQ(files, (std::set<std::string>{"coord.db", "coord.db-bell", "events", "terms"}));
}

}  // namespace
}  // namespace process_test
