// Copies of this version beside copies of a newer one, whose records a test writes by hand.

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/clock.h"
#include "tests/process/copies.h"

namespace process_test {
namespace {

using Json = nlohmann::ordered_json;

class UpgradeTest : public CopiesTest {
 protected:
  void SetUp() override {
    copy_ = Joined("old", absl::Seconds(30));
    other_ = Joined("old-too", absl::Seconds(30));
    store_ = OpenStore();
  }

  // The one key under `prefix`.
  std::string OnlyKey(const std::string& prefix) const {
    const auto listed = store_->List(prefix, absl::Now() + absl::Seconds(10));
    EXPECT_TRUE(listed.ok() && listed->size() == 1) << prefix;
    return listed.ok() && !listed->empty() ? listed->front().key : "";
  }

  kv::Entry Get(const std::string& key) const {
    const auto entry = store_->Get(key, absl::Now() + absl::Seconds(10));
    EXPECT_TRUE(entry.ok()) << key << ": " << entry.status();
    return entry.ok() ? *entry : kv::Entry();
  }

  // Rewrites the record as a newer copy would. What follows the first line, a cell's value, stays.
  template <typename Change>
  void Rewrite(const std::string& key, const Change& change) {
    const kv::Entry entry = Get(key);
    const size_t end = std::min(entry.value.find('\n'), entry.value.size());
    Json record = Json::parse(entry.value.substr(0, end));
    change(record);
    const kv::WriteResult written =
        store_->Update(key, record.dump() + entry.value.substr(end), entry.revision, absl::Now() + absl::Seconds(10));
    EXPECT_TRUE(written.ok()) << written.status;
  }

  Json Record(const std::string& key) const {
    const std::string value = Get(key).value;
    return Json::parse(value.substr(0, value.find('\n')));
  }

  static void ExpectNewer(const Reply& reply, const std::string& what) {
    EXPECT_EQ(reply.status.code(), absl::StatusCode::kFailedPrecondition) << what << ": " << reply.status;
    EXPECT_NE(std::string(reply.status.message())
                  .find("was written by a newer version (2.0) of coord; this copy knows 1.x: upgrade it"),
              std::string::npos)
        << what << ": " << reply.status;
  }

  std::unique_ptr<Process> copy_, other_;
  std::shared_ptr<kv::Store> store_;
};

TEST_F(UpgradeTest, FieldsOfANewerMinorSurviveLockOperations) {
  ASSERT_TRUE(copy_->Call("acquire a lock 20000").ok());
  const std::string key = OnlyKey("process-test/mutex/");
  Rewrite(key, [](Json& record) {
    record["v"] = "1.7";
    record["policy"] = {{"mode", "strict"}, {"levels", {1, 2, 3}}};
    record["owners"][0]["zone"] = "north";
  });
  // A waiter comes, and the owner leaves: two writes by copies that know nothing of those fields.
  const int waiting = other_->Send("acquire b lock 20000");
  ASSERT_NO_FATAL_FAILURE(AwaitQueue(*copy_, "lock", "old", "old-too"));
  EXPECT_EQ(Record(key)["owners"][0]["zone"], "north");
  Rewrite(key, [](Json& record) { record["queue"][0]["zone"] = "south"; });
  const Reply released = copy_->Call("release a 20000");
  ASSERT_TRUE(released.ok()) << released.status;
  const Reply acquired = other_->Await(waiting);
  ASSERT_TRUE(acquired.ok()) << acquired.status;
  const Json now = Record(key);
  EXPECT_EQ(now["v"], "1.7");
  EXPECT_EQ(now["policy"].dump(), R"({"mode":"strict","levels":[1,2,3]})");
  // What a waiter's entry says of it goes along when it becomes the owner.
  EXPECT_EQ(now["owners"][0]["zone"], "south");
  EXPECT_EQ(other_->Call("is-lost b").text, "0");
  ASSERT_TRUE(other_->Call("release b 20000").ok());
  EXPECT_EQ(Record(key)["v"], "1.7");
  EXPECT_EQ(Record(key)["policy"]["mode"], "strict");
}

TEST_F(UpgradeTest, FieldsOfANewerMinorSurviveInCellsAndInTheEpoch) {
  ASSERT_TRUE(copy_->Call("set cell one 10000").ok());
  const auto listed = store_->List("process-test/", absl::Now() + absl::Seconds(10));
  ASSERT_TRUE(listed.ok()) << listed.status();
  std::string key;
  for (const kv::KeyedEntry& each : *listed) {
    if (each.key.size() > 5 && each.key.compare(each.key.size() - 5, 5, "/cell") == 0) key = each.key;
  }
  ASSERT_FALSE(key.empty());
  Rewrite(key, [](Json& record) {
    record["v"] = "1.7";
    record["author"] = "newer";
  });
  ASSERT_TRUE(copy_->Call("set cell two 10000").ok());
  EXPECT_EQ(Record(key)["v"], "1.7");
  EXPECT_EQ(Record(key)["author"], "newer");
  EXPECT_EQ(other_->Call("get cell 10000").text, "two");

  Rewrite("process-test/epoch", [](Json& record) {
    record["v"] = "1.7";
    record["region"] = "x";
  });
  const auto late = Joined("late", absl::Seconds(30));
  EXPECT_EQ(Record("process-test/epoch")["region"], "x");
  EXPECT_TRUE(copy_->Call("acquire a lock 20000").ok());
}

TEST_F(UpgradeTest, ANewerMajorIsRefusedByASentenceAndLeftAsItIs) {
  ASSERT_TRUE(copy_->Call("acquire a lock 20000").ok());
  ASSERT_TRUE(copy_->Call("release a 20000").ok());
  ASSERT_TRUE(copy_->Call("set cell one 10000").ok());
  const auto listed = store_->List("process-test/", absl::Now() + absl::Seconds(10));
  ASSERT_TRUE(listed.ok()) << listed.status();
  std::string cell;
  for (const kv::KeyedEntry& each : *listed) {
    if (each.key.size() > 5 && each.key.compare(each.key.size() - 5, 5, "/cell") == 0) cell = each.key;
  }
  const std::string lock = OnlyKey("process-test/mutex/");
  const auto upgrade = [](Json& record) {
    record["v"] = "2.0";
    record["owners"] = "in another form";
  };
  for (const std::string& key : {lock, cell, std::string("process-test/epoch")}) Rewrite(key, upgrade);
  const std::string lock_bytes = Get(lock).value, cell_bytes = Get(cell).value;
  const std::string epoch_bytes = Get("process-test/epoch").value;

  // A copy that had followed the record, and one that sees it for the first time.
  ExpectNewer(copy_->Call("acquire b lock 5000"), "acquire");
  ExpectNewer(other_->Call("try c lock 5000"), "try");
  ExpectNewer(other_->Call("inspect lock 5000"), "inspect");
  ExpectNewer(copy_->Call("get cell 5000"), "get");
  ExpectNewer(other_->Call("set cell two 5000"), "set");
  const auto late = Start("late", absl::Seconds(30));
  ExpectNewer(late->Call("join 5000"), "join");
  EXPECT_EQ(Get(lock).value, lock_bytes);
  EXPECT_EQ(Get(cell).value, cell_bytes);
  EXPECT_EQ(Get("process-test/epoch").value, epoch_bytes);
}

}  // namespace
}  // namespace process_test
