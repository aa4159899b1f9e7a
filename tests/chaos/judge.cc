#include "tests/chaos/judge.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace chaos {
namespace {

std::string Told(const Count& count) {
  return absl::StrCat(count.life, " wrote ", count.count, " at revision ", count.revision, " with fence ", count.fence);
}

void JudgeOrder(const FencedHistory& history, Violations* violations) {
  std::vector<Count> counts = history.counts;
  std::sort(counts.begin(), counts.end(), [](const Count& a, const Count& b) { return a.revision < b.revision; });
  for (size_t i = 1; i < counts.size(); ++i) {
    const Count& before = counts[i - 1];
    const Count& now = counts[i];
    const std::string both = absl::StrCat(history.name, ": ", Told(now), " after ", Told(before));
    if (now.revision == before.revision) violations->push_back(both + ": two writes have one revision");
    if (now.count <= before.count) violations->push_back(both + ": a write is lost");
    const bool same_owner = now.life == before.life && !history.one_each;
    if (now.fence < before.fence || (now.fence == before.fence && !same_owner)) {
      violations->push_back(both + ": the fence does not grow");
    }
  }
}

void JudgeOwners(const FencedHistory& history, Violations* violations) {
  std::vector<Count> counts = history.counts;
  std::sort(counts.begin(), counts.end(), [](const Count& a, const Count& b) { return a.from < b.from; });
  const Count* latest = nullptr;
  for (const Count& now : counts) {
    if (latest != nullptr && latest->life != now.life && now.from < latest->until) {
      violations->push_back(absl::StrCat(history.name, ": ", now.life, " with fence ", now.fence, " and ", latest->life,
                                         " with fence ", latest->fence, " at a time"));
    }
    if (latest != nullptr && now.fence < latest->fence && now.from >= latest->until) {
      violations->push_back(
          absl::StrCat(history.name, ": ", Told(now), " later than ", Told(*latest), ": the fence goes back"));
    }
    if (latest == nullptr || now.until > latest->until) latest = &now;
  }
}

}  // namespace

Violations JudgeFenced(const FencedHistory& history) {
  Violations violations;
  JudgeOwners(history, &violations);
  if (!history.stands.has_value()) return violations;
  JudgeOrder(history, &violations);
  const Outcomes& outcomes = history.outcomes;
  if (static_cast<int64_t>(history.counts.size()) != outcomes.acknowledged) {
    violations.push_back(absl::StrCat(history.name, ": ", outcomes.acknowledged, " were acknowledged and ",
                                      history.counts.size(), " written down"));
  }
  if (*history.stands < outcomes.acknowledged) {
    violations.push_back(absl::StrCat(history.name, ": ", outcomes.acknowledged,
                                      " counts were acknowledged, and the cell ", "stands at ", *history.stands,
                                      ": some are lost"));
  }
  if (*history.stands > outcomes.acknowledged + outcomes.unknown) {
    violations.push_back(absl::StrCat(history.name, ": the cell stands at ", *history.stands, ", and only ",
                                      outcomes.acknowledged, " counts were acknowledged and ", outcomes.unknown,
                                      " unknown: some were made twice"));
  }
  return violations;
}

Violations JudgeSums(const SumHistory& history) {
  Violations violations;
  std::set<int64_t> all;
  for (const auto& [life, sums] : history.sums) {
    int64_t last = 0;
    for (const int64_t sum : sums) {
      if (!all.insert(sum).second) violations.push_back(absl::StrCat("two additions were told that they made ", sum));
      if (sum <= last) violations.push_back(absl::StrCat(life, " made ", sum, " after ", last));
      last = sum;
    }
  }
  const Outcomes& outcomes = history.outcomes;
  if (static_cast<int64_t>(all.size()) != outcomes.acknowledged) {
    violations.push_back(
        absl::StrCat(outcomes.acknowledged, " additions were acknowledged and ", all.size(), " written down"));
  }
  if (history.stands < outcomes.acknowledged || (!all.empty() && history.stands < *all.rbegin())) {
    violations.push_back(absl::StrCat(outcomes.acknowledged, " additions were acknowledged, the last as ",
                                      all.empty() ? 0 : *all.rbegin(), ", and the sum is ", history.stands,
                                      ": some are lost"));
  }
  if (history.stands > outcomes.acknowledged + outcomes.unknown) {
    violations.push_back(absl::StrCat("the sum is ", history.stands, ", and only ", outcomes.acknowledged,
                                      " additions were acknowledged and ", outcomes.unknown,
                                      " unknown: some were made twice"));
  }
  return violations;
}

Violations JudgeEvents(const EventHistory& history) {
  Violations violations;
  for (const auto& [cursor, lives] : history.came) {
    std::map<std::string, std::set<int64_t>> came;
    for (const auto& life : lives) {
      for (const auto& [publisher, numbers] : life) {
        came[publisher].insert(numbers.begin(), numbers.end());
        for (size_t i = 1; i < numbers.size(); ++i) {
          if (numbers[i] > numbers[i - 1]) continue;
          violations.push_back(
              absl::StrCat(cursor, ": event ", numbers[i], " of ", publisher, " came after ", numbers[i - 1]));
        }
      }
    }
    for (const auto& [publisher, published] : history.published) {
      for (const int64_t n : published.stored) {
        if (came[publisher].count(n) != 0) continue;
        violations.push_back(absl::StrCat(cursor, ": event ", n, " of ", publisher, " was stored and is lost"));
      }
      for (const int64_t n : published.failed) {
        if (came[publisher].count(n) == 0) continue;
        violations.push_back(
            absl::StrCat(cursor, ": event ", n, " of ", publisher, " came, which was told not to be stored"));
      }
    }
  }
  return violations;
}

}  // namespace chaos
