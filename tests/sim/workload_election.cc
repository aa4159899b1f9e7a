// An election: copies that campaign by hand, and what each believes about the leader.

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/grants.h"
#include "tests/sim/workloads.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

class ElectionWorker : public Worker {
 public:
  ElectionWorker(Copy& copy, int thread)
      : copy_(copy), dice_(copy.NewDice(absl::StrCat("election", thread))), election_(copy.cluster().Election("e")) {}

  bool Step() override {
    CheckLeader();
    Request request;
    request.name = "election/e";
    const std::string value = absl::StrCat("c", copy_.number(), ".", copy_.life(), ".", ++terms_);
    request.ask = [this, value](absl::Time deadline, const coord::CancelToken& cancel) {
      return election_.Campaign(value, deadline, cancel);
    };
    request.hold = [this](coord::Grant& grant, Hold*) {
      if (!dice_.Chance(30)) return;
      const absl::Status status = election_.Proclaim(grant, "again", copy_.In(absl::Seconds(1)));
      if (!status.ok()) CheckFailure(copy_, "Proclaim", status, /*may_be_refused=*/true);
    };
    return AskAndHold(copy_, dice_, request);
  }

 private:
  // Terms are heard of in their order, as far as the store keeps what it acknowledged.
  void CheckLeader() {
    const auto leader = election_.Leader();
    if (!leader.ok()) return CheckFailure(copy_, "Leader", leader.status());
    if (*leader == nullptr || !copy_.world().config.keeps()) return;
    if ((*leader)->fence < heard_) {
      copy_.world().report.Violation(
          "leader", absl::StrCat("copy ", copy_.number(), " hears of term ", (*leader)->fence, " after ", heard_));
    }
    heard_ = (*leader)->fence;
  }

  Copy& copy_;
  Dice dice_;
  coord::Election election_;
  int terms_ = 0;
  uint64_t heard_ = 0;
};

class ElectionWorkload : public Workload {
 public:
  std::unique_ptr<Worker> Start(Copy& copy, int thread) override {
    return std::make_unique<ElectionWorker>(copy, thread);
  }
};

}  // namespace

std::unique_ptr<Workload> MakeElection(World&) { return std::make_unique<ElectionWorkload>(); }

}  // namespace sim
