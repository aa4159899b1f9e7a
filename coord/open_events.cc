#include "coord/open_events.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coord/nats_events.h"
#include "kv/internal/nats_url.h"
#include "kv/nats_connection.h"
#include "kv/open.h"
#include "kv/url.h"

namespace coord {
namespace {

using Opened = absl::StatusOr<std::shared_ptr<EventDriver>>;

Opened OpenNatsEvents(const kv::Url& url, absl::Time deadline) {
  const absl::StatusOr<kv::NatsUrl> nats = kv::ReadNatsUrl(url, deadline);
  if (!nats.ok()) return nats.status();
  absl::StatusOr<std::shared_ptr<kv::NatsConnection>> connection =
      kv::NatsConnection::Connect(nats->connection, deadline);
  if (!connection.ok()) return connection.status();
  NatsEventOptions options;
  options.space = nats->store.bucket;
  options.replicas = nats->store.replicas;
  options.file_storage = nats->store.file_storage;
  return NatsEvents(*std::move(connection), options);
}

absl::Status CheckScheme(const kv::Url& url, std::string_view text) {
  if (url.scheme == "nats") return absl::OkStatus();
  if (url.scheme != "store") {
    return absl::InvalidArgumentError(
        absl::StrCat("the URL of events \"", kv::RedactUrl(text), "\" has an unknown scheme; known are nats:, store:"));
  }
  if (url.authority.has_value() || !url.path.empty()) {
    return absl::InvalidArgumentError("events of the store's own take no path: write store:");
  }
  return url.CheckParameters({});
}

Opened OpenParsed(const kv::Url& url, absl::Time deadline) {
  return url.scheme == "nats" ? OpenNatsEvents(url, deadline) : Opened(StoreEvents());
}

absl::StatusOr<kv::Url> ParseEvents(std::string_view text) {
  absl::StatusOr<kv::Url> url = kv::ParseUrl(text);
  if (!url.ok()) return url;
  if (absl::Status status = CheckScheme(*url, text); !status.ok()) return status;
  return url;
}

}  // namespace

absl::StatusOr<std::shared_ptr<EventDriver>> OpenEvents(std::string_view text, absl::Duration timeout) {
  const absl::StatusOr<kv::Url> url = ParseEvents(text);
  if (!url.ok()) return url.status();
  return OpenParsed(*url, absl::Now() + timeout);
}

absl::StatusOr<Backends> OpenBackends(std::string_view store_url, std::string_view events_url, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  const absl::StatusOr<kv::Url> store = kv::ParseUrl(store_url);
  if (!store.ok()) return store.status();
  const bool from_store = events_url.empty();
  const absl::StatusOr<kv::Url> events = from_store ? store : ParseEvents(events_url);
  if (!events.ok()) return events.status();

  absl::StatusOr<std::shared_ptr<kv::Store>> opened = kv::Open(store_url, timeout);
  if (!opened.ok()) return opened.status();
  Backends backends;
  backends.store = *std::move(opened);
  if (from_store && store->scheme != "nats") return backends;
  Opened driver = OpenParsed(*events, deadline);
  if (!driver.ok()) return driver.status();
  backends.events = *std::move(driver);
  return backends;
}

}  // namespace coord
