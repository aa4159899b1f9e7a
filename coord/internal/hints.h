// Hints to the other copies, on a store that cannot watch: after a write its key is sent over the event bus, and who is
// interested reads that record soon instead of at its next poll. Everything is as right without them, only slower.

#ifndef COORD_INTERNAL_HINTS_H_
#define COORD_INTERNAL_HINTS_H_

#include <memory>
#include <string>
#include <string_view>

#include "coord/event_bus.h"
#include "coord/internal/hub.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// Thread-safe. Does nothing where the store has a watch, or `driver` is null or carries no hints.
class Hints {
 public:
  // What comes in goes to the registrations of `hub`.
  Hints(const Hub& hub, std::shared_ptr<EventDriver> driver, std::string plugin);
  ~Hints();  // Stop()

  // Asks the driver for its channel, if there is none yet. To be called now and then: the transport may not have been
  // there at first. Blocks as EventDriver::MakeHints does.
  void Connect() KV_EXCLUDES(mu_);

  // The record of `key` was written by this copy. Not under a lock: blocks as HintChannel::Send does.
  void Wrote(std::string_view key) KV_EXCLUDES(mu_);

  // Nothing is sent any more, and nothing handed on (but for what a send under way on another thread holds up).
  void Stop() KV_EXCLUDES(mu_);

 private:
  const Hub::HintHandler sink_;
  const std::shared_ptr<EventDriver> driver_;
  const std::string plugin_;
  kv::internal::Mutex mu_;
  bool stopped_ KV_GUARDED_BY(mu_) = false;
  std::shared_ptr<HintChannel> channel_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_HINTS_H_
