#include "examples/trigger_words/service.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"

namespace trigger_words {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::Duration kStoreTimeout = absl::Milliseconds(1500);
constexpr size_t kExcerptCharacters = 120;

absl::Time StoreDeadline() { return absl::Now() + kStoreTimeout; }

HttpReply JsonReply(const Json& json) {
  HttpReply reply;
  reply.body = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  reply.content_type = "application/json";
  return reply;
}

HttpReply NoContent() {
  HttpReply reply;
  reply.status = 204;
  return reply;
}

HttpReply ErrorReply(const absl::Status& status) {
  const std::string sentence(status.message().data(), status.message().size());
  if (absl::IsInvalidArgument(status)) return Sentence(400, sentence);
  if (absl::IsDeadlineExceeded(status)) {
    return Sentence(503, "the store did not answer in time, and the change may or may not have been made: " + sentence);
  }
  return Sentence(503, sentence);
}

std::vector<std::string> Given(const coord::SharedMap::Snapshot& words) {
  std::vector<std::string> given;
  given.reserve(words.size());
  for (const auto& [folded, word] : words) given.push_back(word.value);
  return given;
}

std::string RandomId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x", random(), random());
}

std::string_view StateName(coord::SessionState state) {
  switch (state) {
    case coord::SessionState::kAttached:
      return "attached";
    case coord::SessionState::kUncertain:
      return "uncertain";
    case coord::SessionState::kLost:
      return "lost";
  }
  return "unknown";
}

std::string_view ConnectionName(kv::Connection connection) {
  switch (connection) {
    case kv::Connection::kConnected:
      return "connected";
    case kv::Connection::kReconnecting:
      return "reconnecting";
    case kv::Connection::kClosed:
      return "closed";
  }
  return "unknown";
}

// The methods of a path that needs no more than a look at its name; nullptr: there is no such path.
const char* AllowedMethods(std::string_view path) {
  if (path == "/triggers") return "GET, HEAD, POST";
  if (path == "/posts" || path == "/step-down") return "POST";
  if (path == "/status" || path == "/healthz" || path == "/readyz" || path == "/metrics") return "GET, HEAD";
  if (path.substr(0, 10) == "/triggers/") return "DELETE";
  return nullptr;
}

}  // namespace

// The matcher of one state of the words.
struct Service::Cached {
  std::shared_ptr<const coord::SharedMap::Snapshot> words;
  std::shared_ptr<const Matcher> matcher;
};

Service::Service(coord::Cluster* cluster, coord::SharedMap* words, Digest* digest)
    : cluster_(cluster), words_(words), digest_(digest), incarnation_(RandomId()) {}

HttpReply Service::Handle(const HttpRequest& request) {
  HttpReply reply = Route(request);
  if (reply.status >= 500) {
    ++failed_;
  } else if (reply.status >= 400) {
    ++refused_;
  }
  return reply;
}

HttpReply Service::Route(const HttpRequest& request) {
  const std::string_view path = std::string_view(request.target).substr(0, request.target.find_first_of("?#"));
  const char* const allowed = AllowedMethods(path);
  if (allowed == nullptr) {
    return Sentence(404,
                    "there is no such path; see /triggers, /posts, /status, /step-down, /healthz, /readyz, /metrics");
  }
  const bool get = request.method == "GET" || request.method == "HEAD";
  if (path == "/triggers" && get) return ListWords();
  if (path == "/status" && get) return Status();
  if (path == "/healthz" && get) return Sentence(200, "alive");
  if (path == "/readyz" && get) return Ready();
  if (path == "/metrics" && get) return Metrics();
  if (path == "/triggers" && request.method == "POST") return AddWord(request);
  if (path == "/posts" && request.method == "POST") return AddPost(request);
  if (path == "/step-down" && request.method == "POST") return StepDown();
  if (path.size() > 10 && path.substr(0, 10) == "/triggers/" && request.method == "DELETE") {
    return RemoveWord(request, path.substr(10));
  }
  if (path == "/triggers/" && request.method == "DELETE") {
    return Sentence(400, "the word is empty; name it in the path, for example: DELETE /triggers/hello");
  }
  HttpReply reply = Sentence(405, absl::StrCat("this path has only: ", allowed));
  reply.allow = allowed;
  return reply;
}

HttpReply Service::AddWord(const HttpRequest& request) {
  const absl::StatusOr<Word> word = ParseWord(request.body);
  if (!word.ok()) return ErrorReply(word.status());
  const std::shared_ptr<const coord::SharedMap::Snapshot> words = words_->Get();
  if (words->size() >= kMaxWords && words->count(word->folded) == 0) {
    return Sentence(409, absl::StrCat("there are ", words->size(), " trigger words, and at most ", kMaxWords,
                                      " are allowed; delete one first"));
  }
  const absl::Status status = words_->Set(word->folded, word->given, StoreDeadline()).status();
  return status.ok() ? NoContent() : ErrorReply(status);
}

