// The moves of cells_run.h: what the store and the network may do next.

#include "coord/internal/cell_engine.h"
#include "tests/model/cells_run.h"

namespace model {

using coord::internal::CellState;

std::string CellMove::Name() const {
  static constexpr const char* kNames[] = {"answered",       "reply lost",         "write delayed",
                                           "write dropped",  "late write arrives", "push arrives",
                                           "push set aside", "old push arrives",   "store wiped"};
  return kNames[kind];
}

void CellRun::Tell(Copy& copy, const std::string& told) { copy.story = stories_.After(copy.story, told); }

void CellRun::Answer(Worker& worker, const kv::WriteResult& result) {
  std::string told = "w" + std::to_string(worker.first_op) + " ";
  Copy& copy = copies_[static_cast<size_t>(worker.copy)];
  if (worker.call->kind == CellCall::kGet) {
    worker.read = store_.entry().has_value() ? absl::StatusOr<kv::Entry>(*store_.entry())
                                             : absl::NotFoundError("it does not exist");
    told += worker.read.ok() ? std::to_string(worker.read->revision) + "=" + worker.read->value : "absent";
  } else {
    worker.written = result;
    told += std::to_string(static_cast<int>(result.status.code())) + "/" + std::to_string(result.revision);
    if (result.current.has_value()) told += "/" + std::to_string(result.current->revision) + result.current->value;
    const bool another = worker.call->incarnation != store_.incarnation();
    if (absl::IsAborted(result.status) && another) copy.stalled = copy.incarnation != store_.incarnation();
  }
  Tell(copy, told);
  worker.call.reset();
  worker.answered = true;
  answered_->NotifyAll();
}

void CellRun::AnswerUnknown(Worker& worker) {
  --lost_replies_;
  Answer(worker, {absl::DeadlineExceededError("no reply"), 0, {}});
}

kv::WriteResult CellRun::Write(const CellCall& call) {
  const kv::WriteResult result = store_.Write(call);
  if (!result.ok()) return result;
  kv::WatchEvent event;
  event.kind = store_.entry().has_value() ? kv::WatchKind::kPut : kv::WatchKind::kDelete;
  event.key = copies_[0].cell->key();
  if (store_.entry().has_value()) event.entry = *store_.entry();
  event.entry.revision = result.revision;
  for (int i = 0; i < world_.watching; ++i) {
    copies_[static_cast<size_t>(i)].pushes.push_back({event, store_.incarnation()});
  }
  return result;
}

// As SharedMap does with what its watch brings.
void CellRun::Deliver(Copy& copy, const kv::WatchEvent& pushed) {
  kv::WatchEvent event = pushed;
  if (world_.bugs.old_pushes_win) event.entry.revision = store_.last_revision() + copy.lies++;
  Tell(copy, "push " + std::to_string(event.entry.revision) + event.entry.value);
  const std::string epoch = copy.core->EpochId();
  if (event.kind == kv::WatchKind::kDelete) {
    auto absent = std::make_shared<CellState>();
    absent->epoch = epoch;
    copy.cell->LearnPush(absent, event.entry.revision);
    return;
  }
  const auto state = copy.core->cells->Parse(*copy.cell, event.entry, epoch);
  copy.cell->LearnPush(state.value(), event.entry.revision);
}

void CellRun::LearnIncarnation(Copy& copy, int incarnation) {
  copy.incarnation = incarnation;
  copy.stalled = false;
  copy.aside.reset();  // a watch does not bring what is older than the change
  Tell(copy, "incarnation");
  if (world_.bugs.deaf_to_epochs) return;
  copy.core->SetEpochId(CellStore::EpochName(incarnation));
  copy.core->cells->EpochChanged();
}

std::vector<CellMove> CellRun::Moves() const {
  std::vector<CellMove> moves;
  for (int i = 0; i < static_cast<int>(workers_.size()); ++i) {
    const Worker& worker = *workers_[static_cast<size_t>(i)];
    if (!worker.call.has_value() || copies_[static_cast<size_t>(worker.copy)].stalled) continue;
    moves.push_back({CellMove::kAnswer, i});
    if (worker.call->kind == CellCall::kGet || lost_replies_ == 0) continue;
    for (const auto kind : {CellMove::kLoseReply, CellMove::kDelay, CellMove::kDrop}) moves.push_back({kind, i});
  }
  for (int i = 0; i < static_cast<int>(late_.size()); ++i) moves.push_back({CellMove::kArrive, i});
  for (int i = 0; i < world_.copies; ++i) {
    const Copy& copy = copies_[static_cast<size_t>(i)];
    if (!copy.pushes.empty()) {
      moves.push_back({CellMove::kPush, i});
      const bool may_wait = late_pushes_ > 0 && !copy.aside.has_value();
      if (may_wait && copy.pushes.front().incarnation == copy.incarnation) moves.push_back({CellMove::kSetAside, i});
    }
    if (copy.aside.has_value()) moves.push_back({CellMove::kPushAside, i});
  }
  if (wipes_ > 0) moves.push_back({CellMove::kWipe, 0});
  return moves;
}

void CellRun::Do(const CellMove& move) {
  const auto who = static_cast<size_t>(move.who);
  switch (move.kind) {
    case CellMove::kAnswer: {
      Worker& worker = *workers_[who];
      Answer(worker, worker.call->kind == CellCall::kGet ? kv::WriteResult() : Write(*worker.call));
      break;
    }
    case CellMove::kLoseReply:
      Write(*workers_[who]->call);
      AnswerUnknown(*workers_[who]);
      break;
    case CellMove::kDelay:
      late_.push_back(*workers_[who]->call);
      AnswerUnknown(*workers_[who]);
      break;
    case CellMove::kDrop:
      AnswerUnknown(*workers_[who]);
      break;
    case CellMove::kArrive: {
      const CellCall call = late_[who];
      late_.erase(late_.begin() + move.who);
      Write(call);
      break;
    }
    case CellMove::kPush: {
      Copy& copy = copies_[who];
      const Push push = copy.pushes.front();
      copy.pushes.pop_front();
      if (push.incarnation > copy.incarnation) LearnIncarnation(copy, push.incarnation);
      if (push.event.kind != kv::WatchKind::kEpochChanged) Deliver(copy, push.event);
      break;
    }
    case CellMove::kSetAside:
      --late_pushes_;
      copies_[who].aside = copies_[who].pushes.front().event;
      copies_[who].pushes.pop_front();
      break;
    case CellMove::kPushAside: {
      const kv::WatchEvent event = *copies_[who].aside;
      copies_[who].aside.reset();
      Deliver(copies_[who], event);
      break;
    }
    case CellMove::kWipe:
      --wipes_;
      store_.Wipe();
      for (Copy& copy : copies_) copy.pushes.push_back({{kv::WatchKind::kEpochChanged, "", {}}, store_.incarnation()});
      break;
  }
  LetThemRun();
  Blame(store_.violation());
}

std::string CellRun::Key() const {
  std::string key = store_.Key();
  for (const int left : {lost_replies_, late_pushes_, wipes_}) key += "," + std::to_string(left);
  for (const CellCall& call : late_) {
    key += ";" + std::to_string(call.op) + "/" + std::to_string(call.expected) + "/" +
           std::to_string(call.incarnation) + call.value;
  }
  for (const Copy& copy : copies_) {
    key += "#" + std::to_string(copy.story) + (copy.stalled ? "s" : "");
    for (const Push& push : copy.pushes) {
      key += ">" + std::to_string(push.incarnation) + "/" + std::to_string(push.event.entry.revision) +
             push.event.entry.value;
    }
    if (copy.aside.has_value()) key += "<" + std::to_string(copy.aside->entry.revision);
  }
  return key;
}

}  // namespace model
