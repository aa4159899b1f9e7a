// copies N MS                  N more copies in this process, LABEL.0, LABEL.1, ..., on the same store
// copy-turn I MUTEX MS FILE    `turn` by LABEL.I
// copies-follow NAME MS        every copy of this process, the first one too, follows a SharedValue
// copies-see VALUE MS          waits until all of them have been pushed VALUE, and so all that was written before it
// hold N PREFIX MS             the mutexes PREFIX-0, PREFIX-1, ..., until the process ends

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
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
  std::vector<std::shared_ptr<coord::SharedValue>> values;
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

absl::StatusOr<std::string> Follow(Cluster& first, Copies& copies, const Arguments& arguments) {
  std::lock_guard<std::mutex> lock(copies.mutex);
  std::vector<Cluster*> all = {&first};
  for (const std::shared_ptr<Cluster>& cluster : copies.clusters) all.push_back(cluster.get());
  for (Cluster* const cluster : all) {
    auto value = cluster->SharedValue(arguments.Text(0), arguments.Deadline(1));
    if (!value.ok()) return value.status();
    copies.values.push_back(*std::move(value));
  }
  return absl::StrCat(all.size());
}

absl::StatusOr<std::string> See(Copies& copies, const Arguments& arguments) {
  std::mutex mutex;
  std::condition_variable changed;
  size_t seen = 0;
  std::vector<coord::Subscription> subscriptions;  // end first, before what they use
  for (const auto& value : copies.values) {
    subscriptions.push_back(value->OnChange(
        [&, wanted = arguments.Text(0), told = false](const std::shared_ptr<const coord::Versioned>& now) mutable {
          if (told || now == nullptr || now->value != wanted) return;
          told = true;
          std::lock_guard<std::mutex> lock(mutex);
          ++seen;
          changed.notify_all();
        }));
  }
  std::unique_lock<std::mutex> lock(mutex);
  const bool all = changed.wait_for(lock, absl::ToChronoNanoseconds(arguments.Milliseconds(1)),
                                    [&] { return seen == copies.values.size(); });
  const std::string text = absl::StrCat(seen, " of ", copies.values.size());
  lock.unlock();
  if (!all) return absl::DeadlineExceededError(text);
  return text;
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
  session.AddJoined("copies-follow", [copies](Cluster& cluster, const Arguments& arguments) {
    return Follow(cluster, *copies, arguments);
  });
  session.Add("copies-see", [copies](const Arguments& arguments) { return See(*copies, arguments); });
  session.AddJoined(
      "hold", [copies](Cluster& cluster, const Arguments& arguments) { return Hold(cluster, *copies, arguments); });
}

}  // namespace process_test
