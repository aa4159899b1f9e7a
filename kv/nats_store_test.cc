// The NATS store over one real server: its layout, its calls, and the pitfalls of the server that it steps around. The
// contract itself is checked by nats_conformance_test.

#include "kv/nats_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kv/nats_store_test_util.h"
#include "tests/servers/servers.h"

namespace kv {
namespace {

using servers::NatsServer;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Keys(const absl::StatusOr<std::vector<KeyedEntry>>& listed) {
  EXPECT_TRUE(listed.ok()) << listed.status();
  std::vector<std::string> keys;
  if (!listed.ok()) return keys;
  for (const KeyedEntry& each : *listed) keys.push_back(each.key);
  return keys;
}

class NatsStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    auto server = NatsServer::Run();
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    connection_ = ConnectNats(server_->address());
    ASSERT_NE(connection_, nullptr);
  }

  std::shared_ptr<Store> Open(const NatsStoreOptions& options = {}) { return OpenNats(connection_, options); }
  NatsAdmin Admin() const { return NatsAdmin(connection_); }

  // What the server has received from clients by now, this question not counted.
  int64_t Received() const {
    const auto messages = server_->Varz("in_msgs");
    EXPECT_TRUE(messages.ok()) << messages.status();
    return messages.value_or(0);
  }

  void KillAndStart() {
    const uint64_t generation = connection_->generation();
    server_->Kill();
    ASSERT_TRUE(server_->Start().ok());
    ASSERT_TRUE(Eventually(
        [&] { return connection_->generation() != generation && connection_->state() == NatsState::kConnected; }));
  }

  std::unique_ptr<NatsServer> server_;
  std::shared_ptr<NatsConnection> connection_;
};

TEST_F(NatsStoreTest, IsABucketAsOtherClientsKnowIt) {
  const auto store = Open();
  ASSERT_TRUE(store->Create("demo/mutex/a.b", "value", Soon()).ok());
  const WriteResult doomed = store->Create("gone", "x", Soon());
  ASSERT_TRUE(store->Delete("gone", doomed.revision, Soon()).ok());

  const nlohmann::json info = Admin().Ask("INFO", R"({"subjects_filter": ">"})");
  EXPECT_EQ(info["config"]["name"], "KV_coord");
  EXPECT_EQ(info["config"]["subjects"], nlohmann::json::array({"$KV.coord.>"}));
  EXPECT_EQ(info["config"]["max_msgs_per_subject"], 1);
  EXPECT_EQ(info["config"]["discard"], "new");
  EXPECT_EQ(info["config"]["allow_rollup_hdrs"], true);
  EXPECT_EQ(info["config"]["allow_direct"], true);
  EXPECT_EQ(info["config"]["deny_delete"], false);
  EXPECT_EQ(info["config"]["max_age"], 0);
  EXPECT_EQ(info["config"]["storage"], "file");
  EXPECT_EQ(info["state"]["subjects"], nlohmann::json({{"$KV.coord.demo.mutex.a=2Eb", 1}, {"$KV.coord.gone", 1}}));
  const nlohmann::json marker = Admin().Ask("MSG.GET", R"({"last_by_subj": "$KV.coord.gone"})");
  std::string headers;
  ASSERT_TRUE(absl::Base64Unescape(marker["message"]["hdrs"].get<std::string>(), &headers));
  EXPECT_THAT(headers, HasSubstr("KV-Operation: DEL\r\n"));
}

