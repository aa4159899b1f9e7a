// What NatsConnection and its subscriptions share: the client library's connection, its state, and the thread that does
// what must not be done inside of a callback. It lives until the last of them has gone.

#ifndef KV_INTERNAL_NATS_LINK_H_
#define KV_INTERNAL_NATS_LINK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_callbacks.h"
#include "kv/internal/nats_graveyard.h"
#include "kv/internal/nats_probe.h"
#include "kv/internal/nats_requests.h"
#include "kv/internal/state_listeners.h"
#include "kv/nats_connection.h"
#include "nats/nats.h"

namespace kv::internal {

class NatsLink : public NatsEvents, public std::enable_shared_from_this<NatsLink> {
 public:
  // Connects to the first of `servers` that takes it; the first one's own first line is `info`. The status does not
  // name a server, and is that of the last one.
  static absl::StatusOr<std::shared_ptr<NatsLink>> Open(const NatsOptions& options,
                                                        const std::vector<std::string>& servers,
                                                        const NatsServerInfo& info);
  ~NatsLink() override;

  // Flushes for a moment and closes for good. Inside of a callback it does not wait for that, else for a few seconds at
  // most.
  void Close();

  NatsState state() const { return state_.load(); }
  uint64_t generation() const { return generation_.load(); }
  size_t max_payload() const { return max_payload_.load(); }
  std::string server() const;
  std::string server_version() const;
  std::vector<std::string> server_versions() const;
  natsConnection* library() const { return library_; }
  StateListeners<NatsState>& listeners() { return listeners_; }
  NatsGraveyard& graveyard() { return graveyard_; }

  // The message has been checked.
  absl::Status Send(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                    const std::string& reply);
  absl::Status Request(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                       SteadyTime deadline, NatsRequests::Done done);
  absl::Status Flush(SteadyTime deadline);

  // To be called when the graveyard has been given something.
  void WakeMaintenance();

 private:
  NatsLink(const NatsOptions& options, const std::string& server, const NatsServerInfo& info);

  const char* OnConnecting() override;
  void OnDisconnected() override;
  void OnReconnected() override;
  void OnServersChanged() override;
  void OnClosed() override;
  void OnRefused(const std::string& text) override;
  void OnAnswer(NatsMessage message) override;

  absl::Status Start(const std::vector<std::string>& servers);
  absl::Status NotConnected(NatsState state, const std::string& what) const;
  void SetState(NatsState state);
  std::vector<std::string> FindServers();
  bool AskVersions(const std::vector<std::string>& servers);

  void Maintain();
  void Shut();

  const NatsOptions options_;
  const std::string token_;
  std::optional<NatsClosure> closure_;  // set in Open
  natsConnection* library_ = nullptr;
  natsSubscription* answers_ = nullptr;
  std::string inbox_;  // answers come to inbox_ + "." + the request's number

  std::atomic<NatsState> state_{NatsState::kReconnecting};
  std::atomic<uint64_t> generation_{0};
  std::atomic<size_t> max_payload_;
  NatsRequests requests_;
  StateListeners<NatsState> listeners_;
  NatsGraveyard graveyard_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::string server_ KV_GUARDED_BY(mutex_);
  // By address, of all servers that the library would connect to; empty: not known. Forgotten with each connection.
  std::map<std::string, std::string> versions_ KV_GUARDED_BY(mutex_);
  std::string closed_why_ KV_GUARDED_BY(mutex_);
  bool look_ KV_GUARDED_BY(mutex_) = false;     // at the servers
  bool closing_ KV_GUARDED_BY(mutex_) = false;  // Close was called
  bool closed_ KV_GUARDED_BY(mutex_) = false;   // and is done
};

// A subject that nobody else has.
std::string NewNatsInbox();

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_LINK_H_
