#include "coord/internal/records.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "coord/internal/json_fields.h"

namespace coord::internal {
namespace {

constexpr size_t kMaxTextBytes = 4096;  // of a nonce, a label, an id
constexpr size_t kMaxSessionIdBytes = 64;
constexpr uint64_t kMaxFence = (uint64_t{1} << 63) - 1;
constexpr uint64_t kMaxNumber = ~uint64_t{0};

absl::Status Damaged(std::string_view what, std::string_view why) {
  return absl::DataLossError(absl::StrCat(
      std::string(what), " in the store is damaged (", std::string(why),
      "): inspect it with the store's own tool; if it cannot be repaired, remove it while no copy of the plugin runs"));
}

// "1.7": the 7. A newer major is what `newer` says then.
int ReadVersion(Fields& fields, std::string& newer, Problem& problem) {
  const std::string text = fields.Text("v", 3, 16);
  const size_t dot = text.find('.');
  const auto part = [](const std::string& digits) {
    const bool valid = !digits.empty() && digits.size() <= 6 && (digits[0] != '0' || digits.size() == 1) &&
                       digits.find_first_not_of("0123456789") == std::string::npos;
    return valid ? std::stoi(digits) : -1;
  };
  const int major = dot == std::string::npos ? -1 : part(text.substr(0, dot));
  const int minor = dot == std::string::npos ? -1 : part(text.substr(dot + 1));
  if (major > kMajor && minor >= 0) {
    newer = text;
  } else if (major != kMajor || minor < 0) {
    problem.Set(absl::StrCat("v is not a version such as ", kMajor, ".", kMinor));
  }
  return minor;
}

// Parses `text` and hands its fields to `read`, which fills `record`.
template <typename Record, typename Read>
absl::StatusOr<Record> Parse(std::string_view text, std::string_view what, const Read& read) {
  Problem problem;
  const Json json = ParseJson(text, kMaxRecordBytes, problem);
  if (!problem.empty()) return Damaged(what, problem.why());
  Record record;
  Fields fields(json, "", problem);
  std::string newer;
  record.minor = ReadVersion(fields, newer, problem);
  if (problem.empty() && !newer.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(std::string(what), " was written by a newer version (", newer,
                                                      ") of coord; this copy knows ", kMajor, ".x: upgrade it"));
  }
  record.nonce = fields.Text("w", 0, kMaxTextBytes);
  read(fields, problem, record);
  record.extra = fields.Extra();
  if (!problem.empty()) return Damaged(what, problem.why());
  return record;
}

std::string FromHex(const std::string& hex, const std::string& path, Problem& problem) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string bytes;
  bool valid = hex.size() % 2 == 0;
  for (size_t i = 0; valid && i < hex.size(); i += 2) {
    const size_t high = kDigits.find(hex[i]), low = kDigits.find(hex[i + 1]);
    valid = high != std::string_view::npos && low != std::string_view::npos;
    bytes += static_cast<char>(high * 16 + low);
  }
  if (!valid) problem.Set(absl::StrCat(path, " is not pairs of hexadecimal digits"));
  return bytes;
}

std::vector<Ticket> ReadTickets(Fields& fields, Problem& problem) {
  std::vector<Ticket> tickets;
  const Json* array = fields.Array("tickets", kMaxTickets);
  if (array == nullptr) return tickets;
  for (const Json& pair : *array) {
    const bool two =
        pair.is_array() && pair.size() == 2 && pair[0].is_number_unsigned() && pair[1].is_number_unsigned();
    const uint64_t id = two ? *pair[0].get_ptr<const Json::number_unsigned_t*>() : 0;
    const uint64_t weight = two ? *pair[1].get_ptr<const Json::number_unsigned_t*>() : 0;
    if (id == 0 || weight == 0 || weight > kUnbounded) {
      problem.Set(absl::StrCat(fields.Path("tickets"), " has an element that is not [id, weight] of at least 1 each"));
      return tickets;
    }
    tickets.push_back({id, static_cast<uint32_t>(weight)});
  }
  if (tickets.empty()) problem.Set(absl::StrCat(fields.Path("tickets"), " is empty"));
  return tickets;
}

GrantEntry ReadEntry(Fields& fields, bool owner, Problem& problem) {
  GrantEntry entry;
  entry.session = fields.Text("session", 1, kMaxSessionIdBytes);
  entry.instance = fields.Text("instance", 0, kMaxTextBytes);
  entry.ttl = fields.Ttl("ttl_ms");
  entry.since = fields.Time("since");
  entry.tickets = ReadTickets(fields, problem);
  entry.value = fields.Text("value", 0, kMaxRecordBytes, "");
  const std::string hex = fields.Text("value_hex", 0, kMaxRecordBytes, "");
  if (!hex.empty() && !entry.value.empty()) problem.Set(absl::StrCat(fields.Path("value"), " stands there twice"));
  if (!hex.empty()) entry.value = FromHex(hex, fields.Path("value_hex"), problem);
  if (owner) {
    entry.fence = fields.Number("fence", 0, kMaxFence);
  } else {
    fields.Refuse("fence");
  }
  entry.extra = fields.Extra();
  return entry;
}

