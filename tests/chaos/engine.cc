#include "tests/chaos/engine.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/process/process.h"
#include "tests/process/small_disk.h"
#include "tests/servers/network.h"
#include "tests/servers/servers.h"

namespace chaos {
namespace {

using servers::NatsServer;

constexpr int kHosts = 3;
constexpr int kSlowKbit = 256;

// Null where it cannot be had.
servers::Network* TheNetwork() {
  static const auto& network = *new absl::StatusOr<std::unique_ptr<servers::Network>>(servers::Network::Make(kHosts));
  static const bool told = [] {
    if (!network.ok()) {
      Machine::Get().left_out.push_back(
          absl::StrCat("servers cut off, and slow links: ", network.status().ToString(), "; root can do it"));
    }
    return true;
  }();
  return told && network.ok() ? network->get() : nullptr;
}

std::vector<servers::Place> Places(int count) {
  std::vector<servers::Place> places;
  if (TheNetwork() == nullptr) return places;
  for (int i = 0; i < count; ++i) places.push_back(TheNetwork()->place(i));
  return places;
}

Fault Killed(const std::string& what, servers::Server* server) {
  return {what + " killed",
          [server] {
            server->Kill();
            return absl::OkStatus();
          },
          [server] { return server->Start(); }};
}

Fault Ended(const std::string& what, servers::Server* server) {
  return {what + " ended and begun again",
          [server] {
            server->Terminate();
            return absl::OkStatus();
          },
          [server] { return server->Start(); }};
}

Fault Stopped(const std::string& what, servers::Server* server) {
  return {what + " stopped",
          [server] {
            server->Stop();
            return absl::OkStatus();
          },
          [server] {
            server->Continue();
            return absl::OkStatus();
          }};
}

// To the other version and back, with each time that it is drawn.
void AddUpgrade(const std::string& what, servers::NatsServer* server, std::vector<Fault>* faults) {
  const char* next = getenv("COORD_NATS_SERVER_NEXT");
  if (next == nullptr) return;
  const char* first = getenv("COORD_NATS_SERVER");
  const auto programs =
      std::make_shared<std::pair<std::string, std::string>>(next, first != nullptr ? first : "/usr/sbin/nats-server");
  faults->push_back({what + " goes on with another version",
                     [=] {
                       server->Terminate();
                       server->UseProgram(programs->first);
                       std::swap(programs->first, programs->second);
                       return absl::OkStatus();
                     },
                     [=] { return server->Start(); }});
}

// Needs the network; `host` is asked when it begins.
void AddNetworkFaults(const std::string& what, const std::function<int()>& host, std::vector<Fault>* faults) {
  servers::Network* const network = TheNetwork();
  if (network == nullptr) return;
  const auto at = std::make_shared<int>(0);
  faults->push_back(
      {what + " cut off", [=] { return network->Cut(*at = host()); }, [=] { return network->Heal(*at); }});
  faults->push_back({what + " behind a slow link", [=] { return network->Slow(*at = host(), kSlowKbit); },
                     [=] { return network->Slow(*at, 0); }});
}

class Sqlite final : public Engine {
 public:
  Sqlite() : disk_(folder_.path()) {
    if (!disk_.mounted()) {
      Machine::Get().left_out.push_back(absl::StrCat("a full disk: no file system could be mounted: ", disk_.error()));
      return;
    }
    faults_.push_back({"disk full",
                       [this] {
                         disk_.Fill();
                         return absl::OkStatus();
                       },
                       [this] {
                         disk_.MakeRoom();
                         return absl::OkStatus();
                       }});
  }
  std::string store() const override { return "sqlite:" + (folder_ / "coord.db"); }
  std::string events() const override { return ""; }
  const std::vector<Fault>& faults() const override { return faults_; }

 private:
  process_test::TemporaryFolder folder_;
  process_test::SmallDisk disk_;
  std::vector<Fault> faults_;
};

class Nats final : public Engine {
 public:
  explicit Nats(std::unique_ptr<NatsServer> server) : server_(std::move(server)) {
    faults_ = {Killed("server", server_.get()), Ended("server", server_.get()), Stopped("server", server_.get())};
    AddUpgrade("server", server_.get(), &faults_);
    AddNetworkFaults(
        "server", [] { return 0; }, &faults_);
  }
  std::string store() const override { return "nats://" + server_->address(); }
  std::string events() const override { return store(); }
  const std::vector<Fault>& faults() const override { return faults_; }
  absl::Duration recovery() const override { return absl::Seconds(5); }

