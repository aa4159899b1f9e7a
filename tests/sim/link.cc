#include "tests/sim/link.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace sim {

using kv::WatchEvent;
using kv::WatchKind;
using kv::internal::Mutex;
using kv::internal::MutexLock;

Port::Port(int copy, const Config& config, Network& network, Server& server)
    : ttl_(config.ttl),
      sabotage_(config.sabotage),
      network_(network),
      server_(server),
      dice_(config.seed, absl::StrCat("port", copy)),
      last_push_(network.now()) {
  weather.latency = config.latency;
  server_.OnCommit([this](const Commit& commit) { Changed(commit); });
}

absl::Duration Port::Leg() {
  const absl::Duration leg = weather.latency / 2 + dice_.Around(weather.latency / 2);
  return leg + absl::Nanoseconds(1);
}

void Port::Send(std::function<std::function<void()>()> at_store, std::function<void()> refused) {
  ++calls_;
  if (weather.down && weather.down_refuses) return network_.After(Leg() + Leg(), std::move(refused));
  if (dice_.Chance(static_cast<uint64_t>(weather.lose_percent))) return;
  absl::Duration leg = Leg();
  if (dice_.Chance(static_cast<uint64_t>(weather.late_percent))) leg += dice_.Upto(ttl_ * 2);
  auto arrive = [this, at_store = std::move(at_store), refused = std::move(refused)] {
    // A store that is starting again refuses what reaches it, and has not applied it.
    if (weather.down) return weather.down_refuses ? Reply(refused) : void();
    Reply(at_store());
  };
  network_.After(leg, [this, arrive = std::move(arrive)]() mutable {
    if (!weather.cut_to) return arrive();
    if (weather.cut_keeps) kept_.push_back(std::move(arrive));
  });
}

void Port::Reply(std::function<void()> deliver) {
  if (dice_.Chance(static_cast<uint64_t>(weather.lose_percent))) return;
  network_.After(Leg(), [this, deliver = std::move(deliver), generation = generation_]() mutable {
    if (generation != generation_) return;
    if (!weather.cut_from) return deliver();
    if (weather.cut_keeps) kept_.push_back(std::move(deliver));
  });
}

void Port::Heal() {
  std::vector<std::function<void()>> kept;
  kept.swap(kept_);
  for (auto& fn : kept) network_.After(Leg(), std::move(fn));
  for (const auto& watch : watches_) {
    if (!watch->live) Snapshot(watch);
  }
}

void Port::Disconnect(WatchKind kind) {
  for (const auto& watch : watches_) {
    watch->live = false;
    if (watch->opening != WatchKind::kEpochChanged) watch->opening = kind;
  }
}

void Port::Interrupt(WatchKind kind) {
  Disconnect(kind);
  for (const auto& watch : watches_) Snapshot(watch);
}

void Port::Forget() {
  for (const auto& watch : watches_) watch->ended = true;
  watches_.clear();
}

void Port::Subscribe(const std::shared_ptr<LinkWatch>& watch) {
  watches_.push_back(watch);
  Snapshot(watch);
}

// Where it cannot be had now, Heal tries again.
void Port::Snapshot(const std::shared_ptr<LinkWatch>& watch) {
  network_.After(Leg(), [this, watch] {
    if (watch->ended || watch->live || weather.cut_to || weather.cut_from || weather.down) return;
    watch->live = true;
    ++watch->generation;
    if (watch->opening != WatchKind::kSynced) Push(watch, {watch->opening, "", {}});
    watch->opening = WatchKind::kResync;
    for (kv::KeyedEntry& entry : server_.List(watch->prefix)) {
      Push(watch, {WatchKind::kPut, std::move(entry.key), std::move(entry.entry)});
    }
    Push(watch, {WatchKind::kSynced, "", {}});
  });
}

void Port::Changed(const Commit& commit) {
  for (const auto& watch : watches_) {
    if (!watch->live || commit.key.compare(0, watch->prefix.size(), watch->prefix) != 0) continue;
    if (weather.cut_from || weather.down) {
      watch->live = false;  // it is missed: a snapshot follows
      continue;
    }
    if (sabotage_ == Sabotage::kPushes && dice_.Chance(30)) continue;
    kv::Entry entry;
    entry.revision = commit.revision;
    if (!commit.deleted) entry.value = commit.value;
    if (server_.traits().age && !commit.deleted) entry.age = absl::ZeroDuration();
    WatchEvent event{commit.deleted ? WatchKind::kDelete : WatchKind::kPut, commit.key, std::move(entry)};
    if (dice_.Chance(static_cast<uint64_t>(weather.duplicate_percent))) Push(watch, event);
    Push(watch, std::move(event));
  }
}

void Port::Push(const std::shared_ptr<LinkWatch>& watch, WatchEvent event) {
  absl::Time due = network_.now() + Leg() + dice_.Upto(weather.watch_lag);
  const bool data = event.kind == WatchKind::kPut || event.kind == WatchKind::kDelete;
  if (data && dice_.Chance(static_cast<uint64_t>(weather.reorder_percent))) {
    due += dice_.Upto(ttl_);  // what follows overtakes it
  } else {
    due = last_push_ = std::max(due, last_push_);
  }
  network_.At(due, [watch, generation = watch->generation, event = std::move(event)]() mutable {
    if (watch->ended || watch->generation != generation) return;
    watch->thread->Post([watch, generation, event = std::move(event)] {
      if (!watch->ended && watch->generation == generation) watch->callback(event);
    });
  });
}

