// NatsReads::List: the names of the subjects first, then a read of each.

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_reads.h"

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

// Reads that are under way at a time.
constexpr size_t kWindow = 64;

// A server names at most 100,000 subjects at a time. Pages overlap by so many: with none in common, so much was removed
// in between that subjects may have slipped from the one page to the other unseen.
constexpr uint64_t kOverlap = 1000;
constexpr int kMaxListings = 5;

bool HasPrefix(std::string_view key, std::string_view prefix) { return key.substr(0, prefix.size()) == prefix; }

// The answers to many reads. Shared with the callbacks.
class Pipeline {
 public:
  using Answer = absl::StatusOr<NatsMessage>;

  explicit Pipeline(size_t reads) {
    answers_.reserve(reads);
    for (size_t i = 0; i < reads; ++i) answers_.emplace_back(absl::UnknownError("not read"));
  }

  // Waits until another read may begin. False: one has failed, and so has the whole.
  bool Begin() {
    MutexLock lock(mutex_);
    while (under_way_ >= kWindow) changed_.Wait(mutex_);
    if (!failed_) ++under_way_;
    return !failed_;
  }
  void Done(size_t read, Answer answer) {
    MutexLock lock(mutex_);
    failed_ = failed_ || !answer.ok();
    answers_[read] = std::move(answer);
    --under_way_;
    changed_.NotifyAll();
  }
  // Those that were begun have ended, which their deadlines see to.
  std::vector<Answer> Take() {
    MutexLock lock(mutex_);
    while (under_way_ > 0) changed_.Wait(mutex_);
    return std::move(answers_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  size_t under_way_ KV_GUARDED_BY(mutex_) = 0;
  bool failed_ KV_GUARDED_BY(mutex_) = false;
  std::vector<Answer> answers_ KV_GUARDED_BY(mutex_);
};

// A stream that has gone is made again by the next call.
absl::Status NotNow(const absl::Status& status) {
  return absl::IsNotFound(status) ? absl::UnavailableError(std::string(status.message())) : status;
}

}  // namespace

absl::StatusOr<std::vector<KeyedEntry>> NatsReads::List(std::string_view prefix, SteadyTime deadline) {
  const absl::StatusOr<NatsGate::Pass> pass = gate_.Enter(deadline);
  if (!pass.ok()) return pass.status();
  absl::StatusOr<std::vector<std::string>> keys = Keys(prefix, deadline);
  if (!keys.ok()) return NotNow(keys.status());
  const auto pipeline = std::make_shared<Pipeline>(keys->size());
  for (size_t i = 0; i < keys->size() && pipeline->Begin(); ++i) {
    const absl::Status sent = connection_->RequestAsync(
        bucket_.Api("MSG.GET"), LastOnSubjectRequest(bucket_.Subject((*keys)[i])), {}, WallTime(deadline),
        [pipeline, i](Pipeline::Answer answer) { pipeline->Done(i, std::move(answer)); });
    if (!sent.ok()) pipeline->Done(i, sent);
  }
  std::vector<Pipeline::Answer> answers = pipeline->Take();
  std::vector<KeyedEntry> entries;
  for (size_t i = 0; i < answers.size(); ++i) {
    if (absl::IsUnknown(answers[i].status())) continue;  // not begun, since another one failed
    absl::StatusOr<NatsPresent> present = Understand((*keys)[i], *pass, answers[i]);
    if (!present.ok()) return NotNow(present.status());
    if (present->entry.has_value()) entries.push_back({std::move((*keys)[i]), *std::move(present->entry)});
  }
  if (const absl::Status same = gate_.Confirm(*pass, 0, deadline); !same.ok()) {
    return absl::UnavailableError(std::string(same.message()));
  }
  return entries;
}

// Sorted. Deleted ones whose marker stands are among them.
absl::StatusOr<std::vector<std::string>> NatsReads::Keys(std::string_view prefix, SteadyTime deadline) {
  absl::StatusOr<std::set<std::string>> subjects = Subjects(bucket_.Filter(prefix), deadline);
  if (!subjects.ok()) return subjects.status();
  std::vector<std::string> keys;
  for (const std::string& subject : *subjects) {
    std::optional<std::string> key = bucket_.KeyOf(subject);
    if (key.has_value() && HasPrefix(*key, prefix)) keys.push_back(*std::move(key));
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

absl::StatusOr<std::set<std::string>> NatsReads::Subjects(const std::string& filter, SteadyTime deadline) {
  for (int listing = 1; listing <= kMaxListings; ++listing) {
    std::set<std::string> subjects;
    uint64_t next = 0;
    bool whole = true;
    while (whole) {
      absl::StatusOr<NatsStreamInfo> page = Page(filter, next, deadline);
      if (!page.ok()) return page.status();
      const size_t before = subjects.size();
      const size_t found = page->subjects.size();
      subjects.insert(page->subjects.begin(), page->subjects.end());
      whole = next == 0 || found == 0 || subjects.size() < before + found;
      next += found;
      if (found == 0 || next >= page->total_subjects) break;
      next -= std::min(kOverlap, next - 1);
    }
    if (whole) return subjects;
  }
  return absl::UnavailableError("nats: list: entries are removed faster than they can be listed");
}

absl::StatusOr<NatsStreamInfo> NatsReads::Page(const std::string& filter, uint64_t offset, SteadyTime deadline) {
  absl::StatusOr<NatsMessage> answer = Ask("INFO", SubjectsRequest(filter, offset), "list", deadline);
  if (!answer.ok()) return answer.status();
  absl::StatusOr<NatsStreamInfo> info = ParseStreamInfo(answer->data());
  if (info.ok() && info->error.has_value()) return Failed(ToStatus(*info->error, "list"));
  return info;
}

}  // namespace kv::internal
