#include "tests/nats/loads.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace nats_test {

using process_test::Eventually;
using process_test::Lines;
using process_test::Process;
using process_test::Reply;
using process_test::Words;

namespace {

constexpr char kCallTime[] = " 20000";

int64_t Number(const std::string& word) {
  int64_t number = 0;
  EXPECT_TRUE(absl::SimpleAtoi(word, &number)) << word << " is no number";
  return number;
}

}  // namespace

Loads::Loads(std::vector<Process*> copies, std::string folder, unsigned seed)
    : copies_(std::move(copies)), folder_(std::move(folder)), seed_(seed) {}

std::string Loads::FileOf(const std::string& load, const Process& copy) const {
  return absl::StrCat(folder_, "/", load, "-", copy.instance());
}

void Loads::Start() {
  for (Process* copy : copies_) {
    const auto send = [&](const std::string& load, const std::string& arguments) {
      tags_[load].push_back(copy->Send(absl::StrCat("load-", load, " ", arguments, " ", seed_++)));
    };
    send("mutex", absl::StrCat("lock lock-cell ", FileOf("mutex", *copy)));
    send("election", absl::StrCat("office office-cell ", FileOf("election", *copy)));
    send("value", absl::StrCat("sum ", FileOf("value", *copy)));
    send("events", absl::StrCat("news ", copy->instance(), " ", FileOf("sent", *copy), " ", FileOf("got", *copy)));
    copy->Send("loads-report");
  }
}

void Loads::TakeReports() {
  for (Process* copy : copies_) {
    const std::vector<std::string> reports = copy->TakeEvents("progress ");
    if (reports.empty()) continue;
    const std::vector<std::string> words = Words(reports.back());
    Progress& progress = now_[copy];
    progress.reports += static_cast<int64_t>(reports.size());
    ASSERT_GE(words.size(), 4u) << reports.back();
    progress.turns = Number(words[0]);
    progress.terms = Number(words[1]);
    progress.additions = Number(words[2]);
    progress.published = Number(words[3]);
    for (size_t i = 4; i + 1 < words.size(); i += 2) progress.got[words[i]] = Number(words[i + 1]);
  }
}

void Loads::Mark() {
  TakeReports();
  for (Process* copy : copies_) now_[copy].reports = 0;
  base_.clear();
}

bool Loads::GotOn(std::string* missing) {
  TakeReports();
  *missing = "";
  for (Process* copy : copies_) {
    const Progress& now = now_[copy];
    // The first report may be of before.
    if (base_.count(copy) == 0 && now.reports >= 2) base_[copy] = now;
  }
  for (Process* copy : copies_) {
    if (base_.count(copy) == 0) {
      absl::StrAppend(missing, copy->instance(), " reports nothing; ");
      continue;
    }
    const Progress& base = base_[copy];
    const Progress& now = now_[copy];
    // One may have been under way then.
    const auto grew = [&](int64_t before, int64_t after, const char* what) {
      if (after < before + 2) absl::StrAppend(missing, copy->instance(), " has had ", after - before, " ", what, "; ");
    };
    grew(base.turns, now.turns, "turns");
    grew(base.terms, now.terms, "terms");
    grew(base.additions, now.additions, "additions");
    for (Process* publisher : copies_) {
      const auto got = now.got.find(publisher->instance());
      const int64_t last = got == now.got.end() ? 0 : got->second;
      const int64_t then = base_.count(publisher) == 0 ? 0 : base_[publisher].published;
      if (last > then) continue;
      absl::StrAppend(missing, copy->instance(), " has had events of ", publisher->instance(), " up to ", last,
                      ", not beyond ", then, "; ");
    }
  }
  return missing->empty();
}

void Loads::Stop() {
  for (Process* copy : copies_) EXPECT_TRUE(copy->Call("loads-stop").ok());
  EXPECT_TRUE(Eventually([&] {
    absl::SleepFor(absl::Milliseconds(50));
    return AllCame();
  }));
}

