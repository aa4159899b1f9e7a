// Eight processes under load on a cluster of three servers with three replicas of everything, while the leader of the
// store's stream is killed, stopped, and cut off from everybody.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kv/store.h"
#include "tests/chaos/loads.h"
#include "tests/process/copies.h"
#include "tests/process/process.h"
#include "tests/servers/network.h"
#include "tests/servers/servers.h"

namespace nats_test {
namespace {

using process_test::Eventually;
using process_test::Process;
using process_test::Reply;

constexpr int kServers = 3;
constexpr int kCopies = 8;
constexpr absl::Duration kTtl = absl::Seconds(3);
// In which all loads of all copies must have got on, once the cause is gone.
constexpr absl::Duration kBound = absl::Seconds(10);
// Longer than anything takes that is not stuck.
constexpr absl::Duration kPatience = absl::Seconds(60);

constexpr char kStream[] = "KV_coord";
constexpr const char* kStreams[] = {kStream, "COORD_coord", "KV_COORD_coord_cursors"};

// One for all tests of this process: it cannot be entered twice.
const absl::StatusOr<std::unique_ptr<servers::Network>>& TheNetwork() {
  static const auto& network = *new absl::StatusOr<std::unique_ptr<servers::Network>>(servers::Network::Make(kServers));
  return network;
}

// Servers of 2.9 apply entries that the others have dropped, and drop some that the others apply: in their files the
// same sequences hold other messages afterwards. Nothing that a client does can mend that.
bool KeepsReplicasAlike(const std::string& version) {
  int major = 0, minor = 0;
  EXPECT_EQ(std::sscanf(version.c_str(), "%d.%d", &major, &minor), 2) << version;
  return major > 2 || minor >= 10;
}

class ClusterTest : public process_test::CopiesTest {
 protected:
  std::string url() const override {
    return absl::StrCat("nats://", cluster_->addresses(), "?replicas=", kServers, "&storage=file");
  }
  Process::Options OptionsOf(const std::string& instance, absl::Duration ttl) const override {
    Process::Options options = CopiesTest::OptionsOf(instance, ttl);
    options.events = url();
    return options;
  }

  void SetUp() override {
    seed_ = std::random_device()();
    if (const char* given = getenv("COORD_TEST_SEED"); given != nullptr) seed_ = static_cast<unsigned>(atoll(given));
    random_.seed(seed_);
    std::vector<servers::Place> places;
    if (TheNetwork().ok()) {
      for (int i = 0; i < kServers; ++i) places.push_back((*TheNetwork())->place(i));
    }
    auto cluster = servers::NatsCluster::Run(kServers, {}, places);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    const std::string version = cluster_->server(0).version();
    Say(absl::StrCat("nats-server ", version, "; COORD_TEST_SEED=", seed_));
    if (!KeepsReplicasAlike(version)) {
      GTEST_SKIP() << "left out: nats-server " << version << " does not keep the replicas of a stream alike when their "
                   << "leader is killed or stopped; set COORD_NATS_SERVER to one of 2.10 or later";
    }

    std::vector<Process*> all;
    for (int i = 0; i < kCopies; ++i) {
      copies_.push_back(Start(absl::StrCat("copy-", i), kTtl));
      all.push_back(copies_.back().get());
    }
    ASSERT_NO_FATAL_FAILURE(Join(all));
    loads_ = std::make_unique<chaos::Loads>(folder_.path(), seed_);
    for (Process* copy : all) ASSERT_EQ(loads_->Subscribe(copy, copy->instance()), absl::OkStatus());
    for (Process* copy : all) loads_->Start(copy);
    loads_->Mark();
    AwaitGettingOn("the start");
    ASSERT_FALSE(HasFailure());
  }

  void TearDown() override {
    const char* outputs = getenv("TEST_UNDECLARED_OUTPUTS_DIR");
    if (!HasFailure() || outputs == nullptr || cluster_ == nullptr) return;
    for (int i = 0; i < kServers; ++i) {
      std::ofstream(absl::StrCat(outputs, "/server-", i, ".log")) << cluster_->server(i).Log();
    }
    std::error_code error;
    std::filesystem::copy(folder_.path(), absl::StrCat(outputs, "/loads"), std::filesystem::copy_options::recursive,
                          error);
    EXPECT_FALSE(error) << error.message();
  }

  void Say(const std::string& what) const {
    std::printf("%7.1f s  %s\n", absl::ToDoubleSeconds(absl::Now() - begun_), what.c_str());
    std::fflush(stdout);  // in the order of what the copies print
  }

  // Whether the servers have agreed on who leads each stream, and them. While they have not, nobody can write, or watch
  // anew.
  bool Led() {
    return cluster_->MetaLeader().ok() &&
           std::all_of(std::begin(kStreams), std::end(kStreams),
                       [this](const char* stream) { return cluster_->StreamLeader(stream).ok(); });
  }

  // All loads must get on within kBound, though not sooner than the servers have leaders: finding one takes them four
  // to nine seconds, in constants of their own, and a server that comes back can make them begin anew.
  void AwaitGettingOn(const std::string& since) {
    const absl::Time begun = absl::Now();
    absl::Time led = begun;
    std::string missing;
    loads_->Mark();
    while (!loads_->GotOn(&missing)) {
      if (!Led()) led = absl::Now();
      if (absl::Now() > led + kBound || absl::Now() > begun + kPatience) {
        ADD_FAILURE() << absl::Now() - begun << " after " << since << ", and " << absl::Now() - led
                      << " after the servers had leaders: " << missing;
        return ShowRecords();
      }
      absl::SleepFor(absl::Milliseconds(50));
    }
    Say(absl::StrCat("all loads get on, ", absl::FormatDuration(absl::Now() - begun), " after ", since,
                     "; the servers had leaders after ", absl::FormatDuration(led - begun)));
  }

