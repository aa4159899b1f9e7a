// A Store that fails on demand, for tests of what is built on stores.
//
// Fault model. A test sets a hook; it is asked before every call and says what becomes of it:
//   kNone        the call goes through
//   kFailBefore  not applied, Unavailable
//   kDropReply   applied, but the reply is lost: DeadlineExceeded. A Get or List is not made at all
//   kApplyLate   DeadlineExceeded at once; a write is kept and applied by ReleaseHeld, whatever the store holds by then
//   kBlock       the caller waits until Unblock, then goes on as with kNone; at its deadline Unavailable
// Watch events can be held back (PauseWatches), dropped (SetEventFilter), and followed by a resync or by another
// epoch (Interrupt). What is not modelled: a store that loses or reverts data, torn values, reordered events.
//
// No thread of its own. Blocking waits occur with kBlock only, so that everything else also serves a simulator that
// runs on one thread; a hook may itself wait in the simulator's way.

#ifndef KV_FAULTY_STORE_H_
#define KV_FAULTY_STORE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kv/internal/mutex.h"
#include "kv/store_wrapper.h"

namespace kv {

enum class Fault { kNone, kFailBefore, kDropReply, kApplyLate, kBlock };

enum class CallKind { kGet, kCreate, kUpdate, kDelete, kPut, kList, kWatch };

struct FaultyCall {
  CallKind kind = CallKind::kGet;
  std::string key;      // or the prefix
  uint64_t number = 0;  // of this call, from 1, over all kinds
  bool write() const { return kind != CallKind::kGet && kind != CallKind::kList && kind != CallKind::kWatch; }
};

// Thread-safe. Watches must be gone before it.
class FaultyStore : public StoreWrapper {
 public:
  using Hook = std::function<Fault(const FaultyCall&)>;
  // True lets an event through.
  using EventFilter = std::function<bool(const WatchEvent&)>;

  explicit FaultyStore(std::shared_ptr<Store> base);
  ~FaultyStore() override;

  // Null: no faults. A hook runs on the calling thread without a lock of this store, several at once where the store
  // is used by several threads. A call for which a hook is running does not notice a new one.
  void SetHook(Hook hook);

  // Lets all callers that kBlock holds go on, and waits for nothing.
  void Unblock();
  size_t blocked() const;

  // Applies the writes that kApplyLate holds, in the order of their calls, and returns what came of each.
  std::vector<WriteResult> ReleaseHeld();
  // Forgets them: they were lost.
  void DropHeld();
  size_t held() const;

  // Keeps the events of all watches back, in order and without a bound, until ResumeWatches, which delivers them on
  // the calling thread (unless another thread is delivering already).
  void PauseWatches();
  void ResumeWatches();

  // Null: every event passes. Dropping breaks the contract of Watch, unless Interrupt follows.
  void SetEventFilter(EventFilter filter);

  // Gives every watch `kind` (kResync or kEpochChanged) and a fresh snapshot. The snapshot's events come from the
  // wrapped store. Not to be called from a watch callback.
  void Interrupt(WatchKind kind);

  absl::StatusOr<Entry> Get(std::string_view key, absl::Time deadline) override;
  WriteResult Create(std::string_view key, std::string_view value, absl::Time deadline) override;
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, absl::Time deadline) override;
  WriteResult Delete(std::string_view key, Revision expected, absl::Time deadline) override;
  WriteResult Put(std::string_view key, std::string_view value, absl::Time deadline) override;
  absl::StatusOr<std::vector<KeyedEntry>> List(std::string_view prefix, absl::Time deadline) override;
  absl::StatusOr<std::unique_ptr<Watch>> WatchPrefix(std::string_view prefix, WatchCallback callback) override;

 private:
  class Events;
  class FaultyWatch;
  // Takes the deadline; a held write gets none, for it was sent in time.
  using Write = std::function<WriteResult(absl::Time)>;

  absl::StatusOr<Fault> Ask(CallKind kind, std::string_view key, absl::Time deadline);
  absl::Status AskRead(CallKind kind, std::string_view key, absl::Time deadline);
  WriteResult Run(CallKind kind, std::string_view key, absl::Time deadline, Write write);

  mutable internal::Mutex mutex_;
  Hook hook_ KV_GUARDED_BY(mutex_);
  uint64_t calls_ KV_GUARDED_BY(mutex_) = 0;
  uint64_t unblocked_ KV_GUARDED_BY(mutex_) = 0;  // how often Unblock was called
  size_t blocked_ KV_GUARDED_BY(mutex_) = 0;
  std::deque<Write> held_ KV_GUARDED_BY(mutex_);
  internal::CondVar unblock_;
  const std::shared_ptr<Events> events_;
};

}  // namespace kv

#endif  // KV_FAULTY_STORE_H_
