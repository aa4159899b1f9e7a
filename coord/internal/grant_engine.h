// Runs the lock protocol: takes the cached record, applies the pure transition, writes conditionally, and waits on
// changes. It drives each name towards a state that is wanted (which tickets this copy holds or asks for) rather than
// through steps, so that a lost reply, a repeated push or a crash between two steps needs no special case: whoever
// looks next sees what is still to be done.
//
// At most one store call per name is under way. A caller drives its own name; what is left when it goes, and all that
// is due later, is done by kWorkers threads.

#ifndef COORD_INTERNAL_GRANT_ENGINE_H_
#define COORD_INTERNAL_GRANT_ENGINE_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/inspect.h"
#include "coord/internal/core.h"
#include "coord/internal/grant_state.h"
#include "coord/internal/leader_cell.h"
#include "coord/internal/session.h"

namespace coord::internal {

class GrantEngine {
 public:
  // Also the bound of take-outs and give-ups that are under way at a time.
  static constexpr int kWorkers = 4;
  // Names with a write whose outcome is open, or with something to give up that the store has not taken. Beyond it the
  // session ends.
  static constexpr size_t kMaxUnsettled = 4096;
  // What a leader may proclaim, in bytes: small, for every waiting candidate's stands in the record.
  static constexpr size_t kMaxProclaimed = 1024;

  explicit GrantEngine(Core* core);
  ~GrantEngine();

  void Start();

  absl::StatusOr<Grant> Acquire(const std::shared_ptr<const GrantName>& name, Ask ask, absl::Time deadline,
                                const CancelToken& cancel);
  void AcquireAsync(const std::shared_ptr<const GrantName>& name, Ask ask, absl::Time deadline,
                    std::function<void(absl::StatusOr<Grant>)> done, const CancelToken& cancel);
  absl::Status Release(const std::shared_ptr<Held>& held, absl::Duration timeout);
  absl::Status Downgrade(const std::shared_ptr<Held>& held, absl::Time deadline);
  absl::Status SetPermits(const std::shared_ptr<const GrantName>& name, uint32_t permits, absl::Time deadline);
  absl::Status Proclaim(const std::shared_ptr<Held>& held, std::string_view value, absl::Time deadline);
  absl::StatusOr<NameInfo> Inspect(const GrantName& name, absl::Time deadline);
  // The cell follows the name from now on. Blocks for a first read.
  absl::StatusOr<std::shared_ptr<LeaderCell>> Leader(const std::shared_ptr<const GrantName>& name, absl::Time deadline);
  std::shared_ptr<LeaderCell> LeaderWithoutRead(const GrantName& name);

  // From the session keeper.
  std::vector<std::function<void()>> SessionLost(const SessionLife& life);
  void SessionJoined();
  void SessionEnded(std::string_view session);

  // Ends all waits with Cancelled, loses all grants, and gives them up in the store by `until`, those that others wait
  // for first. Unavailable tells how many are left. Then stops the workers.
  absl::Status Close(absl::Time until);

  size_t held_count() const;
  // For the janitor: forgets the names in which this copy has had no interest, and that nobody was seen to use, since
  // then (steady), and returns the keys and revisions of those whose record is free.
  std::vector<std::pair<std::string, kv::Revision>> TakeIdle(absl::Time unused_since);

 private:
  enum class Todo { kNothing, kRead, kReadSession, kEvict, kCheckEpoch, kWrite };
  // What to do next for a name; for kNothing, when to look again.
  struct Action {
    Todo todo = Todo::kNothing;
    absl::Time due = absl::InfiniteFuture();
    std::string session;                       // kReadSession, kEvict
    std::optional<SessionTable::Sight> sight;  // kEvict
    absl::Duration ttl;                        // kReadSession: as the grant's entry states it
    GrantChange change;                        // kWrite
  };
  using States = std::unordered_map<std::string, std::shared_ptr<NameState>>;

  std::shared_ptr<NameState> State(const GrantName& name) KV_REQUIRES(mu_);
  absl::Status CheckAsk(const GrantName& name, const Ask& ask) const;

  // grant_engine.cc: requests.
  std::shared_ptr<Request> Enqueue(NameState& n, const std::shared_ptr<const GrantName>& name, Ask ask,
                                   absl::Time deadline) KV_REQUIRES(mu_);
  void Finish(NameState& n, const std::shared_ptr<Request>& request, absl::Status status, std::shared_ptr<Held> held)
      KV_REQUIRES(mu_);
  void FinishAll(NameState& n, const absl::Status& status, bool try_only) KV_REQUIRES(mu_);
  void Withdraw(const std::shared_ptr<Request>& request, const absl::Status& status) KV_EXCLUDES(mu_);
  absl::Status TimedOut(const NameState& n) const KV_REQUIRES(mu_);
  absl::Status WaitFor(NameState& n, absl::Time until, const std::function<bool()>& reached, const char* what)
      KV_REQUIRES(mu_);
  std::vector<std::function<void()>> LoseHolders(LocalTicket& ticket) KV_REQUIRES(mu_);

  // grant_engine.cc: work.
  void Drive(const std::shared_ptr<NameState>& n, absl::Time until, const std::function<bool()>& satisfied)
      KV_REQUIRES(mu_);
  void Schedule(NameState& n, absl::Time due) KV_REQUIRES(mu_);
  void WakeWorkers() KV_REQUIRES(mu_);
  void TellLosses(std::vector<std::function<void()>> callbacks, absl::Time until);
  void WorkerThread();
  NameState* FindByKey(std::string_view key) KV_REQUIRES(mu_);
  void OnEvent(const kv::WatchEvent& event);
  void OnHint(std::string_view key);
  void OnPush(NameState& n, const kv::WatchEvent& event) KV_REQUIRES(mu_);

