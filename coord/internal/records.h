// The shared records, and their text form: JSON that a person can read in the store's own tool. Every record carries
// major.minor. A newer minor is read, and what this version does not know survives a rewrite; a newer major is refused.

#ifndef COORD_INTERNAL_RECORDS_H_
#define COORD_INTERNAL_RECORDS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace coord::internal {

inline constexpr int kMajor = 1;
inline constexpr int kMinor = 0;
inline constexpr size_t kMaxEntries = 256;           // owners and waiters of one grant record
inline constexpr size_t kMaxTickets = 4096;          // of all of them together
inline constexpr size_t kMaxRecordBytes = 1 << 20;   // of a record's text; a cell's value does not count
inline constexpr uint32_t kUnbounded = 0xffffffffu;  // capacity of a shared mutex, and the weight of its writers

// One request of one copy. Ids count up per session and are never reused.
struct Ticket {
  uint64_t id = 0;
  uint32_t weight = 1;
};

// A copy that owns or waits. Its weight is the sum of its tickets' weights.
struct GrantEntry {
  std::string session;
  absl::Duration ttl;    // the session's, for whoever finds no record of it
  std::string instance;  // for people
  absl::Time since;      // wall clock, for people: when it became owner, or queued
  uint64_t fence = 0;    // owners only; 0: the revision of the write that made it, as GrantRecord::fence
  std::vector<Ticket> tickets;
  std::string value;  // what a leader proclaims; a waiting candidate carries it along
  std::string extra;  // fields of a newer minor: a JSON object, or empty
};

struct GrantRecord {
  int minor = kMinor;
  uint32_t capacity = 1;
  // The highest fence ever given for this name. 0 stands for "epoch time + revision of the very write that this record
  // came by"; never where revisions may begin anew: there the fences of a record count from the time it was made.
  uint64_t fence = 0;
  std::string nonce;               // of the last write
  std::vector<GrantEntry> owners;  // in the order in which they were granted
  std::vector<GrantEntry> queue;   // in the order in which they will be
  std::string extra;               // fields of a newer minor: a JSON object, or empty
};

enum class SessionMark { kLive, kBroken, kEnded };

struct SessionRecord {
  int minor = kMinor;
  SessionMark mark = SessionMark::kLive;
  absl::Duration ttl;
  std::string instance;
  absl::Time since;   // wall clock, for people
  uint64_t beat = 0;  // counts the rewrites
  std::string nonce;  // of the last write
  std::string extra;
};

struct EpochRecord {
  int minor = kMinor;
  std::string id;           // 16 hex digits
  uint64_t created_us = 0;  // microseconds since 1970; fences of this epoch begin above it
  bool settled = true;
  absl::Duration max_ttl;  // the longest ttl of any session
  std::string nonce;
  std::string extra;
};

// Text forms. A time is RFC 3339 in UTC with milliseconds, a duration a whole number of them; a newer minor's fields
// come last, their numbers kept as 64-bit integers or doubles.
//   grant    {"v":"1.0","capacity":1,"fence":7,"w":nonce,"owners":[entry...],"queue":[entry...]}
//   entry    {"session":id,"instance":label,"ttl_ms":10000,"since":time,"fence":7,"tickets":[[id,weight]...],
//             "value":text}
//            waiters have no "fence"; an empty value is left out; one that is not UTF-8 is "value_hex", two lower-case
//            digits for each byte
//   session  {"v":"1.0","mark":"live"|"broken"|"ended","ttl_ms":10000,"instance":label,"since":time,"beat":3,"w":nonce}
//   epoch    {"v":"1.0","id":id,"created_us":1,"settled":true,"max_ttl_ms":60000,"w":nonce}
//   cell     {"v":"1.0","w":nonce,"fence":7,"guard":"mutex/name"} newline value
//            fence 0 and an empty guard are left out
//
// Parse trusts nothing: session ids are 1 to 64 bytes, no session owns or waits twice, no ticket id stands twice in one
// session, ttl is above 0 and at most 24 hours, weights and ticket ids are at least 1, fences below 2^63 and none above
// the record's.
//
// `what` names the record in errors ("lock record of \"orders\""). DataLoss for what cannot be parsed,
// FailedPrecondition for a newer major: both sentences say what to do; the bytes are never changed by a reader.
absl::StatusOr<GrantRecord> ParseGrantRecord(std::string_view text, std::string_view what);
absl::StatusOr<SessionRecord> ParseSessionRecord(std::string_view text, std::string_view what);
absl::StatusOr<EpochRecord> ParseEpochRecord(std::string_view text, std::string_view what);
// Never fails: text that is not UTF-8 where it must be gets U+FFFD in place of each bad byte.
std::string Format(const GrantRecord& record);
std::string Format(const SessionRecord& record);
std::string Format(const EpochRecord& record);

// A cell: a header line of JSON and, after its newline, the bytes as they are.
struct CellRecord {
  int minor = kMinor;
  std::string nonce;
  uint64_t fence = 0;  // fenced cells: the highest fence that wrote
  std::string guard;   // fenced cells: "<kind>/<name>" of the lock whose fences are compared
  std::string value;
  std::string extra;
};
absl::StatusOr<CellRecord> ParseCellRecord(std::string_view text, std::string_view what);
std::string Format(const CellRecord& record);

}  // namespace coord::internal

#endif  // COORD_INTERNAL_RECORDS_H_
