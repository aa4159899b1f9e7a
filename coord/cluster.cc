#include "coord/cluster.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coord/internal/cell_engine.h"
#include "coord/internal/core.h"
#include "coord/internal/grant_engine.h"
#include "coord/internal/janitor.h"
#include "coord/internal/revision_guard.h"
#include "coord/internal/session.h"
#include "coord/names.h"

namespace coord {

using internal::Core;
using internal::GrantName;
using kv::internal::MutexLock;

namespace {

absl::Status CheckRange(const char* what, absl::Duration value, absl::Duration least, absl::Duration most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", absl::FormatDuration(value), "; it must be from ",
                                                 absl::FormatDuration(least), " to ", absl::FormatDuration(most)));
}

absl::Status CheckOptions(const JoinOptions& options) {
  if (options.store == nullptr)
    return absl::InvalidArgumentError("JoinOptions::store is missing: open one by kv::Open");
  absl::Status checks[] = {
      CheckPluginId(options.plugin),
      CheckName("instance", options.instance),
      CheckRange("max_ttl", options.max_ttl, absl::Milliseconds(100), absl::Hours(24)),
      CheckRange("ttl", options.ttl, absl::Milliseconds(100), options.max_ttl),
      CheckRange("join_timeout", options.join_timeout, absl::Milliseconds(1), absl::Hours(1)),
      CheckRange("call_timeout", options.call_timeout, absl::Milliseconds(1), absl::Hours(1)),
      CheckRange("leave_timeout", options.leave_timeout, absl::ZeroDuration(), absl::Minutes(1)),
      CheckRange("idle_record_ttl", options.idle_record_ttl, absl::Milliseconds(1), absl::Hours(24 * 365)),
  };
  for (const absl::Status& check : checks) {
    if (!check.ok()) return check;
  }
  return absl::OkStatus();
}

// What the store lacks for the promises of the primitives; empty if nothing. Reads that may lag are no lack: no lock
// rests on a read (docs/decisions/0008-locks-do-not-rest-on-reads.md).
std::vector<std::string> Missing(const kv::Traits& traits) {
  std::vector<std::string> missing;
  if (!traits.monotonic_revisions) missing.push_back("its revisions may begin anew, so that fences may go back");
  if (traits.evicting) missing.push_back("it may drop records by itself, so that a lock may be lost early");
  if (traits.volatile_storage) missing.push_back("it forgets everything when it restarts");
  return missing;
}

absl::Status CheckTraits(Core& core) {
  const std::vector<std::string> missing = Missing(core.store->traits());
  if (missing.empty()) return absl::OkStatus();
  const std::string text = absl::StrCat("the ", core.store->traits().name,
                                        " store cannot carry what locks promise: ", absl::StrJoin(missing, "; "));
  if (!core.options.accept_weaker) {
    return absl::FailedPreconditionError(
        absl::StrCat(text,
                     ". Choose another store, or set accept_weaker (flag --accept-weaker); what each store "
                     "promises is in docs/guarantees.md, and programs print it with --guarantees"));
  }
  core.Log(LogLevel::kWarning, text);
  return absl::OkStatus();
}

// Two live copies under one label may be a mistake.
void WarnOfNamesake(Core& core) {
  if (!core.store->traits().list) return;
  const auto attachment = core.session->Current();
  const std::string prefix = core.session->KeyOf(attachment->epoch, "");
  auto sessions = core.store->List(prefix, core.CallDeadline(absl::InfiniteFuture()));
  if (!sessions.ok()) return;
  for (const kv::KeyedEntry& entry : *sessions) {
    auto record = internal::ParseSessionRecord(entry.entry.value, "session record");
    if (!record.ok() || record->mark == internal::SessionMark::kEnded) continue;
    if (record->instance != core.options.instance || entry.key == prefix + attachment->life->id) continue;
    const bool silent = entry.entry.age.value_or(absl::ZeroDuration()) > record->ttl;
    if (silent) continue;
    core.Log(LogLevel::kWarning, absl::StrCat("another session of plugin ", core.options.plugin, " has the label ",
                                              QuoteName(core.options.instance),
                                              ": a run of this copy that was killed lately, or a second "
                                              "live copy, which then gets the events aimed at this one too"));
    return;
  }
}

std::shared_ptr<const GrantName> MakeName(const char* kind, const char* what, std::string_view name,
                                          uint32_t capacity) {
  auto made = std::make_shared<GrantName>();
  made->kind = kind;
  made->name = std::string(name);
  made->capacity = capacity;
  made->error = CheckName(what, name);
  return made;
}

// Which epoch the cells know. A session that is lost and joined again in the same one changes nothing for them.
class CellsEpoch {
 public:
  void NoteFirst(const std::string& id) {
    MutexLock lock(mu_);
    if (id_.empty()) id_ = id;
  }
  bool Changes(const std::string& id) {
    MutexLock lock(mu_);
    return !id_.empty() && std::exchange(id_, id) != id;
  }

 private:
  kv::internal::Mutex mu_;
  std::string id_ KV_GUARDED_BY(mu_);  // empty: the first, and none has been lost yet
};