  // grant_plan.cc: decisions; no store calls.
  Action Next(NameState& n) KV_REQUIRES(mu_);
  bool Attached(NameState& n, absl::Time now, std::shared_ptr<const Attachment>& attachment) KV_REQUIRES(mu_);
  void DropBadRequests(NameState& n, absl::Time now) KV_REQUIRES(mu_);
  bool AdmitLocally(NameState& n, absl::Time now, bool& look_first) KV_REQUIRES(mu_);
  void GiveUpFree(NameState& n, absl::Time now) KV_REQUIRES(mu_);
  bool Interested(const NameState& n) const KV_REQUIRES(mu_);
  bool OwnLeftovers(const NameState& n) const KV_REQUIRES(mu_);
  absl::Duration ReadInterval(const NameState& n) const KV_REQUIRES(mu_);
  bool ReadIsDue(const NameState& n, absl::Time now) const KV_REQUIRES(mu_);
  absl::Duration HintDelay(const NameState& n) const KV_REQUIRES(mu_);
  bool Obstacles(NameState& n, absl::Time now, Action& action) KV_REQUIRES(mu_);
  GrantChange Kept(const NameState& n, const Attachment& attachment) KV_REQUIRES(mu_);
  GrantChange Wanted(NameState& n, const Attachment& attachment) KV_REQUIRES(mu_);
  uint64_t FenceFloor(const NameState& n, const Attachment& attachment) KV_REQUIRES(mu_);
  bool MayAsk(const NameState& n, const Request& head) const KV_REQUIRES(mu_);
  void Adopt(NameState& n, std::optional<GrantRecord> record, kv::Revision revision, bool proof) KV_REQUIRES(mu_);
  void GrantHead(NameState& n) KV_REQUIRES(mu_);
  std::shared_ptr<Held> MakeHeld(NameState& n, const Request& request, uint64_t ticket, LocalTicket& local)
      KV_REQUIRES(mu_);
  void PublishLeader(NameState& n) KV_REQUIRES(mu_);
  void CapacityIs(NameState& n, uint32_t capacity) KV_REQUIRES(mu_);

  // grant_calls.cc: one store call each at most, made without the mutex.
  void Execute(const std::shared_ptr<NameState>& n, Action action, absl::Time until) KV_REQUIRES(mu_);
  void Read(NameState& n, absl::Time until) KV_REQUIRES(mu_);
  void CheckEpoch(NameState& n, absl::Time until) KV_REQUIRES(mu_);
  void Write(NameState& n, const GrantChange& change, absl::Time until) KV_REQUIRES(mu_);
  void ReadSession(NameState& n, const Action& action, absl::Time until) KV_REQUIRES(mu_);
  void Evict(NameState& n, const Action& action, absl::Time until) KV_REQUIRES(mu_);
  bool AdoptEntry(NameState& n, const kv::Entry& entry, absl::Time looked_at) KV_REQUIRES(mu_);
  void AdoptAbsence(NameState& n, absl::Time looked_at) KV_REQUIRES(mu_);
  void Conflict(NameState& n, const kv::WriteResult& result, kv::Revision expected, absl::Time sent) KV_REQUIRES(mu_);
  void Failed(NameState& n, const absl::Status& status) KV_REQUIRES(mu_);
  void Inquired(NameState& n, const absl::Status& status) KV_REQUIRES(mu_);
  void CameThrough(NameState& n) KV_REQUIRES(mu_);
  void BackOff(NameState& n) KV_REQUIRES(mu_);
  std::string What(const NameState& n) const;
  void Warn(const NameState& n, const std::string& text);

  Core* const core_;
  Runtime& runtime_;
  const bool watch_;
  const bool evicting_;
  const bool forgets_;    // a restart of the store begins empty, and no write proves that there was none
  const bool monotonic_;  // revisions
  const bool linear_;     // reads
  const absl::Duration ttl_;

  mutable kv::internal::Mutex mu_;
  States states_ KV_GUARDED_BY(mu_);  // by "<kind>/<escaped name>"
  // By when they are due, and then by their number: never by address, so that a simulation repeats itself.
  std::map<std::pair<absl::Time, uint64_t>, std::shared_ptr<NameState>> queue_ KV_GUARDED_BY(mu_);
  uint64_t names_made_ KV_GUARDED_BY(mu_) = 0;
  std::multiset<absl::Time> sleeps_ KV_GUARDED_BY(mu_);  // until when each sleeping worker sleeps
  std::set<NameState*> unsettled_ KV_GUARDED_BY(mu_);
  std::string ticket_session_ KV_GUARDED_BY(mu_);
  uint64_t last_ticket_ KV_GUARDED_BY(mu_) = 0;
  bool resyncing_ KV_GUARDED_BY(mu_) = false;
  bool closing_ KV_GUARDED_BY(mu_) = false;
  bool losses_told_ KV_GUARDED_BY(mu_) = false;  // while closing: give-ups may begin
  bool stopped_ KV_GUARDED_BY(mu_) = false;
  int workers_running_ KV_GUARDED_BY(mu_) = 0;
  const std::unique_ptr<Condition> work_;
  std::vector<std::unique_ptr<Thread>> workers_;
  std::vector<std::unique_ptr<Hub::Registration>> registrations_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_GRANT_ENGINE_H_
