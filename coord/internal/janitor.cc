#include "coord/internal/janitor.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coord/internal/grant_engine.h"
#include "coord/internal/records.h"
#include "coord/internal/session.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

constexpr absl::Duration kDeadEpochKeep = absl::Minutes(10);

// "<plugin>/<kind>/<epoch>/..." of the kinds whose keys carry an epoch; empty for others.
std::string_view EpochOf(std::string_view key, size_t plugin, std::string_view& kind) {
  const size_t begin = plugin + 1;
  const size_t kind_end = key.find('/', begin);
  if (kind_end == std::string_view::npos) return {};
  kind = key.substr(begin, kind_end - begin);
  if (kind != "session" && kind != "mutex" && kind != "election" && kind != "semaphore" && kind != "shared_mutex") {
    return {};
  }
  const size_t epoch_end = key.find('/', kind_end + 1);
  if (epoch_end == std::string_view::npos) return {};
  return key.substr(kind_end + 1, epoch_end - kind_end - 1);
}

}  // namespace

Janitor::Janitor(Core* core) : core_(core), wake_(core->runtime->NewCondition()) {}

Janitor::~Janitor() = default;

void Janitor::Start() {
  {
    MutexLock lock(mu_);
    done_ = false;
  }
  // By then whoever was dead at Join has been silent for long enough to be known as such.
  next_sweep_ = core_->runtime->Now() + 2 * core_->options.ttl;
  thread_ = core_->runtime->StartThread("coord-janitor", [this, core = core_->shared_from_this()] { Run(); });
}

void Janitor::Stop(absl::Time until) {
  if (thread_ == nullptr) return;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    wake_->NotifyAll();
    while (!done_ && core_->runtime->Now() < until) wake_->Wait(mu_, until);
    if (!done_) thread_->Detach();
  }
  thread_ = nullptr;
}

void Janitor::Run() {
  MutexLock lock(mu_);
  while (!stopping_) {
    const absl::Duration beat = core_->options.ttl / 3;
    wake_->Wait(mu_, core_->runtime->Now() + beat);
    if (stopping_) break;
    mu_.Unlock();
    core_->hints->Connect();  // the transport may not have been there before
    if (core_->session->State() == SessionState::kAttached) {
      if (core_->runtime->Now() >= next_sweep_) {
        Sweep();
        ending_ = true;
        // Copies that started together do not sweep together.
        const double share = 0.75 + static_cast<double>(core_->runtime->Random() % 1024) / 2048.0;
        next_sweep_ = core_->runtime->Now() + kSweepInterval * share;
      }
      if (ending_) ending_ = EndSilentSessions();
      CollectIdle();
      RemoveSome();
    }
    mu_.Lock();
  }
  done_ = true;
  wake_->NotifyAll();
}

// False once there are none left.
bool Janitor::EndSilentSessions() {
  const std::shared_ptr<const Attachment> attachment = core_->session->Current();
  if (attachment == nullptr) return true;
  const auto silent_ones = core_->session->table().AllSilent(core_->runtime->Now(), kDeletesPerBeat);
  for (const auto& [session, sight] : silent_ones) {
    if (session == attachment->life->id) continue;
    SessionRecord ended = sight.record;
    ended.mark = SessionMark::kEnded;
    ended.nonce = core_->Nonce();
    const kv::WriteResult result =
        core_->store->Update(core_->session->KeyOf(attachment->epoch, session), Format(ended), sight.revision,
                             core_->CallDeadline(core_->runtime->Now() + core_->options.ttl));
    if (result.ok()) {
      core_->counters.evictions.fetch_add(1, std::memory_order_relaxed);
      core_->session->table().Observe(session, {"", result.revision, std::nullopt}, ended, core_->runtime->Now());
    } else {
      core_->session->table().Forget(session);
    }
  }
  return !silent_ones.empty();
}

// Looks through everything of this plugin for what may go one day.
void Janitor::Sweep() {
  if (!core_->store->traits().list) return;
  absl::StatusOr<std::vector<kv::KeyedEntry>> entries = core_->store->List(
      core_->options.plugin + "/", core_->CallDeadline(core_->runtime->Now() + core_->options.call_timeout));
  if (!entries.ok()) return;
  const absl::Time now = core_->runtime->Now();
  std::unordered_map<std::string, Leftover> before = std::exchange(leftovers_, {});
  epoch_ = core_->EpochId();
  for (const kv::KeyedEntry& entry : *entries) {
    if (leftovers_.size() >= kMaxRemembered) break;
    Consider(entry, now);
    auto found = leftovers_.find(entry.key);
    auto old = before.find(entry.key);
    if (found == leftovers_.end() || old == before.end() || old->second.revision != found->second.revision) continue;
    found->second.first_seen = std::min(found->second.first_seen, old->second.first_seen);
  }
}

