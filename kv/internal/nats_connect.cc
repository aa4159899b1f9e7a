#include "kv/internal/nats_connect.h"

#include <algorithm>
#include <chrono>
#include <list>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_probe.h"
#include "kv/internal/nats_settings.h"

namespace kv::internal {
namespace {

constexpr auto kProbeTime = std::chrono::seconds(2);

absl::Status CheckServer(const NatsServerInfo& info, const NatsOptions& options) {
  if (!NatsVersionAtLeast(info.version, 2, 9)) {
    return absl::FailedPreconditionError(
        absl::StrCat("its version is ", info.version, "; 2.9 is the oldest that is supported"));
  }
  if (!info.headers) return absl::FailedPreconditionError("it does not take headers; allow them in its configuration");
  if (options.tls && !info.tls_required && !info.tls_available) {
    return absl::FailedPreconditionError("it does not offer TLS; configure it there, or turn TLS off here");
  }
  if (!options.tls && info.tls_required) {
    return absl::FailedPreconditionError("it requires TLS; turn it on");
  }
  return absl::OkStatus();
}

// Why each server was not it.
class Failures {
 public:
  void Add(const std::string& server, const absl::Status& status) {
    absl::StrAppend(&text_, text_.empty() ? "" : "; ", server, ": ", std::string(status.message()));
    // What somebody must mend is said with its code only if waiting will not help.
    if (status_.ok() || absl::IsUnavailable(status) || absl::IsPermissionDenied(status)) {
      if (!absl::IsPermissionDenied(status_)) status_ = status;
    }
  }

  absl::Status status() const { return absl::Status(status_.code(), absl::StrCat("cannot connect to NATS: ", text_)); }

 private:
  absl::Status status_;
  std::string text_;
};

// The library says only why the last server that it tried was not it. So, once none was, each is tried by itself.
absl::StatusOr<std::shared_ptr<NatsLink>> OpenFirst(const NatsOptions& options, std::vector<std::string> servers,
                                                    size_t first, const NatsServerInfo& info, bool* all_tried) {
  const std::vector<std::string> alone = {servers[first]};
  std::swap(servers[0], servers[first]);
  if (!*all_tried) {
    absl::StatusOr<std::shared_ptr<NatsLink>> link = NatsLink::Open(options, servers, info);
    if (link.ok() || servers.size() == 1) return link;
    *all_tried = true;
  }
  absl::StatusOr<std::shared_ptr<NatsLink>> link = NatsLink::Open(options, alone, info);
  if (!link.ok()) return link;
  (*link)->Close();  // now it does: all the servers again, for the link has to know them
  return NatsLink::Open(options, servers, info);
}

}  // namespace

absl::StatusOr<std::shared_ptr<NatsLink>> ConnectNats(const NatsOptions& options, SteadyTime deadline) {
  // Everybody in an order of their own, so that the copies spread over the servers.
  std::vector<std::string> servers = options.servers;
  std::shuffle(servers.begin(), servers.end(), std::mt19937(std::random_device()()));

  Failures failures;
  bool all_tried = false;
  for (size_t i = 0; i < servers.size(); ++i) {
    const auto now = std::chrono::steady_clock::now();
    // A share of the time each, so that one that is silent leaves time for the others.
    const auto share = std::min<SteadyTime::duration>((deadline - now) / (servers.size() - i), kProbeTime);
    const absl::StatusOr<NatsServerInfo> info = ProbeNats(servers[i], now + share);
    absl::Status status = info.ok() ? CheckServer(*info, options) : info.status();
    if (status.ok()) {
      absl::StatusOr<std::shared_ptr<NatsLink>> link = OpenFirst(options, servers, i, *info, &all_tried);
      if (link.ok() || absl::IsInvalidArgument(link.status())) return link;
      status = link.status();
    }
    failures.Add(servers[i], status);
  }
  return failures.status();
}

namespace {

struct Shared {
  NatsOptions options;
  std::weak_ptr<NatsConnection> connection;
  bool connecting = false;
};

// Everything that this process is connected to. Entries whose connection has gone are removed with the next one.
struct AllShared {
  Mutex mutex;
  CondVar connected;
  std::list<Shared> entries KV_GUARDED_BY(mutex);
};

AllShared& Everything() {
  static AllShared* const all = new AllShared;
  return *all;
}

}  // namespace

absl::StatusOr<std::shared_ptr<NatsConnection>> SharedNatsConnection(
    const NatsOptions& options, SteadyTime deadline,
    const std::function<absl::StatusOr<std::shared_ptr<NatsConnection>>()>& make) {
  AllShared& all = Everything();
  std::shared_ptr<NatsConnection> existing;  // let go without the lock: it may be the last owner
  MutexLock lock(all.mutex);
  all.entries.remove_if([](const Shared& entry) { return !entry.connecting && entry.connection.expired(); });
  auto entry = std::find_if(all.entries.begin(), all.entries.end(),
                            [&](const Shared& candidate) { return candidate.options == options; });
  if (entry == all.entries.end()) entry = all.entries.insert(all.entries.end(), Shared{options, {}, false});
  while (entry->connecting) {
    if (!all.connected.WaitUntil(all.mutex, deadline)) {
      return absl::UnavailableError("another thread connects to the same NATS server and has not succeeded in time");
    }
  }
  existing = entry->connection.lock();
  if (existing != nullptr && existing->state() != NatsState::kClosed) return existing;
  entry->connecting = true;
  lock.Unlock();
  existing.reset();
  absl::StatusOr<std::shared_ptr<NatsConnection>> made = make();
  lock.Lock();
  entry->connecting = false;
  if (made.ok()) entry->connection = *made;
  all.connected.NotifyAll();
  return made;
}

}  // namespace kv::internal
