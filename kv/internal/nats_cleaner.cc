#include "kv/internal/nats_cleaner.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/internal/mutex.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

constexpr auto kStepLimit = std::chrono::milliseconds(1000);
// A removal goes by the sequence alone, which in a bucket that was made anew, without the connection being lost, is
// that of another message. So the stream has been looked at so shortly before that it cannot have come to that
// sequence.
constexpr auto kLookPeriod = std::chrono::milliseconds(50);
constexpr absl::Duration kRequestTime = absl::Seconds(5);
constexpr auto kRetryPause = std::chrono::milliseconds(500);
constexpr auto kMinSweepPeriod = std::chrono::milliseconds(200);
constexpr size_t kSweepBatch = 1024;

}  // namespace

struct NatsCleaner::Shared {
  struct Result {
    Job job;
    absl::StatusOr<NatsMessage> answer;
  };

  void Done(const Job& job, absl::StatusOr<NatsMessage> answer) {
    MutexLock lock(mutex);
    --under_way;
    if (closed) return;
    results.push_back({job, std::move(answer)});
    wake();  // under the lock, since it is valid only while this is not closed
  }

  Mutex mutex;
  bool closed KV_GUARDED_BY(mutex) = false;
  size_t under_way KV_GUARDED_BY(mutex) = 0;
  std::deque<Result> results KV_GUARDED_BY(mutex);
  std::deque<Job> burials KV_GUARDED_BY(mutex);
  std::function<void()> wake;
};

NatsCleaner::NatsCleaner(std::shared_ptr<NatsConnection> connection, const NatsBucket* bucket, NatsGate* gate,
                         NatsDeletes* deletes, const NatsMirror* mirror, std::function<void()> wake)
    : connection_(std::move(connection)),
      bucket_(*bucket),
      gate_(*gate),
      deletes_(*deletes),
      mirror_(*mirror),
      shared_(std::make_shared<Shared>()),
      sweep_at_(NextSweep(steady_clock::now())) {
  shared_->wake = std::move(wake);
}

NatsCleaner::~NatsCleaner() {
  MutexLock lock(shared_->mutex);
  shared_->closed = true;
}

void NatsCleaner::Bury(const std::string& key, Revision revision) {
  if (!MayPublish()) return;
  MutexLock lock(shared_->mutex);
  if (shared_->closed || shared_->burials.size() >= kMaxBurials) return;
  shared_->burials.push_back({Job::Kind::kBury, {key, revision}, gate_.incarnation()});
  shared_->wake();
}

SteadyTime NatsCleaner::Step() {
  SteadyTime now = steady_clock::now();
  std::deque<Shared::Result> results;
  {
    MutexLock lock(shared_->mutex);
    results.swap(shared_->results);
    for (Job& job : shared_->burials) jobs_.push_back(std::move(job));
    shared_->burials.clear();
  }
  for (const Shared::Result& result : results) Finish(result.job, result.answer, now);
  Take(now);
  if (!jobs_.empty()) {
    const absl::StatusOr<NatsGate::Pass> pass = gate_.Enter(now + kStepLimit);
    if (!pass.ok()) return steady_clock::now() + kRetryPause;
    if (now > looked_at_ + kLookPeriod) {
      if (!gate_.Check(*pass, now + kStepLimit).ok()) return steady_clock::now() + kRetryPause;
      looked_at_ = now = steady_clock::now();
    }
    while (!jobs_.empty()) {
      {
        MutexLock lock(shared_->mutex);
        if (shared_->under_way >= kWindow) return sweep_at_;  // the next answer wakes us
      }
      // A sequence of another incarnation is somebody else's message.
      if (connection_->generation() != pass->generation) return now;
      const Job job = std::move(jobs_.front());
      jobs_.pop_front();
      if (job.incarnation != gate_.incarnation()) continue;
      if (!Send(job).ok()) Finish(job, absl::UnavailableError(""), now);
      if (jobs_.empty()) Take(now);
    }
  }
  if (now >= sweep_at_) sweep_at_ = Sweep(now);
  return std::min(sweep_at_, deletes_.NextDue().value_or(SteadyTime::max()));
}

void NatsCleaner::Take(SteadyTime now) {
  if (!jobs_.empty()) return;
  const uint64_t incarnation = gate_.incarnation();
  for (NatsDeletes::Marker& marker : deletes_.TakeDue(now, kWindow)) {
    jobs_.push_back({Covers() ? Job::Kind::kCover : Job::Kind::kRemove, std::move(marker), incarnation});
  }
}

// A marker is not written over where a server may compare too early, as NatsWrites says.
bool NatsCleaner::MayPublish() const {
  const std::vector<std::string> versions = connection_->server_versions();
  return !bucket_.replicated() || std::all_of(versions.begin(), versions.end(), ComparesWhenApplied);
}

