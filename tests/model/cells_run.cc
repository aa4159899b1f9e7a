#include "tests/model/cells_run.h"

#include <algorithm>

#include "absl/time/time.h"
#include "coord/cells/fencing.h"
#include "coord/cells/values.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/records.h"

namespace model {

using coord::internal::CellRecord;
using coord::internal::CellState;
using coord::internal::CellStatePtr;
using coord::internal::Core;
using kv::internal::MutexLock;

namespace {

constexpr char kKey[] = "demo/value/cell";

absl::Time Never() { return absl::InfiniteFuture(); }

coord::SimOptions Fifo() {
  coord::SimOptions options;
  options.fifo = true;
  return options;
}

std::shared_ptr<coord::internal::Held> Hold(std::shared_ptr<Core> core, uint64_t fence) {
  auto name = std::make_shared<coord::internal::GrantName>();
  name->kind = "mutex";
  name->name = "guard";
  auto held = std::make_shared<coord::internal::Held>();
  held->session = std::make_shared<coord::internal::SessionLife>();
  held->session->valid_until_ns = absl::ToUnixNanos(core->runtime->Now() + absl::Hours(1000));
  held->core = std::move(core);
  held->name = std::move(name);
  held->fence = fence;
  return held;
}

}  // namespace

// What it gives as random differs in the copies' nonces only, lest a state depend on the way to it.
class CellRun::PlainRuntime : public coord::SimRuntime {
 public:
  PlainRuntime() : SimRuntime(Fifo()) {}
  uint64_t Random() override { return ready ? 0 : ++drawn_; }
  bool ready = false;

 private:
  uint64_t drawn_ = 0;
};

// The store as one copy sees it.
class CellRun::Port : public kv::Store {
 public:
  Port(CellRun* run, int copy) : run_(*run), copy_(copy) { traits_.name = "model"; }

  absl::StatusOr<kv::Entry> Get(std::string_view, absl::Time) override {
    const Worker* worker = run_.Ask(Call(CellCall::kGet, "", 0));
    return worker == nullptr ? absl::UnavailableError("the end") : worker->read;
  }
  kv::WriteResult Create(std::string_view, std::string_view value, absl::Time) override {
    return Write(CellCall::kCreate, value, 0);
  }
  kv::WriteResult Update(std::string_view, std::string_view value, kv::Revision expected, absl::Time) override {
    return Write(CellCall::kUpdate, value, expected);
  }
  kv::WriteResult Delete(std::string_view, kv::Revision expected, absl::Time) override {
    return Write(CellCall::kDelete, "", expected);
  }
  kv::WriteResult Put(std::string_view, std::string_view, absl::Time) override {
    return {absl::UnimplementedError("no cell is written without a condition"), 0, {}};
  }
  absl::StatusOr<std::vector<kv::KeyedEntry>> List(std::string_view, absl::Time) override {
    return absl::UnimplementedError("there is one entry");
  }
  absl::StatusOr<std::unique_ptr<kv::Watch>> WatchPrefix(std::string_view, kv::WatchCallback) override {
    return absl::UnimplementedError("the exploration delivers the pushes");
  }
  const kv::Traits& traits() const override { return traits_; }

 private:
  CellCall Call(CellCall::Kind kind, std::string_view value, kv::Revision expected) {
    return {kind, std::string(value), expected, 0, run_.copies_[static_cast<size_t>(copy_)].incarnation};
  }
  kv::WriteResult Write(CellCall::Kind kind, std::string_view value, kv::Revision expected) {
    const Worker* worker = run_.Ask(Call(kind, value, expected));
    return worker == nullptr ? kv::WriteResult{absl::UnavailableError("the end"), 0, {}} : worker->written;
  }

  CellRun& run_;
  const int copy_;
  kv::Traits traits_;
};

// Whoever looks at what a watching copy shows.
class CellRun::Reader : public coord::internal::CellListener {
 public:
  explicit Reader(CellRun* run) : run_(*run) {}

  void OnCell(const std::string&, const CellStatePtr& now) override {
    present_ = now->record.has_value();
    if (!present_) return;
    nonce_ = now->record->nonce;
    const size_t age = run_.store_.Age(nonce_) + 1;
    if (age < newest_) run_.Blame("a reader went back");
    newest_ = age;
  }

  bool Shows(const std::optional<kv::Entry>& entry) const {
    if (!entry.has_value()) return !present_;
    return present_ && coord::internal::ParseCellRecord(entry->value, "cell").value().nonce == nonce_;
  }

