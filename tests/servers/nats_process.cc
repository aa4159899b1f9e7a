#include "tests/servers/nats_process.h"

#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tests/servers/child.h"
#include "tests/servers/exchange.h"
#include "tests/servers/launch.h"

namespace servers {
namespace internal {

namespace {

// In a network of its own a server finds them free.
constexpr int kClientPort = 4222;
constexpr int kMonitorPort = 8222;
constexpr int kRoutePort = 6222;

}  // namespace

NatsProcess::NatsProcess(const NatsServerOptions& options, std::string program, std::string name, const Place& place)
    : options_(options), program_(std::move(program)), name_(std::move(name)), network_(place.network) {
  host_ = place.host;
}

absl::Status NatsProcess::HoldPorts() {
  port_ = kClientPort;
  monitor_port_ = kMonitorPort;
  route_port_ = kRoutePort;
  if (network_ >= 0) return absl::OkStatus();
  for (HeldPort* port : {&client_port_, &http_port_, &held_route_port_}) {
    absl::StatusOr<HeldPort> held = HeldPort::Hold();
    if (!held.ok()) return held.status();
    *port = *std::move(held);
  }
  port_ = client_port_.number();
  monitor_port_ = http_port_.number();
  route_port_ = held_route_port_.number();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<NatsProcess>> NatsProcess::Prepare(const NatsServerOptions& options,
                                                                  const std::string& name, const Place& place) {
  std::string program = options.program;
  if (program.empty()) {
    absl::StatusOr<std::string> found = FindProgram("nats-server", "COORD_NATS_SERVER", "nats-server");
    if (!found.ok()) return found.status();
    program = *std::move(found);
  }
  std::unique_ptr<NatsProcess> server(new NatsProcess(options, std::move(program), name, place));
  if (absl::Status status = server->HoldPorts(); !status.ok()) return status;
  absl::StatusOr<std::string> folder = MakeFolder("nats-server");
  if (!folder.ok()) return folder.status();
  server->folder_ = *std::move(folder);
  return server;
}

std::string NatsProcess::route() const { return absl::StrCat("nats://", host_, ":", route_port_); }

std::string NatsProcess::Config() const {
  std::string config = absl::StrFormat("server_name: \"%s\"\nlisten: \"%s:%d\"\nhttp: \"%s:%d\"\n", name_, host_, port_,
                                       host_, monitor_port_);
  if (options_.jetstream) {
    absl::StrAppend(&config, "jetstream {\n  store_dir: \"", folder_,
                    "/jetstream\"\n  max_memory_store: 1GB\n  max_file_store: 8GB\n", options_.jetstream_config,
                    "\n}\n");
  }
  if (!routes_.empty()) {
    absl::StrAppendFormat(&config, "cluster {\n  name: \"test\"\n  listen: \"%s:%d\"\n  routes: [%s]\n}\n", host_,
                          route_port_, routes_);
  }
  absl::StrAppend(&config, options_.config, "\n");
  return config;
}

absl::Status NatsProcess::Launch() {
  if (running()) return absl::OkStatus();
  Kill();  // what is left of one that ended by itself
  const std::string config = folder_ + "/nats.conf";
  std::ofstream(config) << Config();
  const absl::StatusOr<pid_t> child = Spawn({program_, "-c", config}, folder_ + "/log", network_);
  if (!child.ok()) return child.status();
  pid_ = *child;
  return absl::OkStatus();
}

absl::Status NatsProcess::AwaitAnswer() {
  return AwaitUp(*this, program_, absl::Now() + kStartPatience, [this] { return Answers(); });
}

absl::Status NatsProcess::Start() {
  if (absl::Status status = Launch(); !status.ok()) return status;
  return AwaitAnswer();
}

// One of a cluster is well only when others are there, so that it is not asked for that.
absl::Status NatsProcess::Answers() {
  const absl::Time deadline = absl::Now() + kAnswerPatience;
  const absl::StatusOr<std::string> info = Exchange(host_, port_, "", "\r\n", deadline);
  if (!info.ok()) return info.status();
  if (!absl::StartsWith(*info, "INFO ")) return absl::UnavailableError(absl::StrCat("not nats-server: ", *info));
  const nlohmann::json parsed = nlohmann::json::parse(info->substr(5), nullptr, false);
  if (parsed.is_object()) version_ = parsed.value("version", "");
  return routes_.empty() ? Healthy() : HttpGet(host_, monitor_port_, "/varz", deadline).status();
}

absl::Status NatsProcess::Healthy() const {
  const absl::StatusOr<nlohmann::json> page = Page("/healthz");
  if (!page.ok()) return page.status();
  if (page->value("status", "") == "ok") return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(name_, " says of its health: ", page->dump()));
}

absl::StatusOr<nlohmann::json> NatsProcess::Page(const std::string& path) const {
  const absl::StatusOr<std::string> body = Monitor(path);
  if (!body.ok()) return body.status();
  nlohmann::json page = nlohmann::json::parse(*body, nullptr, false);
  if (page.is_object()) return page;
  return absl::UnavailableError(absl::StrCat("the monitoring page ", path, " is no object: ", *body));
}

}  // namespace internal

absl::StatusOr<std::unique_ptr<NatsServer>> NatsServer::Run(const NatsServerOptions& options, const Place& place) {
  return internal::WithFreePorts<NatsServer>([&]() -> absl::StatusOr<std::unique_ptr<NatsServer>> {
    auto server = internal::NatsProcess::Prepare(options, "single", place);
    if (!server.ok()) return server.status();
    if (absl::Status status = (*server)->Start(); !status.ok()) return status;
    return *std::move(server);
  });
}

std::string NatsServer::address() const { return absl::StrCat(host_, ":", port()); }

absl::StatusOr<std::string> NatsServer::Monitor(const std::string& path) const {
  if (!running() || stopped()) return absl::UnavailableError("the server does not run");
  return internal::HttpGet(host_, monitor_port_, path, absl::Now() + internal::kAnswerPatience);
}

absl::StatusOr<int64_t> NatsServer::Varz(const std::string& field) const {
  const absl::StatusOr<std::string> body = Monitor("/varz");
  if (!body.ok()) return body.status();
  const nlohmann::json page = nlohmann::json::parse(*body, nullptr, false);
  if (page.is_object() && page.contains(field) && page[field].is_number_integer()) return page[field].get<int64_t>();
  return absl::NotFoundError(absl::StrCat("the monitoring page /varz has no integer ", field));
}

}  // namespace servers
