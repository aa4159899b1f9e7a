// acquire SLOT MUTEX MS         FENCE TIME; later perhaps the event "lost SLOT TIME"
// try SLOT MUTEX MS             the same
// release SLOT MS               TIME before and after
// is-lost SLOT                  0 or 1
// inspect MUTEX MS              fence FENCE owners LABEL... waiters LABEL...
// turn MUTEX MS FILE            acquires, appends its label to FILE, releases: FENCE, and the times of both
// count MUTEX FOLDER N DIE_AT   N increments of a counter in FOLDER, see Increment, each followed by the event "counted
// M";
//                               kills itself within the DIE_AT-th

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/process/session.h"

namespace process_test {
namespace {

using coord::Cluster;
using coord::Grant;

absl::StatusOr<std::string> Kept(Session& session, const std::string& slot, absl::StatusOr<Grant> grant) {
  const int64_t now = BootNanos();
  if (!grant.ok()) return grant.status();
  const uint64_t fence = grant->fence();
  session.Keep(slot, *std::move(grant));
  return absl::StrCat(fence, " ", now);
}

absl::StatusOr<std::string> Describe(const absl::StatusOr<coord::NameInfo>& info) {
  if (!info.ok()) return info.status();
  std::string text = absl::StrCat("fence ", info->fence, " owners");
  for (const coord::HolderInfo& owner : info->owners) absl::StrAppend(&text, " ", owner.instance);
  absl::StrAppend(&text, " waiters");
  for (const coord::HolderInfo& waiter : info->waiters) absl::StrAppend(&text, " ", waiter.instance);
  return text;
}

// What the lock protects: the file "counter" with one line for each copy that ever wrote, "LABEL COUNT", and a line
// "fence FENCE" of the last writer. Before it changes the counter, each holder appends "FENCE LABEL" to the file "log".
// Read, changed, written to another name, renamed: with nothing but the lock against lost updates.
absl::Status Increment(const std::string& folder, const std::string& label, const Grant& grant, bool die) {
  AppendRecord(folder + "/log", absl::StrCat(grant.fence(), " ", label));
  std::map<std::string, uint64_t> counts;
  std::ifstream before(folder + "/counter");
  std::string name;
  uint64_t count = 0;
  while (before >> name >> count) counts[name] = count;
  if (counts["fence"] >= grant.fence()) {
    return absl::InternalError(absl::StrCat("fence ", grant.fence(), " came after ", counts["fence"]));
  }
  counts["fence"] = grant.fence();
  ++counts[label];
  const std::string temporary = absl::StrCat(folder, "/counter.", label);
  {
    std::ofstream after(temporary);
    for (const auto& [who, many] : counts) after << who << " " << many << "\n";
    after.close();
    if (!after) return absl::InternalError("cannot write the counter");
  }
  if (die) raise(SIGKILL);
  // The check that this very moment belongs to the holder; a lost grant is acquired again.
  if (grant.Lost()) return absl::AbortedError("the grant was lost");
  if (rename(temporary.c_str(), (folder + "/counter").c_str()) != 0) return absl::InternalError("cannot rename");
  return absl::OkStatus();
}

absl::StatusOr<std::string> Count(Session& session, Cluster& cluster, const Arguments& arguments) {
  coord::Mutex mutex = cluster.Mutex(arguments.Text(0));
  const int64_t times = arguments.Number(2);
  int64_t lost = 0;
  for (int64_t done = 0; done < times;) {
    absl::StatusOr<Grant> grant = mutex.Acquire(absl::Now() + absl::Minutes(2));
    if (!grant.ok()) return grant.status();
    const absl::Status written =
        Increment(arguments.Text(1), session.flags().instance, *grant, done + 1 == arguments.Number(3));
    if (absl::IsAborted(written)) {
      ++lost;
    } else if (!written.ok()) {
      return written;
    } else {
      session.Event(absl::StrCat("counted ", ++done));
    }
    const absl::Status released = grant->Release(absl::Seconds(30));
    if (!released.ok() && !absl::IsFailedPrecondition(released)) return released;
  }
  return absl::StrCat(times, " ", lost);
}

}  // namespace

absl::StatusOr<std::string> TakeTurn(Cluster& cluster, const std::string& mutex, absl::Time deadline,
                                     const std::string& file) {
  absl::StatusOr<Grant> grant = cluster.Mutex(mutex).Acquire(deadline);
  const int64_t acquired = BootNanos();
  if (!grant.ok()) return grant.status();
  AppendRecord(file, cluster.instance());
  const int64_t releasing = BootNanos();
  if (absl::Status released = grant->Release(absl::Seconds(30)); !released.ok()) return released;
  return absl::StrCat(grant->fence(), " ", acquired, " ", releasing);
}

void AddGrantCommands(Session& session) {
  session.AddJoined("acquire", [&session](Cluster& cluster, const Arguments& arguments) {
    return Kept(session, arguments.Text(0), cluster.Mutex(arguments.Text(1)).Acquire(arguments.Deadline(2)));
  });
  session.AddJoined("try", [&session](Cluster& cluster, const Arguments& arguments) {
    return Kept(session, arguments.Text(0), cluster.Mutex(arguments.Text(1)).TryAcquire(arguments.Deadline(2)));
  });
  session.Add("release", [&session](const Arguments& arguments) -> absl::StatusOr<std::string> {
    const int64_t before = BootNanos();
    const absl::Status released = session.Find(arguments.Text(0))->Release(arguments.Milliseconds(1));
    if (!released.ok()) return released;
    return absl::StrCat(before, " ", BootNanos());
  });
  session.Add("is-lost", [&session](const Arguments& arguments) -> absl::StatusOr<std::string> {
    return std::string(session.Find(arguments.Text(0))->Lost() ? "1" : "0");
  });
  session.AddJoined("inspect", [](Cluster& cluster, const Arguments& arguments) {
    return Describe(cluster.Mutex(arguments.Text(0)).Inspect(arguments.Deadline(1)));
  });
  session.AddJoined("turn", [](Cluster& cluster, const Arguments& arguments) {
    return TakeTurn(cluster, arguments.Text(0), arguments.Deadline(1), arguments.Text(2));
  });
  session.AddJoined(
      "count", [&session](Cluster& cluster, const Arguments& arguments) { return Count(session, cluster, arguments); });
}

}  // namespace process_test
