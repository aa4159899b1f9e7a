#include "coord/internal/core.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coord/internal/revision_guard.h"
#include "coord/names.h"

namespace coord::internal {

using kv::internal::MutexLock;

namespace {

void WarnOnStderr(LogLevel level, std::string_view line) {
  if (level != LogLevel::kWarning) return;
  std::fprintf(stderr, "coord: %.*s\n", static_cast<int>(line.size()), line.data());
}

JoinOptions WithDefaults(JoinOptions options) {
  if (options.runtime == nullptr) options.runtime = &RealRuntime();
  if (!options.log) options.log = WarnOnStderr;
  return options;
}

}  // namespace

Core::Core(JoinOptions given) : options(WithDefaults(std::move(given))), runtime(options.runtime) {
  guard = std::make_shared<RevisionGuard>(options.store);
  store = guard;
  hub = std::make_unique<Hub>(*runtime, store, options.plugin + "/");
  hints = std::make_unique<Hints>(*hub, options.events, options.plugin);
  callbacks = std::make_unique<Executor>(*runtime, "coord-callback");
  nonce_prefix = absl::StrFormat("%016x", runtime->Random());
}

Core::~Core() = default;

absl::Status Core::CheckOpen() const {
  if (!closed.load(std::memory_order_acquire)) return absl::OkStatus();
  return absl::CancelledError("this copy has left its cluster: join again to go on");
}

absl::Time Core::CallDeadline(absl::Time steady) const {
  return runtime->WallDeadline(std::min(steady, runtime->Now() + options.call_timeout));
}

std::string Core::CellKey(std::string_view kind, std::string_view name) const {
  std::string key = options.plugin;
  key.append("/").append(kind).append("/").append(EscapeName(name));
  return key;
}

std::string Core::Nonce() {
  return absl::StrCat(nonce_prefix, "-", nonce_counter.fetch_add(1, std::memory_order_relaxed));
}

void Core::NoteFence(uint64_t fence) {
  uint64_t highest = highest_fence.load(std::memory_order_relaxed);
  while (highest < fence && !highest_fence.compare_exchange_weak(highest, fence, std::memory_order_acq_rel)) {
  }
}

std::string Core::EpochId() const {
  MutexLock lock(mu_);
  return epoch_id_;
}

void Core::SetEpochId(std::string id) {
  MutexLock lock(mu_);
  epoch_id_ = std::move(id);
}

void Core::Log(LogLevel level, const std::string& line) { options.log(level, line); }

void Pause(Runtime& runtime, absl::Time until) {
  kv::internal::Mutex mu;
  const std::unique_ptr<Condition> never = runtime.NewCondition();
  MutexLock lock(mu);
  while (runtime.Now() < until) never->Wait(mu, until);
}

}  // namespace coord::internal
