// The client library calls back on threads of its own, at times after the connection has been closed. So it gets
// numbers instead of pointers, and what comes for somebody who has gone is dropped.

#ifndef KV_INTERNAL_NATS_CALLBACKS_H_
#define KV_INTERNAL_NATS_CALLBACKS_H_

#include <memory>
#include <string>

#include "kv/nats_connection.h"
#include "nats/nats.h"

namespace kv::internal {

class NatsEvents {
 public:
  virtual ~NatsEvents() = default;

  // By whoever connects, after the server's first line and before anything is sent. The library's lock is held: nothing
  // here may call it. Returns the token, or null if there is none.
  virtual const char* OnConnecting() = 0;

  // Some time after the fact, on one thread of the whole library, in order.
  virtual void OnDisconnected() = 0;
  virtual void OnReconnected() = 0;
  virtual void OnServersChanged() = 0;  // there are further ones
  virtual void OnClosed() = 0;
  virtual void OnRefused(const std::string& text) = 0;  // a server said that something is not permitted

  // On the thread of the subscription.
  virtual void OnAnswer(NatsMessage message) = 0;
};

// What the library's functions take as closure, for as long as it lives.
class NatsClosure {
 public:
  explicit NatsClosure(const std::shared_ptr<NatsEvents>& events);
  ~NatsClosure();
  NatsClosure(const NatsClosure&) = delete;
  NatsClosure& operator=(const NatsClosure&) = delete;

  // Has the library call the events of a connection to be made with `settings`.
  natsStatus Listen(natsOptions* settings) const;

  // Subscribes OnAnswer.
  natsStatus SubscribeToAnswers(natsSubscription** subscription, natsConnection* connection,
                                const std::string& subject);

 private:
  void* const number_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_CALLBACKS_H_