Loads::Outcomes Loads::Sum(const std::string& load) {
  Outcomes sum;
  for (size_t i = 0; i < copies_.size(); ++i) {
    const Reply reply = copies_[i]->Await(tags_[load][i]);
    EXPECT_TRUE(reply.ok()) << copies_[i]->instance() << " " << load << ": " << reply.status;
    sum.acknowledged += reply.Number(0);
    sum.unknown += reply.Number(1);
    sum.failed += reply.Number(2);
  }
  return sum;
}

std::vector<Loads::Count> Loads::ReadCounts(const std::string& load) const {
  std::vector<Count> counts;
  for (const Process* copy : copies_) {
    for (const std::string& line : Lines(FileOf(load, *copy))) {
      const std::vector<std::string> words = Words(line);
      EXPECT_EQ(words.size(), 5u) << line;
      if (words.size() != 5) continue;
      counts.push_back({copy->instance(), static_cast<uint64_t>(Number(words[0])),
                        static_cast<uint64_t>(Number(words[1])), Number(words[2]), Number(words[3]), Number(words[4])});
    }
  }
  std::sort(counts.begin(), counts.end(), [](const Count& a, const Count& b) { return a.revision < b.revision; });
  return counts;
}

// `one_each`: an owner writes once.
void Loads::CheckFenced(const std::string& load, bool one_each) {
  const Outcomes outcomes = Sum(load);
  const std::vector<Count> counts = ReadCounts(load);
  EXPECT_EQ(static_cast<int64_t>(counts.size()), outcomes.acknowledged) << load;
  const std::string cell = load == "mutex" ? "lock-cell" : "office-cell";
  const Reply stands = copies_[0]->Call(absl::StrCat("fenced-get ", cell, kCallTime));
  ASSERT_TRUE(stands.ok()) << load << ": " << stands.status;
  std::cout << load << ": " << outcomes.acknowledged << " counts acknowledged, " << outcomes.unknown << " unknown, "
            << outcomes.failed << " failed; " << stands.Number(0) << " in the store\n";
  EXPECT_GE(stands.Number(0), outcomes.acknowledged) << load << ": acknowledged counts are lost";
  EXPECT_LE(stands.Number(0), outcomes.acknowledged + outcomes.unknown) << load << ": counts were made twice";
  // In the order in which the store took them.
  for (size_t i = 1; i < counts.size(); ++i) {
    const Count& before = counts[i - 1];
    const Count& now = counts[i];
    const std::string both = absl::StrCat(load, ": ", now.copy, " wrote ", now.count, " at revision ", now.revision,
                                          " with fence ", now.fence, ", after ", before.copy, " wrote ", before.count,
                                          " at revision ", before.revision, " with fence ", before.fence);
    EXPECT_GT(now.revision, before.revision) << both;
    EXPECT_GT(now.count, before.count) << both << ": a write is lost";
    if (one_each || now.copy != before.copy) {
      EXPECT_GT(now.fence, before.fence) << both;
    } else {
      EXPECT_GE(now.fence, before.fence) << both;
    }
  }
  CheckOwners(load, counts);
}

// While one copy was certainly the owner no other was: the copies here are never paused, and have one clock.
void Loads::CheckOwners(const std::string& load, std::vector<Count> counts) {
  std::sort(counts.begin(), counts.end(), [](const Count& a, const Count& b) { return a.from < b.from; });
  const Count* longest = nullptr;
  for (const Count& now : counts) {
    if (longest != nullptr && longest->copy != now.copy) {
      EXPECT_GE(now.from, longest->until) << load << ": " << now.copy << " with fence " << now.fence << " and "
                                          << longest->copy << " with fence " << longest->fence << " at a time";
    }
    if (longest == nullptr || now.until > longest->until) longest = &now;
  }
}

