// HTTP as little as the example needs: a server with one handler, and single calls to it. A thin layer over
// cpp-httplib.

#ifndef EXAMPLES_TRIGGER_WORDS_HTTP_H_
#define EXAMPLES_TRIGGER_WORDS_HTTP_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace trigger_words {

struct HttpRequest {
  std::string method;
  std::string target;  // as it was sent: percent-encoded
  std::string body;
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";
  std::string allow;  // with 405: the methods that the path has
};

// A reply whose body is `sentence` and a newline.
HttpReply Sentence(int status, std::string_view sentence);

// Reverses percent-encoding. InvalidArgument for a '%' without two hexadecimal digits.
absl::StatusOr<std::string> PercentDecode(std::string_view text);
std::string PercentEncode(std::string_view text);

// Answers requests with 8 threads, one request a connection. Bodies are bounded: longer ones are answered with 413, and
// those sent in chunks with 411, without a call of the handler.
class HttpServer {
 public:
  using Handler = std::function<HttpReply(const HttpRequest&)>;

  // Takes the port, 0: any free one; answers begin with Start. `handler` runs on several threads at a time.
  // FailedPrecondition: the address is taken, or not of this machine.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Bind(const std::string& address, int port, size_t max_body_bytes,
                                                          Handler handler);
  // Stops.
  ~HttpServer();

  int port() const;
  void Start();
  // Waits for running handlers, and for a client that is slow in sending for a second at most.
  void Stop();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// One request to a port of this machine. Unavailable: there was no answer within `timeout`.
absl::StatusOr<HttpReply> Call(int port, const HttpRequest& request, absl::Duration timeout = absl::Seconds(10));

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_HTTP_H_