HttpReply Service::RemoveWord(const HttpRequest&, std::string_view encoded_word) {
  const absl::StatusOr<std::string> text = PercentDecode(encoded_word);
  if (!text.ok()) return ErrorReply(text.status());
  const absl::StatusOr<Word> word = ParseWord(*text);
  if (!word.ok()) return ErrorReply(word.status());
  const absl::Status status = words_->Remove(word->folded, StoreDeadline());
  return status.ok() ? NoContent() : ErrorReply(status);
}

HttpReply Service::ListWords() const { return JsonReply(Given(*words_->Get())); }

std::shared_ptr<const Matcher> Service::CurrentMatcher() {
  std::shared_ptr<const coord::SharedMap::Snapshot> words = words_->Get();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (cached_ != nullptr && cached_->words == words) return cached_->matcher;
  std::vector<Word> list;
  list.reserve(words->size());
  for (const auto& [folded, word] : *words) list.push_back({word.value, folded});
  auto cached = std::make_shared<Cached>();
  cached->words = std::move(words);
  cached->matcher = std::make_shared<const Matcher>(list);
  cached_ = cached;
  return cached->matcher;
}

HttpReply Service::AddPost(const HttpRequest& request) {
  if (absl::Status status = CheckPost(request.body); !status.ok()) return ErrorReply(status);
  std::vector<std::string> found = CurrentMatcher()->Match(request.body);
  if (!found.empty()) {
    const absl::Time now = absl::Now();
    Alert alert;
    alert.id = MakeAlertId(now, incarnation_, ++alert_number_);
    alert.time = absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", now, absl::UTCTimeZone());
    alert.copy = cluster_->instance();
    alert.words = found;
    alert.post = Excerpt(request.body, kExcerptCharacters);
    if (absl::Status status = digest_->Submit(alert, StoreDeadline()); !status.ok()) return ErrorReply(status);
    ++alerts_;
  }
  ++posts_;
  return JsonReply({{"alerts", found}, {"copy", cluster_->instance()}});
}

HttpReply Service::Status() {
  const std::shared_ptr<const coord::LeaderInfo> leader = digest_->Leader();
  Json status = {{"copy", cluster_->instance()},
                 {"session", cluster_->session()},
                 {"state", StateName(cluster_->state())},
                 {"store", ConnectionName(cluster_->Stats().connection)},
                 {"leader", nullptr},
                 {"fence", 0},
                 {"triggers", Given(*words_->Get())}};
  if (leader != nullptr) {
    status["leader"] = leader->instance;
    status["fence"] = leader->fence;
  }
  return JsonReply(status);
}

HttpReply Service::StepDown() {
  const absl::Status status = digest_->StepDown();
  if (status.ok()) return NoContent();
  if (!absl::IsFailedPrecondition(status)) return ErrorReply(status);
  const std::shared_ptr<const coord::LeaderInfo> leader = digest_->Leader();
  const std::string who = leader != nullptr ? leader->instance + " does; ask it" : "nobody does at the moment";
  return Sentence(409, absl::StrCat(cluster_->instance(), " does not lead, so it cannot step down; ", who));
}

HttpReply Service::Ready() const {
  switch (cluster_->state()) {
    case coord::SessionState::kAttached:
      return Sentence(200, "ready");
    case coord::SessionState::kUncertain:
      return Sentence(503, "not ready: the store has not answered lately, so the session may soon be lost");
    case coord::SessionState::kLost:
      break;
  }
  return Sentence(503, "not ready: the session is lost; the copy joins again as soon as the store answers");
}

HttpReply Service::Metrics() const {
  const std::string labels =
      absl::StrCat("{plugin=\"", cluster_->plugin(), "\",instance=\"",
                   absl::StrReplaceAll(cluster_->instance(), {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}), "\"}");
  HttpReply reply;
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  reply.body = coord::StatsText(cluster_->Stats(), cluster_->plugin(), cluster_->instance());
  const auto add = [&](const char* name, const char* type, const char* help, uint64_t value) {
    absl::StrAppend(&reply.body, "# HELP trigger_words_", name, " ", help, "\n# TYPE trigger_words_", name, " ", type,
                    "\ntrigger_words_", name, labels, " ", value, "\n");
  };
  add("posts_total", "counter", "Posts that were accepted.", posts_);
  add("alerts_total", "counter", "Posts that contained a trigger word.", alerts_);
  add("refused_total", "counter", "Requests answered with 4xx.", refused_);
  add("failed_total", "counter", "Requests answered with 5xx.", failed_);
  add("digest_lines_total", "counter", "Lines that this copy wrote to the digest.", digest_->lines());
  add("digest_waiting", "gauge", "Alerts that wait for the digest.", digest_->waiting());
  add("words", "gauge", "Trigger words.", words_->Get()->size());
  return reply;
}

}  // namespace trigger_words
