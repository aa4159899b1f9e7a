// An AtomicValue that all copies read, set, compare and set, update and delete. The whole history must be linearizable;
// where reads may lag, that of the writes.

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/grants.h"
#include "tests/sim/linearizability.h"
#include "tests/sim/workloads.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

using Op = RegisterModel::Op;

// One value's operations, as they were called and as they ended. A process that is killed leaves its own unknown.
class ValueHistory {
 public:
  size_t Invoke(int process) {
    operations_.push_back({{process, ++clock_, std::nullopt}, Op(), false});
    return operations_.size() - 1;
  }
  // What it would be if it took effect.
  void Is(size_t id, Op op) {
    operations_[id].op = std::move(op);
    operations_[id].counts = true;
  }
  void Completed(size_t id) { operations_[id].interval.completed = ++clock_; }
  // Certainly without effect, and nothing is known from it.
  void Drop(size_t id) { operations_[id].counts = false; }

  std::vector<Operation<Op>> Finish() const {
    std::vector<Operation<Op>> history;
    for (const auto& entry : operations_) {
      if (entry.counts) history.push_back({entry.interval, entry.op});
    }
    return history;
  }

 private:
  struct Entry {
    Interval interval;
    Op op;
    bool counts = false;
  };
  int64_t clock_ = 0;
  std::vector<Entry> operations_;
};

class ValueWorker : public Worker {
 public:
  ValueWorker(Copy& copy, int thread, ValueHistory& history)
      : copy_(copy),
        process_(copy.number() * 100 + copy.life() * 10 + thread),
        dice_(copy.NewDice(absl::StrCat("value", thread))),
        value_(copy.cluster().AtomicValue("v")),
        history_(history) {}

  bool Step() override {
    ++copy_.world().report.operations;
    const absl::Duration ttl = copy_.world().config.ttl;
    const absl::Time deadline = copy_.In(dice_.Chance(80) ? ttl : dice_.Upto(ttl / 2));
    switch (dice_.Below(8)) {
      case 0:
      case 1:
        return Get(deadline);
      case 2:
        return Set(deadline);
      case 3:
      case 4:
        return CompareAndSet(deadline);
      case 5:
        return dice_.Chance(30) ? Delete(deadline) : Get(deadline);
      default:
        return Update(deadline);
    }
  }

 private:
  std::string Fresh() { return absl::StrCat(process_, ".", ++values_); }
  bool ReadsCount() const { return copy_.world().config.model != Model::kFollowerReads; }

  bool Get(absl::Time deadline) {
    const size_t id = history_.Invoke(process_);
    absl::StatusOr<coord::Versioned> got = value_.Get(deadline);
    Tell("Get", got.ok() ? got->value : "", got.status());
    if (!got.ok() && !absl::IsNotFound(got.status())) return Failed(id, "Get", got.status());
    last_ = got.ok() ? std::optional<coord::Versioned>(*got) : std::nullopt;
    if (ReadsCount()) {
      history_.Is(id, Op::Read(got.ok() ? std::optional<std::string>(got->value) : std::nullopt));
      history_.Completed(id);
    }
    return true;
  }

  bool Set(absl::Time deadline) {
    const std::string value = Fresh();
    const size_t id = history_.Invoke(process_);
    history_.Is(id, Op::Write(value));
    return Wrote(id, "Set", value, value_.Set(value, deadline));
  }

  bool CompareAndSet(absl::Time deadline) {
    const std::string value = Fresh();
    const auto expected = last_ ? std::optional<std::string>(last_->value) : std::nullopt;
    const size_t id = history_.Invoke(process_);
    history_.Is(id, Op::CompareAndSet(expected, value, std::nullopt));
    const auto written = value_.CompareAndSet(last_ ? last_->revision : coord::Revision(), value, deadline);
    if (absl::IsAborted(written.status()) || absl::IsAlreadyExists(written.status())) {
      Tell("CompareAndSet", value, written.status());
      history_.Drop(id);
      last_ = std::nullopt;
      return true;
    }
    if (written.ok()) history_.Is(id, Op::CompareAndSet(expected, value, true));
    return Wrote(id, "CompareAndSet", value, written);
  }

  bool Update(absl::Time deadline) {
    const size_t id = history_.Invoke(process_);
    std::optional<std::string> before;
    std::string value;
    const auto updated = value_.Update(
        [&](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
          before = now;
          value = Fresh();
          history_.Is(id, Op::CompareAndSet(before, value, std::nullopt));
          return value;
        },
        deadline);
    if (updated.ok()) history_.Is(id, Op::CompareAndSet(before, value, true));
    return Wrote(id, "Update", value,
                 updated.ok() ? absl::StatusOr<coord::Revision>(updated->revision) : updated.status());
  }

  bool Delete(absl::Time deadline) {
    if (!last_) return Get(deadline);
    const std::string expected = last_->value;
    const size_t id = history_.Invoke(process_);
    history_.Is(id, Op::CompareAndSet(expected, std::nullopt, std::nullopt));
    const absl::Status deleted = value_.Delete(last_->revision, deadline);
    last_ = std::nullopt;
    Tell("Delete", expected, deleted);
    if (deleted.ok()) {
      history_.Is(id, Op::CompareAndSet(expected, std::nullopt, true));
      history_.Completed(id);
      return true;
    }
    if (absl::IsAborted(deleted) || absl::IsNotFound(deleted)) {
      history_.Drop(id);
      return true;
    }
    return Failed(id, "Delete", deleted);
  }

  bool Wrote(size_t id, const char* what, const std::string& value, const absl::StatusOr<coord::Revision>& written) {
    Tell(what, value, written.status());
    if (!written.ok()) {
      last_ = std::nullopt;
      return Failed(id, what, written.status());
    }
    history_.Completed(id);
    last_ = coord::Versioned{value, *written};
    return true;
  }

  // Unavailable: not applied. Else the outcome is unknown, and it stays open.
  bool Failed(size_t id, const char* what, const absl::Status& status) {
    if (absl::IsUnavailable(status) || absl::IsResourceExhausted(status)) history_.Drop(id);
    CheckFailure(copy_, what, status);
    return false;
  }

  void Tell(const char* what, const std::string& value, const absl::Status& status) {
    copy_.world().timeline.Tell(copy_.number(), what, static_cast<uint64_t>(status.code()),
                                [&] { return absl::StrCat(what, " ", value, ": ", status.ToString()); });
  }

  Copy& copy_;
  const int process_;
  Dice dice_;
  coord::AtomicValue value_;
  ValueHistory& history_;
  std::optional<coord::Versioned> last_;
  int values_ = 0;
};

class ValueWorkload : public Workload {
 public:
  explicit ValueWorkload(World& world) : world_(world) {}

  std::unique_ptr<Worker> Start(Copy& copy, int thread) override {
    return std::make_unique<ValueWorker>(copy, thread, history_);
  }

  void Finish() override {
    if (!world_.config.keeps()) return;
    const Linearization found = CheckLinearizable(RegisterModel(), history_.Finish(), 200'000);
    if (found.verdict == Verdict::kGaveUp) ++world_.report.gave_up;
    if (found.verdict == Verdict::kNotLinearizable) world_.report.Violation("linearizability", found.text);
  }

 private:
  World& world_;
  ValueHistory history_;
};

}  // namespace

std::unique_ptr<Workload> MakeValue(World& world) { return std::make_unique<ValueWorkload>(world); }

}  // namespace sim