std::vector<GrantEntry> ReadEntries(Fields& fields, const char* name, Problem& problem) {
  std::vector<GrantEntry> entries;
  const Json* array = fields.Array(name, kMaxEntries);
  if (array == nullptr) return entries;
  absl::flat_hash_set<std::string> sessions;
  for (size_t i = 0; i < array->size() && problem.empty(); ++i) {
    Fields entry((*array)[i], absl::StrCat(name, "[", i, "]"), problem);
    entries.push_back(ReadEntry(entry, std::string_view(name) == "owners", problem));
    if (!sessions.insert(entries.back().session).second) {
      problem.Set(absl::StrCat(entry.Path("session"), " stands twice in ", name));
    }
  }
  return entries;
}

// What no field shows by itself.
void CheckWhole(const GrantRecord& record, Problem& problem) {
  if (record.owners.size() + record.queue.size() > kMaxEntries) {
    problem.Set(absl::StrCat("it has more than ", kMaxEntries, " owners and waiters"));
  }
  size_t count = 0;
  absl::flat_hash_set<std::pair<std::string, uint64_t>> ids;
  for (const auto* entries : {&record.owners, &record.queue}) {
    for (const GrantEntry& entry : *entries) {
      for (const Ticket& ticket : entry.tickets) {
        if (!ids.emplace(entry.session, ticket.id).second) problem.Set("a session has the same ticket twice");
        ++count;
      }
    }
  }
  if (count > kMaxTickets) problem.Set(absl::StrCat("it has more than ", kMaxTickets, " tickets"));
  for (const GrantEntry& owner : record.owners) {
    // In a record just created every fence is 0: the number comes with the next write.
    const bool both_unset = owner.fence == 0 && record.fence == 0;
    if (!both_unset && (owner.fence == 0 || owner.fence > record.fence)) {
      problem.Set("an owner's fence is above the record's, or missing");
    }
  }
}

}  // namespace

absl::StatusOr<GrantRecord> ParseGrantRecord(std::string_view text, std::string_view what) {
  return Parse<GrantRecord>(text, what, [](Fields& fields, Problem& problem, GrantRecord& record) {
    record.capacity = static_cast<uint32_t>(fields.Number("capacity", 1, kUnbounded));
    record.fence = fields.Number("fence", 0, kMaxFence);
    record.owners = ReadEntries(fields, "owners", problem);
    record.queue = ReadEntries(fields, "queue", problem);
    CheckWhole(record, problem);
  });
}

absl::StatusOr<SessionRecord> ParseSessionRecord(std::string_view text, std::string_view what) {
  return Parse<SessionRecord>(text, what, [](Fields& fields, Problem& problem, SessionRecord& record) {
    const std::string mark = fields.Text("mark", 1, 16);
    record.mark = mark == "live" ? SessionMark::kLive : mark == "broken" ? SessionMark::kBroken : SessionMark::kEnded;
    if (record.mark == SessionMark::kEnded && mark != "ended") problem.Set("mark is not live, broken or ended");
    record.ttl = fields.Ttl("ttl_ms");
    record.instance = fields.Text("instance", 0, kMaxTextBytes);
    record.since = fields.Time("since");
    record.beat = fields.Number("beat", 0, kMaxNumber);
  });
}

absl::StatusOr<EpochRecord> ParseEpochRecord(std::string_view text, std::string_view what) {
  return Parse<EpochRecord>(text, what, [](Fields& fields, Problem& problem, EpochRecord& record) {
    record.id = fields.Text("id", 16, 16);
    if (record.id.find_first_not_of("0123456789abcdef") != std::string::npos) {
      problem.Set("id is not 16 hexadecimal digits");
    }
    record.created_us = fields.Number("created_us", 0, kMaxFence / 2);
    record.settled = fields.Bool("settled");
    record.max_ttl = fields.Ttl("max_ttl_ms");
  });
}

absl::StatusOr<CellRecord> ParseCellRecord(std::string_view text, std::string_view what) {
  const size_t newline = text.find('\n');
  if (newline == std::string_view::npos) return Damaged(what, "its first line, the header, has no end");
  absl::StatusOr<CellRecord> record =
      Parse<CellRecord>(text.substr(0, newline), what, [](Fields& fields, Problem&, CellRecord& cell) {
        cell.fence = fields.Number("fence", 0, kMaxFence, 0);
        cell.guard = fields.Text("guard", 0, kMaxTextBytes, "");
      });
  if (record.ok()) record->value.assign(text.substr(newline + 1));
  return record;
}

}  // namespace coord::internal
