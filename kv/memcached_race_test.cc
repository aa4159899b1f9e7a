// What comes between the read and the write of one conditional write on memcached.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>

#include "kv/memcached_store.h"
#include "kv/memcached_test_util.h"

namespace kv {
namespace {

using testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class MemcachedRaceTest : public RelayedServerTest {
 protected:
  // Runs `call`, a write on `relayed_`, and `meanwhile` after the server has answered its read, before it writes.
  WriteResult WithinAWrite(const std::function<WriteResult()>& call, const std::function<void()>& meanwhile) {
    const int64_t gets = Stat("cmd_get");
    relay_->CutReplies();
    WriteResult result;
    std::thread writer([&] { result = call(); });
    EXPECT_TRUE(Eventually([&] { return Stat("cmd_get") > gets; }));
    meanwhile();
    relay_->Heal();
    writer.join();
    return result;
  }
};

TEST_F(MemcachedRaceTest, ADeleteLosesToAWriteThatComesAfterItsRead) {
  const WriteResult first = relayed_->Create("a", "one", Soon());
  WriteResult second;
  const WriteResult deleted = WithinAWrite([&] { return relayed_->Delete("a", first.revision, Soon()); },
                                           [&] { second = store_->Update("a", "two", first.revision, Soon()); });
  EXPECT_TRUE(absl::IsAborted(deleted.status)) << deleted.status;
  EXPECT_TRUE(second.ok()) << second.status;
  EXPECT_EQ(store_->Get("a", Soon())->value, "two");
}

TEST_F(MemcachedRaceTest, AnUpdateLosesToAWriteThatComesAfterItsRead) {
  const WriteResult first = relayed_->Create("a", "one", Soon());
  const WriteResult late = WithinAWrite([&] { return relayed_->Update("a", "late", first.revision, Soon()); },
                                        [&] { ASSERT_TRUE(store_->Update("a", "two", first.revision, Soon()).ok()); });
  EXPECT_TRUE(absl::IsAborted(late.status)) << late.status;
  EXPECT_EQ(store_->Get("a", Soon())->value, "two");
}

TEST_F(MemcachedRaceTest, AnUpdateOfAKeyThatGoesAfterItsReadIsNotFound) {
  const WriteResult first = relayed_->Create("a", "one", Soon());
  const WriteResult late = WithinAWrite([&] { return relayed_->Update("a", "late", first.revision, Soon()); },
                                        [&] { ASSERT_TRUE(store_->Delete("a", first.revision, Soon()).ok()); });
  EXPECT_TRUE(absl::IsNotFound(late.status)) << late.status;
  EXPECT_TRUE(absl::IsNotFound(store_->Get("a", Soon()).status()));
}

TEST_F(MemcachedRaceTest, APutThatLosesTriesAgainAboveTheOther) {
  const WriteResult first = relayed_->Create("a", "one", Soon());
  WriteResult second;
  const WriteResult put = WithinAWrite([&] { return relayed_->Put("a", "put", Soon()); },
                                       [&] { second = store_->Update("a", "two", first.revision, Soon()); });
  ASSERT_TRUE(put.ok()) << put.status;
  EXPECT_GT(put.revision, second.revision);
  EXPECT_EQ(store_->Get("a", Soon())->value, "put");
}

// memcached numbers items from 1 after each start: an id of before may be the id of somebody else's item.
TEST_F(MemcachedRaceTest, ARestartWithinAnUpdateOverwritesNobody) {
  // The server may die before it has sent all of the answer to the read; then that is read anew, and Aborted right.
  absl::Status status = absl::AbortedError("");
  for (int tries = 0; absl::IsAborted(status) && tries < 100; ++tries) {
    const WriteResult mine = relayed_->Put("a", "mine", Soon());
    ASSERT_TRUE(mine.ok()) << mine.status;
    uint64_t id = 0;
    uint64_t other_id = 0;
    TextClient(server_->port()).Get("coord:a", &id);
    status = WithinAWrite([&] { return relayed_->Update("a", "late", mine.revision, Soon()); },
                          [&] {
                            Restart();
                            while (other_id < id) {
                              ASSERT_TRUE(store_->Put("a", "theirs", Soon()).ok());
                              TextClient(server_->port()).Get("coord:a", &other_id);
                            }
                          })
                 .status;
    EXPECT_EQ(other_id, id) << "the ids do not coincide: nothing was tested";
    EXPECT_EQ(store_->Get("a", Soon())->value, "theirs");
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("it may have been applied"));
}

TEST_F(MemcachedRaceTest, ARestartBetweenTwoCallsOverwritesNobody) {
  const WriteResult mine = store_->Create("a", "mine", Soon());
  uint64_t id = 0;
  uint64_t other_id = 0;
  TextClient(server_->port()).Get("coord:a", &id);
  Restart();
  while (other_id < id) {
    ASSERT_TRUE(relayed_->Put("a", "theirs", Soon()).ok());
    TextClient(server_->port()).Get("coord:a", &other_id);
  }
  EXPECT_EQ(other_id, id);
  const WriteResult update = store_->Update("a", "late", mine.revision, Soon());
  EXPECT_TRUE(absl::IsAborted(update.status)) << update.status;
  EXPECT_EQ(update.current->value, "theirs");
  EXPECT_TRUE(absl::IsAborted(store_->Delete("a", mine.revision, Soon()).status));
  EXPECT_EQ(store_->Get("a", Soon())->value, "theirs");
}

TEST_F(MemcachedRaceTest, AWriteWithoutAnswerIsUnknownAndMayComeLate) {
  const WriteResult created = relayed_->Create("a", "one", Soon());
  const WriteResult late = WithinAWrite(
      [&] { return relayed_->Update("a", "two", created.revision, In(absl::Seconds(3))); }, [&] { server_->Stop(); });
  EXPECT_TRUE(absl::IsDeadlineExceeded(late.status)) << late.status;
  EXPECT_THAT(Message(late.status), HasSubstr("did not acknowledge the write in time; it may have been applied"));
  server_->Continue();
  EXPECT_TRUE(Eventually([&] { return store_->Get("a", Soon())->value == "two"; }));
}

}  // namespace
}  // namespace kv
