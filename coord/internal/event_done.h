// Tells publishers what became of their events, on the Cluster's callback thread.

#ifndef COORD_INTERNAL_EVENT_DONE_H_
#define COORD_INTERNAL_EVENT_DONE_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "coord/event_bus.h"
#include "coord/internal/executor.h"

namespace coord::internal {

// One call of a PublishDone that is due: made by Run, or, if nobody gets to that, when this is destroyed. So it happens
// exactly once, whatever an executor drops.
class EventDone {
 public:
  EventDone(PublishDone done, absl::Status status) : done_(std::move(done)), status_(std::move(status)) {}
  EventDone(const EventDone&) = delete;
  EventDone& operator=(const EventDone&) = delete;
  ~EventDone() { Run(); }

  void Run() {
    const PublishDone done = std::exchange(done_, nullptr);
    if (done) done(status_);
  }

 private:
  PublishDone done_;
  const absl::Status status_;
};

// Calls `done` (which may be empty) on `executor`, or, where that takes nothing more, here.
inline void TellDone(Executor& executor, PublishDone done, absl::Status status) {
  if (!done) return;
  auto due = std::make_shared<EventDone>(std::move(done), std::move(status));
  executor.Post([due] { due->Run(); });
}

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_DONE_H_
