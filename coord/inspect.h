// Who holds a name, since when, with which fence, and who waits: what a lock record says.

#ifndef COORD_INSPECT_H_
#define COORD_INSPECT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace coord {

struct HolderInfo {
  std::string instance;  // the copy's label
  std::string session;
  absl::Time since;     // by the wall clock of the copy that wrote it: for people, not for decisions
  uint64_t fence = 0;   // owners only
  uint64_t weight = 0;  // permits, or 1
  std::string value;    // what a leader proclaims
};

struct NameInfo {
  uint64_t fence = 0;               // the highest ever given
  uint64_t capacity = 1;            // 0xffffffff for a SharedMutex
  std::vector<HolderInfo> owners;   // as the record says; one that died lately is still listed
  std::vector<HolderInfo> waiters;  // in the order in which they will be served
};

}  // namespace coord

#endif  // COORD_INSPECT_H_
