// An alert: a post contained trigger words. Pure: how it is kept in the store, and as a line of the digest.

#ifndef EXAMPLES_TRIGGER_WORDS_ALERT_H_
#define EXAMPLES_TRIGGER_WORDS_ALERT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

namespace trigger_words {

struct Alert {
  std::string id;    // unique; sorts by time
  std::string time;  // RFC 3339, UTC
  std::string copy;  // that got the post
  std::vector<std::string> words;
  std::string post;  // how it begins
};

// An id of the alert number `number` of the copy whose process is `incarnation`.
std::string MakeAlertId(absl::Time now, std::string_view incarnation, uint64_t number);

std::string ToJson(const Alert& alert);
std::optional<Alert> AlertFromJson(std::string_view json);  // nullopt: not an alert

// The line of the digest, with its newline: the alert and the fence of the leader that wrote it.
std::string DigestLine(const Alert& alert, uint64_t fence);

// What the leader keeps beside the digest: the last line, written down before it goes to the file, so that whoever
// leads next can finish it.
struct DigestRecord {
  uint64_t term = 0;      // fence of the leader that last took over
  uint64_t takeover = 0;  // counts: every take-over is a write
  std::string file;       // identity of the file
  int64_t offset = 0;     // where `line` belongs
  std::string line;       // empty before the first
  std::string alert;      // its id
};

std::string ToJson(const DigestRecord& record);
std::optional<DigestRecord> RecordFromJson(std::string_view json);

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_ALERT_H_
