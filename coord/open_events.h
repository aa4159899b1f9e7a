// Opens what carries events, by URL, and a store together with it.
//
//   store:                      the store's own watch, the default of Cluster::Join
//   nats://HOST:PORT,...        NATS; the same grammar and parameters as of a store (kv/open.h): bucket names the space
//                               that the copies share, replicas and storage are those of its stream
//
//   absl::StatusOr<coord::Backends> backends = coord::OpenBackends("nats://127.0.0.1:4222");
//   options.store = backends->store;
//   options.events = backends->events;
//
// A store and events at the same servers with the same credentials share one connection.

#ifndef COORD_OPEN_EVENTS_H_
#define COORD_OPEN_EVENTS_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "kv/store.h"

namespace coord {

// InvalidArgument for a malformed URL or an unknown scheme; else what NatsConnection::Connect says. No message contains
// a secret. Blocks for at most `timeout`.
absl::StatusOr<std::shared_ptr<EventDriver>> OpenEvents(std::string_view url,
                                                        absl::Duration timeout = absl::Seconds(5));

struct Backends {
  std::shared_ptr<kv::Store> store;
  std::shared_ptr<EventDriver> events;  // null: the store's own
};

// The store at `store_url` (kv::Open) and the events at `events_url`. Without one, a NATS store has its events from the
// same servers, and any other store has its own; a store without a watch then has none. Blocks for at most `timeout`.
absl::StatusOr<Backends> OpenBackends(std::string_view store_url, std::string_view events_url = {},
                                      absl::Duration timeout = absl::Seconds(5));

}  // namespace coord

#endif  // COORD_OPEN_EVENTS_H_
