// The plugin's requests, apart from HTTP's own matters.

#ifndef EXAMPLES_TRIGGER_WORDS_SERVICE_H_
#define EXAMPLES_TRIGGER_WORDS_SERVICE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "coord/coord.h"
#include "examples/trigger_words/digest.h"
#include "examples/trigger_words/http.h"
#include "examples/trigger_words/matcher.h"

namespace trigger_words {

// Thread-safe.
class Service {
 public:
  static constexpr size_t kMaxWords = 1000;

  // All three must outlive the Service.
  Service(coord::Cluster* cluster, coord::SharedMap* words, Digest* digest);

  // Answers any request; the README lists them. Blocks for 2 s at most.
  HttpReply Handle(const HttpRequest& request);

 private:
  struct Cached;

  HttpReply AddWord(const HttpRequest& request);
  HttpReply RemoveWord(const HttpRequest& request, std::string_view encoded_word);
  HttpReply ListWords() const;
  HttpReply AddPost(const HttpRequest& request);
  HttpReply Status();
  HttpReply StepDown();
  HttpReply Ready() const;
  HttpReply Metrics() const;
  HttpReply Route(const HttpRequest& request);
  std::shared_ptr<const Matcher> CurrentMatcher();

  coord::Cluster* const cluster_;
  coord::SharedMap* const words_;
  Digest* const digest_;
  const std::string incarnation_;  // of this process

  std::atomic<uint64_t> alert_number_{0};
  std::atomic<uint64_t> posts_{0};
  std::atomic<uint64_t> alerts_{0};
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> failed_{0};

  std::mutex mutex_;
  std::shared_ptr<const Cached> cached_;  // guarded by mutex_
};

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_SERVICE_H_
