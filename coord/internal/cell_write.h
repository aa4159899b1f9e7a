// What the two halves of CellEngine share: the one that decides what to write, and the one that sends it.

#ifndef COORD_INTERNAL_CELL_WRITE_H_
#define COORD_INTERNAL_CELL_WRITE_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coord/internal/cell.h"
#include "coord/internal/cell_engine.h"
#include "kv/store.h"

namespace coord::internal {

// One conditional write, the same in every attempt. Without a record it is a delete.
struct CellEngine::Write {
  std::optional<CellRecord> record;  // its nonce tells whether the write was applied
  std::string text;
  kv::Revision expected = 0;  // 0: absent
  std::string epoch;          // in which `expected` counts
  CellCheck check;
};

// What became of it. Ok: applied, `state` is what it made. Aborted: not applied, the cell is in another state (`state`,
// where that is known at no cost). DeadlineExceeded: nobody knows; `state` is what was read afterwards, if it was.
struct CellEngine::Outcome {
  absl::Status status;
  CellStatePtr state;
};

// Jittered waits between attempts, from 1 ms to 100 ms, that end with Leave.
class CellEngine::Backoff {
 public:
  explicit Backoff(CellEngine& engine) : engine_(engine) {}
  // False when `steady` has passed or Leave has begun.
  bool Wait(absl::Time steady);

 private:
  CellEngine& engine_;
  absl::Duration next_ = absl::Milliseconds(1);
};

// The turn to write a cell, for a scope.
class CellEngine::Turn {
 public:
  Turn(Cell& cell, absl::Time steady) : cell_(cell), status_(cell.EnterLane(steady)) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    if (status_.ok()) cell_.LeaveLane();
  }
  const absl::Status& status() const { return status_; }

 private:
  Cell& cell_;
  const absl::Status status_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_CELL_WRITE_H_
