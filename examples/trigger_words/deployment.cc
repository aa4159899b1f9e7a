#include "examples/trigger_words/deployment.h"

#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace trigger_words {
namespace {

using Json = nlohmann::json;

constexpr absl::Duration kReadyTimeout = absl::Seconds(20);

absl::Status Unexpected(const std::string& what, const HttpReply& reply) {
  std::string body = reply.body;
  while (!body.empty() && body.back() == '\n') body.pop_back();
  return absl::FailedPreconditionError(absl::StrCat(what, " was answered with ", reply.status, ": ", body));
}

}  // namespace

absl::StatusOr<Copy> Copy::Launch(const CopyOptions& options) {
  std::vector<std::string> flags = {"--port",     absl::StrCat(options.port),
                                    "--store",    options.store,
                                    "--plugin",   options.plugin,
                                    "--instance", options.name,
                                    "--ttl",      absl::FormatDuration(options.ttl),
                                    "--max-ttl",  absl::FormatDuration(options.max_ttl)};
  if (!options.events.empty()) flags.insert(flags.end(), {"--events", options.events});
  if (options.accept_weaker) flags.emplace_back("--accept-weaker");
  if (!options.digest.empty()) flags.insert(flags.end(), {"--digest", options.digest});
  absl::StatusOr<PluginProcess> process = PluginProcess::Start(options.binary, flags, options.log);
  if (!process.ok()) return process.status();
  return Copy(options.name, *std::move(process));
}

absl::StatusOr<Copy> Copy::Start(const CopyOptions& options) {
  absl::StatusOr<Copy> copy = Launch(options);
  if (!copy.ok()) return copy.status();
  if (absl::Status status = copy->WaitReady(); !status.ok()) return status;
  return copy;
}

absl::Status Copy::WaitReady() {
  const absl::StatusOr<int> port = process_.WaitReady(kReadyTimeout);
  if (!port.ok()) return absl::UnavailableError(absl::StrCat(name_, ": ", port.status().ToString()));
  port_ = *port;
  return absl::OkStatus();
}

absl::StatusOr<HttpReply> Copy::Call(const std::string& method, const std::string& target,
                                     const std::string& body) const {
  return trigger_words::Call(port_, {method, target, body});
}

absl::Status Copy::Do(const std::string& method, const std::string& target, const std::string& body) const {
  const absl::StatusOr<HttpReply> reply = Call(method, target, body);
  if (!reply.ok()) return reply.status();
  if (reply->status / 100 == 2) return absl::OkStatus();
  return Unexpected(absl::StrCat(method, " ", target, " at ", name_), *reply);
}

absl::StatusOr<CopyStatus> Copy::Status() const {
  const absl::StatusOr<HttpReply> reply = Call("GET", "/status");
  if (!reply.ok()) return reply.status();
  const Json json = Json::parse(reply->body, nullptr, false);
  if (reply->status != 200 || !json.is_object()) return Unexpected("GET /status at " + name_, *reply);
  CopyStatus status;
  status.copy = json.value("copy", "");
  status.session = json.value("session", "");
  status.state = json.value("state", "");
  status.store = json.value("store", "");
  if (json.contains("leader") && json["leader"].is_string()) status.leader = json["leader"];
  status.fence = json.value("fence", uint64_t{0});
  status.triggers = json.value("triggers", std::vector<std::string>());
  return status;
}

absl::StatusOr<std::vector<std::string>> Copy::Post(const std::string& text) const {
  const absl::StatusOr<HttpReply> reply = Call("POST", "/posts", text);
  if (!reply.ok()) return reply.status();
  const Json json = Json::parse(reply->body, nullptr, false);
  if (reply->status != 200 || !json.is_object() || json.value("copy", "") != name_) {
    return Unexpected("POST /posts at " + name_, *reply);
  }
  return json.value("alerts", std::vector<std::string>());
}

absl::StatusOr<int> Copy::Stop() {
  process_.Signal(SIGTERM);
  const absl::StatusOr<int> status = process_.Wait(absl::Seconds(2));
  if (!status.ok()) return status.status();
  if (!WIFEXITED(*status)) return absl::InternalError(absl::StrCat(name_, " ended by signal ", WTERMSIG(*status)));
  return WEXITSTATUS(*status);
}

absl::StatusOr<std::vector<DigestEntry>> ReadDigest(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<DigestEntry> entries;
  size_t begin = 0;
  for (size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const Json json = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                  text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (!json.is_object() || !json.contains("fence") || !json.contains("alert")) {
      return absl::DataLossError(
          absl::StrCat("line ", entries.size() + 1, " of the digest is damaged: ", text.substr(begin, end - begin)));
    }
    entries.push_back({json["fence"], json["alert"], json.value("copy", ""),
                       json.value("words", std::vector<std::string>()), json.value("post", "")});
  }
  return entries;
}

bool WaitUntil(absl::Duration timeout, const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

absl::StatusOr<CopyStatus> WaitForLeader(const std::vector<Copy*>& copies, uint64_t above, absl::Duration timeout) {
  CopyStatus first;
  std::string seen;
  const bool agreed = WaitUntil(timeout, [&] {
    seen.clear();
    bool same = true;
    for (Copy* copy : copies) {
      const absl::StatusOr<CopyStatus> status = copy->Status();
      if (!status.ok()) {
        absl::StrAppend(&seen, " ", copy->name(), ": ", status.status().ToString(), ";");
        same = false;
        continue;
      }
      absl::StrAppend(&seen, " ", copy->name(), " names '", status->leader, "' with fence ", status->fence, ";");
      if (copy == copies.front()) first = *status;
      same = same && !status->leader.empty() && status->leader == first.leader && status->fence == first.fence;
    }
    return same && first.fence > above;
  });
  if (agreed) return first;
  return absl::DeadlineExceededError(absl::StrCat("the copies agree on no leader with a fence above ", above,
                                                  " within ", absl::FormatDuration(timeout), ":", seen));
}

}  // namespace trigger_words