void Janitor::Consider(const kv::KeyedEntry& entry, absl::Time now) {
  const std::shared_ptr<const Attachment> attachment = core_->session->Current();
  std::string_view kind;
  const std::string_view epoch = EpochOf(entry.key, core_->options.plugin.size(), kind);
  if (epoch.empty() || attachment == nullptr) return;
  absl::Duration keep;
  const bool dead_epoch = epoch != attachment->epoch;
  if (dead_epoch) {
    keep = std::max(kDeadEpochKeep, core_->options.max_ttl * 2);
  } else if (kind == "session") {
    absl::StatusOr<SessionRecord> record = ParseSessionRecord(entry.entry.value, "session record");
    if (!record.ok()) return;
    if (record->mark != SessionMark::kEnded) {
      core_->session->table().Observe(std::string_view(entry.key).substr(entry.key.rfind('/') + 1), entry.entry,
                                      *record, now);
      return;
    }
    keep = kKeepEnded;
  } else if (kind == "semaphore") {
    return;  // the record is where the number of permits is kept
  } else {
    absl::StatusOr<GrantRecord> record = ParseGrantRecord(entry.entry.value, "lock record");
    if (!record.ok() || !record->owners.empty() || !record->queue.empty()) return;
    keep = core_->options.idle_record_ttl;
  }
  leftovers_[entry.key] = {entry.entry.revision, now - entry.entry.age.value_or(absl::ZeroDuration()), keep,
                           dead_epoch};
}

// False: the store does not answer; the record is to be tried again.
bool Janitor::Delete(const std::string& key, kv::Revision revision) {
  const kv::WriteResult result =
      core_->store->Delete(key, revision, core_->CallDeadline(core_->runtime->Now() + core_->options.ttl));
  return !absl::IsUnavailable(result.status) && !absl::IsDeadlineExceeded(result.status);
}

bool Janitor::Stopping() {
  MutexLock lock(mu_);
  return stopping_;
}

// Names that this copy has no use for are forgotten in any case; their records go where that is safe.
void Janitor::CollectIdle() {
  for (auto& idle : core_->grants->TakeIdle(core_->runtime->Now() - core_->options.idle_record_ttl)) {
    if (idle_.size() < kMaxRemembered) idle_.push_back(std::move(idle));
  }
}

// Reads the epoch record: what looks dead to a copy that lags may be what the others live in.
bool Janitor::EpochIsStill(const std::string& epoch) {
  absl::StatusOr<kv::Entry> entry = core_->store->Get(core_->options.plugin + "/epoch",
                                                      core_->CallDeadline(core_->runtime->Now() + core_->options.ttl));
  if (!entry.ok()) return false;
  absl::StatusOr<EpochRecord> record = ParseEpochRecord(entry->value, "epoch record");
  return record.ok() && record->id == epoch;
}

// Names that this copy has used itself first.
void Janitor::RemoveSome() {
  if (!core_->store->traits().monotonic_revisions) {  // without the record a fence would begin anew
    idle_.clear();
    return;
  }
  const size_t share = (idle_.size() + leftovers_.size()) / 16;
  const int most = std::clamp(static_cast<int>(share), kDeletesPerBeat, kMaxDeletesPerBeat);
  const absl::Time until = core_->runtime->Now() + core_->options.ttl / 6;
  int removed = 0;
  const auto more = [&] { return removed < most && core_->runtime->Now() < until && !Stopping(); };
  for (; !idle_.empty() && more(); ++removed) {
    if (!Delete(idle_.front().first, idle_.front().second)) return;
    idle_.pop_front();
  }
  if (epoch_ != core_->EpochId()) leftovers_.clear();
  const absl::Time now = core_->runtime->Now();
  std::optional<bool> same_epoch;  // asked once, and only if it matters
  for (auto it = leftovers_.begin(); it != leftovers_.end() && more();) {
    if (now < it->second.first_seen + it->second.keep) {
      ++it;
      continue;
    }
    if (it->second.dead_epoch && !same_epoch) same_epoch = EpochIsStill(epoch_);
    if (it->second.dead_epoch && !*same_epoch) return;
    if (!Delete(it->first, it->second.revision)) return;
    ++removed;
    it = leftovers_.erase(it);
  }
}

}  // namespace coord::internal
