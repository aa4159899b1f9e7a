#include "coord/stats.h"

#include "absl/strings/str_cat.h"

namespace coord {

namespace {

std::string EscapeLabel(const std::string& value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"') out.push_back('\\');
    if (c == '\n') {
      out.append("\\n");
    } else {
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace

std::string StatsText(const Stats& stats, const std::string& plugin, const std::string& instance) {
  const std::string labels =
      absl::StrCat("{plugin=\"", EscapeLabel(plugin), "\",instance=\"", EscapeLabel(instance), "\"} ");
  std::string text;
  const auto add = [&](const char* name, const char* type, const char* help, uint64_t value) {
    absl::StrAppend(&text, "# HELP coord_", name, " ", help, "\n# TYPE coord_", name, " ", type, "\n");
    absl::StrAppend(&text, "coord_", name, labels, value, "\n");
  };
  add("attached", "gauge", "1 while the session's beats are on time.", stats.state == SessionState::kAttached ? 1 : 0);
  add("lost", "gauge", "1 while there is no valid session.", stats.state == SessionState::kLost ? 1 : 0);
  add("store_connected", "gauge", "1 while the store is connected, or needs no connection.",
      stats.connection == kv::Connection::kConnected ? 1 : 0);
  add("beats_total", "counter", "Renewals of the session.", stats.beats);
  add("failed_beats_total", "counter", "Attempts that did not renew the session.", stats.failed_beats);
  add("sessions_total", "counter", "Sessions joined.", stats.sessions);
  add("sessions_lost_total", "counter", "Sessions lost.", stats.sessions_lost);
  add("grants_total", "counter", "Grants obtained.", stats.grants);
  add("grants_held", "gauge", "Grants held now.", stats.grants_held);
  add("grants_lost_total", "counter", "Grants lost before they were released.", stats.grants_lost);
  add("evictions_total", "counter", "Sessions of other copies that this copy ended.", stats.evictions);
  add("conflicts_total", "counter", "Conditional writes on lock records that lost.", stats.conflicts);
  add("unknown_outcomes_total", "counter", "Writes whose reply did not come in time.", stats.unknown_outcomes);
  add("cell_reads_total", "counter", "Reads of values.", stats.cell_reads);
  add("cell_writes_total", "counter", "Writes of values.", stats.cell_writes);
  add("cell_conflicts_total", "counter", "Conditional writes of values that lost.", stats.cell_conflicts);
  add("events_published_total", "counter", "Events published.", stats.events_published);
  add("events_delivered_total", "counter", "Events given to handlers.", stats.events_delivered);
  add("event_gaps_total", "counter", "Gaps reported to handlers.", stats.event_gaps);
  return text;
}

}  // namespace coord
