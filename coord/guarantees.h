// What each store promises, and under which settings of its servers: one table, for people. Programs print it (the
// example's --guarantees), and docs/guarantees.md is made of it.
//
// Each row also holds the kv::Traits that an opened store of that kind states, and a test compares them with real ones;
// what the traits decide is derived from them.

#ifndef COORD_GUARANTEES_H_
#define COORD_GUARANTEES_H_

#include <string>
#include <string_view>
#include <vector>

#include "kv/store.h"

namespace coord {

enum class Holds {
  kYes,
  kLimited,  // with the limits that the sentence tells
  kNo,
};

struct Promise {
  Holds holds = Holds::kNo;
  std::string sentence;
};

struct Guarantees {
  std::string url;   // how such a store is opened
  std::string what;  // in words
  kv::Traits traits;
  // At most one copy at a time holds a lock, an election, the permits of a semaphore. A copy that is paused beyond its
  // ttl may act on after that; the fence is for it.
  Promise exclusion;
  // The fence of a name grows with every owner.
  Promise fence;
  // What was acknowledged is kept.
  Promise durability;
  // Changes come to the copies without asking.
  Promise watch;
  // Revisions grow over all keys, changes come in their order, and a read sees every write acknowledged before.
  Promise order;
  // What EventBus carries if no other bus is given.
  Promise events;
  // The settings of the servers on which this rests.
  std::string settings;
  // Cluster::Join refuses it unless JoinOptions::accept_weaker is set.
  bool needs_accept_weaker = false;
};

// Every kind of store that kv::Open knows, the strictest settings beside the default ones.
const std::vector<Guarantees>& AllGuarantees();

// The row of an opened store; null for a store of another maker.
const Guarantees* FindGuarantees(const kv::Traits& traits);

// For a terminal of 100 columns.
std::string GuaranteesText(const std::vector<Guarantees>& rows);

// The whole of docs/guarantees.md.
std::string GuaranteesMarkdown(const std::vector<Guarantees>& rows);

}  // namespace coord

#endif  // COORD_GUARANTEES_H_