TEST_F(NatsStoreTest, PromisesWhatTheOptionsAllow) {
  NatsStoreOptions options;
  options.bucket = "a";
  const Traits file = Open(options)->traits();
  EXPECT_EQ(file.name, "nats");
  EXPECT_FALSE(file.durable) << "acknowledged before it is synced";
  EXPECT_TRUE(file.linearizable_reads);
  EXPECT_TRUE(file.monotonic_revisions);
  EXPECT_TRUE(file.watch);
  EXPECT_TRUE(file.list);
  EXPECT_FALSE(file.age);
  EXPECT_FALSE(file.evicting);
  EXPECT_FALSE(file.volatile_storage);
  EXPECT_FALSE(file.proves_incarnation);
  EXPECT_EQ(file.max_key_bytes, 512u);
  EXPECT_EQ(file.max_value_bytes, 1048576u - 4096u);
  options.sync_always = true;
  EXPECT_TRUE(Open(options)->traits().durable);
  options.bucket = "b";
  options.file_storage = false;
  const Traits memory = Open(options)->traits();
  EXPECT_FALSE(memory.durable);
  EXPECT_TRUE(memory.volatile_storage);
}

TEST_F(NatsStoreTest, AnExistingBucketWithOtherSettingsIsRefusedWithEachDifference) {
  const nlohmann::json made = Admin().AskOf("$JS.API.STREAM.CREATE.KV_coord", R"({
      "name": "KV_coord", "subjects": ["$KV.coord.>"], "retention": "limits", "storage": "memory", "num_replicas": 1,
      "max_msgs_per_subject": 5, "max_age": 60000000000, "duplicate_window": 60000000000, "discard": "new",
      "deny_delete": true, "allow_rollup_hdrs": true})");
  ASSERT_FALSE(made.contains("error")) << made;
  const auto store = OpenNatsStore(connection_, {}, Soon());
  ASSERT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition) << store.status();
  const std::string message(store.status().message());
  EXPECT_THAT(message, HasSubstr("the bucket coord exists with settings"));
  EXPECT_THAT(message, HasSubstr("storage: is \"memory\", wanted \"file\""));
  EXPECT_THAT(message, HasSubstr("max_msgs_per_subject: is 5, wanted 1"));
  EXPECT_THAT(message, HasSubstr("max_age: is 60000000000, wanted 0"));
  EXPECT_THAT(message, HasSubstr("deny_delete: is true, wanted false"));
  EXPECT_THAT(message, HasSubstr("duplicate_window: is 60000000000, wanted 120000000000"));
  EXPECT_THAT(message, testing::Not(HasSubstr("num_replicas")));
  EXPECT_THAT(message, testing::Not(HasSubstr("discard")));
}

// As `nats kv add --history=1 --storage=file` makes it, but for deny_delete.
TEST_F(NatsStoreTest, AnExistingBucketMayDifferInWhatDoesNotMatter) {
  const nlohmann::json made = Admin().AskOf("$JS.API.STREAM.CREATE.KV_coord", R"({
      "name": "KV_coord", "subjects": ["$KV.coord.>"], "retention": "limits", "storage": "file", "num_replicas": 1,
      "max_msgs_per_subject": 1, "max_bytes": 1000000000, "discard": "new", "description": "ours",
      "duplicate_window": 120000000000, "allow_rollup_hdrs": false, "allow_direct": false, "deny_purge": true})");
  ASSERT_FALSE(made.contains("error")) << made;
  const auto store = Open();
  ASSERT_NE(store, nullptr);
  EXPECT_TRUE(store->Create("a", "x", Soon()).ok());
  EXPECT_EQ(Admin().Ask("INFO")["config"]["description"], "ours");
}

