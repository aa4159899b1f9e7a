// Whether what copies did under faults is what the library promises. Pure: histories in, violations out, each a
// sentence. The histories are made by loads (loads.h); a life is one process of a copy, from its start to its end.

#ifndef TESTS_CHAOS_JUDGE_H_
#define TESTS_CHAOS_JUDGE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace chaos {

using Violations = std::vector<std::string>;

// What became of the writes of one load.
struct Outcomes {
  int64_t acknowledged = 0;
  int64_t unknown = 0;
  int64_t failed = 0;
};

// One acknowledged write of a fenced cell, whose value is a number that each write makes greater by 1. From `from` to
// `until`, in microseconds of the machine's clock, the life was certainly the owner.
struct Count {
  std::string life;
  uint64_t fence = 0;
  uint64_t revision = 0;
  int64_t count = 0;
  int64_t from = 0;
  int64_t until = 0;
};

struct FencedHistory {
  std::string name;
  std::vector<Count> counts;
  Outcomes outcomes;
  bool one_each = false;          // an owner writes once
  std::optional<int64_t> stands;  // in the cell, in the end; unset where the store may forget
};

// No two owners at a time; in the order in which the store took the writes neither a fence nor a number goes back; and
// what was acknowledged is there. Where the store may forget: no two owners, and fences in the order of time.
Violations JudgeFenced(const FencedHistory& history);

struct SumHistory {
  std::map<std::string, std::vector<int64_t>> sums;  // of each life, the acknowledged ones in order
  Outcomes outcomes;
  int64_t stands = 0;
};

// No addition is lost, or made twice.
Violations JudgeSums(const SumHistory& history);

struct Published {
  std::set<int64_t> stored;
  std::set<int64_t> failed;  // told not to be stored
};

struct EventHistory {
  std::map<std::string, Published> published;  // by the publisher's life
  // By the name of the cursor: what came to each life that used it, in their order, by the publisher's life.
  std::map<std::string, std::vector<std::map<std::string, std::vector<int64_t>>>> came;
};

// What was stored came under every cursor, in the publisher's order within each life; what failed did not.
Violations JudgeEvents(const EventHistory& history);

}  // namespace chaos

#endif  // TESTS_CHAOS_JUDGE_H_
