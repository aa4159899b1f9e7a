#include "coord/internal/nats_event_hints.h"

#include <utility>

#include "coord/internal/nats_event_wire.h"

namespace coord::internal {
namespace {

constexpr size_t kMaxKeyBytes = 4096;
constexpr size_t kMaxPending = 4096;  // hints that wait for on_hint; what comes beyond is lost

class NatsHints final : public HintChannel {
 public:
  NatsHints(std::shared_ptr<kv::NatsConnection> connection, std::string subject, std::string id)
      : connection_(std::move(connection)), subject_(std::move(subject)), id_(std::move(id)) {}

  bool Listen(std::function<void(std::string_view key)> on_hint) {
    auto subscription = connection_->Subscribe(
        subject_,
        [id = id_, on_hint = std::move(on_hint)](const kv::NatsMessage& message) {
          const absl::StatusOr<NatsEventHeaders> headers = ParseNatsEventHeaders(message, /*reliable=*/false);
          if (!headers.ok() || headers->bus == id) return;
          if (!message.data().empty() && message.data().size() <= kMaxKeyBytes) on_hint(message.data());
        },
        kMaxPending);
    if (subscription.ok()) subscription_ = *std::move(subscription);
    return subscription_ != nullptr;
  }

  void Send(std::string_view key) override {
    if (key.empty() || key.size() > kMaxKeyBytes) return;
    NatsEventHeaders headers;
    headers.bus = id_;
    headers.from = "-";  // who it was does not matter
    (void)connection_->Publish(subject_, key, Format(headers));
  }

 private:
  const std::shared_ptr<kv::NatsConnection> connection_;
  const std::string subject_;
  const std::string id_;
  std::unique_ptr<kv::NatsSubscription> subscription_;
};

}  // namespace

std::unique_ptr<HintChannel> MakeNatsHints(std::shared_ptr<kv::NatsConnection> connection, const std::string& subject,
                                           const std::string& id, std::function<void(std::string_view key)> on_hint) {
  auto hints = std::make_unique<NatsHints>(std::move(connection), subject, id);
  return hints->Listen(std::move(on_hint)) ? std::move(hints) : nullptr;
}

}  // namespace coord::internal
