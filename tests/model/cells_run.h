// One way through the world of cells_world.h, move by move.

#ifndef TESTS_MODEL_CELLS_RUN_H_
#define TESTS_MODEL_CELLS_RUN_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coord/internal/cell.h"
#include "coord/internal/core.h"
#include "coord/internal/held.h"
#include "coord/runtime.h"
#include "coord/sim_runtime.h"
#include "kv/internal/mutex.h"
#include "kv/store.h"
#include "tests/model/cells_store.h"
#include "tests/model/cells_world.h"

namespace model {

struct CellMove {
  enum Kind { kAnswer, kLoseReply, kDelay, kDrop, kArrive, kPush, kSetAside, kPushAside, kWipe };
  Kind kind = kAnswer;
  int who = 0;  // a thread, a copy, or a write that is on its way

  std::string Name() const;
};

// Numbers for what a copy was told, in order: equal numbers, equal stories. Shared by all runs.
class Stories {
 public:
  uint32_t After(uint32_t story, const std::string& told) {
    return numbers_.emplace(std::pair(story, told), static_cast<uint32_t>(numbers_.size() + 1)).first->second;
  }

 private:
  std::map<std::pair<uint32_t, std::string>, uint32_t> numbers_;
};

class CellRun {
 public:
  CellRun(const CellWorld& world, Stories* stories);
  ~CellRun();
  CellRun(const CellRun&) = delete;
  CellRun& operator=(const CellRun&) = delete;

  // What may come next, always in the same order.
  std::vector<CellMove> Moves() const;
  void Do(const CellMove& move);
  std::string Key() const;
  // Where there is nothing left to do.
  void CheckEnd();
  const std::string& violation() const { return violation_; }

 private:
  class Port;
  class Reader;
  class PlainRuntime;
  struct Push {
    kv::WatchEvent event;
    int incarnation = 0;  // above the one before: the copy is told so first
  };
  struct Copy {
    std::shared_ptr<coord::internal::Core> core;
    std::shared_ptr<coord::internal::Cell> cell;
    std::unique_ptr<Reader> reader;
    int incarnation = 0;   // that it knows of
    bool stalled = false;  // the store has refused it for not knowing the present one
    uint32_t story = 0;
    std::deque<Push> pushes;
    std::optional<kv::WatchEvent> aside;
    kv::Revision lies = 0;  // pushes with a made-up revision
  };
  struct Worker {
    int copy = 0;
    size_t first_op = 0;
    std::vector<CellStep> steps;
    std::optional<CellCall> call;  // waits for an answer
    bool answered = false;
    absl::StatusOr<kv::Entry> read = absl::UnknownError("");
    kv::WriteResult written;
    size_t op = 0;
    bool ended = false;
    std::unique_ptr<coord::Thread> thread;
  };

  void MakeCopy(int number);
  void LetThemRun();
  void Work(Worker& worker);
  absl::Status Make(Worker& worker, CellOp& op);
  absl::Status MakeFenced(Copy& copy, const CellStep& step, const std::string& letter);
  absl::Status ReadForOp(Copy& copy, CellOp& op);
  void End(CellOp& op, const absl::Status& status);
  // Blocks the simulated thread until the exploration answers.
  Worker* Ask(CellCall call);
  void Answer(Worker& worker, const kv::WriteResult& result);
  void AnswerUnknown(Worker& worker);
  kv::WriteResult Write(const CellCall& call);
  void Deliver(Copy& copy, const kv::WatchEvent& event);
  void Tell(Copy& copy, const std::string& told);
  void LearnIncarnation(Copy& copy, int incarnation);
  void Blame(const std::string& violation) {
    if (violation_.empty()) violation_ = violation;
  }

  const CellWorld& world_;
  Stories& stories_;
  std::unique_ptr<PlainRuntime> runtime_;
  std::vector<CellOp> ops_;
  CellStore store_;
  std::vector<Copy> copies_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::map<uint64_t, Worker*> by_thread_;
  std::vector<CellCall> late_;  // on their way to the store
  int lost_replies_ = 0, late_pushes_ = 0, wipes_ = 0;
  std::string violation_;

  kv::internal::Mutex mu_;  // for the condition alone: one simulated thread runs at a time
  std::unique_ptr<coord::Condition> answered_;
  bool closing_ = false;
};

}  // namespace model

#endif  // TESTS_MODEL_CELLS_RUN_H_
