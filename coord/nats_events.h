// Events over NATS: best effort on its plain subjects, reliable on a JetStream stream.
//
//   options.events = coord::NatsEvents(*kv::NatsConnection::Connect({.servers = {"127.0.0.1:4222"}}, deadline));
//
// The connection is shared with whatever else uses it in this process, the store first of all. The driver needs the
// real runtime: it has threads of its own besides.
//
// Subjects. coord.<space>.b.<plugin>.<topic>... best-effort events, .q. questions, .r. reliable events, .h. hints of
// stores. Names are escaped, so that no plugin and no topic can reach another's. The payload is the data of the message
// as it is, all else is in headers. What else arrives there is ignored, with one warning.
//
// Best effort. At most once. What a slow handler has no room for (4096 events or 16 MiB wait for it) is dropped, and a
// gap event says how many; after a lost connection one says that some may have been missed.
//
// Reliable events. The stream COORD_<space> keeps them, bounded by age and by bytes. Each publisher numbers its events
// of a topic; many may be under way at once. One that was not acknowledged is sent again, under its number, before any
// new one is sent; a caller whose deadline passes meanwhile is told DeadlineExceeded, and the event may yet be
// delivered. One that certainly was not stored is Unavailable, and will not be delivered. Subscribers put the events in
// order, drop repeats, and wait for a missing number up to `reorder_wait` before they report a gap; the first events of
// a publisher are no exception, for each event tells from where on its publisher may yet send others. 64 MiB may wait
// so, the windows of four copies. A slow handler misses nothing: the stream keeps what there is no room for.
//
// A gap is also reported where the stream removed events before a subscription came to them; where it was lost and made
// again; and where its server forgot what it had acknowledged (a power failure: servers sync to the disk later). Seldom
// it is reported needlessly: to a subscription that begins just while a publisher sends events again, or while one has
// more under way than is looked back on (1024 messages of the stream, of about 1 MiB) and then falls silent; and to one
// on a quiet topic whose connection is lost in the very seconds in which other topics fill half of the stream.
//
// Cursors are kept in a bucket of the same servers, COORD_<space>_cursors, whatever the Cluster's store is; it is made
// by the first Subscribe with a cursor, which is also where other settings of it are refused. The stream notes in its
// description when its bucket was made. Should the bucket be lost while the stream is not, every cursor that is not in
// the new one begins at the present with a gap, those with new names too, for they cannot be told apart. Should both
// be lost together, or the server not permit $JS.API.STREAM.UPDATE, cursors begin anew, untold.
//
// Costs. A subscription is a consumer of the stream and two subscriptions, about four threads of the client library;
// an event is one message, an acknowledgement one more. While there are subscriptions, each Cluster asks for the state
// of the stream every 30 seconds (every second while the stream loses old events quickly).

#ifndef COORD_NATS_EVENTS_H_
#define COORD_NATS_EVENTS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "kv/nats_connection.h"

namespace coord {

struct NatsEventOptions {
  // 1 to 32 letters, digits, '-' and '_': deployments with different ones do not hear each other. Usually the store's
  // bucket.
  std::string space = "coord";
  // Of the stream and of the bucket of cursors: 1, 3 or 5; in files or in memory.
  int replicas = 1;
  bool file_storage = true;
  // Reliable events older than this (a second to a year), or beyond so many bytes of all topics (at least 4096), are
  // removed: who was away longer gets a gap.
  absl::Duration keep_for = absl::Hours(24);
  int64_t keep_bytes = 256 << 20;
  // A cursor that did not move for so long (at least a minute) is forgotten.
  absl::Duration keep_cursors = absl::Hours(24 * 30);
  // Reliable events of one copy that may be under way, 1 to 65536, counted from the oldest that is not stored yet; and
  // 16 MiB of payload, or one event. Who publishes more waits.
  int max_in_flight = 256;
  // How long a subscriber waits for a missing number while its publisher may still be sending it again.
  absl::Duration reorder_wait = absl::Seconds(30);
};

// Cluster::Join refuses bad options (InvalidArgument) and a stream that exists with other settings (FailedPrecondition,
// each difference named); the stream is made if there is none. Where JetStream is off, Join is Unavailable.
std::shared_ptr<EventDriver> NatsEvents(std::shared_ptr<kv::NatsConnection> connection,
                                        const NatsEventOptions& options = {});

}  // namespace coord

#endif  // COORD_NATS_EVENTS_H_