 private:
  CellRun& run_;
  bool present_ = false;
  std::string nonce_;
  size_t newest_ = 0;
};

CellRun::CellRun(const CellWorld& world, Stories* stories)
    : world_(world),
      stories_(*stories),
      runtime_(std::make_unique<PlainRuntime>()),
      store_(world, &ops_),
      copies_(static_cast<size_t>(world.copies)),
      lost_replies_(world.lost_replies),
      late_pushes_(world.late_pushes),
      wipes_(world.wipes),
      answered_(runtime_->NewCondition()) {
  for (int i = 0; i < world.copies; ++i) MakeCopy(i);
  runtime_->ready = true;
  for (const CellThread& thread : world.threads) {
    auto worker = std::make_unique<Worker>();
    worker->copy = thread.copy;
    worker->first_op = ops_.size();
    worker->steps = thread.steps;
    for (const CellStep& step : thread.steps) ops_.push_back({step, 0, "", 0, false, absl::StatusCode::kUnknown});
    workers_.push_back(std::move(worker));
  }
  for (const auto& worker : workers_) {
    worker->thread = runtime_->StartThread("worker", [this, at = worker.get()] { Work(*at); });
  }
  LetThemRun();
}

// Until all wait for the store: longer than any wait between two attempts.
void CellRun::LetThemRun() { runtime_->SleepFor(absl::Milliseconds(200)); }

CellRun::~CellRun() {
  closing_ = true;
  for (Copy& copy : copies_) {
    if (copy.reader != nullptr) copy.cell->ClearListener(copy.reader.get());
    copy.core->closed = true;
    copy.core->cells->Stop(absl::InfiniteFuture());
  }
  answered_->NotifyAll();
  for (const auto& worker : workers_) worker->thread.reset();
  for (Copy& copy : copies_) {
    copy.core->hub->Stop();
    copy.core->callbacks->Stop(absl::InfiniteFuture());
    copy.cell.reset();
    copy.core.reset();
  }
  answered_.reset();
}

void CellRun::MakeCopy(int number) {
  Copy& copy = copies_[static_cast<size_t>(number)];
  coord::JoinOptions options;
  options.store = std::make_shared<Port>(this, number);
  options.plugin = "demo";
  options.instance = "copy";
  options.runtime = runtime_.get();
  options.log = [](coord::LogLevel, std::string_view) {};
  copy.core = std::make_shared<Core>(std::move(options));
  if (world_.bugs.same_nonces) copy.core->nonce_prefix = "same";
  copy.core->SetEpochId(CellStore::EpochName(0));
  copy.core->cells = std::make_shared<coord::internal::CellEngine>(copy.core.get());
  copy.cell = copy.core->cells->FindCell(kKey, "value \"cell\"");
  if (number >= world_.watching) return;
  copy.reader = std::make_unique<Reader>(this);
  copy.cell->SetListener(copy.reader.get());
}

void CellRun::Work(Worker& worker) {
  by_thread_[runtime_->CurrentThread()] = &worker;
  for (size_t i = 0; i < worker.steps.size() && !closing_; ++i) {
    worker.op = worker.first_op + i;
    CellOp& op = ops_[worker.op];
    absl::Status status = Make(worker, op);
    if (world_.bugs.blind_repeat && absl::IsDeadlineExceeded(status)) status = Make(worker, op);
    if (!closing_) End(op, status);
  }
  worker.ended = true;
}

absl::Status CellRun::ReadForOp(Copy& copy, CellOp& op) {
  const auto now = coord::internal::GetValue(*copy.core, *copy.cell, Never());
  if (!now.ok()) return absl::IsNotFound(now.status()) ? absl::OkStatus() : now.status();
  op.read_revision = now->revision.number;
  op.read_epoch = now->revision.epoch;
  return absl::OkStatus();
}

absl::Status CellRun::Make(Worker& worker, CellOp& op) {
  Copy& copy = copies_[static_cast<size_t>(worker.copy)];
  const std::string letter = CellStore::Letter(worker.op);
  const auto append = [&](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
    return now.value_or("") + letter;
  };
  if (op.step.kind == CellStep::kUpdate) {
    return coord::internal::UpdateValue(*copy.core, *copy.cell, append, Never()).status();
  }
  if (op.step.kind == CellStep::kFenced) return MakeFenced(copy, op.step, letter);
  if (absl::Status status = ReadForOp(copy, op); !status.ok()) return status;
  const coord::Revision read =
      op.read_revision == 0 ? coord::Revision() : coord::Revision{op.read_epoch, op.read_revision};
  if (op.step.kind == CellStep::kDelete) return coord::internal::DeleteValue(*copy.core, *copy.cell, read, Never());
  return coord::internal::CompareAndSetValue(*copy.core, *copy.cell, read, letter, Never()).status();
}

absl::Status CellRun::MakeFenced(Copy& copy, const CellStep& step, const std::string& letter) {
  if (!world_.bugs.ignore_fences) {
    return coord::internal::ModifyFenced(
               *copy.core, *copy.cell, Hold(copy.core, step.fence),
               [&](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
                 return now.value_or("") + letter;
               },
               true, Never())
        .status();
  }
  const auto blindly = [&](const std::optional<CellRecord>& now) -> absl::StatusOr<std::optional<CellRecord>> {
    CellRecord next = now.value_or(CellRecord());
    next.fence = step.fence;
    next.value += letter;
    return next;
  };
  return copy.core->cells->Modify(*copy.cell, blindly, Never()).status();
}

void CellRun::End(CellOp& op, const absl::Status& status) {
  op.ended = true;
  op.code = status.code();
  if (status.ok() && op.commits == 0) Blame("acknowledged and not applied");
  const bool unknown = absl::IsDeadlineExceeded(status);
  if (!status.ok() && !unknown && op.commits > 0) Blame("refused and applied");
}

CellRun::Worker* CellRun::Ask(CellCall call) {
  if (closing_) return nullptr;
  Worker& worker = *by_thread_.at(runtime_->CurrentThread());
  call.op = worker.op;
  worker.call = std::move(call);
  worker.answered = false;
  MutexLock lock(mu_);
  while (!worker.answered && !closing_) answered_->Wait(mu_, absl::InfiniteFuture());
  return worker.answered ? &worker : nullptr;
}

void CellRun::CheckEnd() {
  for (const auto& worker : workers_) {
    if (!worker->ended) Blame("a call never ends");
  }
  for (const Copy& copy : copies_) {
    // Where the store begins anew, readers keep what they have until there is something again.
    const bool nothing_new = store_.incarnation() > 0 && !store_.entry().has_value();
    if (copy.reader != nullptr && !nothing_new && !copy.reader->Shows(store_.entry())) Blame("a reader stays behind");
  }
}

}  // namespace model
