// A SharedValue and a SharedMap: what each copy keeps in memory never goes back, has its own writes at once, and is the
// same everywhere when nothing has been written for a while.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/grants.h"
#include "tests/sim/workloads.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

// What a copy has last seen of one cell.
class Seen {
 public:
  Seen(Copy& copy, std::string what) : copy_(copy), what_(std::move(what)) {}

  // Of this copy's memory.
  void Read(const std::optional<coord::Versioned>& now) {
    if (!copy_.world().config.keeps() || !now) return;  // removals go on from anywhere
    if (now->revision.epoch == highest_.epoch && now->revision.number < highest_.number) {
      copy_.world().report.Violation("went-back", absl::StrCat("copy ", copy_.number(), " sees ", what_, " @",
                                                               now->revision.number, " after ", highest_.number));
    }
    highest_ = now->revision;
  }
  void Wrote(const coord::Revision& revision) {
    if (revision.epoch != highest_.epoch || revision.number > highest_.number) highest_ = revision;
  }

 private:
  Copy& copy_;
  const std::string what_;
  coord::Revision highest_;
};

// What the store has of a cell in the end; its text begins with a header line.
std::optional<std::string> Stored(World& world, const std::string& key) {
  const auto entry = world.server.Get(key, absl::ZeroDuration());
  if (!entry.ok()) return std::nullopt;
  return entry->value.substr(entry->value.find('\n') + 1);
}

void CompareAtRest(Copy& copy, const std::string& key, const std::optional<coord::Versioned>& now) {
  const std::optional<std::string> stored = Stored(copy.world(), key);
  const std::optional<std::string> shown = now ? std::optional<std::string>(now->value) : std::nullopt;
  if (stored == shown) return;
  copy.world().report.Violation("stale",
                                absl::StrCat("copy ", copy.number(), " shows ", key, " as ", shown.value_or("(absent)"),
                                             ", and the store has ", stored.value_or("(absent)")));
}

bool Worked(Copy& copy, const char* what, const absl::Status& status) {
  copy.world().timeline.Tell(copy.number(), what, static_cast<uint64_t>(status.code()),
                             [&] { return absl::StrCat(what, ": ", status.ToString()); });
  ++copy.world().report.operations;
  if (status.ok() || absl::IsAborted(status) || absl::IsNotFound(status)) return true;
  CheckFailure(copy, what, status);
  return false;
}

class SharedValueWorker : public Worker {
 public:
  SharedValueWorker(Copy& copy, int thread)
      : copy_(copy), dice_(copy.NewDice(absl::StrCat("shared_value", thread))), seen_(copy, "the shared value") {}

  bool Step() override {
    if (value_ == nullptr && !Open()) return false;
    seen_.Read(Now());
    const absl::Time deadline = copy_.In(copy_.world().config.ttl);
    const std::string fresh = absl::StrCat(copy_.number(), ".", copy_.life(), ".", ++values_);
    if (dice_.Chance(10)) {
      const auto now = Now();
      return now && Worked(copy_, "SharedValue::Delete", value_->Delete(now->revision, deadline));
    }
    const auto set = dice_.Chance(50) ? value_->Set(fresh, deadline) : Update(fresh, deadline);
    if (set.ok()) seen_.Wrote(*set);
    return Worked(copy_, "SharedValue::Set", set.status());
  }

  void AtRest() override {
    if (value_ != nullptr) CompareAtRest(copy_, "p/value/shared", Now());
  }

 private:
  bool Open() {
    auto opened = copy_.cluster().SharedValue("shared", copy_.In(copy_.world().config.ttl));
    if (!Worked(copy_, "SharedValue", opened.status())) return false;
    value_ = *std::move(opened);
    changes_ = value_->OnChange([this](const std::shared_ptr<const coord::Versioned>& now) {
      if (now != nullptr) told_.Read(*now);
    });
    return true;
  }
  std::optional<coord::Versioned> Now() const {
    const auto now = value_->Get();
    return now == nullptr ? std::nullopt : std::optional<coord::Versioned>(*now);
  }
  absl::StatusOr<coord::Revision> Update(const std::string& fresh, absl::Time deadline) {
    auto updated = value_->Update([&](const auto&) { return fresh; }, deadline);
    if (!updated.ok()) return updated.status();
    return updated->revision;
  }

  Copy& copy_;
  Dice dice_;
  Seen seen_;
  Seen told_{copy_, "a change of the shared value"};
  std::shared_ptr<coord::SharedValue> value_;
  coord::Subscription changes_;
  int values_ = 0;
};

class SharedMapWorker : public Worker {
 public:
  SharedMapWorker(Copy& copy, int thread) : copy_(copy), dice_(copy.NewDice(absl::StrCat("shared_map", thread))) {}

  bool Step() override {
    if (map_ == nullptr && !Open()) return false;
    const std::string key(1, static_cast<char>('a' + dice_.Below(4)));
    Seen& seen = seen_.try_emplace(key, copy_, "map entry " + key).first->second;
    seen.Read(map_->Find(key));
    const absl::Time deadline = copy_.In(copy_.world().config.ttl);
    if (dice_.Chance(20)) return Worked(copy_, "SharedMap::Remove", map_->Remove(key, deadline));
    const auto set = map_->Set(key, absl::StrCat(copy_.number(), ".", copy_.life(), ".", ++values_), deadline);
    if (set.ok()) seen.Wrote(*set);
    return Worked(copy_, "SharedMap::Set", set.status());
  }

  void AtRest() override {
    for (const char* key : {"a", "b", "c", "d"}) {
      if (map_ != nullptr) CompareAtRest(copy_, absl::StrCat("p/map/m/", key), map_->Find(key));
    }
  }

 private:
  bool Open() {
    auto opened = copy_.cluster().SharedMap("m", copy_.In(copy_.world().config.ttl));
    if (!Worked(copy_, "SharedMap", opened.status())) return false;
    map_ = *std::move(opened);
    return true;
  }

  Copy& copy_;
  Dice dice_;
  std::map<std::string, Seen> seen_;
  std::shared_ptr<coord::SharedMap> map_;
  int values_ = 0;
};

template <typename MadeWorker>
class SharedWorkload : public Workload {
 public:
  std::unique_ptr<Worker> Start(Copy& copy, int thread) override { return std::make_unique<MadeWorker>(copy, thread); }
};

}  // namespace

std::unique_ptr<Workload> MakeSharedValue(World&) { return std::make_unique<SharedWorkload<SharedValueWorker>>(); }
std::unique_ptr<Workload> MakeSharedMap(World&) { return std::make_unique<SharedWorkload<SharedMapWorker>>(); }

}  // namespace sim
