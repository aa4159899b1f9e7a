#include "examples/trigger_words/http.h"

#include <httplib.h>
#include <sys/socket.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace trigger_words {
namespace {

constexpr int kThreads = 8;  // as many requests are answered at a time
constexpr int kSlowClientSeconds = 1;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void Fill(HttpReply from, httplib::Response& to) {
  to.status = from.status;
  if (!from.allow.empty()) to.set_header("Allow", from.allow);
  if (from.status != 204) to.set_content(std::move(from.body), from.content_type.c_str());
}

// httplib would share the port among processes; a second server on it shall fail instead.
void OneServerAPort(int socket) {
  const int yes = 1;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
}

bool TakesBody(const httplib::Request& request) { return request.method == "POST" || request.method == "PUT"; }

}  // namespace

HttpReply Sentence(int status, std::string_view sentence) {
  HttpReply reply;
  reply.status = status;
  reply.body = std::string(sentence) + "\n";
  return reply;
}

absl::StatusOr<std::string> PercentDecode(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return absl::InvalidArgumentError(
          "a '%' in the path must be followed by two hexadecimal digits; encode '%' itself as %25");
    }
    plain += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return plain;
}

std::string PercentEncode(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) || std::strchr("-._~", c) != nullptr) {
      encoded += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      encoded += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return encoded;
}

struct HttpServer::Impl {
  httplib::Server server;
  Handler handler;
  size_t max_body_bytes = 0;
  int port = 0;
  std::atomic<bool> ended{false};
  std::thread thread;

  // What can be answered from the head of the request alone. True: `response` is the answer.
  bool AnswerHead(const httplib::Request& request, httplib::Response& response) {
    const std::string length = request.get_header_value("Content-Length");
    if (request.has_header("Transfer-Encoding")) {
      Fill(Sentence(411, "send the body with a Content-Length"), response);
      return true;
    }
    if (!length.empty() && std::strtoull(length.c_str(), nullptr, 10) > max_body_bytes) {
      Fill(Sentence(413, absl::StrCat("the body is too large; at most ", max_body_bytes, " bytes are allowed")),
           response);
      return true;
    }
    if (TakesBody(request) && !length.empty()) return false;
    Fill(handler({request.method, request.target, ""}), response);
    return true;
  }

  void AnswerWithBody(const httplib::Request& request, httplib::Response& response,
                      const httplib::ContentReader& read) {
    HttpRequest call{request.method, request.target, ""};
    if (request.is_multipart_form_data()) {
      Fill(Sentence(415, "send the text itself as the body, not a form"), response);
      response.set_header("Connection", "close");
      return;
    }
    read([&](const char* data, size_t size) {
      call.body.append(data, size);
      return call.body.size() <= max_body_bytes;
    });
    Fill(handler(call), response);
  }
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { Stop(); }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Bind(const std::string& address, int port,
                                                             size_t max_body_bytes, Handler handler) {
  auto impl = std::make_unique<Impl>();
  Impl* const self = impl.get();
  impl->handler = std::move(handler);
  impl->max_body_bytes = max_body_bytes;
  httplib::Server& server = impl->server;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_socket_options(OneServerAPort);
  server.set_keep_alive_max_count(1);
  server.set_read_timeout(kSlowClientSeconds);
  server.set_write_timeout(kSlowClientSeconds);
  server.set_payload_max_length(max_body_bytes);
  server.set_pre_routing_handler([self](const httplib::Request& request, httplib::Response& response) {
    return self->AnswerHead(request, response) ? httplib::Server::HandlerResponse::Handled
                                               : httplib::Server::HandlerResponse::Unhandled;
  });
  const auto with_body = [self](const httplib::Request& request, httplib::Response& response,
                                const httplib::ContentReader& read) { self->AnswerWithBody(request, response, read); };
  // httplib finds handlers by regular expressions over the decoded path, which may hold line ends.
  server.Post(R"([\s\S]*)", with_body);
  server.Put(R"([\s\S]*)", with_body);
  server.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (!response.body.empty()) return;
    Fill(Sentence(response.status, "the request could not be understood"), response);
  });
  errno = 0;
  if (port == 0) {
    impl->port = server.bind_to_any_port(address);
  } else if (server.bind_to_port(address, port)) {
    impl->port = port;
  } else {
    impl->port = -1;
  }
  if (impl->port <= 0) {
    const std::string where = absl::StrCat(address, ":", port);
    if (errno == EADDRINUSE) {
      return absl::FailedPreconditionError(
          absl::StrCat(where, " is taken by another program; choose another --port, or 0 for any free one"));
    }
    return absl::FailedPreconditionError(absl::StrCat("cannot listen on ", where, ": ",
                                                      errno != 0 ? std::strerror(errno) : "no such address",
                                                      "; choose another --listen or --port"));
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

int HttpServer::port() const { return impl_->port; }

void HttpServer::Start() {
  impl_->thread = std::thread([this] {
    impl_->server.listen_after_bind();
    impl_->ended = true;
  });
}

void HttpServer::Stop() {
  if (!impl_->thread.joinable()) return;
  // stop() does nothing before the thread has begun to listen.
  while (!impl_->server.is_running() && !impl_->ended) std::this_thread::yield();
  impl_->server.stop();
  impl_->thread.join();
}

absl::StatusOr<HttpReply> Call(int port, const HttpRequest& request, absl::Duration timeout) {
  httplib::Client client("127.0.0.1", port);
  const auto limit = absl::ToChronoMilliseconds(timeout);
  client.set_connection_timeout(limit);
  client.set_read_timeout(limit);
  client.set_write_timeout(limit);
  client.set_url_encode(false);  // the target is encoded already
  httplib::Request call;
  call.method = request.method;
  call.path = request.target;
  call.body = request.body;
  if (request.method == "POST" || request.method == "PUT") call.set_header("Content-Type", "text/plain; charset=utf-8");
  const httplib::Result result = client.send(call);
  if (!result) {
    return absl::UnavailableError(absl::StrCat(request.method, " ", request.target, " on port ", port,
                                               " got no answer: ", httplib::to_string(result.error())));
  }
  HttpReply reply;
  reply.status = result->status;
  reply.body = result->body;
  reply.content_type = result->get_header_value("Content-Type");
  reply.allow = result->get_header_value("Allow");
  return reply;
}

}  // namespace trigger_words
