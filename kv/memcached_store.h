// A store on one memcached server: fast, shared by many machines, and forgetful. For what may be lost.
//
// What it cannot promise, and traits() says:
//   * Nothing is durable, and a restart of the server begins empty (volatile_storage). coord refuses such a
//     store unless it is told to accept it.
//   * The server may drop an entry by itself (evicting) when it is short of memory. Give it a server of its own that is
//     started with -M and memory to spare: then a write, a Delete too, fails instead (ResourceExhausted). evicting is
//     true all the same, for an operator's flush_all or a restart with other flags does it too.
//   * There is no List and no watch, and no age, for the server's clock ticks in seconds.
//   * Revisions grow as far as wall clocks agree (monotonic_revisions is false). memcached's own ids begin at 1 with
//     every start and are not used as revisions: the revision is a number in the item, for every write the largest of
//     the former one + 1, the time in microseconds, and what this process gave before + 1. So it normally grows over
//     deletes, evictions, restarts and processes; a wall clock that is behind can break that.
//   * proves_incarnation is false. An Update does prove that its entry survived, but not that others did, the record of
//     an epoch for instance; and a Create proves nothing.
//
// Conditional writes are two round trips on one connection: read the item with its id, compare the revision, write on
// condition of the id; nothing else in between, and no id is used in another call or after any error. Delete too is
// conditional: it replaces the entry by one that has expired. Create is one round trip, but a second precedes it where
// the connection has rested, so that a server that is gone is known before the write is sent.
//
// Errors. A server that cannot be reached is Unavailable at once, and used again as soon as it is back. Unavailable and
// ResourceExhausted are never applied; a write without an answer is DeadlineExceeded. An item that this store did not
// write, or that a newer version of it wrote, is DataLoss or FailedPrecondition and is left alone, by Put too.
//
// Keys. An entry lies under PREFIX:KEY, with a header line that a person can read. Bytes that are not printable ASCII
// are written as %XX; where the name gets longer than memcached's 250 bytes, its end is the SHA-256 of the key.
//
// One server. Revisions of several servers are unrelated, so that a list is refused, and also a host name that stands
// for several addresses of one family. Nothing that spreads keys over servers may sit in between (a proxy).
// traits().max_value_bytes follows the server's item size (-I), at most 1 MiB.
//
// The protocol is memcached's binary one, without login or TLS: whoever can connect to the server can do anything. Keep
// it in a network of its own.
//
// Limits. At most 8 connections; a call that finds all in use waits until its deadline. A host name is looked up by the
// system's resolver with its own time limits: give an address where deadlines are strict. A server that answers in
// pieces may prolong a call: the wait for each piece is bounded by the deadline's distance when the command was sent.
// Signals to a calling thread are held back while it waits. After a fork() the child must not use the store: calls
// return FailedPrecondition; open it anew there.

#ifndef KV_MEMCACHED_STORE_H_
#define KV_MEMCACHED_STORE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/store.h"

namespace kv {

struct MemcachedStoreOptions {
  // Sets apart several deployments on one server: no key of one can reach another's. At most 64 bytes, escaped ones
  // counted as three.
  std::string prefix = "coord";
};

// Opens the store on the server at `server`: "host:port", "[IPv6]:port" or "host" (port 11211). Blocks until `deadline`
// at most, save for looking up a name. Unavailable: the server cannot be reached. FailedPrecondition: what answers is
// not memcached, or is set up so that it cannot serve. PermissionDenied: it wants a login. InvalidArgument: `server` or
// `options`.
absl::StatusOr<std::shared_ptr<Store>> OpenMemcachedStore(const std::string& server, absl::Time deadline,
                                                          const MemcachedStoreOptions& options = {});

}  // namespace kv

#endif  // KV_MEMCACHED_STORE_H_
