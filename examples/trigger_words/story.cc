#include "examples/trigger_words/story.h"

#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "examples/trigger_words/feed.h"
#include "examples/trigger_words/http.h"

namespace trigger_words {
namespace {

using Words = std::vector<std::string>;

std::string Quoted(const Words& words) { return absl::StrCat("[", absl::StrJoin(words, ", "), "]"); }

#define STORY_TRY(expression) \
  if (absl::Status story_status = (expression); !story_status.ok()) return story_status

absl::Status Wrong(const std::string& what) { return absl::FailedPreconditionError(what); }

}  // namespace

absl::Status Story::ExpectPost(size_t i, const std::string& text, const Words& expected) {
  const absl::StatusOr<Words> alerts = copies_[i]->Post(text);
  if (!alerts.ok()) return alerts.status();
  if (*alerts != expected) {
    return Wrong(absl::StrCat("the post '", text, "' at ", Name(i), " should have alerted on ", Quoted(expected),
                              ", not on ", Quoted(*alerts)));
  }
  if (!expected.empty()) ++expected_alerts_;
  Say(Name(i), absl::StrCat("got the post '", text, "': alerts ", Quoted(*alerts)));
  return absl::OkStatus();
}

absl::Status Story::AlertsElsewhere() {
  STORY_TRY(ExpectPost(1, "Well, HELLO there", {}));
  STORY_TRY(copies_[0]->Do("POST", "/triggers", "hello"));
  const absl::Time set = absl::Now();
  Say(Name(0), "got the trigger word 'hello'");
  for (const size_t i : {size_t{1}, size_t{2}}) {
    const bool alerted = WaitUntil(kSoon, [&] {
      const absl::StatusOr<Words> alerts = copies_[i]->Post("Well, HELLO there");
      if (!alerts.ok() || alerts->empty()) return false;
      ++expected_alerts_;
      return *alerts == Words{"hello"};
    });
    const absl::Duration took = absl::Now() - set;
    if (!alerted) return Wrong(absl::StrCat(Name(i), " should alert on the word that was set on ", Name(0)));
    Say(Name(i),
        absl::StrCat("alerts on 'hello', ", Ms(took), " after it was set on ", Name(0),
                     took > absl::Milliseconds(100) ? " (over the promised 100 ms: is the machine busy?)" : ""));
  }
  return ExpectPost(2, "Othello says helloooo", {});
}

absl::Status Story::DigestHas(const std::string& writer) {
  absl::StatusOr<std::vector<DigestEntry>> digest;
  const bool all = WaitUntil(kSoon, [&] {
    digest = ReadDigest(DigestPath());
    return digest.ok() && digest->size() >= expected_alerts_;
  });
  if (!digest.ok()) return digest.status();
  if (!all || digest->back().fence != fence_) {
    return Wrong(absl::StrCat("the digest should have ", expected_alerts_, " lines by now, the last with the fence ",
                              fence_, ", not ", digest->size()));
  }
  Say(writer, absl::StrCat("wrote to the digest: ", digest->size(), " alerts in all, the last with fence ", fence_));
  return absl::OkStatus();
}

absl::Status Story::LeaderChanges(const std::string& how, absl::Time since, absl::Duration within) {
  const uint64_t before = fence_;
  const absl::StatusOr<CopyStatus> status = WaitForLeader(Running(), fence_, within + kSoon);
  if (!status.ok()) return status.status();
  const absl::Duration took = absl::Now() - since;
  if (status->leader == leader_) return Wrong(absl::StrCat("another copy than ", leader_, " should lead after ", how));
  if (took > within) {
    return Wrong(
        absl::StrCat("another copy should lead ", absl::FormatDuration(within), " after ", how, ", not ", Ms(took)));
  }
  leader_ = status->leader;
  fence_ = status->fence;
  Say(leader_, absl::StrCat("leads ", Ms(took), " after ", how, "; the fence grew from ", before, " to ", fence_));
  return absl::OkStatus();
}

absl::Status Story::KilledLeader() {
  std::optional<Copy>& leader = ByName(leader_);
  const std::string killed = leader_;
  const size_t index = static_cast<size_t>(&leader - copies_.data());
  leader->process().Kill();
  const absl::Time now = absl::Now();
  leader.reset();
  Say(killed, "leads, and is killed with SIGKILL");
  STORY_TRY(ExpectPost((index + 1) % 3, "hello, is anybody leading?", {"hello"}));
  // The promise is ttl + 0.5 s after the last beat; the rest is for us, who ask by HTTP.
  STORY_TRY(LeaderChanges("the kill", now, options_.ttl + absl::Seconds(1)));
  absl::StatusOr<Copy> again = Copy::Start(Options(index));
  if (!again.ok()) return again.status();
  leader.emplace(*std::move(again));
  const absl::StatusOr<CopyStatus> status = leader->Status();
  if (!status.ok()) return status.status();
  if (status->triggers != Words{"hello"}) {
    return Wrong(absl::StrCat(killed, " should know the words when it comes back, but has ", Quoted(status->triggers)));
  }
  Say(killed, absl::StrCat("is back, and knows the words: ", Quoted(status->triggers)));
  return ExpectPost(index, "hello again", {"hello"});
}

absl::Status Story::StepDown() {
  const absl::StatusOr<CopyStatus> now = WaitForLeader(Running(), 0, kSoon);
  if (!now.ok()) return now.status();
  for (Copy* copy : Running()) {
    if (copy->name() == leader_) continue;
    const absl::StatusOr<HttpReply> reply = copy->Call("POST", "/step-down");
    if (!reply.ok()) return reply.status();
    if (reply->status != 409)
      return Wrong(absl::StrCat("a copy that does not lead should refuse to step down with 409, not ", reply->status));
    Say(copy->name(), absl::StrCat("refuses to step down: ", reply->body.substr(0, reply->body.find('\n'))));
    break;
  }
  const absl::Time since = absl::Now();
  STORY_TRY(ByName(leader_)->Do("POST", "/step-down"));
  Say(leader_, "steps down");
  return LeaderChanges("that", since, kSoon);
}

absl::Status Story::Leave() {
  std::optional<Copy>& leader = ByName(leader_);
  const absl::Time since = absl::Now();
  const absl::StatusOr<int> code = leader->Stop();
  if (!code.ok()) return code.status();
  if (*code != 0) return Wrong(absl::StrCat(leader_, " should have exited with 0 after SIGTERM, not with ", *code));
  leader.reset();
  Say(leader_, absl::StrCat("leads, and left after SIGTERM within ", Ms(absl::Now() - since), ", exit code 0"));
  return LeaderChanges("SIGTERM", since, kSoon);
}

absl::Status Story::EveryAlertOnce() {
  absl::StatusOr<std::vector<DigestEntry>> digest;
  WaitUntil(options_.ttl + absl::Seconds(10), [&] {
    digest = ReadDigest(DigestPath());
    return digest.ok() && digest->size() >= expected_alerts_;
  });
  if (!digest.ok()) return digest.status();
  std::set<std::string> ids;
  std::map<uint64_t, size_t> by_fence;
  for (const DigestEntry& entry : *digest) {
    ids.insert(entry.alert);
    ++by_fence[entry.fence];
  }
  if (digest->size() != expected_alerts_ || ids.size() != expected_alerts_) {
    return Wrong(absl::StrCat("the digest should have a line for each of the ", expected_alerts_, " alerts, but has ",
                              digest->size(), " lines for ", ids.size(), " alerts"));
  }
  Say("digest",
      absl::StrCat(expected_alerts_, " alerts, each written once, by ", by_fence.size(), " leader(s) in turn:"));
  for (const auto& [fence, lines] : by_fence) Say("", absl::StrCat("  fence ", fence, ": ", lines, " line(s)"));
  return absl::OkStatus();
}

absl::Status Story::Play() {
  Introduce();
  STORY_TRY(StartAll());
  STORY_TRY(AlertsElsewhere());
  STORY_TRY(DigestHas(leader_));
  STORY_TRY(KilledLeader());
  STORY_TRY(DigestHas(leader_));
  STORY_TRY(StepDown());
  STORY_TRY(Leave());
  STORY_TRY(StopAll());
  Say("all", "have gone; three new ones start");
  STORY_TRY(StartAll());
  STORY_TRY(ExpectPost(2, "Does anybody remember? Hello!", {"hello"}));
  STORY_TRY(EveryAlertOnce());
  STORY_TRY(copies_[0]->Do("DELETE", "/triggers/hello"));
  return StopAll();
}

absl::Status Story::Feed(const std::string& path, const Words& words) {
  Introduce();
  STORY_TRY(StartAll());
  for (const std::string& word : words) STORY_TRY(copies_[0]->Do("POST", "/triggers", word));
  Say(Name(0), absl::StrCat("got the trigger words ", Quoted(words)));
  for (const std::optional<Copy>& copy : copies_) {
    const auto knows = [&] {
      const absl::StatusOr<CopyStatus> status = copy->Status();
      return status.ok() && status->triggers.size() >= words.size();
    };
    if (!WaitUntil(kSoon, knows)) return Wrong(absl::StrCat(copy->name(), " should know the words by now"));
  }
  const absl::StatusOr<Fed> fed = FeedPosts(Running(), path, [this](const std::string& line) { Say("", line); });
  if (!fed.ok()) return fed.status();
  expected_alerts_ = fed->alerts;
  Say("all", absl::StrCat(fed->posts, " posts, of which ", fed->alerts, " alerted"));
  for (const auto& [word, count] : fed->by_word) Say("", absl::StrCat("  ", word, ": ", count));
  STORY_TRY(EveryAlertOnce());
  for (const std::string& word : words) STORY_TRY(copies_[0]->Do("DELETE", "/triggers/" + PercentEncode(word)));
  return StopAll();
}

}  // namespace trigger_words
