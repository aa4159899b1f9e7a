// stand ELECTION FILE   stands as a candidate and keeps its terms in FILE (terms.h); events "elected FENCE",
// "term-lost",
//                       "leader LABEL FENCE"
// term                  the fence of the present term, or 0
// step-down MS
// line ELECTION MS      the labels of the leader and of those who wait, in their order

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/process/session.h"
#include "tests/process/terms.h"

namespace process_test {
namespace {

using coord::Cluster;

Terms* MapTerms(const std::string& file) {
  const int fd = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(Terms)) != 0) return nullptr;
  void* memory = mmap(nullptr, sizeof(Terms), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return memory == MAP_FAILED ? nullptr : static_cast<Terms*>(memory);
}

class Standing {
 public:
  Standing(Session& session, Cluster& cluster, const std::string& election, Terms* terms) : terms_(terms) {
    coord::CandidateOptions options;
    options.value = session.flags().instance;
    options.on_elected = [&session](std::shared_ptr<const coord::Grant> term) {
      session.Event(absl::StrCat("elected ", term->fence()));
    };
    options.on_lost = [&session] { session.Event("term-lost"); };
    options.on_new_leader = [&session](const coord::LeaderInfo& leader) {
      session.Event(absl::StrCat("leader ", leader.instance, " ", leader.fence));
    };
    candidate_ = cluster.Election(election).Stand(std::move(options));
    watcher_ = std::thread([this] { Watch(); });
  }
  ~Standing() {
    stop_ = true;
    watcher_.join();
    munmap(terms_, sizeof(Terms));
  }

  coord::Candidate& candidate() { return *candidate_; }

 private:
  void Watch() {
    int at = -1;
    uint64_t fence = 0;
    while (!stop_) {
      const int64_t before = BootNanos();
      const std::shared_ptr<const coord::Grant> term = candidate_->Term();
      if (term != nullptr && !term->Lost()) {
        if (term->fence() != fence && ++at < Terms::kMost) {
          fence = term->fence();
          terms_->terms[at].first = BootNanos();
          terms_->terms[at].last = before;
          terms_->terms[at].fence = fence;
        } else if (at < Terms::kMost) {
          terms_->terms[at].last = before;
        }
      }
      absl::SleepFor(absl::Microseconds(500));
    }
  }

  Terms* const terms_;
  std::unique_ptr<coord::Candidate> candidate_;
  std::atomic<bool> stop_{false};
  std::thread watcher_;
};

}  // namespace

void AddElectionCommands(Session& session) {
  auto standing = std::make_shared<std::shared_ptr<Standing>>();
  session.AddJoined("stand",
                    [&session, standing](Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
                      Terms* terms = MapTerms(arguments.Text(1));
                      if (terms == nullptr) return absl::InternalError("cannot map the file of terms");
                      *standing = std::make_shared<Standing>(session, cluster, arguments.Text(0), terms);
                      return std::string("standing");
                    });
  session.Add("term", [standing](const Arguments&) -> absl::StatusOr<std::string> {
    const std::shared_ptr<const coord::Grant> term = (*standing)->candidate().Term();
    return absl::StrCat(term == nullptr || term->Lost() ? 0 : term->fence());
  });
  session.AddJoined("line", [](Cluster& cluster, const Arguments& arguments) -> absl::StatusOr<std::string> {
    const absl::StatusOr<coord::NameInfo> info = cluster.Election(arguments.Text(0)).Inspect(arguments.Deadline(1));
    if (!info.ok()) return info.status();
    std::string text;
    for (const auto* entries : {&info->owners, &info->waiters}) {
      for (const coord::HolderInfo& entry : *entries) absl::StrAppend(&text, entry.instance, " ");
    }
    return text;
  });
  session.Add("step-down", [standing](const Arguments& arguments) -> absl::StatusOr<std::string> {
    const absl::Status stepped = (*standing)->candidate().StepDown(arguments.Milliseconds(0));
    if (!stepped.ok()) return stepped;
    return std::string("down");
  });
}

}  // namespace process_test
