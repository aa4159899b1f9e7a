#include "kv/internal/nats_core.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace kv::internal {
namespace {

using std::chrono::steady_clock;

constexpr size_t kMaxKeyBytes = 512;
constexpr size_t kMaxValueBytes = 1 << 20;

// Of a message, for headers: the longest key three times over, and what else there is.
constexpr size_t kHeadroom = 4096;

}  // namespace

struct NatsCore::Bell {
  void Ring() {
    MutexLock lock(mutex);
    rung = true;
    changed.NotifyAll();
  }

  Mutex mutex;
  CondVar changed;
  bool rung KV_GUARDED_BY(mutex) = false;
  bool stop KV_GUARDED_BY(mutex) = false;
  bool watch KV_GUARDED_BY(mutex) = false;  // somebody watches, or has watched
  bool back KV_GUARDED_BY(mutex) = false;   // the connection is
};

absl::StatusOr<std::shared_ptr<NatsCore>> NatsCore::Open(std::shared_ptr<NatsConnection> connection,
                                                         const NatsStoreOptions& options, SteadyTime deadline) {
  if (absl::Status status = NatsBucket::CheckOptions(options); !status.ok()) return status;
  const Traits traits = MakeTraits(options, connection->server_version(), connection->max_payload());
  const NatsBucket bucket(options, &traits);
  while (true) {
    const uint64_t generation = connection->generation();
    const std::string version = connection->server_version();
    if (absl::Status fit = CheckNatsVersion(version, options.replicas); !fit.ok()) return fit;
    const absl::StatusOr<NatsStreamInfo> found = AwaitStream(*connection, bucket, deadline);
    if (!found.ok()) return found.status();
    const bool whole = connection->generation() == generation && !version.empty();
    if (!whole && steady_clock::now() < deadline) continue;
    return std::shared_ptr<NatsCore>(new NatsCore(std::move(connection), options, version, *found, generation));
  }
}

NatsCore::NatsCore(std::shared_ptr<NatsConnection> connection, const NatsStoreOptions& options,
                   std::string_view version, const NatsStreamInfo& found, uint64_t generation)
    : connection_(std::move(connection)),
      traits_(MakeTraits(options, version, connection_->max_payload())),
      bucket_(options, &traits_),
      bell_(std::make_shared<Bell>()),
      deletes_(options.delete_linger),
      mirror_(&deletes_, [this](const std::string& key, Revision revision) { cleaner_.Bury(key, revision); }),
      gate_(connection_, &bucket_, found, generation, [this](uint64_t incarnation) { OnChange(incarnation); }),
      cleaner_(connection_, &bucket_, &gate_, &deletes_, &mirror_, [bell = bell_] { bell->Ring(); }),
      reads_(connection_, &bucket_, &gate_, &deletes_,
             [this](const std::string& key, Revision revision) {
               cleaner_.Bury(key, revision);
               StartCleaning();
             }),
      writes_(connection_, {&bucket_, &gate_, &deletes_, &mirror_, &reads_}),
      watcher_(connection_, &bucket_, &gate_, &mirror_, [bell = bell_] { bell->Ring(); }) {}

NatsCore::~NatsCore() {
  std::shared_ptr<void> handle;
  std::thread keeper;
  {
    MutexLock lock(mutex_);
    handle.swap(state_handle_);
    keeper.swap(keeper_);
  }
  handle.reset();
  {
    MutexLock lock(bell_->mutex);
    bell_->stop = true;
    bell_->changed.NotifyAll();
  }
  if (keeper.joinable()) keeper.join();
}

Traits NatsCore::MakeTraits(const NatsStoreOptions& options, std::string_view version, size_t max_payload) {
  Traits traits;
  traits.name = "nats";
  traits.linearizable_reads = options.replicas == 1;
  traits.watch = true;
  traits.volatile_storage = !options.file_storage;
  // Such servers do not keep the replicas of a stream alike when their leader is killed, stopped or cut off.
  traits.evicting = options.replicas > 1 && NatsMinorVersion(version) < 210;
  traits.durable = options.file_storage && options.sync_always && !traits.evicting;
  traits.max_key_bytes = kMaxKeyBytes;
  traits.max_value_bytes = std::min(kMaxValueBytes, max_payload > kHeadroom ? max_payload - kHeadroom : 0);
  return traits;
}

Connection NatsCore::connection() const {
  switch (connection_->state()) {
    case NatsState::kConnected:
      return Connection::kConnected;
    case NatsState::kReconnecting:
      return Connection::kReconnecting;
    case NatsState::kClosed:
      return Connection::kClosed;
  }
  return Connection::kClosed;
}

// Before any call is let through to the new incarnation.
void NatsCore::OnChange(uint64_t incarnation) {
  deletes_.Reset(incarnation);
  mirror_.Reset(incarnation);
  bell_->Ring();
}

void NatsCore::StartCleaning() {
  StartKeeper(/*watch=*/false);
  bell_->Ring();
}

std::unique_ptr<Watch> NatsCore::AddWatch(std::string_view prefix, WatchCallback callback) {
  std::unique_ptr<Watch> watch = mirror_.Add(prefix, std::move(callback), gate_.highest());
  StartKeeper(/*watch=*/true);
  return watch;
}

void NatsCore::StartKeeper(bool watch) {
  {
    MutexLock lock(bell_->mutex);
    if (watch && !std::exchange(bell_->watch, true)) bell_->rung = true;
    bell_->changed.NotifyAll();
  }
  MutexLock lock(mutex_);
  if (keeper_.joinable()) return;
  keeper_ = std::thread([this] { Keep(); });
  state_handle_ = connection_->OnState([bell = bell_](NatsState state) {
    if (state != NatsState::kConnected) return;
    MutexLock bell_lock(bell->mutex);
    bell->back = bell->rung = true;
    bell->changed.NotifyAll();
  });
}

void NatsCore::Keep() {
  SteadyTime next = steady_clock::now();
  while (true) {
    bool watch;
    bool back;
    {
      MutexLock lock(bell_->mutex);
      while (!bell_->stop && !bell_->rung && steady_clock::now() < next) {
        if (next == SteadyTime::max()) {
          bell_->changed.Wait(bell_->mutex);
        } else {
          bell_->changed.WaitUntil(bell_->mutex, next);
        }
      }
      if (bell_->stop) return;
      bell_->rung = false;
      watch = bell_->watch;
      back = std::exchange(bell_->back, false);
    }
    if (back) watcher_.Hurry();
    next = cleaner_.Step();
    if (watch) next = std::min(next, watcher_.Step());
  }
}

}  // namespace kv::internal
