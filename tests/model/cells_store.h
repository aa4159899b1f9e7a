// The store of cells_world.h: one entry in one incarnation, and what is checked of every write that it applies.

#ifndef TESTS_MODEL_CELLS_STORE_H_
#define TESTS_MODEL_CELLS_STORE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kv/store.h"
#include "tests/model/cells_world.h"

namespace model {

// A step of a thread, from the outside.
struct CellOp {
  CellStep step;
  // What it read, if it writes over that alone.
  kv::Revision read_revision = 0;
  std::string read_epoch;
  int commits = 0;
  bool ended = false;
  absl::StatusCode code = absl::StatusCode::kUnknown;
};

struct CellCall {
  enum Kind { kGet, kCreate, kUpdate, kDelete };
  Kind kind = kGet;
  std::string value;
  kv::Revision expected = 0;
  size_t op = 0;
  int incarnation = 0;  // that the copy knew when it sent it
};

class CellStore {
 public:
  CellStore(const CellWorld& world, std::vector<CellOp>* ops) : world_(world), ops_(*ops) {}

  const std::optional<kv::Entry>& entry() const { return entry_; }
  int incarnation() const { return incarnation_; }
  const std::string& violation() const { return violation_; }
  kv::Revision last_revision() const { return last_; }

  kv::WriteResult Write(const CellCall& call);
  void Wipe();
  // How many writes were applied before the one with this nonce.
  size_t Age(const std::string& nonce) const { return ages_.at(nonce); }
  // All that decides what comes next.
  std::string Key() const;

  static std::string EpochName(int incarnation) { return "e" + std::to_string(incarnation); }
  static std::string Letter(size_t op) { return std::string(1, static_cast<char>('a' + op)); }

 private:
  kv::WriteResult Refuse(const CellCall& call) const;
  void Check(const CellCall& call);
  void Blame(const std::string& violation) {
    if (violation_.empty()) violation_ = violation;
  }

  const CellWorld& world_;
  std::vector<CellOp>& ops_;
  std::optional<kv::Entry> entry_;
  kv::Revision last_ = 0;
  int incarnation_ = 0;
  std::map<std::string, size_t> ages_;
  std::string violation_;
};

}  // namespace model

#endif  // TESTS_MODEL_CELLS_STORE_H_