void Loads::CheckValue() {
  const Outcomes outcomes = Sum("value");
  std::set<int64_t> sums;
  for (const Process* copy : copies_) {
    int64_t last = 0;
    for (const std::string& line : Lines(FileOf("value", *copy))) {
      const int64_t sum = Number(line);
      EXPECT_TRUE(sums.insert(sum).second) << "two additions were told that they made " << sum;
      EXPECT_GT(sum, last) << copy->instance();
      last = sum;
    }
  }
  const int64_t stands = copies_[0]->Call(absl::StrCat("get sum", kCallTime)).Number(0);
  std::cout << "value: " << outcomes.acknowledged << " additions acknowledged, " << outcomes.unknown << " unknown, "
            << outcomes.failed << " failed; " << stands << " in the store\n";
  EXPECT_EQ(static_cast<int64_t>(sums.size()), outcomes.acknowledged);
  EXPECT_GE(stands, outcomes.acknowledged) << "acknowledged additions are lost";
  EXPECT_LE(stands, outcomes.acknowledged + outcomes.unknown) << "additions were made twice";
  EXPECT_GE(stands, sums.empty() ? 0 : *sums.rbegin()) << "the newest additions are lost";
}

std::set<int64_t> Loads::Events(const Process& publisher, const std::string& outcome) const {
  std::set<int64_t> events;
  for (const std::string& line : Lines(FileOf("sent", publisher))) {
    const std::vector<std::string> words = Words(line);
    if (words.size() == 2 && words[0] == outcome) events.insert(Number(words[1]));
  }
  return events;
}

std::map<std::string, std::vector<int64_t>> Loads::Received(const Process& copy, int64_t* gaps) const {
  std::map<std::string, std::vector<int64_t>> received;
  for (const std::string& line : Lines(FileOf("got", copy))) {
    const std::vector<std::string> words = Words(line);
    if (words.empty()) continue;
    if (words[0] == "gap") {
      ++*gaps;
      std::cout << copy.instance() << ": " << line << "\n";
    } else if (words.size() == 2) {
      received[words[0]].push_back(Number(words[1]));
    }
  }
  return received;
}

bool Loads::AllCame() const {
  for (const Process* publisher : copies_) {
    const std::set<int64_t> stored = Events(*publisher, "stored");
    for (const Process* copy : copies_) {
      size_t came = 0;
      for (const std::string& line : Lines(FileOf("got", *copy))) {
        const std::vector<std::string> words = Words(line);
        if (words.size() == 2 && words[0] == publisher->instance() && stored.count(Number(words[1])) != 0) ++came;
      }
      if (came < stored.size()) return false;
    }
  }
  return true;
}

void Loads::CheckEvents() {
  const Outcomes outcomes = Sum("events");
  int64_t gaps = 0, unknown_came = 0;
  for (const Process* copy : copies_) {
    const std::map<std::string, std::vector<int64_t>> received = Received(*copy, &gaps);
    for (const Process* publisher : copies_) {
      const std::string both = absl::StrCat(copy->instance(), " of ", publisher->instance());
      const auto found = received.find(publisher->instance());
      const std::vector<int64_t> got = found == received.end() ? std::vector<int64_t>() : found->second;
      for (size_t i = 1; i < got.size(); ++i) {
        EXPECT_GT(got[i], got[i - 1]) << both << ": " << got[i] << " after " << got[i - 1];
      }
      const std::set<int64_t> came(got.begin(), got.end());
      for (int64_t n : Events(*publisher, "stored"))
        EXPECT_EQ(came.count(n), 1u) << both << ": event " << n << " is lost";
      for (int64_t n : Events(*publisher, "failed")) {
        EXPECT_EQ(came.count(n), 0u) << both << ": event " << n << " came, which was told not to be stored";
      }
      for (int64_t n : Events(*publisher, "unknown")) unknown_came += static_cast<int64_t>(came.count(n));
    }
  }
  std::cout << "events: " << outcomes.acknowledged << " stored, each delivered to " << copies_.size() << "; "
            << outcomes.unknown << " unknown or failed, of which " << unknown_came << " deliveries; " << gaps
            << " gaps\n";
}

void Loads::Check() {
  CheckFenced("mutex", true);
  CheckFenced("election", false);
  CheckValue();
  CheckEvents();
}

}  // namespace nats_test