bool NatsCleaner::Covers() const {
  const std::vector<std::string> versions = connection_->server_versions();
  const auto forgets = [](const std::string& version) { return version.empty() || NatsMinorVersion(version) >= 210; };
  return bucket_.options().file_storage && std::any_of(versions.begin(), versions.end(), forgets) && MayPublish();
}

absl::Status NatsCleaner::Send(const Job& job) {
  std::string subject = bucket_.Api("MSG.DELETE");
  std::string body;
  NatsHeaders headers;
  if (job.kind == Job::Kind::kRemove) {
    body = DeleteMessageRequest(job.marker.revision);
  } else {
    subject = bucket_.Subject(job.marker.key);
    headers.emplace_back(kExpectedSequence, absl::StrCat(job.marker.revision));
    headers.emplace_back(kOperation, kOperationDelete);
  }
  {
    MutexLock lock(shared_->mutex);
    ++shared_->under_way;
  }
  const absl::Status sent = connection_->RequestAsync(
      subject, body, headers, absl::Now() + kRequestTime,
      [shared = shared_, job](absl::StatusOr<NatsMessage> answer) { shared->Done(job, std::move(answer)); });
  if (!sent.ok()) {
    MutexLock lock(shared_->mutex);
    --shared_->under_way;
  }
  return sent;
}

void NatsCleaner::Finish(const Job& job, const absl::StatusOr<NatsMessage>& answer, SteadyTime now) {
  if (job.incarnation != gate_.incarnation()) return;
  if (!answer.ok()) {
    // A burial is repeated when the entry is seen again. A removal that was carried out finds nothing the next time.
    if (job.kind != Job::Kind::kBury) deletes_.GiveBack(job.incarnation, job.marker, now + kRetryPause);
    return;
  }
  if (job.kind == Job::Kind::kRemove) {
    const absl::StatusOr<NatsDone> done = ParseDone(answer->data());
    const bool later = done.ok() && done->error.has_value() && absl::IsUnavailable(ToStatus(*done->error, "remove"));
    if (later) deletes_.GiveBack(job.incarnation, job.marker, now + kRetryPause);
    if (!later) deletes_.Removed(job.incarnation, job.marker);
    return;
  }
  const absl::StatusOr<NatsPublished> published = ParsePublished(answer->data());
  if (published.ok()) FinishCover(job, *published, now);
}

void NatsCleaner::FinishCover(const Job& job, const NatsPublished& published, SteadyTime now) {
  // The key has been written again, or the marker has gone.
  if (published.error.has_value() && published.error->err_code == kErrWrongSequence) return;
  if (published.error.has_value()) {
    if (job.kind == Job::Kind::kCover) deletes_.GiveBack(job.incarnation, job.marker, now + kRetryPause);
    return;
  }
  if (job.kind == Job::Kind::kBury) {
    gate_.Saw(job.incarnation, published.sequence);
    deletes_.Deleted(job.incarnation, job.marker.key, published.sequence, /*own=*/true, now);
    return;
  }
  // Nobody need have seen this one: it goes at once, and may never be delivered.
  Job remove = job;
  remove.kind = Job::Kind::kRemove;
  remove.marker.revision = published.sequence;
  jobs_.push_back(std::move(remove));
}

// Others' markers that are still there long after their time. That they are is seen by the number of messages, for a
// removal is not pushed to anybody.
SteadyTime NatsCleaner::Sweep(SteadyTime now) {
  const NatsDeletes::Count deletes = deletes_.Standing(now);
  const std::optional<size_t> entries = mirror_.Size();
  if (deletes.overdue == 0 || !entries.has_value()) return NextSweep(now);
  const absl::StatusOr<NatsStreamInfo> info = LookAtStream(*connection_, bucket_, now + kStepLimit);
  if (!info.ok()) return NextSweep(now);
  if (info->messages <= *entries + deletes.standing - deletes.overdue) {
    deletes_.ForgetOverdue(now);
    return NextSweep(now);
  }
  const uint64_t incarnation = gate_.incarnation();
  for (NatsDeletes::Marker& marker : deletes_.TakeOverdue(now, kSweepBatch)) {
    jobs_.push_back({Covers() ? Job::Kind::kCover : Job::Kind::kRemove, std::move(marker), incarnation});
  }
  shared_->wake();
  return deletes.overdue > kSweepBatch ? now + kMinSweepPeriod : NextSweep(now);
}

// At any time from three to six lingers from now, so that of many copies one comes first and leaves nothing to the
// others.
SteadyTime NatsCleaner::NextSweep(SteadyTime now) {
  const auto linger = absl::ToChronoNanoseconds(bucket_.options().delete_linger);
  const double factor = 3 + 3 * (static_cast<double>(random_() % 1000) / 1000);
  const auto pause = std::chrono::duration_cast<std::chrono::nanoseconds>(linger * factor);
  return now + std::max<std::chrono::nanoseconds>(pause, kMinSweepPeriod);
}

}  // namespace kv::internal
