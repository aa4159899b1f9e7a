#include "tests/chaos/loads.h"

#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace chaos {

using process_test::Lines;
using process_test::Process;
using process_test::Reply;
using process_test::Words;

namespace {

constexpr char kCallTime[] = " 20000";

// Of what our own workers write.
int64_t Number(const std::string& word) {
  int64_t number = 0;
  if (absl::SimpleAtoi(word, &number)) return number;
  std::cerr << "\"" << word << "\" is no number\n";
  std::abort();
}

}  // namespace

Loads::Loads(std::string folder, unsigned seed, bool forgets)
    : folder_(std::move(folder)), seed_(seed), forgets_(forgets) {}

std::string Loads::FileOf(const std::string& load, const Life& life) const {
  return absl::StrCat(folder_, "/", load, "-", life.name);
}

absl::Status Loads::Subscribe(Process* copy, const std::string& place) {
  lives_.push_back(std::make_unique<Life>());
  Life& life = *lives_.back();
  life.process = copy;
  life.name = copy->instance();
  life.place = place;
  return copy->Call(absl::StrCat("load-subscribe news ", place, " ", FileOf("got", life))).status;
}

void Loads::Start(Process* copy) {
  for (const auto& life : lives_) {
    if (life->process != copy) continue;
    const auto send = [&](const std::string& load, const std::string& arguments) {
      life->tags[load] = copy->Send(absl::StrCat("load-", load, " ", arguments, " ", seed_++));
    };
    send("mutex", absl::StrCat("lock lock-cell ", FileOf("mutex", *life)));
    send("election", absl::StrCat("office office-cell ", FileOf("election", *life)));
    if (!forgets_) send("value", absl::StrCat("sum ", FileOf("value", *life)));
    send("events", absl::StrCat("news ", FileOf("sent", *life)));
    copy->Send("loads-report");
  }
}

void Loads::Gone(const Process* copy) {
  for (const auto& life : lives_) {
    if (life->process == copy) life->process = nullptr;
  }
}

void Loads::TakeReports(Life& life) {
  const std::vector<std::string> reports = life.process->TakeEvents("progress ");
  if (reports.empty()) return;
  const std::vector<std::string> words = Words(reports.back());
  Progress& progress = life.now;
  progress.reports += static_cast<int64_t>(reports.size());
  if (words.size() < 4) return;
  progress.turns = Number(words[0]);
  progress.terms = Number(words[1]);
  progress.additions = Number(words[2]);
  progress.published = Number(words[3]);
  for (size_t i = 4; i + 1 < words.size(); i += 2) progress.got[words[i]] = Number(words[i + 1]);
}

void Loads::Mark() {
  for (const auto& life : lives_) {
    if (life->process == nullptr) continue;
    TakeReports(*life);
    life->now.reports = 0;
    life->has_base = false;
  }
}

bool Loads::GotOn(std::string* missing) {
  *missing = "";
  for (const auto& life : lives_) {
    if (life->process == nullptr) continue;
    TakeReports(*life);
    // The first report may be of before.
    if (!life->has_base && life->now.reports >= 2) {
      life->has_base = true;
      life->base = life->now;
    }
  }
  for (const auto& life : lives_) {
    if (life->process == nullptr) continue;
    if (!life->has_base) {
      absl::StrAppend(missing, life->name, " reports nothing; ");
      continue;
    }
    // One may have been under way then.
    const auto grew = [&](int64_t before, int64_t after, const char* what) {
      if (after < before + 2) absl::StrAppend(missing, life->name, " has had ", after - before, " ", what, "; ");
    };
    grew(life->base.turns, life->now.turns, "turns");
    grew(life->base.terms, life->now.terms, "terms");
    if (!forgets_) grew(life->base.additions, life->now.additions, "additions");
    for (const auto& publisher : lives_) {
      if (publisher->process == nullptr) continue;
      const auto got = life->now.got.find(publisher->name);
      const int64_t last = got == life->now.got.end() ? 0 : got->second;
      const int64_t then = publisher->has_base ? publisher->base.published : 0;
      if (last > then) continue;
      absl::StrAppend(missing, life->name, " has had events of ", publisher->name, " up to ", last, ", not beyond ",
                      then, "; ");
    }
  }
  return missing->empty();
}

void Loads::Stop(absl::Duration patience) {
  for (const auto& life : lives_) {
    if (life->process != nullptr) life->process->Call("loads-stop");
  }
  // A load ends once all that it began is settled: only then all that was stored is written down.
  for (const auto& life : lives_) {
    if (life->process == nullptr) continue;
    for (const auto& [load, tag] : life->tags) life->ends[load] = life->process->Await(tag);
  }
  process_test::Eventually(
      [&] {
        absl::SleepFor(absl::Milliseconds(50));
        return AllCame();
      },
      patience);
}

Process& Loads::Living() const {
  for (const auto& life : lives_) {
    if (life->process != nullptr) return *life->process;
  }
  std::cerr << "no copy lives\n";
  std::abort();
}

// Of a life that is gone, `written` lines are what was acknowledged, and one write at most was under way.
Outcomes Loads::OutcomesOf(const std::string& load, const Life& life, int64_t written) const {
  if (life.process == nullptr) return {written, 1, 0};
  const Reply& reply = life.ends.at(load);
  if (!reply.ok()) {
    std::cerr << life.name << ": " << load << ": " << reply.status << "\n";
    return {-1, 0, 0};  // a violation, for it does not agree with what is written
  }
  return {reply.Number(0), reply.Number(1), reply.Number(2)};
}

