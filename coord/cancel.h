// A way to end a wait from another thread.
//
//   coord::CancelSource source;
//   std::thread([&] { ...; source.Cancel(); });
//   auto grant = mutex.Acquire(absl::InfiniteFuture(), source.token());   // Cancelled
//
// Thread-safe. Copies of a token and of its source share one state.

#ifndef COORD_CANCEL_H_
#define COORD_CANCEL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "kv/internal/mutex.h"

namespace coord {

class CancelToken {
 public:
  // A token that is never cancelled.
  CancelToken() = default;

  bool cancelled() const;

  // For those who wait: `wake` runs once, inside Cancel, or at once if that was already. Forget returns when it does
  // not run and will not. It must not block and must not call Cancel, OnCancel or Forget.
  uint64_t OnCancel(std::function<void()> wake) const;
  void Forget(uint64_t id) const;

 private:
  friend class CancelSource;
  struct State {
    kv::internal::Mutex mu;
    bool cancelled KV_GUARDED_BY(mu) = false;
    uint64_t next_id KV_GUARDED_BY(mu) = 1;
    std::map<uint64_t, std::function<void()>> wakes KV_GUARDED_BY(mu);
  };
  std::shared_ptr<State> state_;
};

class CancelSource {
 public:
  CancelSource();
  // Ends every wait that has the token; later waits end before they begin. Idempotent; never blocks.
  void Cancel();
  CancelToken token() const { return token_; }

 private:
  CancelToken token_;
};

}  // namespace coord

#endif  // COORD_CANCEL_H_
