#include "tests/servers/relayed.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace servers::internal {
namespace {

constexpr size_t kBuffer = 65536;

void SendAtOnce(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

bool IsFailure(ssize_t result) { return result < 0 && errno != EAGAIN && errno != EINTR; }

}  // namespace

Relayed::Relayed(int client) : client_(client) { SendAtOnce(client); }

Relayed::~Relayed() {
  const bool in_order = requests_.told && replies_.told && !failed_;
  for (int fd : {client_, server_}) {
    if (fd < 0) continue;
    const linger reset{1, 0};
    if (!in_order) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
  }
}

void Relayed::Want(const Flow& flow, short* source, short* sink) {
  if (!flow.pending.empty()) {
    *sink |= POLLOUT;
  } else if (!flow.ended) {
    *source |= POLLIN;
  }
}

// A descriptor is waited for only if something would be done with it: a poll tells of errors in any case, over and
// over.
void Relayed::AddWaited(const Held& held, std::vector<pollfd>* waited) const {
  if (!connected_) {
    if (server_ >= 0) waited->push_back({server_, POLLOUT, 0});
    return;
  }
  short client = 0, server = 0;
  if (!held.requests) Want(requests_, &client, &server);
  if (!held.replies) Want(replies_, &server, &client);
  if (client != 0) waited->push_back({client_, client, 0});
  if (server != 0) waited->push_back({server_, server, 0});
}

bool Relayed::Pass(const Held& held, const sockaddr_in& target) {
  if (server_ < 0) {
    if (held.requests) return true;
    Connect(target);
  }
  if (!connected_ && !failed_) FinishConnect();
  if (connected_ && !held.requests) Move(client_, server_, &requests_);
  if (connected_ && !held.replies) Move(server_, client_, &replies_);
  return !failed_ && !(requests_.told && replies_.told);
}

void Relayed::Connect(const sockaddr_in& target) {
  server_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (server_ >= 0) SendAtOnce(server_);
  const bool begun =
      server_ >= 0 &&
      (connect(server_, reinterpret_cast<const sockaddr*>(&target), sizeof(target)) == 0 || errno == EINPROGRESS);
  failed_ = !begun;
}

void Relayed::FinishConnect() {
  pollfd now{server_, POLLOUT, 0};
  if (poll(&now, 1, 0) != 1) return;
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(server_, SOL_SOCKET, SO_ERROR, &error, &size);
  connected_ = error == 0;
  failed_ = error != 0;
}

void Relayed::Move(int source, int sink, Flow* flow) {
  if (flow->pending.empty() && !flow->ended) {
    char buffer[kBuffer];
    const ssize_t got = recv(source, buffer, sizeof(buffer), 0);
    failed_ |= IsFailure(got);
    flow->ended = got == 0;
    if (got > 0) flow->pending.assign(buffer, static_cast<size_t>(got));
  }
  if (!flow->pending.empty()) {
    const ssize_t sent = send(sink, flow->pending.data(), flow->pending.size(), MSG_NOSIGNAL);
    failed_ |= IsFailure(sent);
    if (sent > 0) flow->pending.erase(0, static_cast<size_t>(sent));
  }
  if (flow->ended && flow->pending.empty() && !flow->told) {
    shutdown(sink, SHUT_WR);
    flow->told = true;
  }
}

}  // namespace servers::internal
