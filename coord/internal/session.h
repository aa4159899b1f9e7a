// This copy's session: joined, kept alive by beats, lost at its own deadline, ended at the end.
//
// Two threads. One beats, in a lane of its own, and joins again after a loss. The other waits for the deadline and runs
// what a loss sets off, so that neither a slow store nor a slow user callback delays the signal.

#ifndef COORD_INTERNAL_SESSION_H_
#define COORD_INTERNAL_SESSION_H_

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coord/internal/core.h"
#include "coord/internal/epoch.h"
#include "coord/internal/held.h"
#include "coord/internal/session_table.h"

namespace coord::internal {

// One attachment to the store, immutable: which session, in which epoch.
struct Attachment {
  std::shared_ptr<SessionLife> life;
  std::string epoch;
  uint64_t fence_base = 0;  // the epoch's creation time in microseconds
  bool settled = true;      // nobody is granted anything while it is false
};

class SessionKeeper {
 public:
  // `on_loss` marks what hangs on the session and returns the users' callbacks, which are run next. `on_join` is told
  // of every later session, and of a settling epoch that has settled.
  struct Events {
    std::function<std::vector<std::function<void()>>(const SessionLife&)> on_loss;
    std::function<void()> on_join;
    std::function<void(std::string_view session)> on_ended;  // the watch saw another copy's end; must not block
  };

  SessionKeeper(Core* core, Events events);
  ~SessionKeeper();

  // The first session. Then the threads run until Stop.
  absl::Status Join(absl::Time until);

  // The present attachment; null while there is none. Its life may already be over: ask it.
  std::shared_ptr<const Attachment> Current() const;
  SessionState State() const;

  // Ends the present session as lost, at once, as if its deadline had passed.
  void Lose(const std::string& why);

  // Something hints that the epoch may be another: the next beat is due now and reads it.
  void CheckSoon();

  // Reads the epoch record, by `until` (steady) at the latest. Unavailable if it is not that of `epoch`; then the next
  // beat is due now.
  absl::Status EpochStands(std::string_view epoch, absl::Time until);

  // A successful write, sent after so many resets of the guard, has proved that the store forgot.
  void OnRollback(uint64_t resets);

  // Runs `fns` on the thread of loss signals.
  void PostLoss(std::vector<std::function<void()>> fns);

  // Marks the session of another copy as broken: it will lose, and its grants go to others after its ttl. Steady
  // deadline.
  absl::Status Break(std::string_view session, absl::Time until);

  // Marks the session's record ended and stops the threads, by `until` at the latest. The error says what was left
  // undone. Waits for running user callbacks until then, except from inside one.
  absl::Status Leave(absl::Time until);

  // True inside a function that runs on the thread of loss signals.
  bool OnLossThread() const;

  // "<plugin>/session/<epoch>/<session>".
  std::string KeyOf(std::string_view epoch, std::string_view session) const;
  SessionTable& table() { return table_; }

 private:
  struct Session {
    std::shared_ptr<SessionLife> life;
    std::string epoch;
    SessionRecord record;
    kv::Revision revision = 0;
    std::map<std::string, absl::Time> attempts;  // nonce of a beat whose outcome is open -> when it was sent
    absl::Time last_beat;    // steady: send time of the newest beat that is known to be in the store
    absl::Time epoch_read;   // steady: send time of the last read that named its epoch
    bool told = false;       // the loss has been signalled
    bool signalled = false;  // ... and its callbacks have run
  };

  void BeatThread();
  void LossThread();
  absl::Status Attach(absl::Time until);
  absl::Status Beat(bool check_epoch);
  absl::Status CheckEpoch(Session& session);
  absl::Status Reconcile(Session& session, const absl::Status& why);
  void Renew(Session& session, absl::Time sent, kv::Revision revision);
  bool EndRecord(Session& session, absl::Time until);
  void Publish() KV_REQUIRES(mu_);
  bool LossDue(absl::Time now) const KV_REQUIRES(mu_);
  std::vector<std::function<void()>> MarkLost(const std::shared_ptr<Session>& session) KV_REQUIRES(mu_);
  void SignalLoss() KV_REQUIRES(mu_);
  void RunPosted() KV_REQUIRES(mu_);
  void NoteState() KV_REQUIRES(mu_);
  SessionState StateLocked(absl::Time now) const KV_REQUIRES(mu_);
  absl::Time WaitForSignal(Session& session);
  absl::Duration Jitter(absl::Duration base) const;

  Core* const core_;
  const Events events_;
  EpochKeeper epoch_;  // of the beat thread (of Join before it starts)
  SessionTable table_;

  mutable kv::internal::Mutex mu_;
  const std::unique_ptr<Condition> beat_wake_;
  const std::unique_ptr<Condition> loss_wake_;  // an alarm
  const std::unique_ptr<Condition> changed_;
  // Fields of it but `life` belong to the beat thread; last_beat, told and signalled are under mu_ too.
  std::shared_ptr<Session> session_ KV_GUARDED_BY(mu_);
  std::shared_ptr<const Attachment> attachment_ KV_GUARDED_BY(mu_);
  std::string lost_because_ KV_GUARDED_BY(mu_);
  SessionState told_state_ KV_GUARDED_BY(mu_) = SessionState::kLost;
  std::deque<std::function<void()>> posted_ KV_GUARDED_BY(mu_);
  bool check_soon_ KV_GUARDED_BY(mu_) = false;
  bool check_at_next_ KV_GUARDED_BY(mu_) = false;        // the epoch could not be read when it should have been
  std::optional<uint64_t> rollback_ KV_GUARDED_BY(mu_);  // that it is proved, and after how many resets of the guard
  bool leaving_ KV_GUARDED_BY(mu_) = false;
  bool stop_loss_ KV_GUARDED_BY(mu_) = false;
  bool beat_done_ KV_GUARDED_BY(mu_) = true;
  bool loss_done_ KV_GUARDED_BY(mu_) = true;
  absl::Time leave_until_ KV_GUARDED_BY(mu_);
  absl::Status leave_status_ KV_GUARDED_BY(mu_);
  std::unique_ptr<Hub::Registration> sessions_registration_;
  std::unique_ptr<Hub::Registration> epoch_registration_;
  std::atomic<uint64_t> loss_thread_id_{0};  // while it runs
  std::unique_ptr<Thread> beat_thread_;
  std::unique_ptr<Thread> loss_thread_;
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_SESSION_H_
