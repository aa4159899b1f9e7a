// Bytes that somebody sends to the port of the trigger words example: whatever they are, the server answers or closes
// the connection, its handler gets no more than the bound, and the next request is answered.

#include "examples/trigger_words/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>

#include "tests/fuzz/check.h"

namespace {

using trigger_words::HttpReply;
using trigger_words::HttpRequest;
using trigger_words::HttpServer;

constexpr size_t kMaxBody = 64;

HttpReply Answer(const HttpRequest& request) {
  fuzz::Check(request.body.size() <= kMaxBody, "a body is bounded", request.body);
  fuzz::Check(!request.method.empty(), "a request has a method");
  const auto path = trigger_words::PercentDecode(request.target);
  return trigger_words::Sentence(path.ok() ? 200 : 400, "done");
}

HttpServer& Server() {
  static const auto* const server = [] {
    auto bound = HttpServer::Bind("127.0.0.1", 0, kMaxBody, Answer);
    fuzz::Check(bound.ok(), "a port is free", bound.status().ToString());
    (*bound)->Start();
    return new std::unique_ptr<HttpServer>(*std::move(bound));
  }();
  return **server;
}

// `more`: nothing says that the request is over, so that one that is not complete takes a second.
std::string Exchange(const void* data, size_t size, bool more) {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(Server().port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool connected = connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  fuzz::Check(connected, "the server takes connections");
  std::string answer;
  // The server may have answered and closed before it has read everything.
  if (send(connection, data, size, MSG_NOSIGNAL) >= 0) {
    if (!more) shutdown(connection, SHUT_WR);
    char buffer[1024];
    for (ssize_t got; (got = recv(connection, buffer, sizeof buffer, 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(got));
    }
  }
  close(connection);
  return answer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string answer = Exchange(data, size, false);
  // A client that sends no more is no longer there for httplib, which then seldom answers.
  fuzz::Check(answer.empty() || answer.rfind("HTTP/1.", 0) == 0, "an answer is one of HTTP", answer);
  static constexpr char kPlain[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  const std::string next = Exchange(kPlain, sizeof kPlain - 1, true);
  fuzz::Check(next.rfind("HTTP/1.1 200", 0) == 0, "the next request is answered", next);
  return 0;
}
