// A small world of copies that share one cell, explored exhaustively: every order of the store's answers, of pushes and
// of faults. The copies are the library's own code (coord/internal/cell*, coord/cells), unchanged, on simulated
// threads; all that is made up is the store, which answers when the exploration says so. A state is what the store
// holds, what is on its way, and what each copy was told so far; a state that was met before is not gone into again.
//
// Checked: an update is over exactly the value that it was computed from, and is applied at most once; what was
// acknowledged was applied, and what was refused never is; a revision of another incarnation of the store matches
// nothing; a fenced cell never takes a lower fence; what a watching copy sees never goes back, and is in the end what
// the store holds; every call ends.

#ifndef TESTS_MODEL_CELLS_WORLD_H_
#define TESTS_MODEL_CELLS_WORLD_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace model {

struct CellStep {
  enum Kind {
    kUpdate,         // appends a letter
    kCompareAndSet,  // reads, and replaces what was read
    kFenced,         // appends a letter, under a grant with this fence
    kDelete,         // reads, and removes what was read
  };
  Kind kind = kUpdate;
  uint64_t fence = 0;
};

// One thread of a copy, which makes its steps one after the other.
struct CellThread {
  int copy = 0;
  std::vector<CellStep> steps;
};

// Mistakes that the exploration must find.
struct CellBugs {
  bool ignore_revisions = false;  // the store writes whatever is there
  bool blind_repeat = false;      // an update of unknown outcome is made again
  bool same_nonces = false;       // the copies draw equal nonces
  bool deaf_to_epochs = false;    // nobody hears of another incarnation, and the store does not prove it
  bool old_pushes_win = false;    // every push looks newer than all before
  bool ignore_fences = false;     // a fenced update does not compare
};

struct CellWorld {
  int copies = 2;
  std::vector<CellThread> threads;
  int watching = 0;  // so many of the first copies follow the watch
  // An Aborted or AlreadyExists shows the entry that won.
  bool shows_winner = true;

  // How many there may be of each, in all.
  int lost_replies = 0;  // a write whose reply is lost; the write itself was applied, or comes later, or never
  int late_pushes = 0;   // a push that is overtaken by newer ones
  int wipes = 0;         // the store begins anew, empty, its revisions at 1

  CellBugs bugs;
};

struct CellReport {
  size_t states = 0;
  size_t runs = 0;
  bool complete = false;        // false: more than max_states, or a violation ended the search
  std::string violation;        // empty if every check holds
  std::string path;             // a way to the violation
  std::set<std::string> moves;  // the names of all moves that were made
};

CellReport ExploreCells(const CellWorld& world, size_t max_states);

}  // namespace model

#endif  // TESTS_MODEL_CELLS_WORLD_H_
