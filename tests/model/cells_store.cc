#include "tests/model/cells_store.h"

#include "coord/internal/records.h"

namespace model {

using coord::internal::CellRecord;
using coord::internal::ParseCellRecord;

namespace {

CellRecord Parsed(const std::string& text) { return ParseCellRecord(text, "cell").value(); }

}  // namespace

kv::WriteResult CellStore::Refuse(const CellCall& call) const {
  kv::WriteResult result;
  if (!entry_.has_value()) {
    result.status = absl::NotFoundError("it does not exist");
    return result;
  }
  const bool create = call.kind == CellCall::kCreate;
  result.status = create ? absl::AlreadyExistsError("it exists") : absl::AbortedError("another revision");
  if (world_.shows_winner) result.current = entry_;
  return result;
}

kv::WriteResult CellStore::Write(const CellCall& call) {
  const bool create = call.kind == CellCall::kCreate;
  kv::WriteResult result;
  if (!create && call.incarnation != incarnation_ && !world_.bugs.deaf_to_epochs) {
    result.status = absl::AbortedError("the revision is of another incarnation");
    return result;
  }
  const bool matches = create
                           ? !entry_.has_value()
                           : entry_.has_value() && (entry_->revision == call.expected || world_.bugs.ignore_revisions);
  if (!matches) return Refuse(call);
  Check(call);
  ++ops_[call.op].commits;
  result.revision = ++last_;
  if (call.kind == CellCall::kDelete) {
    entry_.reset();
  } else {
    entry_ = kv::Entry{call.value, last_, {}};
    ages_.emplace(Parsed(call.value).nonce, ages_.size());
  }
  return result;
}

void CellStore::Check(const CellCall& call) {
  const CellOp& op = ops_[call.op];
  if (op.commits > 0) Blame("applied twice");
  const bool unknown = op.code == absl::StatusCode::kDeadlineExceeded;
  if (op.ended && op.code != absl::StatusCode::kOk && !unknown) Blame("applied after it was refused");

  const CellRecord before = entry_.has_value() ? Parsed(entry_->value) : CellRecord();
  if (op.step.kind == CellStep::kCompareAndSet || op.step.kind == CellStep::kDelete) {
    const kv::Revision present = entry_.has_value() ? entry_->revision : 0;
    if (op.read_revision != present) Blame("replaced another revision than the one that was read");
    if (op.read_revision != 0 && op.read_epoch != EpochName(incarnation_)) {
      Blame("a revision of another incarnation matched");
    }
    return;
  }
  const CellRecord after = Parsed(call.value);
  if (after.value != before.value + Letter(call.op)) Blame("an update was lost");
  if (after.fence < before.fence) Blame("a lower fence was accepted");
}

void CellStore::Wipe() {
  entry_.reset();
  last_ = 0;
  ++incarnation_;
}

std::string CellStore::Key() const {
  std::string key = std::to_string(incarnation_) + "/" + std::to_string(last_) + "/";
  if (entry_.has_value()) key += std::to_string(entry_->revision) + "=" + entry_->value;
  for (const CellOp& op : ops_) {
    key += "|" + std::to_string(op.commits) + (op.ended ? std::to_string(static_cast<int>(op.code)) : "");
  }
  return key;
}

}  // namespace model
