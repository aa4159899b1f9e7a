// The copies of the story: how they start and end.

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "examples/trigger_words/story.h"
#include "kv/secrets.h"

namespace trigger_words {

std::string Story::Ms(absl::Duration d) { return absl::StrFormat("%.1f ms", absl::ToDoubleMilliseconds(d)); }

std::string Story::Name(size_t i) { return absl::StrCat("server-", i + 1); }

void Story::Say(const std::string& who, const std::string& what) const {
  std::printf("%8.3f s  %-9s %s\n", absl::ToDoubleSeconds(absl::Now() - begin_), who.c_str(), what.c_str());
  std::fflush(stdout);
}

void Story::Introduce() const {
  std::printf("Three copies of a plugin share one store: %s\n", kv::RedactUrl(options_.store).c_str());
  if (!options_.events.empty()) std::printf("Events: %s\n", kv::RedactUrl(options_.events).c_str());
}

// What the first copy says of a store that is weaker than locks want.
void Story::RepeatWarning() const {
  std::ifstream log(options_.folder + "/log");
  for (std::string line; std::getline(log, line);) {
    if (!absl::StrContains(line, "cannot carry what locks promise")) continue;
    Say(Name(0), line);
    return;
  }
}

CopyOptions Story::Options(size_t i) const {
  CopyOptions options;
  options.binary = options_.binary;
  options.name = Name(i);
  options.store = options_.store;
  options.events = options_.events;
  options.digest = DigestPath();
  options.plugin = "com.example.story";
  options.ttl = options_.ttl;
  options.max_ttl = options_.max_ttl;
  options.accept_weaker = options_.accept_weaker;
  options.log = options_.folder + "/log";
  return options;
}

std::vector<Copy*> Story::Running() {
  std::vector<Copy*> running;
  for (std::optional<Copy>& copy : copies_) {
    if (copy.has_value()) running.push_back(&*copy);
  }
  return running;
}

std::optional<Copy>& Story::ByName(const std::string& name) {
  return *std::find_if(copies_.begin(), copies_.end(),
                       [&](const std::optional<Copy>& c) { return c && c->name() == name; });
}

absl::Status Story::StartAll() {
  for (size_t i = 0; i < copies_.size(); ++i) {
    absl::StatusOr<Copy> copy = Copy::Launch(Options(i));
    if (!copy.ok()) return copy.status();
    copies_[i].emplace(*std::move(copy));
  }
  for (size_t i = 0; i < copies_.size(); ++i) {
    if (absl::Status ready = copies_[i]->WaitReady(); !ready.ok()) return ready;
    Say(Name(i), absl::StrCat("ready on port ", copies_[i]->port(), ", process ", copies_[i]->process().pid()));
  }
  RepeatWarning();
  // A store that forgets with a restart is watched for max_ttl before anybody gets anything.
  const absl::Duration patience = kSoon + (options_.accept_weaker ? 2 * options_.max_ttl : absl::ZeroDuration());
  const absl::StatusOr<CopyStatus> status = WaitForLeader(Running(), fence_, patience);
  if (!status.ok()) return status.status();
  leader_ = status->leader;
  fence_ = status->fence;
  Say("all", absl::StrCat("agree: ", leader_, " leads, fence ", fence_));
  return absl::OkStatus();
}

absl::Status Story::StopAll() {
  for (std::optional<Copy>& copy : copies_) {
    if (!copy.has_value()) continue;
    const absl::Time begin = absl::Now();
    const absl::StatusOr<int> code = copy->Stop();
    if (!code.ok()) return code.status();
    if (*code != 0)
      return absl::FailedPreconditionError(
          absl::StrCat(copy->name(), " should have exited with 0 after SIGTERM, not with ", *code));
    Say(copy->name(), absl::StrCat("left after SIGTERM within ", Ms(absl::Now() - begin), ", exit code 0"));
    copy.reset();
  }
  return absl::OkStatus();
}

}  // namespace trigger_words
