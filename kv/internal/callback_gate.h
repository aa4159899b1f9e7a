// Lets somebody who destroys the receiver of callbacks be sure that none runs any more.
//
//   // The source, one callback at a time:        // The destructor:
//   if (gate.Enter()) {                           gate.Close();
//     callback();
//     gate.Leave();
//   }

#ifndef KV_INTERNAL_CALLBACK_GATE_H_
#define KV_INTERNAL_CALLBACK_GATE_H_

#include <thread>

#include "kv/internal/mutex.h"

namespace kv::internal {

// Marks the calling thread as one that runs a callback, so that what is destroyed inside of it does not wait for the
// very thread that it is on.
class CallbackScope {
 public:
  CallbackScope() { ++depth_; }
  ~CallbackScope() { --depth_; }
  CallbackScope(const CallbackScope&) = delete;
  CallbackScope& operator=(const CallbackScope&) = delete;

  static bool Inside() { return depth_ > 0; }

 private:
  static inline thread_local int depth_ = 0;
};

// Thread-safe. The source must not call Enter again before Leave.
class CallbackGate {
 public:
  // False: closed, nothing may run.
  bool Enter() {
    MutexLock lock(mutex_);
    if (closed_) return false;
    running_ = true;
    thread_ = std::this_thread::get_id();
    return true;
  }

  // True if it was closed from inside of the callback: what Close would have let the caller free can go now.
  bool Leave() {
    MutexLock lock(mutex_);
    running_ = false;
    idle_.NotifyAll();
    return closed_inside_;
  }

  // Nothing enters from now on. Waits for a running callback, except from inside it. True if none runs.
  bool Close() {
    MutexLock lock(mutex_);
    closed_ = true;
    if (running_ && thread_ == std::this_thread::get_id()) {
      closed_inside_ = true;
      return false;
    }
    while (running_) idle_.Wait(mutex_);
    return true;
  }

 private:
  Mutex mutex_;
  CondVar idle_;
  bool closed_ KV_GUARDED_BY(mutex_) = false;
  bool closed_inside_ KV_GUARDED_BY(mutex_) = false;
  bool running_ KV_GUARDED_BY(mutex_) = false;
  std::thread::id thread_ KV_GUARDED_BY(mutex_);
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_CALLBACK_GATE_H_
