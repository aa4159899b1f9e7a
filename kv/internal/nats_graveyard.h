// Where subscriptions wait until they can be destroyed.
//
// nats.c 3.4.1 crashes where one is destroyed while messages for it arrive: its reader takes a pointer out of the table
// of subscriptions and follows it without holding anything. Once the reader has read the answer to something that was
// sent after the subscription had been taken out of the table, it cannot have such a pointer any more.

#ifndef KV_INTERNAL_NATS_GRAVEYARD_H_
#define KV_INTERNAL_NATS_GRAVEYARD_H_

#include <vector>

#include "kv/internal/mutex.h"
#include "nats/nats.h"

namespace kv::internal {

// Thread-safe.
class NatsGraveyard {
 public:
  // Takes a subscription that nobody uses any more, and whose callback does nothing.
  void Bury(natsSubscription* subscription);

  // Whether Work has something to do.
  bool HasWork(bool connected) const;

  // Ends them, and destroys those that can be. Waits for the server for half a second at most.
  void Work(natsConnection* connection, bool connected);

  // Once the connection has been closed: nothing is read any more. What is buried later is destroyed at once.
  void Close();

 private:
  mutable Mutex mutex_;
  bool closed_ KV_GUARDED_BY(mutex_) = false;
  std::vector<natsSubscription*> buried_ KV_GUARDED_BY(mutex_);
  std::vector<natsSubscription*> ended_ KV_GUARDED_BY(mutex_);  // out of the library's table
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_GRAVEYARD_H_
