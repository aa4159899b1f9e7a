// Breadth-first exploration of every state of a World. Checked in each: the weights of the valid holders stay within
// the capacity; fences strictly increase with every grant; first in, first out; and from every state everything can
// finish without further faults.

#ifndef TESTS_MODEL_EXPLORE_H_
#define TESTS_MODEL_EXPLORE_H_

#include <cstddef>
#include <set>
#include <string>

#include "tests/model/world.h"

namespace model {

struct Report {
  size_t states = 0;
  size_t stuck = 0;             // states that cannot finish
  bool complete = false;        // false: more than max_states, or a violation ended the search
  std::string violation;        // empty if every check holds; stuck states are one too
  std::string path;             // the shortest way to the violation
  std::set<std::string> moves;  // the names of all moves that were made
};

// A violation ends the exploration.
Report Explore(const World& world, size_t max_states);

}  // namespace model

#endif  // TESTS_MODEL_EXPLORE_H_
