// One nats-server, alone or of a cluster.

#ifndef TESTS_SERVERS_NATS_PROCESS_H_
#define TESTS_SERVERS_NATS_PROCESS_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "tests/servers/ports.h"
#include "tests/servers/servers.h"

namespace servers::internal {

class NatsProcess : public NatsServer {
 public:
  // Holds ports and makes the folder; starts nothing.
  static absl::StatusOr<std::unique_ptr<NatsProcess>> Prepare(const NatsServerOptions& options, const std::string& name,
                                                              const Place& place = {});

  const std::string& name() const { return name_; }

  // Makes it one of a cluster, before its first start. `routes` are the route_ports of all.
  void Join(const std::string& routes) { routes_ = routes; }
  std::string route() const;

  absl::Status Start() override;
  void UseProgram(const std::string& program) override { program_ = program; }

  // The two halves of Start: runs the program; waits until it answers.
  absl::Status Launch();
  absl::Status AwaitAnswer();

  // Whether it says of itself that it is well: in a cluster also that it keeps up with the leaders.
  absl::Status Healthy() const;

  // A monitoring page, which is an object. Unavailable if the server does not run or is stopped.
  absl::StatusOr<nlohmann::json> Page(const std::string& path) const;

 private:
  NatsProcess(const NatsServerOptions& options, std::string program, std::string name, const Place& place);
  absl::Status HoldPorts();
  std::string Config() const;
  absl::Status Answers();

  const NatsServerOptions options_;
  std::string program_;
  const std::string name_;
  const int network_;
  HeldPort client_port_, http_port_, held_route_port_;
  int route_port_ = 0;
  std::string routes_;
};

}  // namespace servers::internal

#endif  // TESTS_SERVERS_NATS_PROCESS_H_
