// A store in the memory of this process: the reference semantics of kv/store.h, for tests and single-process use.
//
// Nothing outlives the store, and only those who share the object share the data. Fast (well under a microsecond for
// a small entry) and thread-safe. Revisions count 1, 2, 3...
//
// A watch queues at most `max_queued_events` events while its callback is at work on the earlier ones; one more, and
// the queue is replaced by kResync and a fresh snapshot.

#ifndef KV_MEMORY_STORE_H_
#define KV_MEMORY_STORE_H_

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "kv/store.h"

namespace kv {

struct MemoryStoreOptions {
  // What deadlines are compared with; default absl::Now. Replace it together with `uptime` under virtual time.
  std::function<absl::Time()> wall_now;

  // The clock that stamps and reads the age of entries; never steps back. Default CLOCK_BOOTTIME.
  std::function<absl::Duration()> uptime;

  // Where watch events are delivered. By default a thread of the store's own, started by the first watch. With an
  // executor the store starts no thread, blocks on nothing but short mutexes, and hands it one task at a time that
  // delivers what is due; it may run the task at once or later, on any thread or fiber, but must run it. Then the
  // destructor of a watch waits for nothing: no callback of it *begins* after it has returned.
  std::function<void(std::function<void()>)> executor;

  size_t max_queued_events = 4096;
};

// Never null.
std::shared_ptr<Store> NewMemoryStore(MemoryStoreOptions options = {});

}  // namespace kv

#endif  // KV_MEMORY_STORE_H_
