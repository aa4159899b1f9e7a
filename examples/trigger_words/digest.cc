#include "examples/trigger_words/digest.h"

#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace trigger_words {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(1);
constexpr std::chrono::milliseconds kRetry(100);
// Wake-ups come by callbacks; this bounds the harm if one is missing.
constexpr std::chrono::seconds kLookAnyway(1);

absl::Time CallDeadline() { return absl::Now() + kCallTimeout; }

}  // namespace

Digest::Digest(coord::Cluster* cluster, DigestFile file, Log log, std::shared_ptr<coord::SharedMap> outbox)
    : log_(std::move(log)),
      election_(cluster->Election("digest")),
      cell_(cluster->FencedCell("digest/position")),
      outbox_(std::move(outbox)),
      file_(std::move(file)) {}

absl::StatusOr<std::unique_ptr<Digest>> Digest::Start(coord::Cluster* cluster, DigestFile file, Log log,
                                                      absl::Time deadline) {
  absl::StatusOr<std::shared_ptr<coord::SharedMap>> outbox = cluster->SharedMap("digest/outbox", deadline);
  if (!outbox.ok()) return outbox.status();
  std::unique_ptr<Digest> digest(new Digest(cluster, std::move(file), std::move(log), *std::move(outbox)));
  Digest* const self = digest.get();
  self->arrivals_ =
      self->outbox_->OnChange([self](const std::string&, const std::optional<coord::Versioned>&) { self->Wake(); });
  coord::CandidateOptions options;
  options.on_elected = [self](std::shared_ptr<const coord::Grant>) { self->Wake(); };
  self->candidate_ = self->election_.Stand(std::move(options));
  self->thread_ = std::thread([self] { self->Run(); });
  return digest;
}

Digest::~Digest() {
  arrivals_ = coord::Subscription();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  candidate_.reset();
}

absl::Status Digest::Submit(const Alert& alert, absl::Time deadline) {
  if (waiting() >= kMaxWaiting) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the digest is ", kMaxWaiting, " alerts behind; try again when it has caught up"));
  }
  return outbox_->Set(alert.id, ToJson(alert), deadline).status();
}

absl::Status Digest::StepDown() { return candidate_->StepDown(); }

void Digest::Wake() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_ = true;
  }
  wake_.notify_all();
}

bool Digest::WaitForWork(bool failed) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (failed) {
    wake_.wait_for(lock, kRetry, [this] { return stop_; });
  } else {
    wake_.wait_for(lock, kLookAnyway, [this] { return stop_ || work_; });
  }
  work_ = false;
  return !stop_;
}

void Digest::Run() {
  std::string said;
  bool failed = false;
  while (WaitForWork(failed)) {
    const absl::Status status = WriteWaiting();
    failed = !status.ok();
    if (!failed) {
      said.clear();
      continue;
    }
    taken_over_ = 0;  // what the cell holds is in doubt
    const std::string line = absl::StrCat("the digest waits: ", status.ToString());
    if (line != said && !absl::IsCancelled(status)) log_(line);
    said = line;
  }
}

absl::Status Digest::WriteWaiting() {
  const std::shared_ptr<const coord::Grant> term = candidate_->Term();
  if (term == nullptr || term->Lost()) return absl::OkStatus();
  if (taken_over_ != term->fence()) {
    if (absl::Status status = TakeOver(*term); !status.ok()) return status;
  }
  const std::shared_ptr<const coord::SharedMap::Snapshot> waiting = outbox_->Get();
  for (const auto& [id, alert] : *waiting) {
    if (absl::Status status = Write(*term, id, alert); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Digest::TakeOver(const coord::Grant& term) {
  if (absl::Status status = file_.Refresh(); !status.ok()) return status;
  const auto claim = [&](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
    DigestRecord record;
    if (now.has_value()) {
      std::optional<DigestRecord> parsed = RecordFromJson(*now);
      if (!parsed.has_value()) {
        return absl::DataLossError(
            "the cell digest/position holds something else than the digest's position; remove it");
      }
      record = *std::move(parsed);
    }
    record.term = term.fence();
    ++record.takeover;
    return ToJson(record);
  };
  absl::StatusOr<coord::Fenced> cell = cell_.Update(term, claim, CallDeadline());
  if (!cell.ok()) return cell.status();
  last_ = RecordFromJson(cell->value).value_or(DigestRecord());
  if (absl::Status status = FinishLast(); !status.ok()) return status;
  taken_over_ = term.fence();
  return absl::OkStatus();
}

absl::Status Digest::FinishLast() {
  // A line of another file: if its alert is still in the outbox it is written here like any other.
  if (last_.alert.empty() || last_.file != file_.id()) return absl::OkStatus();
  if (file_.is_file() || last_written_ != last_.alert) {
    if (absl::Status status = file_.WriteAt(last_.offset, last_.line); !status.ok()) return status;
    last_written_ = last_.alert;
  }
  return outbox_->Remove(last_.alert, CallDeadline());
}

absl::Status Digest::Write(const coord::Grant& term, const std::string& id, const coord::Versioned& waiting) {
  const std::optional<Alert> alert = AlertFromJson(waiting.value);
  if (!alert.has_value()) {
    log_(absl::StrCat("the outbox held something else than an alert under ", id, "; removed"));
    return outbox_->Remove(id, CallDeadline());
  }
  const absl::Status taken = outbox_->CompareAndSet(id, waiting.revision, waiting.value, CallDeadline()).status();
  if (absl::IsAborted(taken) || absl::IsNotFound(taken)) return absl::OkStatus();  // done by an earlier leader
  if (!taken.ok()) return taken;

  if (absl::Status status = file_.Refresh(); !status.ok()) return status;
  absl::StatusOr<int64_t> end = file_.End();
  if (!end.ok()) return end.status();
  DigestRecord record = last_;
  record.file = file_.id();
  record.offset = *end;
  record.line = DigestLine(*alert, term.fence());
  record.alert = id;
  if (absl::Status status = cell_.Set(term, ToJson(record), CallDeadline()).status(); !status.ok()) return status;
  last_ = std::move(record);
  if (absl::Status status = FinishLast(); !status.ok()) return status;
  ++lines_;
  return absl::OkStatus();
}

}  // namespace trigger_words
