#include "kv/open.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/internal/nats_url.h"
#include "kv/memcached_store.h"
#include "kv/memory_store.h"
#include "kv/nats_connection.h"
#include "kv/nats_store.h"
#include "kv/sqlite_store.h"
#include "kv/url.h"

namespace kv {
namespace {

using Opened = absl::StatusOr<std::shared_ptr<Store>>;

Opened OpenMemory(const Url& url, absl::Time) {
  if (absl::Status status = url.CheckParameters({}); !status.ok()) return status;
  if (url.authority.has_value() || !url.path.empty()) {
    return absl::InvalidArgumentError("the memory store takes no path: write memory:");
  }
  return NewMemoryStore();
}

Opened OpenSqlite(const Url& url, absl::Time deadline) {
  if (absl::Status status = url.CheckParameters({"sync"}); !status.ok()) return status;
  if (!url.authority.value_or("").empty()) {
    return absl::InvalidArgumentError("a sqlite store is a file and has no host: write sqlite:PATH, or sqlite:///PATH");
  }
  if (url.authority.has_value() && url.path.empty()) {
    return absl::InvalidArgumentError("the sqlite URL has no path: write sqlite: for the default one");
  }
  SqliteStoreOptions options;
  const std::string sync = url.Parameter("sync").value_or("normal");
  if (sync != "full" && sync != "normal") {
    return absl::InvalidArgumentError("the parameter sync is \"normal\" (the default) or \"full\"");
  }
  options.sync_full = sync == "full";
  return OpenSqliteStore(url.path, deadline, std::move(options));
}

Opened OpenNats(const Url& url, absl::Time deadline) {
  const absl::StatusOr<NatsUrl> parsed = ReadNatsUrl(url, deadline);
  if (!parsed.ok()) return parsed.status();
  absl::StatusOr<std::shared_ptr<NatsConnection>> connection = NatsConnection::Connect(parsed->connection, deadline);
  if (!connection.ok()) return connection.status();
  return OpenNatsStore(*std::move(connection), parsed->store, deadline);
}

Opened OpenMemcached(const Url& url, absl::Time deadline) {
  const absl::StatusOr<Authority> authority = ParseAuthority(url, 11211);
  if (!authority.ok()) return authority.status();
  if (absl::Status status = url.CheckParameters({"prefix"}); !status.ok()) return status;
  if (authority->user.has_value()) {
    return absl::InvalidArgumentError(
        "a memcached URL has no user and no password: the server takes whoever reaches it, so let only the copies");
  }
  if (authority->servers.size() > 1) {
    return absl::InvalidArgumentError(
        "a memcached URL names one server: the revisions of several are unrelated, so that no lock would hold; for a "
        "store that outlives a server use nats: with replicas=3");
  }
  MemcachedStoreOptions options;
  options.prefix = url.Parameter("prefix").value_or(options.prefix);
  return OpenMemcachedStore(authority->servers[0], deadline, options);
}

struct Scheme {
  const char* name;
  Opened (*open)(const Url& url, absl::Time deadline);
};

constexpr Scheme kSchemes[] = {
    {"memory", OpenMemory}, {"sqlite", OpenSqlite}, {"nats", OpenNats}, {"memcached", OpenMemcached}};

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> Open(std::string_view text, absl::Duration timeout) {
  const absl::StatusOr<Url> url = ParseUrl(text);
  if (!url.ok()) return url.status();
  std::string known;
  for (const Scheme& scheme : kSchemes) {
    if (url->scheme == scheme.name) return scheme.open(*url, absl::Now() + timeout);
    absl::StrAppend(&known, known.empty() ? "" : ", ", scheme.name, ":");
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the URL \"", RedactUrl(text), "\" has an unknown scheme; known are ", known));
}

}  // namespace kv
