#include "coord/nats_events.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coord/internal/core.h"
#include "coord/internal/event_worker.h"
#include "coord/internal/nats_event_bus.h"
#include "coord/internal/nats_event_hints.h"
#include "coord/internal/nats_event_stream.h"
#include "coord/internal/nats_event_wire.h"
#include "coord/runtime.h"
#include "kv/nats_store.h"

namespace coord {
namespace {

using internal::NatsEventBus;
using internal::NatsEventBusConfig;
using internal::NatsEventStream;
using internal::NatsEventStreamConfig;

constexpr size_t kMaxSpaceBytes = 32;
constexpr int kMaxInFlight = 65536;

bool IsSpace(const std::string& space) {
  return !space.empty() && space.size() <= kMaxSpaceBytes && internal::EscapeToken(space) == space;
}

absl::Status CheckOptions(const NatsEventOptions& options) {
  if (!IsSpace(options.space)) {
    return absl::InvalidArgumentError(
        absl::StrCat("NatsEventOptions::space must be 1 to ", kMaxSpaceBytes, " letters, digits, '-' and '_'"));
  }
  if (options.replicas != 1 && options.replicas != 3 && options.replicas != 5) {
    return absl::InvalidArgumentError("NatsEventOptions::replicas must be 1, 3 or 5");
  }
  if (options.keep_for < absl::Seconds(1) || options.keep_for > absl::Hours(24 * 366)) {
    return absl::InvalidArgumentError("NatsEventOptions::keep_for must be from a second to a year");
  }
  if (options.keep_bytes < 4096) {
    return absl::InvalidArgumentError("NatsEventOptions::keep_bytes must be at least 4096");
  }
  if (options.keep_cursors < absl::Minutes(1)) {
    return absl::InvalidArgumentError("NatsEventOptions::keep_cursors must be at least a minute");
  }
  if (options.max_in_flight < 1 || options.max_in_flight > kMaxInFlight) {
    return absl::InvalidArgumentError(absl::StrCat("NatsEventOptions::max_in_flight must be from 1 to ", kMaxInFlight));
  }
  if (options.reorder_wait < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("NatsEventOptions::reorder_wait must not be negative");
  }
  return absl::OkStatus();
}

NatsEventBusConfig Config(const std::shared_ptr<kv::NatsConnection>& connection, const NatsEventOptions& options) {
  kv::NatsStoreOptions bucket;
  bucket.bucket = absl::StrCat("COORD_", options.space, "_cursors");
  bucket.replicas = options.replicas;
  bucket.file_storage = options.file_storage;
  NatsEventBusConfig config;
  config.cursors_stream = absl::StrCat("KV_", bucket.bucket);
  config.open_cursors = [connection, bucket](absl::Time deadline) {
    return kv::OpenNatsStore(connection, bucket, deadline);
  };
  config.stream.space = options.space;
  config.stream.replicas = options.replicas;
  config.stream.file_storage = options.file_storage;
  config.stream.keep_for = options.keep_for;
  config.stream.keep_bytes = options.keep_bytes;
  config.keep_cursors = options.keep_cursors;
  config.max_in_flight = static_cast<size_t>(std::max(options.max_in_flight, 0));
  config.reorder_wait = options.reorder_wait;
  return config;
}

class NatsEventDriver final : public EventDriver {
 public:
  NatsEventDriver(std::shared_ptr<kv::NatsConnection> connection, const NatsEventOptions& options)
      : connection_(std::move(connection)),
        checked_(connection_ == nullptr ? absl::InvalidArgumentError("NatsEvents was given no connection")
                                        : CheckOptions(options)),
        config_(Config(connection_, options)),
        stream_(std::make_shared<const NatsEventStream>(connection_, config_.stream)) {}

  absl::StatusOr<std::unique_ptr<EventBus>> MakeBus(std::shared_ptr<internal::Core> core) override {
    if (!checked_.ok()) return checked_;
    Runtime& runtime = *core->runtime;
    const absl::Time until = runtime.Now() + core->options.join_timeout;
    for (int attempt = 0;; ++attempt) {
      const absl::StatusOr<internal::NatsEventStreamState> state = stream_->Ensure(core->CallDeadline(until));
      if (state.ok()) break;
      const bool passing = absl::IsUnavailable(state.status()) || absl::IsDeadlineExceeded(state.status());
      const absl::Time again = runtime.Now() + internal::RetryDelay(runtime, attempt);
      if (!passing || again >= until) return state.status();
      internal::Pause(runtime, again);
    }
    return std::unique_ptr<EventBus>(std::make_unique<NatsEventBus>(std::move(core), connection_, stream_, config_));
  }

  std::unique_ptr<HintChannel> MakeHints(const std::string& plugin,
                                         std::function<void(std::string_view key)> on_hint) override {
    if (!checked_.ok() || on_hint == nullptr) return nullptr;
    const internal::NatsEventSubjects subjects(config_.stream.space, plugin);
    return internal::MakeNatsHints(connection_, subjects.Hints(), absl::StrFormat("%016x", RealRuntime().Random()),
                                   std::move(on_hint));
  }

 private:
  const std::shared_ptr<kv::NatsConnection> connection_;
  const absl::Status checked_;
  const NatsEventBusConfig config_;
  const std::shared_ptr<const NatsEventStream> stream_;
};

}  // namespace

std::shared_ptr<EventDriver> NatsEvents(std::shared_ptr<kv::NatsConnection> connection,
                                        const NatsEventOptions& options) {
  return std::make_shared<NatsEventDriver>(std::move(connection), options);
}

}  // namespace coord
