#include "kv/nats_connection.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_connect.h"
#include "kv/internal/nats_link.h"
#include "kv/internal/nats_requests.h"
#include "kv/internal/nats_settings.h"
#include "kv/internal/nats_subject.h"
#include "kv/internal/nats_subscription.h"
#include "nats/nats.h"

namespace kv {
namespace {

using internal::CheckNatsMessage;
using internal::CheckNatsSubject;
using internal::CondVar;
using internal::Mutex;
using internal::MutexLock;
using internal::NatsLink;
using internal::SteadyDeadline;

absl::Status Late() { return absl::DeadlineExceededError("the deadline has passed; nothing was sent"); }

}  // namespace

bool operator==(const NatsOptions& a, const NatsOptions& b) {
  return a.servers == b.servers && a.user == b.user && a.password == b.password && a.token == b.token &&
         a.credentials_file == b.credentials_file && a.tls == b.tls && a.tls_ca_file == b.tls_ca_file &&
         a.tls_cert_file == b.tls_cert_file && a.tls_key_file == b.tls_key_file;
}

struct NatsConnection::Impl {
  std::shared_ptr<NatsLink> link;
};

NatsConnection::NatsConnection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

NatsConnection::~NatsConnection() { impl_->link->Close(); }

absl::StatusOr<std::shared_ptr<NatsConnection>> NatsConnection::Connect(const NatsOptions& options,
                                                                        absl::Time deadline) {
  if (absl::Status status = internal::CheckNatsOptions(options); !status.ok()) return status;
  const std::optional<internal::SteadyTime> steady = SteadyDeadline(deadline);
  if (!steady) return absl::DeadlineExceededError("the deadline to connect to NATS has passed");
  return internal::SharedNatsConnection(options, *steady, [&]() -> absl::StatusOr<std::shared_ptr<NatsConnection>> {
    absl::StatusOr<std::shared_ptr<NatsLink>> link = internal::ConnectNats(options, *steady);
    if (!link.ok()) return link.status();
    auto impl = std::make_unique<Impl>();
    impl->link = *std::move(link);
    return std::shared_ptr<NatsConnection>(new NatsConnection(std::move(impl)));
  });
}

NatsState NatsConnection::state() const { return impl_->link->state(); }
uint64_t NatsConnection::generation() const { return impl_->link->generation(); }
std::string NatsConnection::server() const { return impl_->link->server(); }
std::string NatsConnection::server_version() const { return impl_->link->server_version(); }

std::vector<std::string> NatsConnection::server_versions() const { return impl_->link->server_versions(); }
size_t NatsConnection::max_payload() const { return impl_->link->max_payload(); }

std::shared_ptr<void> NatsConnection::OnState(std::function<void(NatsState)> callback) {
  return impl_->link->listeners().Add(std::move(callback));
}

absl::Status NatsConnection::Publish(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                                     const std::string& reply) {
  absl::Status status = CheckNatsMessage(subject, data, headers, max_payload());
  if (status.ok() && !reply.empty()) status = CheckNatsSubject(reply, false);
  return status.ok() ? impl_->link->Send(subject, data, headers, reply) : status;
}

absl::StatusOr<NatsMessage> NatsConnection::Request(const std::string& subject, std::string_view data,
                                                    const NatsHeaders& headers, absl::Time deadline) {
  if (internal::NatsRequests::OnOwnThread()) {
    return absl::FailedPreconditionError(
        "a request cannot be waited for inside of the callback of another one: it would wait for itself");
  }
  struct Waiter {
    Mutex mutex;
    CondVar told;
    std::optional<absl::StatusOr<NatsMessage>> result KV_GUARDED_BY(mutex);
  };
  const auto waiter = std::make_shared<Waiter>();
  const absl::Status sent = RequestAsync(subject, data, headers, deadline, [waiter](auto result) {
    MutexLock lock(waiter->mutex);
    waiter->result.emplace(std::move(result));
    waiter->told.NotifyOne();
  });
  if (!sent.ok()) return sent;
  MutexLock lock(waiter->mutex);
  while (!waiter->result) waiter->told.Wait(waiter->mutex);
  return *std::move(waiter->result);
}

absl::Status NatsConnection::RequestAsync(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                                          absl::Time deadline, std::function<void(absl::StatusOr<NatsMessage>)> done) {
  if (absl::Status status = CheckNatsMessage(subject, data, headers, max_payload()); !status.ok()) return status;
  const std::optional<internal::SteadyTime> steady = SteadyDeadline(deadline);
  if (!steady) return Late();
  return impl_->link->Request(subject, data, headers, *steady, std::move(done));
}

absl::StatusOr<std::unique_ptr<NatsSubscription>> NatsConnection::Subscribe(const std::string& subject,
                                                                            std::function<void(NatsMessage)> callback,
                                                                            size_t max_pending) {
  if (absl::Status status = CheckNatsSubject(subject, true); !status.ok()) return status;
  return internal::SubscribeNats(impl_->link, subject, std::move(callback), max_pending);
}

absl::Status NatsConnection::Flush(absl::Time deadline) {
  const std::optional<internal::SteadyTime> steady = SteadyDeadline(deadline);
  if (!steady) return Late();
  return impl_->link->Flush(*steady);
}

std::string NatsConnection::NewInbox() { return internal::NewNatsInbox(); }

std::string_view NatsMessage::subject() const {
  return natsMsg_GetSubject(static_cast<const natsMsg*>(message_.get()));
}

std::string_view NatsMessage::reply() const {
  const char* reply = natsMsg_GetReply(static_cast<const natsMsg*>(message_.get()));
  return reply == nullptr ? std::string_view() : reply;
}

std::string_view NatsMessage::data() const {
  const auto* message = static_cast<const natsMsg*>(message_.get());
  return std::string_view(natsMsg_GetData(message), natsMsg_GetDataLength(message));
}

std::optional<std::string> NatsMessage::Header(const char* name) const {
  const char* value = nullptr;
  if (natsMsgHeader_Get(static_cast<natsMsg*>(message_.get()), name, &value) != NATS_OK) return std::nullopt;
  return value == nullptr ? "" : value;
}

bool NatsMessage::IsNoResponders() const { return natsMsg_IsNoResponders(static_cast<natsMsg*>(message_.get())); }

void NatsMessage::Free::operator()(void* message) const { natsMsg_Destroy(static_cast<natsMsg*>(message)); }

}  // namespace kv
