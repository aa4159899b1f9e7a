// A FencedCell that the holders of a mutex write. What was written, in the order of its revisions, has fences that
// never fall, and no write of it is lost.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/grants.h"
#include "tests/sim/workloads.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

struct Written {
  std::string epoch;
  uint64_t number = 0;
  uint64_t fence = 0;
  int copy = 0;
};

class FencedWorkload;

class FencedWorker : public Worker {
 public:
  FencedWorker(Copy& copy, int thread, std::vector<Written>& written)
      : copy_(copy), dice_(copy.NewDice(absl::StrCat("fenced", thread))), written_(written) {}

  bool Step() override {
    Request request;
    request.name = "mutex/f";
    request.ask = [this](absl::Time deadline, const coord::CancelToken& cancel) {
      return copy_.cluster().Mutex("f").Acquire(deadline, cancel);
    };
    bool wrote = false;
    request.hold = [this, &wrote](coord::Grant& grant, Hold*) {
      // The longer it waits, the likelier its grant is gone.
      if (dice_.Chance(20)) copy_.runtime().SleepFor(dice_.Upto(copy_.world().config.ttl));
      wrote = Write(grant);
    };
    return AskAndHold(copy_, dice_, request) && wrote;
  }

 private:
  bool Write(coord::Grant& grant) {
    const uint64_t fence = grant.fence();
    const auto set =
        copy_.cluster().FencedCell("f").Set(grant, absl::StrCat(fence), copy_.In(copy_.world().config.ttl));
    ++copy_.world().report.operations;
    copy_.world().timeline.Tell(copy_.number(), "fenced", set.ok() ? set->number : 0, [&] {
      return absl::StrCat("writes the fenced cell with fence ", fence, ": ", set.status().ToString());
    });
    if (!set.ok()) {
      CheckFailure(copy_, "FencedCell::Set", set.status(), /*may_be_refused=*/true);
      return false;
    }
    written_.push_back({set->epoch, set->number, fence, copy_.number()});
    return true;
  }

  Copy& copy_;
  Dice dice_;
  std::vector<Written>& written_;
};

class FencedWorkload : public Workload {
 public:
  explicit FencedWorkload(World& world) : world_(world) {}

  std::unique_ptr<Worker> Start(Copy& copy, int thread) override {
    return std::make_unique<FencedWorker>(copy, thread, written_);
  }

  void Finish() override {
    if (!world_.config.keeps()) return;
    std::sort(written_.begin(), written_.end(), [](const Written& a, const Written& b) { return a.number < b.number; });
    for (size_t i = 1; i < written_.size(); ++i) {
      if (written_[i].epoch != written_[i - 1].epoch || written_[i].fence >= written_[i - 1].fence) continue;
      world_.report.Violation("fenced-cell", absl::StrCat("copy ", written_[i].copy, " wrote with fence ",
                                                          written_[i].fence, " after ", written_[i - 1].fence));
    }
  }

 private:
  World& world_;
  std::vector<Written> written_;
};

}  // namespace

std::unique_ptr<Workload> MakeFenced(World& world) { return std::make_unique<FencedWorkload>(world); }

}  // namespace sim
