// The servers that other tests stand on: started, ended, and started again at the same port.

#include "tests/servers/servers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "nats/nats.h"
#include "tests/servers/child.h"

namespace servers {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// Longer than anything takes that is not stuck.
constexpr absl::Duration kPatience = absl::Seconds(60);

bool IsGone(pid_t pid) { return internal::ThreadStates(pid).find_first_not_of("ZX") == std::string::npos; }

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

// The same life for each kind of server.
void KillStopAndRestart(Server& server) {
  const int port = server.port();
  const std::string folder = server.folder();
  EXPECT_TRUE(server.running());
  EXPECT_EQ(server.Start(), absl::OkStatus()) << "it runs already";

  pid_t pid = server.pid();
  server.Kill();
  EXPECT_FALSE(server.running());
  EXPECT_EQ(server.pid(), -1);
  EXPECT_TRUE(IsGone(pid));
  ASSERT_EQ(server.Start(), absl::OkStatus());
  EXPECT_EQ(server.port(), port);
  EXPECT_EQ(server.folder(), folder);

  server.Stop();
  EXPECT_TRUE(server.stopped());
  EXPECT_TRUE(server.running());
  server.Continue();
  EXPECT_FALSE(server.stopped());

  pid = server.pid();
  server.Stop();
  server.Terminate();
  EXPECT_FALSE(server.running());
  EXPECT_TRUE(IsGone(pid));
  ASSERT_EQ(server.Start(), absl::OkStatus());

  // It ends by itself.
  kill(server.pid(), SIGKILL);
  while (server.running()) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_EQ(server.Start(), absl::OkStatus());
  EXPECT_TRUE(server.running());
  EXPECT_EQ(server.port(), port);
}

template <typename T>
void NothingIsLeft(std::unique_ptr<T> server) {
  const pid_t pid = server->pid();
  const std::string folder = server->folder();
  server.reset();
  EXPECT_TRUE(IsGone(pid));
  EXPECT_FALSE(std::filesystem::exists(folder));
}

// A client of NATS, for the length of a scope.
class Connection {
 public:
  explicit Connection(const std::string& addresses) {
    natsOptions* options = nullptr;
    natsOptions_Create(&options);
    std::vector<std::string> urls;
    for (const auto& address : absl::StrSplit(addresses, ',')) urls.push_back(absl::StrCat("nats://", address));
    std::vector<const char*> pointers;
    for (const std::string& url : urls) pointers.push_back(url.c_str());
    natsOptions_SetServers(options, pointers.data(), static_cast<int>(pointers.size()));
    status_ = natsConnection_Connect(&connection_, options);
    natsOptions_Destroy(options);
  }
  ~Connection() { natsConnection_Destroy(connection_); }

  natsConnection* get() const { return connection_; }
  natsStatus status() const { return status_; }

