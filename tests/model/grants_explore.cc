// Explores a world given by flags, prints how many states it has, and the shortest way to a violation if there is one.
//
//   bazel run -c opt //tests/model:grants_explore -- --copies=3 --rounds=2 --lost_replies=1

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "coord/internal/records.h"
#include "tests/model/explore.h"

ABSL_FLAG(int, copies, 2, "how many copies, 1 to 4");
ABSL_FLAG(int, rounds, 2, "how often each copy acquires");
ABSL_FLAG(uint32_t, capacity, 1, "of the lock; 0: unbounded, a shared mutex");
ABSL_FLAG(std::vector<std::string>, weights, {}, "of each copy's requests; w: a writer");
ABSL_FLAG(int, try_only, 0, "so many of the last copies never queue");
ABSL_FLAG(int, lost_replies, 0, "writes of unknown outcome");
ABSL_FLAG(int, late_pushes, 0, "records that newer ones overtake on their way");
ABSL_FLAG(int, vanishings, 0, "session records that the store forgets");
ABSL_FLAG(int, breaks, 0, "sessions that somebody breaks");
ABSL_FLAG(int, beats, 0, "rewrites of session records");
ABSL_FLAG(int, deletes, 0, "removals of a free record");
ABSL_FLAG(bool, local_waiters, false, "releases queue again in the same write, or pass on locally");
ABSL_FLAG(bool, retain, false, "a released lock may be kept while nobody else waits");
ABSL_FLAG(bool, downgrade, false, "writers may become readers");
ABSL_FLAG(std::vector<std::string>, bugs, {},
          "mistakes to make: head_only, old_view, late_give_up, reuse_tickets, keep_strays, missing_is_dead, "
          "broken_is_ended, blind_eviction, no_settling, jump_queue, old_fence, any_waiter_acts");
ABSL_FLAG(uint64_t, max_states, 20000000, "give up beyond so many (about 250 bytes each)");

namespace {

bool SetBug(const std::string& name, model::Bugs& bugs) {
  const std::pair<const char*, bool*> known[] = {
      {"head_only", &bugs.head_only},
      {"old_view", &bugs.old_view},
      {"late_give_up", &bugs.late_give_up},
      {"reuse_tickets", &bugs.reuse_tickets},
      {"keep_strays", &bugs.keep_strays},
      {"missing_is_dead", &bugs.missing_is_dead},
      {"broken_is_ended", &bugs.broken_is_ended},
      {"blind_eviction", &bugs.blind_eviction},
      {"no_settling", &bugs.no_settling},
      {"jump_queue", &bugs.jump_queue},
      {"old_fence", &bugs.old_fence},
      {"any_waiter_acts", &bugs.any_waiter_acts},
  };
  for (const auto& [known_name, flag] : known) {
    if (name != known_name) continue;
    *flag = true;
    return true;
  }
  return false;
}

bool FromFlags(model::World& world) {
  world.copies = absl::GetFlag(FLAGS_copies);
  world.rounds = absl::GetFlag(FLAGS_rounds);
  world.capacity = absl::GetFlag(FLAGS_capacity) == 0 ? coord::internal::kUnbounded : absl::GetFlag(FLAGS_capacity);
  for (const std::string& weight : absl::GetFlag(FLAGS_weights)) {
    world.weights.push_back(weight == "w" ? coord::internal::kUnbounded : static_cast<uint32_t>(std::stoul(weight)));
  }
  world.try_only = absl::GetFlag(FLAGS_try_only);
  world.lost_replies = absl::GetFlag(FLAGS_lost_replies);
  world.late_pushes = absl::GetFlag(FLAGS_late_pushes);
  world.vanishings = absl::GetFlag(FLAGS_vanishings);
  world.breaks = absl::GetFlag(FLAGS_breaks);
  world.beats = absl::GetFlag(FLAGS_beats);
  world.deletes = absl::GetFlag(FLAGS_deletes);
  world.local_waiters = absl::GetFlag(FLAGS_local_waiters);
  world.retain = absl::GetFlag(FLAGS_retain);
  world.downgrade = absl::GetFlag(FLAGS_downgrade);
  for (const std::string& bug : absl::GetFlag(FLAGS_bugs)) {
    if (SetBug(bug, world.bugs)) continue;
    std::fprintf(stderr, "unknown bug \"%s\": see --help\n", bug.c_str());
    return false;
  }
  if (world.copies >= 1 && world.copies <= model::kMaxCopies && world.rounds >= 1 && world.rounds <= 7) return true;
  std::fprintf(stderr, "--copies must be 1 to %d and --rounds 1 to 7\n", model::kMaxCopies);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("explores the lock protocol in a small world");
  absl::ParseCommandLine(argc, argv);
  model::World world;
  if (!FromFlags(world)) return 2;
  const model::Report report = model::Explore(world, absl::GetFlag(FLAGS_max_states));
  if (!report.violation.empty()) {
    std::printf("%zu states, %zu stuck: %s\n%s\n", report.states, report.stuck, report.violation.c_str(),
                report.path.c_str());
    return 1;
  }
  std::printf("%zu states%s\n", report.states,
              report.complete ? ": every check holds" : ", and more: not explored to the end");
  return report.complete ? 0 : 2;
}