TEST_F(NatsStoreTest, OptionsThatNoBucketCanHaveAreRefused) {
  const auto refused = [&](const NatsStoreOptions& options) {
    const auto store = OpenNatsStore(connection_, options, Soon());
    EXPECT_EQ(store.status().code(), absl::StatusCode::kInvalidArgument) << store.status();
    return std::string(store.status().message());
  };
  for (const char* name : {"", "a.b", "a b", "*", ">", "a/b", "\xc3\xa4", "a\r\nPUB x 0"}) {
    NatsStoreOptions options;
    options.bucket = name;
    EXPECT_THAT(refused(options), HasSubstr("1 to 64 letters, digits, '-' and '_'")) << name;
  }
  NatsStoreOptions two;
  two.replicas = 2;
  EXPECT_THAT(refused(two), HasSubstr("replicas is 2; it must be 1, 3 or 5"));
  NatsStoreOptions linger;
  linger.delete_linger = absl::ZeroDuration();
  EXPECT_THAT(refused(linger), HasSubstr("delete_linger is 0"));
  EXPECT_EQ(OpenNatsStore(connection_, {}, In(-absl::Seconds(1))).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(NatsStoreTest, ReplicasNeedACluster) {
  NatsStoreOptions options;
  options.replicas = 3;
  const auto store = OpenNatsStore(connection_, options, Soon());
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition) << store.status();
  EXPECT_THAT(std::string(store.status().message()), HasSubstr("needs a cluster"));
}

TEST(NatsStoreOpenTest, WithoutJetStreamItSaysWhatToDo) {
  servers::NatsServerOptions options;
  options.jetstream = false;
  const auto server = NatsServer::Run(options);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto store = OpenNatsStore(ConnectNats((*server)->address()), {}, In(absl::Minutes(10)));
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition) << store.status();
  EXPECT_THAT(std::string(store.status().message()), HasSubstr("The server's configuration needs \"jetstream {}\""));
}

TEST_F(NatsStoreTest, TheLongestKeysOfAnyBytesWork) {
  const auto store = Open();
  std::string umlauts;
  while (umlauts.size() < 512) umlauts += "\xc3\xa4";
  for (const std::string& key : {std::string(512, '/'), umlauts, std::string(512, '*'), std::string(512, '.')}) {
    const WriteResult created = store->Create(key, "one", Soon());
    ASSERT_TRUE(created.ok()) << key << ": " << created.status;
    const WriteResult updated = store->Update(key, "two", created.revision, Soon());
    ASSERT_TRUE(updated.ok()) << key << ": " << updated.status;
    const auto entry = store->Get(key, Soon());
    ASSERT_TRUE(entry.ok()) << entry.status();
    EXPECT_EQ(entry->value, "two");
    Recorder recorder;
    const auto watch = store->WatchPrefix(key, recorder.Callback());
    ASSERT_TRUE(recorder.AwaitKind(WatchKind::kSynced));
    EXPECT_EQ(recorder.Events()[0].key, key);
  }
  EXPECT_EQ(Keys(store->List("", Soon())).size(), 4u);
  EXPECT_EQ(Keys(store->List(umlauts.substr(0, 511), Soon())).size(), 1u);
}

TEST_F(NatsStoreTest, SubjectsThatNoKeyHasAreLeftAlone) {
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kSynced));
  for (const char* subject : {"a=2e", "a=61", "a=2F", "=C3", "b$c", "=0A"}) {
    ASSERT_TRUE(Admin().Publish(subject, "foreign").contains("seq")) << subject;
  }
  ASSERT_TRUE(store->Create("a", "own", Soon()).ok());
  ASSERT_TRUE(recorder.AwaitValue("own"));
  EXPECT_THAT(Texts(recorder.Events()), ElementsAre("synced", "put a=own"));
  EXPECT_THAT(Keys(store->List("", Soon())), ElementsAre("a"));
  // A watch that begins with them finds the end of the snapshot as well.
  const auto other = OpenNats(ConnectNats(server_->address(), 1));
  Recorder late;
  const auto late_watch = other->WatchPrefix("", late.Callback());
  ASSERT_TRUE(late.AwaitKind(WatchKind::kSynced));
  EXPECT_THAT(Texts(late.Events()), ElementsAre("put a=own", "synced"));
}

