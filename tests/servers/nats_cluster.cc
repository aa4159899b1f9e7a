#include <functional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "nlohmann/json.hpp"
#include "tests/servers/launch.h"
#include "tests/servers/nats_process.h"
#include "tests/servers/servers.h"

namespace servers {
namespace {

using internal::NatsProcess;
using nlohmann::json;

// Of servers that start in the same moment two may form the group of JetStream without the third, for good. Then others
// are started in their place.
constexpr char kNotTogether[] = " sees this group of JetStream: ";
constexpr absl::Duration kTogetherPatience = absl::Seconds(20);
constexpr int kTries = 3;

// What a server's page says of a stream: an object with `cluster` and `config`, empty if it does not know the stream.
absl::StatusOr<json> StreamAt(const NatsProcess& server, const std::string& stream) {
  absl::StatusOr<json> page = server.Page("/jsz?streams=1&config=1");
  if (!page.ok()) return page.status();
  for (const json& account : page->value("account_details", json::array())) {
    for (const json& one : account.value("stream_detail", json::array())) {
      if (one.value("name", "") == stream) return one;
    }
  }
  return json::object();
}

json Peers(const json& stream) { return stream.value("cluster", json::object()); }
std::string Leader(const json& stream) { return Peers(stream).value("leader", ""); }

class JoinedServers final : public NatsCluster {
 public:
  explicit JoinedServers(std::vector<std::unique_ptr<NatsProcess>> servers) : servers_(std::move(servers)) {}

  NatsServer& server(int i) override { return *servers_.at(static_cast<size_t>(i)); }
  int size() const override { return static_cast<int>(servers_.size()); }

  std::string addresses() const override {
    return absl::StrJoin(servers_, ",", [](std::string* out, const auto& server) { *out += server->address(); });
  }

