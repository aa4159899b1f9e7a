#include "examples/trigger_words/server.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace trigger_words {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(20);
constexpr absl::Duration kStopTimeout = absl::Seconds(5);

// What the environment's `variable` says, else in PATH, or in the folders for servers, which a user's PATH may lack.
absl::StatusOr<std::string> FindProgram(const std::string& name, const char* variable) {
  if (const char* const program = std::getenv(variable); program != nullptr && *program != '\0') return program;
  const char* const path = std::getenv("PATH");
  for (const absl::string_view folder :
       absl::StrSplit(absl::StrCat(path == nullptr ? "" : path, ":/usr/sbin:/usr/local/sbin"), ':')) {
    std::string program = absl::StrCat(folder, "/", name);
    if (!folder.empty() && access(program.c_str(), X_OK) == 0) return program;
  }
  return absl::FailedPreconditionError(
      absl::StrCat(name, " is not installed; install it with: sudo apt-get install ", name));
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Starts it, and waits until `find_url` finds what the server wrote about the port that it chose.
absl::StatusOr<std::pair<std::string, PluginProcess>> Launch(
    const std::string& program, const std::vector<std::string>& flags, const std::string& folder,
    const std::function<std::optional<std::string>()>& find_url) {
  const std::string log = folder + "/server.log";
  absl::StatusOr<PluginProcess> process = PluginProcess::Start(program, flags, log);
  if (!process.ok()) return process.status();
  for (const absl::Time deadline = absl::Now() + kStartTimeout; absl::Now() < deadline;) {
    if (const std::optional<std::string> url = find_url(); url.has_value()) {
      return std::make_pair(*url, *std::move(process));
    }
    if (!absl::IsDeadlineExceeded(process->Wait(absl::Milliseconds(5)).status())) {
      return absl::UnavailableError(absl::StrCat(program, " ended before it was ready: ", ReadAll(log)));
    }
  }
  return absl::UnavailableError(
      absl::StrCat(program, " was not ready within ", absl::FormatDuration(kStartTimeout), ": ", ReadAll(log)));
}

// nats-server_PID.ports: {"nats":["nats://127.0.0.1:40001"]}
std::optional<std::string> NatsUrl(const std::string& folder) {
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator(folder, ignored)) {
    if (file.path().extension() != ".ports") continue;
    const nlohmann::json json = nlohmann::json::parse(ReadAll(file.path()), nullptr, false);
    if (json.is_object() && json.contains("nats") && !json["nats"].empty()) return json["nats"][0];
  }
  return std::nullopt;
}

// "TCP INET: 40002"
std::optional<std::string> MemcachedUrl(const std::string& ports) {
  const std::string text = ReadAll(ports);
  const size_t colon = text.find(": ");
  if (colon == std::string::npos || text.find('\n') == std::string::npos) return std::nullopt;
  return absl::StrCat("memcached://127.0.0.1:", std::atoi(text.c_str() + colon + 2));
}

}  // namespace

absl::StatusOr<Server> Server::StartNats(const std::string& folder) {
  const absl::StatusOr<std::string> program = FindProgram("nats-server", "COORD_NATS_SERVER");
  if (!program.ok()) return program.status();
  const std::string data = folder + "/nats";
  std::error_code ignored;
  std::filesystem::create_directories(data, ignored);
  auto launched =
      Launch(*program, {"-a", "127.0.0.1", "-p", "-1", "--jetstream", "--store_dir", data, "--ports_file_dir", data},
             folder, [&] { return NatsUrl(data); });
  if (!launched.ok()) return launched.status();
  return Server(launched->first, std::move(launched->second));
}

absl::StatusOr<Server> Server::StartMemcached(const std::string& folder) {
  const absl::StatusOr<std::string> program = FindProgram("memcached", "COORD_MEMCACHED");
  if (!program.ok()) return program.status();
  const std::string ports = folder + "/memcached.port";
  // Without eviction, as for the real thing: a full memory refuses writes then.
  std::vector<std::string> flags = {"MEMCACHED_PORT_FILENAME=" + ports, *program, "-l", "127.0.0.1", "-p", "-1", "-M"};
  if (geteuid() == 0) flags.insert(flags.end(), {"-u", "root"});
  auto launched = Launch("/usr/bin/env", flags, folder, [&] { return MemcachedUrl(ports); });
  if (!launched.ok()) return launched.status();
  return Server(launched->first, std::move(launched->second));
}

absl::Status Server::Stop() {
  process_.Signal(SIGTERM);
  return process_.Wait(kStopTimeout).status();
}

}  // namespace trigger_words