TEST_F(NatsStoreTest, EveryCallThatDoesNotLoseIsOneMessageToTheServer) {
  const auto store = Open();
  ASSERT_TRUE(store->Create("warm", "x", Soon()).ok());
  const auto cost = [&](const std::function<absl::Status()>& call) {
    ASSERT_TRUE(connection_->Flush(Soon()).ok());
    const int64_t before = Received();
    const absl::Status status = call();
    EXPECT_TRUE(status.ok()) << status;
    ASSERT_TRUE(connection_->Flush(Soon()).ok());
    EXPECT_TRUE(Eventually([&] { return Received() - before >= 1; }));
    EXPECT_EQ(Received() - before, 1);
  };
  WriteResult last;
  cost([&] { return (last = store->Create("a", "1", Soon())).status; });
  cost([&] { return (last = store->Update("a", "2", last.revision, Soon())).status; });
  cost([&] { return store->Get("a", Soon()).status(); });
  cost([&] { return (last = store->Put("a", "3", Soon())).status; });
  cost([&] { return (last = store->Delete("a", last.revision, Soon())).status; });
  // Over the marker, whose revision is known.
  cost([&] { return (last = store->Create("a", "4", Soon())).status; });
}

TEST_F(NatsStoreTest, WithAWatchALostWriteCostsNoReadAndBringsTheWinner) {
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  const WriteResult first = store->Create("a", "first", Soon());
  const WriteResult second = store->Update("a", "second", first.revision, Soon());
  ASSERT_TRUE(recorder.AwaitValue("second"));
  ASSERT_TRUE(connection_->Flush(Soon()).ok());
  const int64_t before = Received();
  const WriteResult lost = store->Update("a", "late", first.revision, Soon());
  EXPECT_EQ(lost.status.code(), absl::StatusCode::kAborted) << lost.status;
  ASSERT_TRUE(lost.current.has_value());
  EXPECT_EQ(lost.current->value, "second");
  EXPECT_EQ(lost.current->revision, second.revision);
  const WriteResult exists = store->Create("a", "late", Soon());
  EXPECT_EQ(exists.status.code(), absl::StatusCode::kAlreadyExists) << exists.status;
  EXPECT_TRUE(Eventually([&] { return Received() - before >= 2; }));
  EXPECT_EQ(Received() - before, 2);
}

TEST_F(NatsStoreTest, MarkersOfEveryKindAreNoEntries) {
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kSynced));
  const std::vector<std::pair<std::string, NatsHeaders>> markers = {
      {"del", {{"KV-Operation", "DEL"}}},
      {"purge", {{"KV-Operation", "PURGE"}, {"Nats-Rollup", "sub"}}},
      // As a server from 2.11 on leaves it.
      {"aged", {{"Nats-Marker-Reason", "MaxAge"}}}};
  for (const auto& [key, headers] : markers) {
    ASSERT_TRUE(store->Create(key, "value", Soon()).ok());
    ASSERT_TRUE(recorder.Await([&, name = key](const auto& events) { return events.back().key == name; }));
    ASSERT_TRUE(Admin().Publish(key, "", headers).contains("seq")) << key;
    ASSERT_TRUE(recorder.Await([](const auto& events) { return events.back().kind == WatchKind::kDelete; })) << key;
    EXPECT_EQ(store->Get(key, Soon()).status().code(), absl::StatusCode::kNotFound) << key;
    const WriteResult updated = store->Update(key, "x", 1, Soon());
    EXPECT_EQ(updated.status.code(), absl::StatusCode::kNotFound) << key << ": " << updated.status;
    EXPECT_NE(updated.revision, 0u) << "the marker's revision";
    // What another process wrote, and what this one has seen by its watch.
    const auto other = OpenNats(ConnectNats(server_->address(), 1));
    EXPECT_EQ(other->Get(key, Soon()).status().code(), absl::StatusCode::kNotFound) << key;
    EXPECT_EQ(other->Update(key, "x", 1, Soon()).status.code(), absl::StatusCode::kNotFound) << key;
    EXPECT_EQ(other->Delete(key, 1, Soon()).status.code(), absl::StatusCode::kNotFound) << key;
    EXPECT_TRUE(other->Create(key, "again", Soon()).ok()) << key;
  }
  EXPECT_THAT(Keys(store->List("", Soon())), ElementsAre("aged", "del", "purge"));
}

