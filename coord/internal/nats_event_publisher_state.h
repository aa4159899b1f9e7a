// The records of NatsEventPublisher, shared by its files.

#ifndef COORD_INTERNAL_NATS_EVENT_PUBLISHER_STATE_H_
#define COORD_INTERNAL_NATS_EVENT_PUBLISHER_STATE_H_

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/internal/nats_event_publisher.h"

namespace coord::internal {

// What has no comment is guarded by NatsEventPublisher::mu_.
struct NatsEventPublisher::Event {
  std::string to;                              // const
  absl::Time until;                            // const; steady
  std::unique_ptr<Condition> told_changed;     // const; of a caller that waits
  std::shared_ptr<const std::string> payload;  // null once it is stored
  PublishDone done;                            // empty once it is due
  uint64_t call = 0;
  uint64_t number = 0;        // 0: not sent yet
  bool under_way = false;     // a request has no outcome yet
  bool maybe_stored = false;  // an attempt had an unknown outcome
  bool stored = false;
  bool is_void = false;  // refused for good: an empty message takes its number
  bool told = false;     // the caller has `result`
  absl::Status result;
  absl::Status last;  // of the last attempt that failed
};

struct NatsEventPublisher::Topic {
  std::string name;  // const, as the next two
  std::string subject;
  std::string publisher;
  std::list<std::string>::iterator place;
  uint64_t next = 1;          // number of the next event
  std::deque<EventPtr> sent;  // from the oldest that is not stored; consecutive numbers up to next - 1
  std::deque<EventPtr> unsent;
  size_t under_way = 0;  // requests
  bool pumping = false;  // somebody sends what is unsent
  bool broken = false;   // in repair
  bool repair_due = false;
  int attempt = 0;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_NATS_EVENT_PUBLISHER_STATE_H_