// The bus of a Cluster whose store cannot carry events and that was given no other: every call says so.
class NoEvents final : public EventBus {
 public:
  explicit NoEvents(absl::Status why) : why_(std::move(why)) {}
  absl::Status Publish(std::string_view, std::string_view, absl::Time, const PublishOptions&) override { return why_; }
  void PublishAsync(std::string_view, std::string_view, absl::Time, PublishDone done, const PublishOptions&) override {
    if (done) done(why_);
  }
  absl::Status Flush(absl::Time) override { return why_; }
  absl::StatusOr<Subscription> Subscribe(std::string_view, EventHandler, absl::Time, const SubscribeOptions&) override {
    return why_;
  }
  absl::StatusOr<std::vector<Reply>> Ask(std::string_view, std::string_view, absl::Time, size_t,
                                         std::string_view) override {
    return why_;
  }
  absl::StatusOr<Subscription> Answer(std::string_view, AskHandler, absl::Time) override { return why_; }
  size_t max_payload() const override { return 0; }
  void Close(absl::Time) override {}

 private:
  const absl::Status why_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Cluster>> Cluster::Join(JoinOptions options) {
  if (absl::Status checked = CheckOptions(options); !checked.ok()) return checked;
  const bool own_events = options.events == nullptr;
  if (own_events) options.events = StoreEvents();
  auto core = std::make_shared<Core>(std::move(options));
  if (absl::Status checked = CheckTraits(*core); !checked.ok()) return checked;
  Core* const raw = core.get();
  core->grants = std::make_shared<internal::GrantEngine>(raw);
  internal::SessionKeeper::Events events;
  auto epoch = std::make_shared<CellsEpoch>();
  events.on_loss = [raw, epoch](const internal::SessionLife& life) {
    epoch->NoteFirst(raw->EpochId());
    return raw->grants->SessionLost(life);
  };
  events.on_join = [raw, epoch] {
    raw->grants->SessionJoined();
    if (epoch->Changes(raw->EpochId())) raw->cells->EpochChanged();
  };
  events.on_ended = [raw](std::string_view session) { raw->grants->SessionEnded(session); };
  core->session = std::make_shared<internal::SessionKeeper>(raw, std::move(events));
  core->janitor = std::make_shared<internal::Janitor>(raw);
  core->cells = std::make_shared<internal::CellEngine>(raw);
  core->guard->OnRollback([raw](uint64_t resets) { raw->session->OnRollback(resets); });

  const absl::Time until = core->runtime->Now() + core->options.join_timeout;
  absl::Status joined = core->session->Join(until);
  while ((absl::IsUnavailable(joined) || absl::IsDeadlineExceeded(joined)) && core->runtime->Now() < until) {
    internal::Pause(*core->runtime, std::min(until, core->runtime->Now() + absl::Milliseconds(50)));
    absl::Status again = core->session->Join(until);
    // A try that came too late says less than the one before.
    if (!absl::IsDeadlineExceeded(again) || !absl::IsUnavailable(joined)) joined = std::move(again);
  }
  if (!joined.ok()) return joined;
  std::unique_ptr<Cluster> cluster(new Cluster(core));
  core->grants->Start();
  absl::Status watching = core->hub->Start();
  while ((absl::IsUnavailable(watching) || absl::IsDeadlineExceeded(watching)) && core->runtime->Now() < until) {
    internal::Pause(*core->runtime, std::min(until, core->runtime->Now() + absl::Milliseconds(50)));
    watching = core->hub->Start();
  }
  if (!watching.ok()) return watching;
  auto bus = core->options.events->MakeBus(core);
  if (bus.ok()) {
    cluster->events_ = *std::move(bus);
  } else if (own_events && absl::IsFailedPrecondition(bus.status())) {
    cluster->events_ = std::make_unique<NoEvents>(bus.status());
  } else {
    return bus.status();
  }
  core->hints->Connect();
  core->janitor->Start();
  WarnOfNamesake(*core);
  return cluster;
}

Cluster::Cluster(std::shared_ptr<Core> core) : core_(std::move(core)), left_changed_(core_->runtime->NewCondition()) {}

Cluster::~Cluster() {
  const absl::Time deadline = core_->runtime->WallNow() + core_->options.leave_timeout;
  const absl::Status left = Leave(deadline);
  if (!left.ok()) core_->Log(LogLevel::kWarning, std::string(left.message()));
  {
    // Another thread's Leave, a callback's say, may still be at work on this object; it is bounded.
    MutexLock lock(mu_);
    while (!left_) left_changed_->Wait(mu_, absl::InfiniteFuture());
  }
  // Where Leave was called from inside a callback, that callback may still run.
  core_->callbacks->Stop(core_->runtime->Now() + core_->options.leave_timeout);
}

absl::Status Cluster::Leave(absl::Time deadline) {
  Runtime& runtime = *core_->runtime;
  const absl::Time until = std::min(runtime.SteadyDeadline(deadline), runtime.Now() + absl::Hours(1));
  if (!core_->closed.exchange(true)) {
    const absl::Status status = LeaveOnce(until);
    MutexLock lock(mu_);
    left_ = true;
    left_changed_->NotifyAll();
    return status;
  }
  // The first call waits for running callbacks, so that one of those must not wait for it.
  if (core_->callbacks->IsCurrent() || core_->session->OnLossThread()) return absl::OkStatus();
  MutexLock lock(mu_);
  while (!left_ && runtime.Now() < until) left_changed_->Wait(mu_, until);
  return left_ ? absl::OkStatus() : absl::DeadlineExceededError("another call of Leave is still at work");
}

absl::Status Cluster::LeaveOnce(absl::Time until) {
  Runtime& runtime = *core_->runtime;
  // Whatever the grants take, there is time to mark the session ended, which hands over what they left.
  const absl::Duration total = std::max(until - runtime.Now(), absl::ZeroDuration());
  const absl::Time grants_until = until - std::min(total / 2, absl::Milliseconds(500));
  core_->janitor->Stop(grants_until);
  absl::Status status = core_->grants->Close(grants_until);
  if (events_ != nullptr) events_->Close(runtime.WallDeadline(until - total / 8));
  core_->cells->Stop(until - total / 8);
  status.Update(core_->session->Leave(until));
  core_->hints->Stop();
  core_->hub->Stop();
  core_->callbacks->Stop(until);
  return status;
}

Mutex Cluster::Mutex(std::string_view name, MutexOptions options) {
  auto made = std::make_shared<GrantName>();
  made->kind = "mutex";
  made->name = std::string(name);
  made->retain = options.retain;
  made->fence_each = options.fence_each;
  made->error = CheckName("mutex name", name);
  return coord::Mutex(core_, std::move(made));
}

SharedMutex Cluster::SharedMutex(std::string_view name) {
  return coord::SharedMutex(core_, MakeName("shared_mutex", "shared mutex name", name, internal::kUnbounded));
}

Semaphore Cluster::Semaphore(std::string_view name, uint32_t permits) {
  auto made = std::make_shared<GrantName>();
  made->kind = "semaphore";
  made->name = std::string(name);
  made->capacity = permits;
  made->error = CheckName("semaphore name", name);
  if (made->error.ok() && (permits == 0 || permits == internal::kUnbounded)) {
    made->error = absl::InvalidArgumentError("a semaphore has 1 to 4294967294 permits");
  }
  return coord::Semaphore(core_, std::move(made));
}

Election Cluster::Election(std::string_view name) {
  return coord::Election(core_, MakeName("election", "election name", name, 1));
}

AtomicValue Cluster::AtomicValue(std::string_view name) { return coord::AtomicValue(core_, std::string(name)); }

FencedCell Cluster::FencedCell(std::string_view name) { return coord::FencedCell(core_, std::string(name)); }

absl::StatusOr<std::shared_ptr<SharedValue>> Cluster::SharedValue(std::string_view name, absl::Time deadline) {
  return coord::SharedValue::Open(core_, name, deadline);
}

absl::StatusOr<std::shared_ptr<SharedMap>> Cluster::SharedMap(std::string_view name, absl::Time deadline) {
  return coord::SharedMap::Open(core_, name, deadline);
}

EventBus& Cluster::events() { return *events_; }

SessionState Cluster::state() const { return core_->closed ? SessionState::kLost : core_->session->State(); }

std::string Cluster::session() const {
  const auto attachment = core_->session->Current();
  const bool alive = attachment != nullptr && !core_->closed && attachment->life->Valid(core_->runtime->Now());
  return alive ? attachment->life->id : "";
}

const std::string& Cluster::instance() const { return core_->options.instance; }

const std::string& Cluster::plugin() const { return core_->options.plugin; }

Stats Cluster::Stats() const {
  const internal::Counters& from = core_->counters;
  coord::Stats stats;
  stats.state = state();
  stats.session = session();
  stats.connection = core_->store->connection();
  stats.beats = from.beats;
  stats.failed_beats = from.failed_beats;
  stats.sessions = from.sessions;
  stats.sessions_lost = from.sessions_lost;
  stats.grants = from.grants;
  stats.grants_held = core_->grants->held_count();
  stats.grants_lost = from.grants_lost;
  stats.evictions = from.evictions;
  stats.conflicts = from.conflicts;
  stats.unknown_outcomes = from.unknown_outcomes;
  stats.cell_reads = from.cell_reads;
  stats.cell_writes = from.cell_writes;
  stats.cell_conflicts = from.cell_conflicts;
  stats.events_published = from.events_published;
  stats.events_delivered = from.events_delivered;
  stats.event_gaps = from.event_gaps;
  return stats;
}

absl::Status Cluster::Break(std::string_view session, absl::Time deadline) {
  if (absl::Status open = core_->CheckOpen(); !open.ok()) return open;
  if (absl::Status named = CheckName("session id", session); !named.ok()) return named;
  return core_->session->Break(session, core_->runtime->SteadyDeadline(deadline));
}

}  // namespace coord
