#include "kv/internal/nats_link.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/internal/callback_gate.h"
#include "kv/internal/nats_errors.h"
#include "kv/internal/nats_handshakes.h"
#include "kv/internal/nats_settings.h"

namespace kv::internal {
namespace {

constexpr auto kProbeTime = std::chrono::seconds(1);
// Until a server that did not say its version is asked again.
constexpr auto kProbePause = std::chrono::seconds(2);
constexpr auto kBurialPause = std::chrono::milliseconds(50);
constexpr int64_t kLastFlushMillis = 200;
constexpr auto kLongestClose = std::chrono::seconds(5);
constexpr int64_t kLongestWaitMillis = 24 * 3600 * 1000;

int64_t MillisUntil(SteadyTime deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  return std::clamp<int64_t>(std::chrono::ceil<std::chrono::milliseconds>(left).count(), 1, kLongestWaitMillis);
}

// "host:port" of "nats://user:password@host:port".
std::string Address(const std::string& url) {
  const size_t scheme = url.find("://");
  const size_t at = url.rfind('@');
  const size_t begin = at != std::string::npos ? at + 1 : scheme != std::string::npos ? scheme + 3 : 0;
  return url.substr(begin);
}

}  // namespace

NatsLink::NatsLink(const NatsOptions& options, const std::string& server, const NatsServerInfo& info)
    : options_(options),
      token_(NatsToken(options)),
      max_payload_(info.max_payload),
      server_(server),
      versions_{{server, info.version}} {}

absl::StatusOr<std::shared_ptr<NatsLink>> NatsLink::Open(const NatsOptions& options,
                                                         const std::vector<std::string>& servers,
                                                         const NatsServerInfo& info) {
  std::shared_ptr<NatsLink> link(new NatsLink(options, servers.front(), info));
  link->closure_.emplace(link);
  if (absl::Status status = link->Start(servers); !status.ok()) return status;
  return link;
}

absl::Status NatsLink::Start(const std::vector<std::string>& servers) {
  absl::StatusOr<NatsSettings> settings = MakeNatsSettings(options_, servers);
  if (!settings.ok()) return settings.status();
  if (closure_->Listen(settings->get()) != NATS_OK) return absl::ResourceExhaustedError("out of memory");
  natsStatus s;
  {
    const NatsHandshakesHere watched;
    s = natsConnection_Connect(&library_, settings->get());
  }
  if (s != NATS_OK) return FromNatsConnect(s);
  WatchNatsHandshakes(library_);
  std::thread([self = shared_from_this()] { self->Maintain(); }).detach();

  inbox_ = NewNatsInbox();
  s = closure_->SubscribeToAnswers(&answers_, library_, inbox_ + ".*");
  // There are no more answers than requests, which have a bound of their own; none may be dropped.
  if (s == NATS_OK) s = natsSubscription_SetPendingLimits(answers_, -1, -1);
  if (s != NATS_OK) {
    Close();
    return absl::UnavailableError("the connection was lost at once");
  }
  std::vector<std::string> found = FindServers();
  if (!found.empty()) AskVersions({found.front()});
  OnServersChanged();
  NatsState fresh = NatsState::kReconnecting;
  state_.compare_exchange_strong(fresh, NatsState::kConnected);
  return absl::OkStatus();
}

NatsLink::~NatsLink() {
  closure_.reset();
  requests_.Stop(absl::UnavailableError("the NATS connection is closed"));
  if (library_ != nullptr) ForgetNatsHandshakes(library_);
  natsConnection_Destroy(library_);
}

std::string NatsLink::server() const {
  MutexLock lock(mutex_);
  return server_;
}

std::string NatsLink::server_version() const {
  MutexLock lock(mutex_);
  const auto known = versions_.find(server_);
  return known == versions_.end() ? "" : known->second;
}

std::vector<std::string> NatsLink::server_versions() const {
  MutexLock lock(mutex_);
  std::vector<std::string> versions;
  for (const auto& [server, version] : versions_) versions.push_back(version);
  return versions;
}

// No message of a new connection can be seen while generation() has its old value: this comes before, the other events
// come later.
const char* NatsLink::OnConnecting() {
  if (generation_.fetch_add(1) > 0) requests_.ConnectionLost();
  return token_.empty() ? nullptr : token_.c_str();
}

void NatsLink::OnDisconnected() {
  ++generation_;
  requests_.ConnectionLost();
  SetState(NatsState::kReconnecting);
}

void NatsLink::OnReconnected() {
  ++generation_;
  {
    // Nothing is taken for known that may be of before: servers come back with another version.
    MutexLock lock(mutex_);
    for (auto& [server, version] : versions_) version.clear();
  }
  OnServersChanged();
  SetState(NatsState::kConnected);
}

void NatsLink::OnServersChanged() {
  MutexLock lock(mutex_);
  look_ = true;
  changed_.NotifyAll();
}

void NatsLink::OnClosed() {
  ++generation_;
  requests_.ConnectionLost();
  {
    MutexLock lock(mutex_);
    if (!closing_) closed_why_ = "the server refused the credentials when it was to be connected again";
  }
  SetState(NatsState::kClosed);
}

void NatsLink::OnRefused(const std::string& text) { requests_.SetRefusal(text); }

void NatsLink::OnAnswer(NatsMessage message) {
  const std::string_view subject = message.subject();
  if (subject.size() <= inbox_.size()) return;
  const std::string number(subject.substr(inbox_.size() + 1));
  requests_.Answer(std::strtoull(number.c_str(), nullptr, 10), std::move(message));
}

void NatsLink::SetState(NatsState state) {
  {
    MutexLock lock(mutex_);
    if (closing_) state = NatsState::kClosed;
  }
  if (state_.exchange(state) != state) listeners_.Tell(state);
}

absl::Status NatsLink::NotConnected(NatsState state, const std::string& what) const {
  if (state == NatsState::kReconnecting) return FromNats(NATS_CONNECTION_DISCONNECTED, what);
  const absl::Status status = FromNats(NATS_CONNECTION_CLOSED, what);
  MutexLock lock(mutex_);
  if (closed_why_.empty()) return status;
  return absl::Status(status.code(), absl::StrCat(std::string(status.message()), ": ", closed_why_));
}

absl::Status NatsLink::Send(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                            const std::string& reply) {
  // Asked before the library is: while it tries to connect it holds its lock, for as long as a try may take.
  if (const NatsState now = state(); now != NatsState::kConnected) return NotConnected(now, subject);
  const char* bytes = data.empty() ? "" : data.data();
  const int size = static_cast<int>(data.size());
  natsStatus s;
  if (!headers.empty()) {
    natsMsg* message = nullptr;
    s = natsMsg_Create(&message, subject.c_str(), reply.empty() ? nullptr : reply.c_str(), bytes, size);
    for (const auto& [name, value] : headers) {
      if (s == NATS_OK) s = natsMsgHeader_Add(message, name.c_str(), value.c_str());
    }
    if (s == NATS_OK) s = natsConnection_PublishMsg(library_, message);
    natsMsg_Destroy(message);
  } else if (!reply.empty()) {
    s = natsConnection_PublishRequest(library_, subject.c_str(), reply.c_str(), bytes, size);
  } else {
    s = natsConnection_Publish(library_, subject.c_str(), bytes, size);
  }
  // Under TLS this may also be how an end of the connection in the middle of the message is reported.
  if (s == NATS_CONNECTION_CLOSED && !natsConnection_IsClosed(library_)) s = NATS_IO_ERROR;
  return FromNats(s, subject);
}

absl::Status NatsLink::Request(const std::string& subject, std::string_view data, const NatsHeaders& headers,
                               SteadyTime deadline, NatsRequests::Done done) {
  const absl::StatusOr<uint64_t> id = requests_.Add(deadline, std::move(done));
  if (!id.ok()) return id.status();
  absl::Status status = Send(subject, data, headers, absl::StrCat(inbox_, ".", *id));
  if (status.ok()) {
    requests_.Sent(*id);
    return status;
  }
  if (absl::IsDeadlineExceeded(status)) {
    requests_.Fail(*id, std::move(status));
    return absl::OkStatus();
  }
  return requests_.TakeBack(*id) ? status : absl::OkStatus();
}

absl::Status NatsLink::Flush(SteadyTime deadline) {
  if (const NatsState now = state(); now != NatsState::kConnected) return NotConnected(now, "flush");
  const natsStatus s = natsConnection_FlushTimeout(library_, MillisUntil(deadline));
  if (s == NATS_TIMEOUT) return absl::DeadlineExceededError("the NATS server did not answer in time");
  if (s != NATS_OK) return absl::UnavailableError("the connection to the NATS server was lost");
  return absl::OkStatus();
}

// Beginning with the one that it is connected to.
std::vector<std::string> NatsLink::FindServers() {
  char url[512] = "";
  if (natsConnection_GetConnectedUrl(library_, url, sizeof(url)) != NATS_OK || url[0] == '\0') return {};
  const int64_t max_payload = natsConnection_GetMaxPayload(library_);
  if (max_payload > 0) max_payload_ = static_cast<size_t>(max_payload);
  std::vector<std::string> servers = {Address(url)};
  char** urls = nullptr;
  int count = 0;
  if (natsConnection_GetServers(library_, &urls, &count) == NATS_OK) {
    for (int i = 0; i < count; ++i) {
      servers.push_back(Address(urls[i]));
      free(urls[i]);
    }
    free(urls);
  }
  MutexLock lock(mutex_);
  server_ = servers.front();
  std::map<std::string, std::string> versions;
  for (const std::string& server : servers) versions[server] = versions_[server];
  versions_ = std::move(versions);
  return servers;
}

// Asks those whose version is not known. True: all are known now.
bool NatsLink::AskVersions(const std::vector<std::string>& servers) {
  bool all = !servers.empty();
  MutexLock lock(mutex_);
  for (const std::string& server : servers) {
    if (closing_) break;
    if (!versions_[server].empty()) continue;
    lock.Unlock();
    const absl::StatusOr<NatsServerInfo> info = ProbeNats(server, std::chrono::steady_clock::now() + kProbeTime);
    lock.Lock();
    if (info.ok()) versions_[server] = info->version;
    all = all && info.ok();
  }
  return all;
}

void NatsLink::WakeMaintenance() {
  MutexLock lock(mutex_);
  changed_.NotifyAll();
}

void NatsLink::Close() {
  MutexLock lock(mutex_);
  closing_ = true;
  changed_.NotifyAll();
  if (CallbackScope::Inside()) return;
  const SteadyTime deadline = std::chrono::steady_clock::now() + kLongestClose;
  while (!closed_ && changed_.WaitUntil(mutex_, deadline)) {
  }
}

void NatsLink::Maintain() {
  MutexLock lock(mutex_);
  SteadyTime look_at = SteadyTime::max();
  while (!closing_) {
    if (look_ || std::chrono::steady_clock::now() >= look_at) {
      look_ = false;
      lock.Unlock();
      look_at = AskVersions(FindServers()) ? SteadyTime::max() : std::chrono::steady_clock::now() + kProbePause;
      lock.Lock();
    } else if (graveyard_.HasWork(state() == NatsState::kConnected)) {
      // Many at a time, if many go.
      const SteadyTime pause_end = std::chrono::steady_clock::now() + kBurialPause;
      while (!closing_ && changed_.WaitUntil(mutex_, pause_end)) {
      }
      lock.Unlock();
      graveyard_.Work(library_, state() == NatsState::kConnected);
      lock.Lock();
    } else if (look_at != SteadyTime::max()) {
      changed_.WaitUntil(mutex_, look_at);
    } else {
      changed_.Wait(mutex_);
    }
  }
  lock.Unlock();
  Shut();
  lock.Lock();
  closed_ = true;
  changed_.NotifyAll();
}

// nats_Close is never called: the application may use the library as well.
void NatsLink::Shut() {
  if (state_.exchange(NatsState::kClosed) == NatsState::kConnected) {
    natsConnection_FlushTimeout(library_, kLastFlushMillis);
  }
  requests_.Stop(absl::DeadlineExceededError("the NATS connection was closed before the answer came"));
  natsConnection_Close(library_);
  graveyard_.Close();
  natsSubscription_Destroy(answers_);
}

std::string NewNatsInbox() {
  natsInbox* inbox = nullptr;
  if (natsInbox_Create(&inbox) != NATS_OK) return "";
  std::string result = inbox;
  natsInbox_Destroy(inbox);
  return result;
}

}  // namespace kv::internal
