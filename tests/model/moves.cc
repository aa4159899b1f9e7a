// The moves of world.h: what every copy, the store and the network may do next.

#include "tests/model/world.h"

namespace model {
namespace {

constexpr uint32_t kNever = 0xffffffffu;

State With(State state, int i, const Copy& copy) {
  state.copies[i] = copy;
  return state;
}

Copy ToPc(Copy copy, Pc pc) {
  copy.pc = pc;
  return copy;
}

Copy Gone(Copy copy, Pc pc) {
  copy.pc = pc;
  copy.valid = 0;
  copy.seen = kNever;
  copy.push = 0;
  copy.ticket = 0;
  copy.downgraded = 0;
  copy.unknown = 0;
  copy.expected = 0;
  if (pc == kDone) copy.rounds = 0;
  return copy;
}

Copy NextRound(Copy copy) {
  copy.pc = kIdle;
  --copy.rounds;
  return copy;
}

}  // namespace

void Model::Moves(const State& state, const Emit& emit) {
  for (int i = 0; i < world_.copies; ++i) {
    MovesOfNetwork(state, i, emit);
    const uint8_t pc = state.copies[i].pc;
    if (pc == kDead || pc == kDone) continue;
    MovesOfSession(state, i, emit);
    if (state.copies[i].valid) MovesOfCopy(state, i, emit);
  }
}

void Model::MovesOfSession(const State& state, int i, const Emit& emit) {
  const Copy& copy = state.copies[i];
  const auto id = static_cast<int8_t>(i);
  emit({"crash", id, -1, true}, With(state, i, Gone(copy, kDead)), "");
  if (!copy.valid) {
    emit({"told lost", id}, With(state, i, Gone(copy, kDone)), "");
    return;
  }
  Copy late = copy;
  late.valid = 0;
  emit({copy.mark == kLive ? "deadline" : "beat refused", id, -1, copy.mark == kLive}, With(state, i, late), "");
  if (state.vanishings > 0 && copy.mark == kLive) {
    State after = state;
    --after.vanishings;
    after.copies[i].mark = kMissing;
    emit({"session vanishes", id, -1, true}, after, "");
  }
  if (state.breaks > 0 && copy.mark == kLive) {
    State after = state;
    --after.breaks;
    after.copies[i].mark = kBroken;
    emit({"session is broken", id, -1, true}, after, "");
  }
  if (state.beats > 0 && copy.mark == kLive) {
    State after = state;
    --after.beats;
    ++after.copies[i].beaten;
    emit({"beat", id, -1, true}, after, "");
  }
}

void Model::MovesOfNetwork(const State& state, int i, const Emit& emit) {
  const Copy& copy = state.copies[i];
  const auto id = static_cast<int8_t>(i);
  if (copy.sent != 0 && (!copy.sent_create || Absent(state.record))) {
    State after = state;
    after.copies[i].sent = 0;
    after.copies[i].sent_create = 0;
    // Copied out: Intern may move the versions.
    const auto record = versions_[copy.sent].record;
    const uint32_t version = Intern(versions_[state.record].revision + 1, record);
    const std::string violation = SetRecord(after, version);
    emit({"late write arrives", id, -1, true}, after, violation);
  }
  if (copy.pc == kDead || copy.pc == kDone) return;
  if (state.late_pushes > 0 && copy.push == 0 && state.record != 0) {
    State after = state;
    --after.late_pushes;
    after.copies[i].push = state.record;
    emit({"push sent", id, -1, true}, after, "");
  }
  if (copy.push != 0 && copy.valid) {
    Copy told = copy;
    told.push = 0;
    const bool newer = copy.seen == kNever || versions_[copy.push].revision > versions_[copy.seen].revision;
    if (newer || world_.bugs.old_view) told.seen = copy.push;
    emit({"push arrives", id}, With(state, i, told), "");
  }
}

void Model::MovesOfCopy(const State& state, int i, const Emit& emit) {
  const Copy& copy = state.copies[i];
  const auto id = static_cast<int8_t>(i);
  const bool looks = copy.pc == kWant || copy.pc == kWait || copy.pc == kRelease || copy.pc == kCancel ||
                     copy.pc == kDowngrade || copy.pc == kRetained || (copy.pc == kIdle && world_.lost_replies > 0) ||
                     (copy.pc == kHold && (world_.local_waiters || world_.bugs.late_give_up));
  if (looks && copy.seen != state.record) {
    Copy told = copy;
    told.seen = state.record;
    emit({"see", id}, With(state, i, told), "");
  }
  if (copy.pc == kIdle && copy.rounds > 0) {
    Copy begun = copy;
    Begin(begun);
    emit({"begin", id}, With(state, i, begun), "");
  } else if (copy.pc == kIdle) {
    Copy left = Gone(copy, kDone);
    left.mark = kEnded;
    emit({"leave", id}, With(state, i, left), "");
  }
  if (copy.unknown != 0) {
    MovesOfUnknown(state, i, emit);
    return;
  }
  if (copy.pc == kHold || copy.pc == kRetained) {
    MovesOfHolding(state, i, emit);
    return;
  }
  if (copy.seen == kNever) return;
  if (copy.pc == kWant && i >= world_.copies - world_.try_only) {
    MovesOfTry(state, i, emit);
  } else if (copy.pc == kWant || copy.pc == kWait) {
    MovesOfWaiting(state, i, emit);
  } else if (copy.pc == kDowngrade) {
    if (Current(state, copy)) EmitWrite(state, i, "write", 0, emit);
  } else if (copy.pc == kIdle) {
    const auto& record = versions_[copy.seen].record;
    const bool stray =
        record.has_value() && (FindOwner(*record, std::string(1, static_cast<char>('a' + i))) != nullptr ||
                               FindWaiter(*record, std::string(1, static_cast<char>('a' + i))) != nullptr);
    if (stray && !world_.bugs.keep_strays && Current(state, copy)) EmitWrite(state, i, "remove stray", 0, emit);
  } else {  // kRelease, kCancel
    if (!Names(copy.seen, i, copy) && !Queues(copy.seen, i, copy)) {
      emit({"was out", id}, With(state, i, NextRound(copy)), "");
    } else if (Current(state, copy)) {
      EmitWrite(state, i, "write", 0, emit);
    }
  }
  const auto& seen = versions_[copy.seen].record;
  if (state.deletes > 0 && copy.seen == state.record && seen.has_value() && seen->owners.empty() &&
      seen->queue.empty()) {
    State after = state;
    --after.deletes;
    const uint32_t version = Intern(versions_[state.record].revision + 1, std::nullopt);
    const std::string violation = SetRecord(after, version);
    after.copies[i].seen = version;
    emit({"delete", id, -1, true}, after, violation);
  }
}

void Model::MovesOfHolding(const State& state, int i, const Emit& emit) {
  const Copy& copy = state.copies[i];
  const auto id = static_cast<int8_t>(i);
  if (copy.pc == kRetained) {
    Copy released = ToPc(copy, kRelease);
    ++released.rounds;  // it was counted when it was kept
    emit({"let go", id}, With(state, i, released), "");
    const bool wanted = OthersWait(copy.seen, i);
    if (copy.rounds > 0 && !wanted) emit({"take again", id}, With(state, i, ToPc(copy, kHold)), "");
    return;
  }
  if (world_.bugs.late_give_up) {
    if (Current(state, copy)) EmitWrite(state, i, "write", 0, emit);
  } else {
    emit({"release", id}, With(state, i, ToPc(copy, kRelease)), "");
  }
  if (world_.local_waiters && copy.rounds > 1) {
    Copy next = copy;
    --next.rounds;
    Begin(next);
    emit({"release and queue again", id}, With(state, i, next), "");
    Copy passed = copy;
    --passed.rounds;
    if (!OthersWait(copy.seen, i)) emit({"pass on", id}, With(state, i, passed), "");
  }
  if (world_.retain && !OthersWait(copy.seen, i)) {
    Copy kept = ToPc(copy, kRetained);
    --kept.rounds;
    emit({"retain", id}, With(state, i, kept), "");
  }
  if (world_.downgrade && WeightOf(i, copy) > 1) {
    Copy reader = ToPc(copy, kDowngrade);
    reader.downgraded = 1;
    emit({"downgrade", id}, With(state, i, reader), "");
  }
}

void Model::MovesOfWaiting(const State& state, int i, const Emit& emit) {
  const Copy& copy = state.copies[i];
  const auto id = static_cast<int8_t>(i);
  const bool named = Names(copy.seen, i, copy), queued = Queues(copy.seen, i, copy);
  if (copy.pc == kWant) {
    if (named || queued) {
      emit({"resume", id}, With(state, i, ToPc(copy, kWait)), "");
    } else if (Current(state, copy)) {
      EmitWrite(state, i, "write", 0, emit);
    }
    return;
  }
  if (named) {
    emit({"told granted", id}, With(state, i, ToPc(copy, kHold)), "");
    return;
  }
  emit({"give up", id, -1, true}, With(state, i, ToPc(copy, kCancel)), "");
  if (queued) {
    MovesOfActing(state, i, emit);
  } else {
    emit({"queue again", id}, With(state, i, ToPc(copy, kWant)), "");
  }
}

void Model::MovesOfActing(const State& state, int i, const Emit& emit) {
  const Act act = ToDo(state, i);
  for (int p = 0; p < world_.copies; ++p) {
    State after = state;
    if ((act.evict >> p) & 1) {
      after.copies[p].mark = kEnded;
      emit({"evict", static_cast<int8_t>(i), static_cast<int8_t>(p)}, after, "");
    } else if ((act.create >> p) & 1) {
      after.copies[p].mark = kBroken;
      emit({"create as broken", static_cast<int8_t>(i), static_cast<int8_t>(p)}, after, "");
    }
  }
  const bool writes = state.copies[i].pc == kWait && act.take_out != 0 && Current(state, state.copies[i]);
  if (writes) EmitWrite(state, i, "take out", act.take_out, emit);
}

// A try takes the lock, with ended sessions out of the way, or gives up; nothing of it stays in the record.
void Model::MovesOfTry(const State& state, int i, const Emit& emit) {
  const Copy& copy = state.copies[i];
  const auto id = static_cast<int8_t>(i);
  const Act act = ToDo(state, i);
  MovesOfActing(state, i, emit);
  const bool absent_now = Absent(copy.seen);
  std::optional<uint32_t> made;
  if (!absent_now || Current(state, copy)) made = Write(state, i, act.take_out, 0);
  if (made.has_value() && Names(*made, i, copy)) {
    if (Current(state, copy)) EmitWrite(state, i, "write", act.take_out, emit);
  } else {
    emit({"busy", id}, With(state, i, NextRound(copy)), "");
  }
}

// A write of unknown outcome: one's own number in a record that was read later settles it, and so does any other
// revision; while the revision is the same only a write with a known outcome does.
void Model::MovesOfUnknown(const State& state, int i, const Emit& emit) {
  const Copy& copy = state.copies[i];
  const auto id = static_cast<int8_t>(i);
  const Version& seen = versions_[copy.seen];
  const std::string nonce = std::to_string(i) + "." + std::to_string(copy.unknown);
  if (seen.record.has_value() && seen.record->nonce == nonce) {
    emit({"settled: applied", id}, With(state, i, Succeeded(i, copy, copy.seen)), "");
  } else if (seen.revision != copy.expected) {
    Copy settled = copy;
    settled.unknown = 0;
    settled.expected = 0;
    emit({"settled: another revision", id}, With(state, i, settled), "");
  } else if (Current(state, copy)) {
    EmitWrite(state, i, "write again", 0, emit);
  }
  if (world_.bugs.no_settling) {
    Copy forgets = copy;
    forgets.unknown = 0;
    forgets.expected = 0;
    emit({"forgets", id}, With(state, i, forgets), "");
  }
  // The caller's time is up; what is unsettled stays with the copy.
  if (copy.pc == kWant || copy.pc == kRelease || copy.pc == kCancel) {
    emit({"abandon", id, -1, true}, With(state, i, NextRound(copy)), "");
  }
}

void Model::EmitWrite(const State& state, int i, const char* name, uint32_t take_out, const Emit& emit) {
  const auto id = static_cast<int8_t>(i);
  const std::optional<uint32_t> made = Write(state, i, take_out, 0);
  if (!made.has_value()) return;
  State after = state;
  const std::string violation = SetRecord(after, *made);
  after.copies[i] = Succeeded(i, after.copies[i], *made);
  emit({name, id}, after, violation);
  if (state.lost_replies == 0 || state.copies[i].unknown != 0) return;
  // The reply is lost: the write was applied, or is still on its way.
  const std::optional<uint32_t> marked = Write(state, i, take_out, state.lost_replies);
  State lost = state;
  --lost.lost_replies;
  lost.copies[i].unknown = state.lost_replies;
  lost.copies[i].expected = static_cast<uint8_t>(versions_[state.copies[i].seen].revision);
  State applied = lost;
  const std::string second = SetRecord(applied, *marked);
  emit({"write, reply lost", id, -1, true}, applied, second);
  lost.copies[i].sent = *marked;
  lost.copies[i].sent_create = Absent(state.record) ? 1 : 0;
  emit({"write delayed", id, -1, true}, lost, "");
}

}  // namespace model