  // For people who look for the cause.
  void ShowRecords() {
    for (const kv::KeyedEntry& record : List("process-test/")) {
      Say(absl::StrCat(record.key, " ", record.entry.revision, " ", record.entry.value));
    }
    for (const auto& copy : copies_) Say(absl::StrCat(copy->instance(), ": ", copy->Call("stats").text));
  }

  // From 1 to `most`.
  absl::Duration Any(absl::Duration most) {
    return absl::Seconds(1) + (most - absl::Seconds(1)) * std::uniform_real_distribution<double>(0, 1)(random_);
  }

  // Does it to the leader, undoes it `lasting` later.
  void Fault(const std::string& what, absl::Duration lasting, const std::function<void(int leader)>& begin,
             const std::function<void(int leader)>& end) {
    const absl::StatusOr<int> leader = cluster_->StreamLeader(kStream);
    ASSERT_TRUE(leader.ok()) << leader.status();
    begin(*leader);
    const absl::Time begun = absl::Now();
    Say(absl::StrCat("server ", *leader, ", the leader, is ", what, " for ", absl::FormatDuration(lasting)));
    std::string missing;
    bool got_on = false;
    loads_->Mark();
    while (absl::Now() < begun + lasting) {
      absl::SleepFor(absl::Milliseconds(20));
      if (got_on || !loads_->GotOn(&missing)) continue;
      got_on = true;
      Say("all loads get on without it");
    }
    end(*leader);
    Say("the cause is gone");
    AwaitGettingOn("the cause was gone");
    ASSERT_FALSE(HasFailure());
    // The next fault must not hit a second replica.
    for (const char* stream : kStreams) {
      const absl::Status whole = cluster_->WaitForStream(stream, absl::Now() + kPatience);
      ASSERT_TRUE(whole.ok()) << whole;
    }
    AwaitGettingOn("all replicas were current");
    ASSERT_FALSE(HasFailure());
  }

  // Sessions that were lost on the way are ended by now, or will be soon.
  void AwaitOneSessionEach() {
    std::string last;
    EXPECT_TRUE(Eventually([&] {
      absl::SleepFor(absl::Milliseconds(200));
      int live = 0;
      last = "";
      for (const kv::KeyedEntry& session : List("process-test/session/")) {
        if (session.entry.value.find("\"mark\":\"ended\"") != std::string::npos) continue;
        ++live;
        absl::StrAppend(&last, session.key, " ", session.entry.value, "\n");
      }
      return live == kCopies;
    })) << last;
  }

  std::vector<kv::KeyedEntry> List(const std::string& prefix) {
    if (store_ == nullptr) store_ = OpenStore();
    const auto listed = store_->List(prefix, absl::Now() + absl::Seconds(20));
    EXPECT_TRUE(listed.ok()) << listed.status();
    return listed.ok() ? *listed : std::vector<kv::KeyedEntry>();
  }

  void End() {
    loads_->Stop();
    Say("the loads have ended");
    for (const std::string& violation : loads_->Judge()) ADD_FAILURE() << violation;
    std::printf("%s", loads_->summary().c_str());
    AwaitOneSessionEach();
    for (const auto& copy : copies_) EXPECT_EQ(copy->Quit(), 0) << copy->instance();
    for (const char* kind : {"mutex", "election"}) {
      const std::vector<kv::KeyedEntry> records = List(absl::StrCat("process-test/", kind, "/"));
      EXPECT_EQ(records.size(), 1u) << kind;
      for (const kv::KeyedEntry& record : records) {
        EXPECT_NE(record.entry.value.find("\"owners\":[],\"queue\":[]"), std::string::npos) << record.entry.value;
      }
    }
    for (const kv::KeyedEntry& session : List("process-test/session/")) {
      EXPECT_NE(session.entry.value.find("\"mark\":\"ended\""), std::string::npos) << session.entry.value;
    }
    Say("nothing is left");
  }

  const absl::Time begun_ = absl::Now();
  unsigned seed_ = 0;
  std::mt19937 random_;
  std::unique_ptr<servers::NatsCluster> cluster_;
  std::vector<std::unique_ptr<Process>> copies_;
  std::unique_ptr<chaos::Loads> loads_;
  std::shared_ptr<kv::Store> store_;
};

TEST_F(ClusterTest, NothingIsLostWhileTheLeaderIsKilledStoppedAndCutOff) {
  ASSERT_NO_FATAL_FAILURE(Fault(
      "killed", Any(3 * kTtl), [&](int leader) { cluster_->server(leader).Kill(); },
      [&](int leader) {
        const absl::Status started = cluster_->server(leader).Start();
        EXPECT_TRUE(started.ok()) << started;
      }));
  ASSERT_NO_FATAL_FAILURE(Fault(
      "stopped", 3 * kTtl, [&](int leader) { cluster_->server(leader).Stop(); },
      [&](int leader) { cluster_->server(leader).Continue(); }));
  if (TheNetwork().ok()) {
    // Longer than it believes itself to be the leader.
    ASSERT_NO_FATAL_FAILURE(Fault(
        "cut off", 3 * kTtl + Any(2 * kTtl),
        [&](int leader) { EXPECT_EQ((*TheNetwork())->Cut(leader), absl::OkStatus()); },
        [&](int leader) { EXPECT_EQ((*TheNetwork())->Heal(leader), absl::OkStatus()); }));
  } else {
    Say(absl::StrCat("left out: the leader cut off, for which this process would need to be root: ",
                     TheNetwork().status().ToString()));
  }
  End();
}

}  // namespace
}  // namespace nats_test
