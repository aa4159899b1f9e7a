#include "tests/servers/exchange.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace servers::internal {
namespace {

// Where a server is.
struct Target {
  const std::string& host;
  int port;

  std::string Text() const { return absl::StrCat(host, ":", port); }
};

absl::Status Failed(const Target& target, const std::string& what, int error) {
  const std::string message = absl::StrCat(target.Text(), ": ", what);
  return absl::UnavailableError(error == 0 ? message : absl::StrCat(message, ": errno ", error));
}

absl::Status AwaitEvents(int fd, short events, const Target& target, absl::Time deadline) {
  while (true) {
    const int64_t left = std::max<int64_t>(0, absl::ToInt64Milliseconds(deadline - absl::Now()));
    pollfd waited{fd, events, 0};
    const int ready = poll(&waited, 1, static_cast<int>(std::min<int64_t>(left + 1, 1'000'000)));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) return Failed(target, "poll", errno);
    if (absl::Now() >= deadline) return absl::DeadlineExceededError(absl::StrCat(target.Text(), " is silent"));
  }
}

absl::Status Connect(int fd, const Target& target, absl::Time deadline) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  if (inet_pton(AF_INET, target.host.c_str(), &address.sin_addr) != 1) return Failed(target, "not an address", 0);
  address.sin_port = htons(static_cast<uint16_t>(target.port));
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return absl::OkStatus();
  if (errno != EINPROGRESS) return Failed(target, "connect", errno);
  if (absl::Status status = AwaitEvents(fd, POLLOUT, target, deadline); !status.ok()) return status;
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error == 0 ? absl::OkStatus() : Failed(target, "connect", error);
}

}  // namespace

absl::StatusOr<std::string> Exchange(const std::string& host, int port, const std::string& question,
                                     const std::string& end, absl::Time deadline) {
  const Target target{host, port};
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "no socket");
  const auto closer = absl::MakeCleanup([fd] { close(fd); });
  if (absl::Status status = Connect(fd, target, deadline); !status.ok()) return status;
  size_t done = 0;
  while (done < question.size()) {
    const ssize_t sent = send(fd, question.data() + done, question.size() - done, MSG_NOSIGNAL);
    if (sent >= 0) {
      done += static_cast<size_t>(sent);
    } else if (errno != EAGAIN && errno != EINTR) {
      return Failed(target, "send", errno);
    } else if (absl::Status status = AwaitEvents(fd, POLLOUT, target, deadline); !status.ok()) {
      return status;
    }
  }
  std::string answer;
  char buffer[16384];
  while (end.empty() || !absl::EndsWith(answer, end)) {
    const ssize_t got = recv(fd, buffer, sizeof(buffer), 0);
    if (got > 0) {
      answer.append(buffer, static_cast<size_t>(got));
    } else if (got == 0) {
      if (end.empty()) break;
      return Failed(target, "closed in the middle of an answer", 0);
    } else if (errno != EAGAIN && errno != EINTR) {
      return Failed(target, "recv", errno);
    } else if (absl::Status status = AwaitEvents(fd, POLLIN, target, deadline); !status.ok()) {
      return status;
    }
  }
  return answer;
}

absl::StatusOr<std::string> HttpGet(const std::string& host, int port, const std::string& path, absl::Time deadline) {
  const Target target{host, port};
  // 1.0: the body then ends with the connection and is not in chunks.
  absl::StatusOr<std::string> answer =
      Exchange(host, port, absl::StrCat("GET ", path, " HTTP/1.0\r\nHost: ", host, "\r\n\r\n"), "", deadline);
  if (!answer.ok()) return answer.status();
  const size_t head = answer->find("\r\n\r\n");
  if (!absl::StartsWith(*answer, "HTTP/") || head == std::string::npos) {
    return Failed(target, absl::StrCat("not an answer of HTTP: ", answer->substr(0, 100)), 0);
  }
  return answer->substr(head + 4);
}

}  // namespace servers::internal
