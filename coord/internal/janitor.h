// Removes what nobody needs any more, a little at a time: lock records that stood free and unused, records of dead
// epochs, session records that ended a day ago; and ends sessions that have fallen silent while nobody waited for them.
//
// A record goes when it stood unchanged for long enough on this copy's own steady clock (or by the store's age), by a
// conditional delete, so that whoever uses it meanwhile is not disturbed.
//
// Where revisions may begin anew nothing is removed, for a lock's record counts its fences; and where the store cannot
// list, nobody comes across what others have left: dead sessions are ended by those who wait behind them, and ended
// ones, and records of dead epochs, stay. A store that evicts gets rid of them by itself.

#ifndef COORD_INTERNAL_JANITOR_H_
#define COORD_INTERNAL_JANITOR_H_

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>

#include "coord/internal/core.h"

namespace coord::internal {

class Janitor {
 public:
  static constexpr size_t kMaxRemembered =
      100000;  // leftovers of others that are remembered from one sweep to the next
  // A beat's removals: so many, or the sixteenth of what there is to remove, up to the second bound and for half of the
  // beat. So a backlog of any size is worked off in some hundred beats.
  static constexpr int kDeletesPerBeat = 16;
  static constexpr int kMaxDeletesPerBeat = 1024;
  static constexpr absl::Duration kSweepInterval = absl::Hours(1);
  static constexpr absl::Duration kKeepEnded = absl::Hours(24);

  explicit Janitor(Core* core);
  ~Janitor();

  void Start();
  void Stop(absl::Time until);

 private:
  struct Leftover {
    kv::Revision revision = 0;
    absl::Time first_seen;  // steady
    absl::Duration keep;
    bool dead_epoch = false;
  };

  void Run();
  bool EndSilentSessions();
  void Sweep();
  void Consider(const kv::KeyedEntry& entry, absl::Time now);
  void CollectIdle();
  void RemoveSome();
  bool Delete(const std::string& key, kv::Revision revision);
  bool Stopping();
  bool EpochIsStill(const std::string& epoch);

  Core* const core_;
  // Of the janitor's thread.
  std::string epoch_;  // under which the leftovers were found
  std::unordered_map<std::string, Leftover> leftovers_;
  std::deque<std::pair<std::string, kv::Revision>> idle_;  // free records of names that this copy has forgotten
  bool ending_ = false;                                    // there may be more silent sessions
  absl::Time next_sweep_;
  kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> wake_;
  bool stopping_ KV_GUARDED_BY(mu_) = false;
  bool done_ KV_GUARDED_BY(mu_) = true;
  std::unique_ptr<Thread> thread_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_JANITOR_H_