void Loads::Say(const std::string& load, const Outcomes& outcomes, const std::string& more) {
  operations_ += outcomes.acknowledged;
  absl::StrAppend(&summary_, load, ": ", outcomes.acknowledged, " acknowledged, ", outcomes.unknown, " unknown, ",
                  outcomes.failed, " failed", more, "\n");
}

void Loads::JudgeCell(const std::string& load, const std::string& cell, bool one_each, Violations* violations) {
  FencedHistory history;
  history.name = load;
  history.one_each = one_each;
  for (const auto& life : lives_) {
    const std::vector<std::string> lines = Lines(FileOf(load, *life));
    for (const std::string& line : lines) {
      const std::vector<std::string> words = Words(line);
      if (words.size() != 5) {
        violations->push_back(absl::StrCat(load, ": ", life->name, " wrote down \"", line, "\""));
        continue;
      }
      history.counts.push_back({life->name, static_cast<uint64_t>(Number(words[0])),
                                static_cast<uint64_t>(Number(words[1])), Number(words[2]), Number(words[3]),
                                Number(words[4])});
    }
    const Outcomes outcomes = OutcomesOf(load, *life, static_cast<int64_t>(lines.size()));
    history.outcomes.acknowledged += outcomes.acknowledged;
    history.outcomes.unknown += outcomes.unknown;
    history.outcomes.failed += outcomes.failed;
  }
  std::string more;
  if (!forgets_) {
    const Reply stands = Living().Call(absl::StrCat("fenced-get ", cell, kCallTime));
    if (!stands.ok()) violations->push_back(absl::StrCat(load, ": ", stands.status.ToString()));
    history.stands = stands.Number(0);
    more = absl::StrCat("; ", *history.stands, " in the store");
  }
  const Violations found = JudgeFenced(history);
  violations->insert(violations->end(), found.begin(), found.end());
  Say(load, history.outcomes, more);
}

void Loads::JudgeValue(Violations* violations) {
  SumHistory history;
  for (const auto& life : lives_) {
    std::vector<int64_t>& sums = history.sums[life->name];
    for (const std::string& line : Lines(FileOf("value", *life))) sums.push_back(Number(line));
    const Outcomes outcomes = OutcomesOf("value", *life, static_cast<int64_t>(sums.size()));
    history.outcomes.acknowledged += outcomes.acknowledged;
    history.outcomes.unknown += outcomes.unknown;
    history.outcomes.failed += outcomes.failed;
  }
  history.stands = Living().Call(absl::StrCat("get sum", kCallTime)).Number(0);
  const Violations found = JudgeSums(history);
  violations->insert(violations->end(), found.begin(), found.end());
  Say("value", history.outcomes, absl::StrCat("; ", history.stands, " in the store"));
}

EventHistory Loads::ReadEvents(std::vector<std::string>* gaps) const {
  EventHistory history;
  for (const auto& life : lives_) {
    Published& published = history.published[life->name];
    for (const std::string& line : Lines(FileOf("sent", *life))) {
      const std::vector<std::string> words = Words(line);
      if (words.size() != 2) continue;
      if (words[0] == "stored") published.stored.insert(Number(words[1]));
      if (words[0] == "failed") published.failed.insert(Number(words[1]));
    }
    std::map<std::string, std::vector<int64_t>> came;
    for (const std::string& line : Lines(FileOf("got", *life))) {
      const std::vector<std::string> words = Words(line);
      if (!words.empty() && words[0] == "gap") {
        gaps->push_back(absl::StrCat(life->name, ": ", line));
      } else if (words.size() == 2) {
        came[words[0]].push_back(Number(words[1]));
      }
    }
    history.came[life->place].push_back(std::move(came));
  }
  return history;
}

bool Loads::AllCame() const {
  std::vector<std::string> gaps;
  const EventHistory history = ReadEvents(&gaps);
  for (const auto& [cursor, lives] : history.came) {
    for (const auto& [publisher, published] : history.published) {
      std::set<int64_t> missing = published.stored;
      for (const auto& life : lives) {
        const auto came = life.find(publisher);
        if (came == life.end()) continue;
        for (const int64_t n : came->second) missing.erase(n);
      }
      if (!missing.empty()) return false;
    }
  }
  return true;
}

void Loads::JudgeBus(Violations* violations) {
  std::vector<std::string> gaps;
  const EventHistory history = ReadEvents(&gaps);
  Outcomes outcomes;
  for (const auto& life : lives_) {
    const Published& published = history.published.at(life->name);
    outcomes.acknowledged += static_cast<int64_t>(published.stored.size());
    outcomes.failed += static_cast<int64_t>(published.failed.size());
    if (life->process == nullptr) continue;
    const Reply& reply = life->ends.at("events");
    if (!reply.ok()) violations->push_back(absl::StrCat(life->name, ": events: ", reply.status.ToString()));
    outcomes.unknown += reply.Number(1) - static_cast<int64_t>(published.failed.size());
  }
  const Violations found = JudgeEvents(history);
  violations->insert(violations->end(), found.begin(), found.end());
  Say("events", outcomes, absl::StrCat("; ", gaps.size(), " gaps"));
  for (const std::string& gap : gaps) absl::StrAppend(&summary_, gap, "\n");
}

Violations Loads::Judge() {
  Violations violations;
  JudgeCell("mutex", "lock-cell", true, &violations);
  JudgeCell("election", "office-cell", false, &violations);
  if (!forgets_) JudgeValue(&violations);
  JudgeBus(&violations);
  return violations;
}

}  // namespace chaos