  absl::Status Start() {
    std::vector<std::string> routes;
    for (const auto& server : servers_) routes.push_back(server->route());
    for (const auto& server : servers_) server->Join(absl::StrJoin(routes, ", "));
    // All before any is waited for: alone none is well.
    for (const auto& server : servers_) {
      if (absl::Status status = server->Launch(); !status.ok()) return status;
    }
    for (const auto& server : servers_) {
      if (absl::Status status = server->AwaitAnswer(); !status.ok()) return status;
    }
    const absl::Time deadline = absl::Now() + kTogetherPatience;
    for (const auto& server : servers_) {
      absl::Status status =
          internal::AwaitUp(*server, "a cluster's nats-server", deadline, [&] { return Together(*server); });
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<int> StreamLeader(const std::string& stream) override {
    return FindLeader("stream " + stream, [&](const NatsProcess& server) -> std::string {
      const absl::StatusOr<json> seen = StreamAt(server, stream);
      return seen.ok() ? Leader(*seen) : "";
    });
  }

  absl::StatusOr<int> MetaLeader() override {
    return FindLeader("the cluster", [](const NatsProcess& server) -> std::string {
      const absl::StatusOr<json> page = server.Page("/jsz");
      return page.ok() ? page->value("meta_cluster", json::object()).value("leader", "") : "";
    });
  }

  absl::Status WaitForStream(const std::string& stream, absl::Time deadline) override {
    while (true) {
      const absl::Status status = IsCurrent(stream);
      if (status.ok()) return status;
      if (absl::Now() >= deadline) return absl::DeadlineExceededError(status.message());
      absl::SleepFor(internal::kPoll);
    }
  }

 private:
  const NatsProcess& At(int i) const { return *servers_[static_cast<size_t>(i)]; }

  // A server is believed what it says of itself: the others hear of a change of leader later.
  absl::StatusOr<int> FindLeader(const std::string& what,
                                 const std::function<std::string(const NatsProcess& server)>& leader_at) const {
    int leader = -1;
    for (int i = 0; i < size(); ++i) {
      if (leader_at(At(i)) != At(i).name()) continue;
      if (leader >= 0) {
        return absl::UnavailableError(absl::StrCat("servers ", leader, " and ", i, " both say that they lead ", what));
      }
      leader = i;
    }
    if (leader >= 0) return leader;
    return absl::UnavailableError(absl::StrCat("no server that runs says that it leads ", what));
  }

  // Whether a server has a route to each of the others, knows the leader of all streams, and keeps up with it.
  absl::Status Together(const NatsProcess& server) const {
    const absl::StatusOr<json> routes = server.Page("/routez");
    if (!routes.ok()) return routes.status();
    std::set<std::string> peers;  // between two servers there may be several routes
    for (const json& route : routes->value("routes", json::array())) peers.insert(route.value("remote_id", ""));
    if (peers.size() + 1 < servers_.size()) {
      return absl::UnavailableError(absl::StrCat(server.name(), " has routes to ", peers.size(), " others"));
    }
    if (absl::Status status = server.Healthy(); !status.ok()) return status;
    const absl::StatusOr<json> jetstream = server.Page("/jsz");
    if (!jetstream.ok()) return jetstream.status();
    if (jetstream->value("disabled", false)) return absl::OkStatus();
    const json meta = jetstream->value("meta_cluster", json::object());
    if (meta.value("leader", "").empty() || meta.value("cluster_size", size_t{0}) < servers_.size()) {
      return absl::UnavailableError(absl::StrCat(server.name(), kNotTogether, meta.dump()));
    }
    return absl::OkStatus();
  }

  // Whether the leader holds every replica for current, and every replica the leader for the leader.
  absl::Status IsCurrent(const std::string& stream) {
    const absl::StatusOr<int> leader = StreamLeader(stream);
    if (!leader.ok()) return leader.status();
    const absl::StatusOr<json> seen = StreamAt(At(*leader), stream);
    if (!seen.ok()) return seen.status();
    const json replicas = Peers(*seen).value("replicas", json::array());
    const size_t wanted = seen->value("config", json::object()).value("num_replicas", size_t{1}) - 1;
    std::set<std::string> current;
    for (const json& replica : replicas) {
      if (!replica.value("current", false) || replica.value("offline", false)) continue;
      current.insert(replica.value("name", ""));
    }
    if (current.size() < replicas.size() || replicas.size() < wanted) {
      return absl::UnavailableError(
          absl::StrCat("stream ", stream, " has a replica that is not current: ", Peers(*seen).dump()));
    }
    for (const auto& server : servers_) {
      if (current.count(server->name()) == 0) continue;
      const absl::StatusOr<json> follower = StreamAt(*server, stream);
      if (!follower.ok()) return follower.status();
      if (Leader(*follower) != At(*leader).name()) {
        return absl::UnavailableError(
            absl::StrCat(server->name(), " does not know the leader of stream ", stream, ": ", follower->dump()));
      }
    }
    return absl::OkStatus();
  }

  const std::vector<std::unique_ptr<NatsProcess>> servers_;
};

absl::StatusOr<std::unique_ptr<NatsCluster>> RunOnce(int size, const NatsServerOptions& options,
                                                     const std::vector<Place>& places) {
  std::vector<std::unique_ptr<NatsProcess>> servers;
  for (int i = 0; i < size; ++i) {
    const Place place = places.empty() ? Place() : places.at(static_cast<size_t>(i));
    absl::StatusOr<std::unique_ptr<NatsProcess>> server =
        NatsProcess::Prepare(options, absl::StrCat("server-", i), place);
    if (!server.ok()) return server.status();
    servers.push_back(*std::move(server));
  }
  auto cluster = std::make_unique<JoinedServers>(std::move(servers));
  if (absl::Status status = cluster->Start(); !status.ok()) return status;
  return cluster;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NatsCluster>> NatsCluster::Run(int size, const NatsServerOptions& options,
                                                              const std::vector<Place>& places) {
  absl::StatusOr<std::unique_ptr<NatsCluster>> made = absl::UnknownError("");
  for (int i = 0; i < kTries; ++i) {
    made = internal::WithFreePorts<NatsCluster>([&] { return RunOnce(size, options, places); });
    if (made.ok() || !absl::StrContains(made.status().message(), kNotTogether)) break;
  }
  return made;
}

}  // namespace servers