// ---------------------------------------------------------------------------------------------- Link

class Link::LocalWatch : public kv::Watch {
 public:
  LocalWatch(Port& port, std::shared_ptr<Port::LinkWatch> watch) : port_(port), watch_(std::move(watch)) {}
  ~LocalWatch() override {
    watch_->ended = true;
    port_.watches_.remove(watch_);
  }

 private:
  Port& port_;
  const std::shared_ptr<Port::LinkWatch> watch_;
};

Link::Link(int copy, coord::SimRuntime& runtime, Port& port)
    : copy_(copy),
      runtime_(runtime),
      port_(port),
      watch_thread_(std::make_shared<coord::internal::Executor>(runtime, "link-watch")) {}

Link::~Link() { watch_thread_->Stop(absl::InfiniteFuture()); }

template <typename Result>
Result Link::Call(absl::Time deadline, std::function<Result()> at_store,
                  const std::function<Result(absl::Status)>& failed) {
  struct Pending {
    Mutex mu;
    std::unique_ptr<coord::Condition> changed;
    std::optional<Result> result;
  };
  const absl::Time until = runtime_.SteadyDeadline(deadline);
  if (until <= runtime_.Now()) {
    return failed(absl::DeadlineExceededError("simulated: the deadline had passed before the call"));
  }
  auto pending = std::make_shared<Pending>();
  pending->changed = runtime_.NewCondition();
  const auto settle = [pending](Result result) {
    pending->result = std::move(result);
    pending->changed->NotifyAll();
  };
  port_.Send(
      [at_store = std::move(at_store), settle]() -> std::function<void()> {
        return [settle, result = at_store()]() mutable { settle(std::move(result)); };
      },
      [settle, refused = failed(absl::UnavailableError("simulated: the store cannot be reached"))]() mutable {
        settle(std::move(refused));
      });
  MutexLock lock(pending->mu);
  while (!pending->result && runtime_.Now() < until) pending->changed->Wait(pending->mu, until);
  if (pending->result) return *std::move(pending->result);
  return failed(absl::DeadlineExceededError("simulated: no answer"));
}

absl::StatusOr<kv::Entry> Link::Get(std::string_view key, absl::Time deadline) {
  using Result = absl::StatusOr<kv::Entry>;
  if (absl::Status status = kv::CheckKey(key, traits()); !status.ok()) return status;
  return Call<Result>(
      deadline,
      [port = &port_, k = std::string(key)]() -> Result {
        return port->server_.Get(k, port->dice_.Upto(port->weather.read_lag));
      },
      [](absl::Status status) -> Result { return status; });
}

kv::WriteResult Link::Write(WriteRequest::Kind kind, std::string_view key, std::string_view value,
                            kv::Revision expected, absl::Time deadline) {
  absl::Status status = kv::CheckKey(key, traits());
  if (status.ok()) status = kv::CheckValue(value, traits());
  if (!status.ok()) return {std::move(status), 0, std::nullopt};
  WriteRequest request{kind, copy_, std::string(key), std::string(value), expected, runtime_.WallNow()};
  return Call<kv::WriteResult>(
      deadline, [port = &port_, request = std::move(request)] { return port->server_.Write(request); },
      [](absl::Status failed) {
        return kv::WriteResult{std::move(failed), 0, std::nullopt};
      });
}

kv::WriteResult Link::Create(std::string_view key, std::string_view value, absl::Time deadline) {
  return Write(WriteRequest::kCreate, key, value, 0, deadline);
}
kv::WriteResult Link::Update(std::string_view key, std::string_view value, kv::Revision expected, absl::Time deadline) {
  return Write(WriteRequest::kUpdate, key, value, expected, deadline);
}
kv::WriteResult Link::Delete(std::string_view key, kv::Revision expected, absl::Time deadline) {
  return Write(WriteRequest::kDelete, key, "", expected, deadline);
}
kv::WriteResult Link::Put(std::string_view key, std::string_view value, absl::Time deadline) {
  return Write(WriteRequest::kPut, key, value, 0, deadline);
}

absl::StatusOr<std::vector<kv::KeyedEntry>> Link::List(std::string_view prefix, absl::Time deadline) {
  using Result = absl::StatusOr<std::vector<kv::KeyedEntry>>;
  if (!traits().list) return absl::UnimplementedError("simulated: this store cannot list its keys");
  return Call<Result>(
      deadline, [port = &port_, p = std::string(prefix)]() -> Result { return port->server_.List(p); },
      [](absl::Status status) -> Result { return status; });
}

absl::StatusOr<std::unique_ptr<kv::Watch>> Link::WatchPrefix(std::string_view prefix, kv::WatchCallback callback) {
  if (!traits().watch) return absl::UnimplementedError("simulated: this store has no watch");
  if (port_.weather.down && port_.weather.down_refuses) {
    return absl::UnavailableError("simulated: the store cannot be reached");
  }
  auto watch = std::make_shared<Port::LinkWatch>();
  watch->prefix = std::string(prefix);
  watch->callback = std::move(callback);
  watch->thread = watch_thread_;
  port_.Subscribe(watch);
  return std::make_unique<LocalWatch>(port_, watch);
}

}  // namespace sim
