// The seam of coord: a small versioned key-value store. This header is the whole specification of a backend;
// nothing else is required reading to write one. A backend is one header with a factory and one .cc with the class.
//
// Thread safety: every method of Store may be called from any thread at any time, also from inside a watch callback,
// save that a callback must not destroy its own Watch.
//
// Blocking: every call is synchronous and returns at its deadline, or a few milliseconds later. `deadline` is a wall
// clock time as absl::Now() gives it; it is turned into a remaining duration once, on entry, so that a later jump of
// the wall clock neither ends a call nor prolongs it. A deadline in the past gives DeadlineExceeded and nothing is
// sent.
//
// Status codes carry what the caller may do next:
//   Aborted           the key's revision is not the expected one: reread, then decide anew. Not applied.
//   AlreadyExists     Create found the key. Not applied.
//   NotFound          the key does not exist. Not applied.
//   Unavailable       the store cannot be reached or refuses for now. Not applied, and never applied later: retry.
//   DeadlineExceeded  the outcome is UNKNOWN: the write may have been applied, or may still be.
//   InvalidArgument   a key or value outside the limits below. Not applied.
//   FailedPrecondition, DataLoss, ResourceExhausted, PermissionDenied   somebody must act; the message says what to do.
// One function per backend maps foreign errors to these and keeps the context in the message.
//
// Keys: 1 to max_key_bytes bytes of valid UTF-8 without control characters. '/' separates levels by convention
// only. A backend escapes whatever its engine treats specially, so that no key can reach another.
// Values: 0 to max_value_bytes arbitrary bytes.

#ifndef KV_STORE_H_
#define KV_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kv {

// The version of one entry. Strictly increasing over the life of the *store*: every write of any key, deletes
// included, gets a revision above all earlier ones, also after a delete and re-creation. 0 is never a revision.
// Where traits().monotonic_revisions is false it only changes with every write of the key while the key exists.
using Revision = uint64_t;

struct Entry {
  std::string value;
  Revision revision = 0;
  // How long ago the entry was last written. Present only where one monotonic clock both stamps and reads it.
  std::optional<absl::Duration> age;
};

struct KeyedEntry {
  std::string key;
  Entry entry;
};

// What a conditional write came to.
struct WriteResult {
  absl::Status status;
  // The entry's new revision when ok; a tombstone's revision with NotFound where there is one; else 0.
  Revision revision = 0;
  // With Aborted and AlreadyExists: the entry that won, where the backend has it at no extra cost.
  std::optional<Entry> current;

  bool ok() const { return status.ok(); }
};

// What a store promises. Fixed while the store is open.
struct Traits {
  std::string name;                 // "sqlite", for messages
  bool durable = false;             // an acknowledged write survives a crash of the store's machine
  bool linearizable_reads = true;   // Get sees every write acknowledged before it began
  bool monotonic_revisions = true;  // revisions as Revision says, over deletes and re-creations
  bool watch = false;               // Watch works
  bool list = true;                 // List works
  bool age = false;                 // entries carry an age
  bool evicting = false;            // an entry may vanish without anybody deleting it
  bool volatile_storage = false;    // a restart of the store begins empty, unknown to its clients
  // A write succeeds only in the incarnation of the store in which its expected revision was seen.
  bool proves_incarnation = false;
  size_t max_key_bytes = 512;
  size_t max_value_bytes = 1 << 20;
};

enum class WatchKind {
  kPut,           // `key` now is `entry`
  kDelete,        // `key` is gone since revision entry.revision (0 where unknown)
  kSynced,        // the snapshot that began with the watch, or with kResync, is complete
  kResync,        // something may have been missed: forget what was seen; a fresh snapshot follows
  kEpochChanged,  // the store is another incarnation: no revision seen so far means anything; a snapshot follows
};

struct WatchEvent {
  WatchKind kind = WatchKind::kPut;
  std::string key;  // empty for kSynced, kResync, kEpochChanged
  Entry entry;
};

// Whether the store can be reached, as far as its driver knows without asking.
enum class Connection {
  kConnected,     // or a store that needs no connection
  kReconnecting,  // calls are Unavailable at present; the driver tries again by itself
  kClosed,        // for good
};

// Runs on one thread of the store: for one store never two at a time. Must not block for long.
using WatchCallback = std::function<void(const WatchEvent&)>;

// A running watch. After its destructor has returned no callback of it runs. The destructor waits for a running one
// and must not be called from inside it. The store must outlive the watch.
class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  virtual ~Watch() = default;
};

class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  // Bounded even with the backend dead. Watches must be gone before.
  virtual ~Store() = default;

  // NotFound for an absent key. Linearizable unless traits() says not. A Get has no effect, so that its
  // DeadlineExceeded hides nothing.
  virtual absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) = 0;

  // Writes `key` if it does not exist; else AlreadyExists.
  virtual WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) = 0;

  // Writes `key` if its revision is `expected` (not 0); else Aborted, or NotFound where it does not exist.
  virtual WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) = 0;

  // Removes `key` if its revision is `expected` (not 0); else Aborted, or NotFound where it does not exist.
  // On success `revision` is that of the delete, or 0 where the backend does not have it.
  virtual WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) = 0;

  // Writes `key` whatever is there. The last writer wins.
  virtual WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) = 0;

  // All entries whose key begins with `prefix`, in the order of their keys' bytes. Not one instant: an entry that is
  // written meanwhile appears in its old state or in its new one. Unimplemented where traits().list is false.
  virtual absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) = 0;

  // Calls `callback` with a snapshot of all entries under `prefix` (kPut each, then kSynced) and from then on with
  // every change in the order of revisions, without a gap, or with kResync where there may be one. Changes of one key
  // in quick succession may be folded into the last. Events may come late; they never come out of order.
  // Returns once the watch is registered; the snapshot may come later. Unimplemented where traits().watch is false.
  virtual absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) = 0;

  virtual const Traits& traits() const = 0;

  // For people and for status pages; a call may fail or succeed whatever it says. No I/O.
  virtual Connection connection() const { return Connection::kConnected; }
};

// Refuses what no backend may accept: an empty or over-long key, invalid UTF-8, control characters; a value over the
// limit. InvalidArgument with a sentence that names the offence and the limit, never the value.
absl::Status CheckKey(std::string_view key, const Traits& traits);
absl::Status CheckValue(std::string_view value, const Traits& traits);

}  // namespace kv

#endif  // KV_STORE_H_
