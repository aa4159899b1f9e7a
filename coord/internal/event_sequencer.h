// Puts the numbered events of many publishers back in order: decides what is delivered now, what waits for an earlier
// number, what is a repeat, and when to give up on a number and say so. Pure: no clock, no I/O, no lock; the same for
// every transport.
//
//   state of a publisher   event n                         effect
//   unknown                any n, low n or none            delivered; n is where counting begins
//                          any n, a lower low              counting begins at low: as if known, last = low - 1
//   known, last = m        n == m + 1                      delivered, and what was held behind it
//                          n <= m                          a repeat; below where counting began: too early
//                          n > m + 1                       held; after limits.wait without n = m + 1: a gap, then
//                          delivered
//
// `low`, which a publisher tells with an event where the transport carries it, is its oldest number that it did not
// know to be stored when it sent the event. What is below was stored before this event, so that whoever is offered all
// that is stored since it began was offered it, or it was stored before that. What is not below may yet come, be it
// the first of a publisher that sends its first events again. A later event with a higher low tells of the numbers
// before the first one seen that they were stored before: they are not waited for any more, and no gap.
//
// Not thread-safe.

#ifndef COORD_INTERNAL_EVENT_SEQUENCER_H_
#define COORD_INTERNAL_EVENT_SEQUENCER_H_

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"

namespace coord::internal {

struct SequencerLimits {
  absl::Duration wait = absl::Seconds(1);  // for a missing number
  // Publishers remembered. Beyond that the one that was silent longest is forgotten (one with held events is given up
  // on first): its next event is where counting begins anew.
  size_t publishers = 1024;
  // Events held, of all publishers. Beyond that the gap that has waited longest is given up on.
  size_t held = 1024;
};

class EventSequencer {
 public:
  struct Step {
    enum Kind { kDeliver, kGap } kind = kDeliver;
    uint64_t token = 0;  // kDeliver: what Offer was given
    std::string publisher;
    // kDeliver: the event's number in both. kGap: the numbers that are missing.
    uint64_t first = 0;
    uint64_t last = 0;
  };
  using Steps = std::vector<Step>;

  enum class Verdict {
    kDelivered,  // and perhaps others with it, see the steps
    kHeld,       // its step comes later
    kRepeat,     // delivered, held or given up on before: forget it
    kTooEarly,   // below the publisher's first number seen here: never delivered, and not known to be a repeat
  };

  explicit EventSequencer(SequencerLimits limits = {}) : limits_(limits) {}

  // `token` stands for the event; `now` is any steady clock. Appends to `steps` what is to be done, in order. `low` is
  // at most `number`; 0: it is not known. `before`: the event was stored before the beginning, and is offered so that
  // its number is known. What is missing below it may have been stored before too: it is waited for, but no gap in the
  // end, and too early if it does come later.
  Verdict Offer(std::string_view publisher, uint64_t number, uint64_t token, absl::Time now, Steps* steps,
                uint64_t low = 0, bool before = false);

  // Gives up on what has waited for limits.wait.
  void Expire(absl::Time now, Steps* steps);

  // Gives up on the gap that has waited longest. Nothing if nothing is held.
  void GiveUpOldest(absl::Time now, Steps* steps);

  // When Expire will have something to do; InfiniteFuture if never.
  absl::Time NextExpiry() const;

  // A gap was reported by other means: delivers all that is held, in order, and takes the next number of every
  // publisher as it comes.
  void Loosen(Steps* steps);

  // `publisher` was delivered up to `last` in an earlier life.
  void Restore(std::string_view publisher, uint64_t last);

  // True if `number` is missing and waited for.
  bool Waits(std::string_view publisher, uint64_t number) const;

  size_t held() const { return held_; }
  size_t publishers() const { return publishers_.size(); }

 private:
  struct Held {
    uint64_t token = 0;
    absl::Time since;
  };
  struct Publisher {
    uint64_t begin = 0;             // where counting began
    uint64_t met = 0;               // the first number seen, or the highest that was stored before the beginning
    uint64_t before = 0;            // the latter
    uint64_t last = 0;              // delivered or given up on
    bool loose = false;             // the next number is taken as it comes
    std::map<uint64_t, Held> held;  // by number, all above last + 1
    absl::Time waiting_since;       // for last + 1, while anything is held
    std::list<std::string>::iterator place;
  };

  Publisher& Track(std::string_view name, uint64_t begin, Steps* steps);
  void Deliver(const std::string& name, Publisher& publisher, uint64_t number, uint64_t token, absl::Time now,
               Steps* steps);
  void Drain(const std::string& name, Publisher& publisher, absl::Time now, Steps* steps);
  void GiveUp(const std::string& name, Publisher& publisher, absl::Time now, Steps* steps);
  void BeginAt(const std::string& name, Publisher& publisher, uint64_t low, absl::Time now, Steps* steps);

  const SequencerLimits limits_;
  std::unordered_map<std::string, Publisher> publishers_;
  std::list<std::string> silent_;  // the one silent longest first
  size_t held_ = 0;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_SEQUENCER_H_
