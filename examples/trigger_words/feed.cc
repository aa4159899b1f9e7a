#include "examples/trigger_words/feed.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace trigger_words {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(10);
constexpr absl::Duration kRetry = absl::Milliseconds(20);
constexpr absl::Duration kSayEvery = absl::Seconds(2);
constexpr size_t kRefusedShown = 5;

// The answer to one post. A copy that is behind (503) is asked again.
absl::StatusOr<HttpReply> Post(Copy& copy, const std::string& text) {
  const absl::Time deadline = absl::Now() + kPatience;
  for (;;) {
    absl::StatusOr<HttpReply> reply = copy.Call("POST", "/posts", text);
    if (!reply.ok() || reply->status != 503 || absl::Now() >= deadline) return reply;
    absl::SleepFor(kRetry);
  }
}

}  // namespace

absl::StatusOr<Fed> FeedPosts(const std::vector<Copy*>& copies, const std::string& path,
                              const std::function<void(const std::string&)>& say) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, " cannot be read"));
  Fed fed;
  size_t number = 0;
  absl::Time said = absl::Now();
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    Copy& copy = *copies[(fed.posts + fed.refused) % copies.size()];
    const absl::StatusOr<HttpReply> reply = Post(copy, line);
    if (!reply.ok()) return reply.status();
    if (reply->status / 100 == 4) {
      if (++fed.refused <= kRefusedShown)
        say(absl::StrCat("line ", number, " was refused: ", reply->body.substr(0, reply->body.find('\n'))));
      continue;
    }
    const nlohmann::json json = nlohmann::json::parse(reply->body, nullptr, false);
    if (reply->status != 200 || !json.is_object() || !json.contains("alerts")) {
      return absl::FailedPreconditionError(
          absl::StrCat("line ", number, " at ", copy.name(), " was answered with ", reply->status, ": ", reply->body));
    }
    ++fed.posts;
    const auto alerts = json["alerts"].get<std::vector<std::string>>();
    if (!alerts.empty()) ++fed.alerts;
    for (const std::string& word : alerts) ++fed.by_word[word];
    if (absl::Now() - said >= kSayEvery) {
      said = absl::Now();
      say(absl::StrCat(fed.posts, " posts so far"));
    }
  }
  if (fed.refused > kRefusedShown) say(absl::StrCat(fed.refused, " lines were refused in all"));
  return fed;
}

}  // namespace trigger_words
