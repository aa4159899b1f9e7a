// Counters of one Cluster since it joined.

#ifndef COORD_STATS_H_
#define COORD_STATS_H_

#include <cstdint>
#include <string>

#include "coord/options.h"
#include "kv/store.h"

namespace coord {

struct Stats {
  SessionState state = SessionState::kLost;
  std::string session;  // its id; empty while there is none
  // Whether the store can be reached, as its driver sees it. The session's state is what counts for grants.
  kv::Connection connection = kv::Connection::kClosed;
  uint64_t beats = 0;
  uint64_t failed_beats = 0;  // attempts that did not renew the session
  uint64_t sessions = 0;      // joined in all, the first included
  uint64_t sessions_lost = 0;
  uint64_t grants = 0;       // grants obtained
  uint64_t grants_held = 0;  // at this moment
  uint64_t grants_lost = 0;
  uint64_t evictions = 0;         // sessions of other copies that this one ended
  uint64_t conflicts = 0;         // conditional writes on lock records that lost
  uint64_t unknown_outcomes = 0;  // writes whose reply did not come in time
  uint64_t cell_reads = 0;
  uint64_t cell_writes = 0;
  uint64_t cell_conflicts = 0;
  uint64_t events_published = 0;
  uint64_t events_delivered = 0;
  uint64_t event_gaps = 0;
};

// The same as text in the Prometheus exposition format, each metric with HELP and TYPE, labelled with `plugin` and
// `instance`.
std::string StatsText(const Stats& stats, const std::string& plugin, const std::string& instance);

}  // namespace coord

#endif  // COORD_STATS_H_
