// copies N MS                  N more copies in this process, LABEL.0, LABEL.1, ..., on the same store
// copy-turn I MUTEX MS FILE    `turn` by LABEL.I
// copies-stats                 CONFLICTS UNKNOWN_OUTCOMES of all of them together
// hold N PREFIX MS             the mutexes PREFIX-0, PREFIX-1, ..., until the process ends

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/process/session.h"

namespace process_test {
namespace {

using coord::Cluster;
using coord::Grant;

struct Copies {
  std::mutex mutex;
  std::vector<std::shared_ptr<Cluster>> clusters;
  std::vector<Grant> held;
};

absl::StatusOr<std::string> JoinMore(Session& session, Copies& copies, const Arguments& arguments) {
  absl::StatusOr<std::shared_ptr<kv::Store>> store = session.Store();
  if (!store.ok()) return store.status();
  for (int64_t i = 0; i < arguments.Number(0); ++i) {
    coord::JoinOptions options = session.Options(*store);
    options.instance = absl::StrCat(session.flags().instance, ".", i);
    options.join_timeout = arguments.Milliseconds(1);
    absl::StatusOr<std::unique_ptr<Cluster>> joined = Cluster::Join(std::move(options));
    if (!joined.ok()) return joined.status();
    std::lock_guard<std::mutex> lock(copies.mutex);
    copies.clusters.push_back(*std::move(joined));
  }
  return absl::StrCat(arguments.Number(0));
}

absl::StatusOr<std::string> Hold(Cluster& cluster, Copies& copies, const Arguments& arguments) {
  const absl::Time deadline = arguments.Deadline(2);
  for (int64_t i = 0; i < arguments.Number(0); ++i) {
    absl::StatusOr<Grant> grant = cluster.Mutex(absl::StrCat(arguments.Text(1), "-", i)).Acquire(deadline);
    if (!grant.ok()) return grant.status();
    std::lock_guard<std::mutex> lock(copies.mutex);
    copies.held.push_back(*std::move(grant));
  }
  return absl::StrCat(arguments.Number(0));
}

}  // namespace

void AddCopiesCommands(Session& session) {
  auto copies = std::make_shared<Copies>();
  session.Add("copies",
              [&session, copies](const Arguments& arguments) { return JoinMore(session, *copies, arguments); });
  session.Add("copy-turn", [copies](const Arguments& arguments) {
    std::shared_ptr<Cluster> cluster;
    {
      std::lock_guard<std::mutex> lock(copies->mutex);
      cluster = copies->clusters.at(static_cast<size_t>(arguments.Number(0)));
    }
    return TakeTurn(*cluster, arguments.Text(1), arguments.Deadline(2), arguments.Text(3));
  });
  session.Add("copies-stats", [copies](const Arguments&) -> absl::StatusOr<std::string> {
    uint64_t conflicts = 0, unknown = 0;
    std::lock_guard<std::mutex> lock(copies->mutex);
    for (const std::shared_ptr<Cluster>& cluster : copies->clusters) {
      const coord::Stats stats = cluster->Stats();
      conflicts += stats.conflicts;
      unknown += stats.unknown_outcomes;
    }
    return absl::StrCat(conflicts, " ", unknown);
  });
  session.AddJoined(
      "hold", [copies](Cluster& cluster, const Arguments& arguments) { return Hold(cluster, *copies, arguments); });
}

}  // namespace process_test