TEST_F(NatsStoreTest, AMarkersRevisionIsNoEntrys) {
  const auto store = Open();
  const WriteResult created = store->Create("a", "1", Soon());
  const WriteResult deleted = store->Delete("a", created.revision, Soon());
  ASSERT_TRUE(deleted.ok()) << deleted.status;
  ASSERT_NE(deleted.revision, 0u);
  for (const WriteResult& result :
       {store->Update("a", "2", deleted.revision, Soon()), store->Delete("a", deleted.revision, Soon())}) {
    EXPECT_EQ(result.status.code(), absl::StatusCode::kNotFound) << result.status;
    EXPECT_EQ(result.revision, deleted.revision);
  }
  EXPECT_EQ(store->Get("a", Soon()).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(NatsStoreTest, AMillionNamesUsedOnceWouldLeaveNothing) {
  NatsStoreOptions options;
  options.delete_linger = absl::Milliseconds(50);
  const auto store = Open(options);
  ASSERT_TRUE(store->Create("stays", "x", Soon()).ok());
  const int64_t before = Admin().Messages();
  for (int i = 0; i < 2000; ++i) {
    const std::string key = absl::StrCat("name-", i);
    const WriteResult created = store->Create(key, "x", Soon());
    ASSERT_TRUE(created.ok()) << created.status;
    const WriteResult deleted = store->Delete(key, created.revision, Soon());
    ASSERT_TRUE(deleted.ok()) << deleted.status;
  }
  EXPECT_TRUE(Eventually([&] { return Admin().Messages() == before; })) << Admin().Messages() << " are left";
  EXPECT_EQ(store->Get("name-0", Soon()).status().code(), absl::StatusCode::kNotFound);
  const WriteResult again = store->Create("name-0", "x", Soon());
  ASSERT_TRUE(again.ok()) << again.status;
  EXPECT_GT(again.revision, 4000u) << "revisions grow over the removal";
}

TEST_F(NatsStoreTest, TheMarkersOfAProcessThatEndedAreRemovedByThoseWhoWatch) {
  NatsStoreOptions options;
  options.delete_linger = absl::Milliseconds(200);
  const auto watcher = OpenNats(ConnectNats(server_->address(), 1), options);
  const auto other = OpenNats(ConnectNats(server_->address(), 2), options);
  Recorder recorder;
  const auto watch = watcher->WatchPrefix("", recorder.Callback());
  const auto other_watch = other->WatchPrefix("", [](const WatchEvent&) {});
  ASSERT_TRUE(recorder.AwaitKind(WatchKind::kSynced));
  {
    const auto store = Open(options);
    for (int i = 0; i < 100; ++i) {
      const WriteResult created = store->Create(absl::StrCat("name-", i), "x", Soon());
      ASSERT_TRUE(store->Delete(absl::StrCat("name-", i), created.revision, Soon()).ok());
    }
  }
  ASSERT_GT(Admin().Messages(), 0) << "they were to end before their time";
  EXPECT_TRUE(Eventually([&] { return Admin().Messages() == 0; })) << Admin().Messages() << " are left";
}

// From 2.10 on a server that is killed takes the last message that it once wrote of a key for the present one, although
// it had been replaced, and its replacement removed (2.9: the marker itself comes back).
TEST_F(NatsStoreTest, AKilledServerBringsNoDeletedValueBack) {
  NatsStoreOptions options;
  options.delete_linger = absl::Milliseconds(20);
  const auto store = Open(options);
  ASSERT_TRUE(store->Create("stays", "x", Soon()).ok());
  for (int i = 0; i < 20; ++i) {
    const std::string key = absl::StrCat("name-", i);
    const WriteResult created = store->Create(key, "x", Soon());
    ASSERT_TRUE(store->Delete(key, created.revision, Soon()).ok());
  }
  ASSERT_TRUE(Eventually([&] { return Admin().Messages() == 1; })) << Admin().Messages() << " are left";
  KillAndStart();
  // A process that knows nothing.
  const auto other = OpenNats(ConnectNats(server_->address(), 1), options);
  EXPECT_THAT(Keys(other->List("", Soon())), ElementsAre("stays"));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(other->Get(absl::StrCat("name-", i), Soon()).status().code(), absl::StatusCode::kNotFound);
  }
  // What came back, markers, is removed again by those who watch.
  const auto watch = other->WatchPrefix("", [](const WatchEvent&) {});
  EXPECT_TRUE(Eventually([&] { return Admin().Messages() == 1; })) << Admin().Messages() << " are left";
}

// As where the file was rewritten in between: here an administrator removes the markers.
TEST_F(NatsStoreTest, WhoRemembersADeleteShowsNoValueThatTheServerBringsBack) {
  const auto store = Open();
  Recorder recorder;
  const auto watch = store->WatchPrefix("", recorder.Callback());
  ASSERT_TRUE(store->Create("stays", "x", Soon()).ok());
  std::map<std::string, Revision> deleted;
  for (int i = 0; i < 20; ++i) {
    const std::string key = absl::StrCat("name-", i);
    const WriteResult created = store->Create(key, "x", Soon());
    ASSERT_TRUE(store->Delete(key, created.revision, Soon()).ok());
    deleted[key] = created.revision;
  }
  for (Revision marker = 3; marker <= 41; marker += 2) {
    ASSERT_EQ(Admin().Ask("MSG.DELETE", absl::StrCat("{\"seq\":", marker, "}"))["success"], true);
  }
  ASSERT_EQ(Admin().Messages(), 1);
  KillAndStart();
  ASSERT_TRUE(recorder.Await([](const auto& events) {
    return events.size() > 3 && events.back().kind == WatchKind::kSynced &&
           events[events.size() - 3].kind == WatchKind::kResync;
  }));
  std::cout << "nats-server " << server_->version() << " came back with " << Admin().Messages() << " messages\n";
  EXPECT_EQ(recorder.Events()[recorder.Events().size() - 2].key, "stays");
  EXPECT_THAT(Keys(store->List("", Soon())), ElementsAre("stays"));
  for (const auto& [key, revision] : deleted) {
    EXPECT_EQ(store->Get(key, Soon()).status().code(), absl::StatusCode::kNotFound);
    // A writer that was asleep since before the delete.
    const WriteResult late = store->Update(key, "late", revision, Soon());
    EXPECT_EQ(late.status.code(), absl::StatusCode::kNotFound) << late.status;
  }
  // They are deleted again, so that others do not see them either.
  const auto other = OpenNats(ConnectNats(server_->address(), 1));
  EXPECT_TRUE(Eventually([&] { return Keys(other->List("", Soon())).size() == 1; }));
  const WriteResult again = store->Create("name-0", "new", Soon());
  EXPECT_TRUE(again.ok()) << again.status;
}

// Before it removes what a delete left, the stream is looked at; others' writes do not wait for what that finds.
TEST_F(NatsStoreTest, CleaningUpHoldsUpNobody) {
  auto relay = servers::Relay::Run(server_->address());
  ASSERT_TRUE(relay.ok()) << relay.status();
  NatsStoreOptions options;
  options.delete_linger = absl::Milliseconds(100);
  const auto store = OpenNats(ConnectNats((*relay)->address()), options);
  const auto other = Open();
  const WriteResult created = store->Create("a", "x", Soon());
  ASSERT_TRUE(created.ok()) << created.status;
  ASSERT_TRUE(store->Delete("a", created.revision, Soon()).ok());
  (*relay)->CutReplies();
  // It looks, and is not answered.
  const int64_t before = server_->Varz("in_msgs").value_or(0);
  ASSERT_TRUE(Eventually([&] { return server_->Varz("in_msgs").value_or(0) > before; }));
  const absl::Status written = store->Put("b", "y", In(absl::Milliseconds(500))).status;
  EXPECT_EQ(written.code(), absl::StatusCode::kDeadlineExceeded) << written;
  EXPECT_TRUE(Eventually([&] { return other->Get("b", Soon()).ok(); })) << "the write was not sent";
}

TEST_F(NatsStoreTest, ADeadServerIsUnavailableAndNothingTakesLong) {
  auto store = Open();
  const auto watch = store->WatchPrefix("", [](const WatchEvent&) {});
  const WriteResult created = store->Create("a", "x", Soon());
  ASSERT_TRUE(created.ok()) << created.status;
  EXPECT_EQ(store->connection(), Connection::kConnected);
  server_->Kill();
  ASSERT_TRUE(Eventually([&] { return store->connection() == Connection::kReconnecting; }));
  const absl::Time begun = absl::Now();
  EXPECT_EQ(store->Get("a", Soon()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store->Update("a", "y", created.revision, Soon()).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store->Create("b", "y", Soon()).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store->Put("a", "y", Soon()).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store->Delete("a", created.revision, Soon()).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(store->List("", Soon()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_LT(absl::Now() - begun, absl::Seconds(5));
}

TEST_F(NatsStoreTest, StoresOfOneConnectionShareOneConsumer) {
  const auto first = Open();
  const auto second = Open();
  NatsStoreOptions options;
  options.delete_linger = absl::Seconds(1);
  const auto third = Open(options);
  Recorder recorder;
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < 10; ++i) {
    watches.push_back(*first->WatchPrefix(absl::StrCat("a", i), [](const WatchEvent&) {}));
    watches.push_back(*second->WatchPrefix("", recorder.Callback()));
  }
  ASSERT_TRUE(recorder.AwaitCount(10));
  EXPECT_TRUE(Eventually([&] { return Admin().State()["consumer_count"] == 1; })) << Admin().State();
  watches.push_back(*third->WatchPrefix("", recorder.Callback()));
  ASSERT_TRUE(recorder.AwaitCount(11));
  EXPECT_TRUE(Eventually([&] { return Admin().State()["consumer_count"] == 2; })) << "other options, another consumer";
}

TEST_F(NatsStoreTest, AListOfMoreEntriesThanAServerNamesAtATime) {
  const auto store = Open();
  constexpr int kEntries = 100500;
  for (int i = 0; i < kEntries; ++i) {
    ASSERT_TRUE(connection_->Publish(absl::StrCat("$KV.coord.many.", i), "x").ok());
    if (i % 5000 == 0) {
      ASSERT_TRUE(connection_->Flush(Soon()).ok());
    }
  }
  ASSERT_TRUE(Eventually([&] { return Admin().Messages() == kEntries; }));
  auto listed = store->List("many/", In(absl::Seconds(60)));
  // A machine that is busy enough loses the connection over so long an answer.
  EXPECT_TRUE(Eventually([&] {
    if (listed.ok()) return true;
    EXPECT_TRUE(absl::IsUnavailable(listed.status()) || absl::IsDeadlineExceeded(listed.status())) << listed.status();
    listed = store->List("many/", In(absl::Seconds(60)));
    return listed.ok();
  })) << listed.status();
  ASSERT_TRUE(listed.ok());
  EXPECT_EQ(listed->size(), static_cast<size_t>(kEntries));
  for (size_t i = 1; i < listed->size(); ++i) ASSERT_LT((*listed)[i - 1].key, (*listed)[i].key);
  EXPECT_EQ(Keys(store->List("many/10049", Soon())).size(), 11u);
}

}  // namespace
}  // namespace kv