 private:
  natsConnection* connection_ = nullptr;
  natsStatus status_ = NATS_OK;
};

natsStatus AddStream(const std::string& addresses, const std::string& name, int replicas) {
  const Connection connection(addresses);
  jsCtx* jetstream = nullptr;
  natsStatus status = natsConnection_JetStream(&jetstream, connection.get(), nullptr);
  if (status != NATS_OK) return status;
  jsStreamConfig config;
  jsStreamConfig_Init(&config);
  config.Name = name.c_str();
  config.Replicas = replicas;
  status = js_AddStream(nullptr, jetstream, &config, nullptr, nullptr);
  jsCtx_Destroy(jetstream);
  return status;
}

TEST(NatsServer, LivesAndLeavesNothing) {
  auto server = NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  std::cout << "nats-server " << (*server)->version() << "\n";
  EXPECT_THAT((*server)->version(), MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+.*"));
  EXPECT_THAT((*server)->address(), MatchesRegex("127\\.0\\.0\\.1:[0-9]+"));
  KillStopAndRestart(**server);
  EXPECT_THAT((*server)->Log(), HasSubstr("Server is ready"));
  NothingIsLeft(*std::move(server));
}

TEST(NatsServer, TellsItsNumbers) {
  auto server = NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  const absl::StatusOr<int64_t> before = (*server)->Varz("in_msgs");
  ASSERT_TRUE(before.ok()) << before.status();
  const Connection connection((*server)->address());
  ASSERT_EQ(natsConnection_PublishString(connection.get(), "subject", "text"), NATS_OK);
  ASSERT_EQ(natsConnection_Flush(connection.get()), NATS_OK);
  EXPECT_EQ((*server)->Varz("in_msgs").value_or(-1), *before + 1);
  EXPECT_EQ((*server)->Varz("no_such").status(),
            absl::NotFoundError("the monitoring page /varz has no integer no_such"));
  const absl::StatusOr<std::string> page = (*server)->Monitor("/jsz");
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(*page, HasSubstr("\"config\""));
  (*server)->Stop();
  EXPECT_EQ((*server)->Varz("in_msgs").status(), absl::UnavailableError("the server does not run"));
}

TEST(NatsServer, StreamsOutliveAKill) {
  auto server = NatsServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  ASSERT_EQ(AddStream((*server)->address(), "kept", 1), NATS_OK);
  (*server)->Kill();
  ASSERT_EQ((*server)->Start(), absl::OkStatus());
  const absl::StatusOr<std::string> page = (*server)->Monitor("/jsz?streams=1");
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(*page, HasSubstr("\"kept\""));
}

TEST(NatsServer, SaysWhyItDidNotComeUp) {
  NatsServerOptions options;
  options.config = "no_such_option: 1";
  const absl::Status status = NatsServer::Run(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("ended when it was started; its log:\n"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("unknown field \"no_such_option\""));
}

TEST(NatsServer, ConfigurationIsUsed) {
  NatsServerOptions options;
  options.jetstream = false;
  options.config = "authorization { user: somebody, password: secret }";
  auto server = NatsServer::Run(options);
  ASSERT_TRUE(server.ok()) << server.status();
  natsConnection* connection = nullptr;
  EXPECT_EQ(natsConnection_ConnectTo(&connection, ("nats://" + (*server)->address()).c_str()),
            NATS_CONNECTION_AUTH_FAILED);
  EXPECT_EQ(Connection("somebody:secret@" + (*server)->address()).status(), NATS_OK);
}

TEST(NatsCluster, ElectsAnotherLeaderAndCatchesUp) {
  auto made = NatsCluster::Run();
  ASSERT_TRUE(made.ok()) << made.status();
  NatsCluster& cluster = **made;
  std::vector<pid_t> pids;
  for (int i = 0; i < cluster.size(); ++i) pids.push_back(cluster.server(i).pid());
  ASSERT_EQ(pids.size(), 3u);

  EXPECT_EQ(cluster.StreamLeader("orders").status(),
            absl::UnavailableError("no server that runs says that it leads stream orders"));
  ASSERT_EQ(AddStream(cluster.addresses(), "orders", 3), NATS_OK);
  ASSERT_EQ(cluster.WaitForStream("orders", absl::Now() + kPatience), absl::OkStatus());
  const absl::StatusOr<int> leader = cluster.StreamLeader("orders");
  ASSERT_TRUE(leader.ok()) << leader.status();

  cluster.server(*leader).Stop();
  int next = -1;
  ASSERT_TRUE(Eventually([&] { return (next = cluster.StreamLeader("orders").value_or(-1)) >= 0; }));
  EXPECT_NE(next, *leader);
  const absl::Status too_early = cluster.WaitForStream("orders", absl::Now());
  EXPECT_EQ(too_early.code(), absl::StatusCode::kDeadlineExceeded) << too_early;
  cluster.server(*leader).Continue();
  EXPECT_EQ(cluster.WaitForStream("orders", absl::Now() + kPatience), absl::OkStatus());

  // All at once, and back one after the other.
  for (int i = 0; i < cluster.size(); ++i) cluster.server(i).Kill();
  EXPECT_EQ(cluster.StreamLeader("orders").status().code(), absl::StatusCode::kUnavailable);
  for (int i = 0; i < cluster.size(); ++i) ASSERT_EQ(cluster.server(i).Start(), absl::OkStatus());
  EXPECT_EQ(cluster.WaitForStream("orders", absl::Now() + kPatience), absl::OkStatus());

  for (int i = 0; i < cluster.size(); ++i) pids.push_back(cluster.server(i).pid());
  made->reset();
  for (pid_t pid : pids) EXPECT_TRUE(IsGone(pid));
}

TEST(MemcachedServer, LivesAndLeavesNothing) {
  auto server = MemcachedServer::Run();
  ASSERT_TRUE(server.ok()) << server.status();
  KillStopAndRestart(**server);
  NothingIsLeft(*std::move(server));
}

TEST(MemcachedServer, TellsItsNumbersAndTakesItsOptions) {
  MemcachedOptions options;
  options.megabytes = 32;
  auto server = MemcachedServer::Run(options);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->Stat("limit_maxbytes").value_or(-1), 32 << 20);
  EXPECT_EQ((*server)->Stat("cmd_get").value_or(-1), 0);
  EXPECT_EQ((*server)->Stat("no_such").status(), absl::NotFoundError("memcached's stats have no number no_such"));
}

TEST(Programs, AbsentOnesNameTheirPackage) {
  EXPECT_EQ(internal::FindProgram("no-such-server", "COORD_NO_SUCH", "its-package").status(),
            absl::NotFoundError("There is no program no-such-server: install the Debian package its-package, or set "
                                "$COORD_NO_SUCH to its path"));
  ASSERT_EQ(setenv("COORD_NO_SUCH", "/no/such/path", 1), 0);
  EXPECT_EQ(internal::FindProgram("no-such-server", "COORD_NO_SUCH", "its-package").status(),
            absl::NotFoundError("$COORD_NO_SUCH is /no/such/path, which is not a program that can be run"));
}

// A test that is killed runs no destructors.
TEST(Programs, EndWithTheProcessThatStartedThem) {
  const std::string told = ::testing::TempDir() + "/holder-" + std::to_string(getpid());
  const absl::StatusOr<pid_t> holder = internal::Spawn({getenv("SERVERS_TEST_HOLDER")}, told);
  ASSERT_TRUE(holder.ok()) << holder.status();
  std::vector<pid_t> pids;
  ASSERT_TRUE(Eventually([&] {
    pids.clear();
    std::ifstream lines(told);
    for (pid_t pid = 0; lines >> pid;) pids.push_back(pid);
    return pids.size() == 5 || internal::HasEnded(*holder);  // a cluster of three, a server alone, memcached
  }));
  ASSERT_EQ(pids.size(), 5u) << std::ifstream(told).rdbuf();
  for (pid_t pid : pids) EXPECT_FALSE(IsGone(pid));
  // One that is stopped too.
  kill(pids[0], SIGSTOP);
  kill(*holder, SIGKILL);
  internal::AwaitEnd(*holder);
  for (pid_t pid : pids) EXPECT_TRUE(Eventually([&] { return IsGone(pid); })) << pid;
}

}  // namespace
}  // namespace servers