 private:
  std::unique_ptr<NatsServer> server_;
  std::vector<Fault> faults_;
};

class NatsCluster final : public Engine {
 public:
  explicit NatsCluster(std::unique_ptr<servers::NatsCluster> cluster) : cluster_(std::move(cluster)) {
    for (int i = 0; i < cluster_->size(); ++i) {
      faults_.push_back(Killed("one of three servers", &cluster_->server(i)));
      faults_.push_back(Ended("one of three servers", &cluster_->server(i)));
      faults_.push_back(Stopped("one of three servers", &cluster_->server(i)));
      AddUpgrade("one of three servers", &cluster_->server(i), &faults_);
    }
    AddNetworkFaults(
        "the leader", [this] { return cluster_->StreamLeader("KV_coord").value_or(0); }, &faults_);
  }
  std::string store() const override { return absl::StrCat("nats://", cluster_->addresses(), "?replicas=3"); }
  std::string events() const override { return store(); }
  const std::vector<Fault>& faults() const override { return faults_; }
  // Elections take so long, in constants of the servers, and one that comes back can make them begin anew.
  absl::Duration recovery() const override { return absl::Seconds(40); }
  // A second replica may fail only once the first is whole again.
  absl::Status AwaitWhole() override {
    for (const char* stream : {"KV_coord", "COORD_coord", "KV_COORD_coord_cursors"}) {
      absl::Status whole = cluster_->WaitForStream(stream, absl::Now() + absl::Seconds(60));
      if (!whole.ok()) return whole;
    }
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<servers::NatsCluster> cluster_;
  std::vector<Fault> faults_;
};

class Memcached final : public Engine {
 public:
  Memcached(std::unique_ptr<servers::MemcachedServer> store, std::unique_ptr<NatsServer> events)
      : store_(std::move(store)), events_(std::move(events)) {
    faults_ = {Killed("memcached", store_.get()), Stopped("memcached", store_.get()),
               Killed("the server of events", events_.get()), Stopped("the server of events", events_.get())};
  }
  std::string store() const override { return "memcached://" + store_->address(); }
  std::string events() const override { return "nats://" + events_->address(); }
  bool forgets() const override { return true; }
  const std::vector<Fault>& faults() const override { return faults_; }
  absl::Duration recovery() const override { return absl::Seconds(10); }

 private:
  std::unique_ptr<servers::MemcachedServer> store_;
  std::unique_ptr<NatsServer> events_;
  std::vector<Fault> faults_;
};

}  // namespace

Machine& Machine::Get() {
  static auto* const machine = new Machine;
  return *machine;
}

void PrepareMachine() { TheNetwork(); }

absl::StatusOr<std::unique_ptr<Engine>> NewSqlite() { return std::make_unique<Sqlite>(); }

absl::StatusOr<std::unique_ptr<Engine>> NewNats() {
  const std::vector<servers::Place> places = Places(1);
  auto server = NatsServer::Run({}, places.empty() ? servers::Place() : places[0]);
  if (!server.ok()) return server.status();
  return std::make_unique<Nats>(*std::move(server));
}

absl::StatusOr<std::unique_ptr<Engine>> NewNats3() {
  auto cluster = servers::NatsCluster::Run(kHosts, {}, Places(kHosts));
  if (!cluster.ok()) return cluster.status();
  const std::string version = (*cluster)->server(0).version();
  if (version.rfind("2.9.", 0) == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("nats-server ", version,
                     " does not keep replicas alike under faults; name one of 2.10 or later in COORD_NATS_SERVER"));
  }
  return std::make_unique<NatsCluster>(*std::move(cluster));
}

absl::StatusOr<std::unique_ptr<Engine>> NewMemcached() {
  auto store = servers::MemcachedServer::Run();
  if (!store.ok()) return store.status();
  auto events = NatsServer::Run();
  if (!events.ok()) return events.status();
  return std::make_unique<Memcached>(*std::move(store), *std::move(events));
}

}  // namespace chaos
