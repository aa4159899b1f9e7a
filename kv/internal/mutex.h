// A mutex that clang's thread-safety analysis understands, over std::mutex, and a condition variable for it.
//
// Why not absl::Mutex: a distribution's abseil is not built for ThreadSanitizer, which then reports every use of it.
//
//   Mutex mu_;
//   int n_ KV_GUARDED_BY(mu_) = 0;
//   ...
//   MutexLock lock(mu_);
//   while (n_ == 0) cv_.Wait(mu_);
//
// Not recursive. Nothing here may be used from a fiber that another thread resumes while it holds a mutex:
// Mutex::HeldByThisThread() lets a fiber scheduler assert that none is held at a switch.

#ifndef KV_INTERNAL_MUTEX_H_
#define KV_INTERNAL_MUTEX_H_

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define KV_THREAD_ANNOTATION_(x) __attribute__((x))
#else
#define KV_THREAD_ANNOTATION_(x)
#endif

#define KV_CAPABILITY(name) KV_THREAD_ANNOTATION_(capability(name))
#define KV_SCOPED_CAPABILITY KV_THREAD_ANNOTATION_(scoped_lockable)
#define KV_GUARDED_BY(mutex) KV_THREAD_ANNOTATION_(guarded_by(mutex))
#define KV_PT_GUARDED_BY(mutex) KV_THREAD_ANNOTATION_(pt_guarded_by(mutex))
#define KV_REQUIRES(...) KV_THREAD_ANNOTATION_(requires_capability(__VA_ARGS__))
#define KV_EXCLUDES(...) KV_THREAD_ANNOTATION_(locks_excluded(__VA_ARGS__))
#define KV_ACQUIRE(...) KV_THREAD_ANNOTATION_(acquire_capability(__VA_ARGS__))
#define KV_TRY_ACQUIRE(...) KV_THREAD_ANNOTATION_(try_acquire_capability(__VA_ARGS__))
#define KV_RELEASE(...) KV_THREAD_ANNOTATION_(release_capability(__VA_ARGS__))
#define KV_ASSERT_HELD(...) KV_THREAD_ANNOTATION_(assert_capability(__VA_ARGS__))
#define KV_RETURN_CAPABILITY(x) KV_THREAD_ANNOTATION_(lock_returned(x))
#define KV_NO_THREAD_SAFETY_ANALYSIS KV_THREAD_ANNOTATION_(no_thread_safety_analysis)

namespace kv::internal {

class KV_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() KV_ACQUIRE() {
    mutex_.lock();
    ++held_;
  }

  void Unlock() KV_RELEASE() {
    --held_;
    mutex_.unlock();
  }

  bool TryLock() KV_TRY_ACQUIRE(true) {
    if (!mutex_.try_lock()) return false;
    ++held_;
    return true;
  }

  // How many Mutexes the calling thread holds now.
  static int HeldByThisThread() { return held_; }

  // Tells the analysis that the mutex is held, where it cannot see it (in a lambda, for example). Checks nothing.
  void AssertHeld() const KV_ASSERT_HELD(this) {}

 private:
  friend class CondVar;
  std::mutex mutex_;
  static inline thread_local int held_ = 0;
};

// Locks for the length of a scope. Unlock and Lock open a gap in it.
class KV_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) KV_ACQUIRE(mutex) : mutex_(mutex) { mutex_.Lock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() KV_RELEASE() {
    if (locked_) mutex_.Unlock();
  }

  void Unlock() KV_RELEASE() {
    locked_ = false;
    mutex_.Unlock();
  }
  void Lock() KV_ACQUIRE() {
    mutex_.Lock();
    locked_ = true;
  }

 private:
  Mutex& mutex_;
  bool locked_ = true;
};

// Waits may end spuriously: always loop over the condition.
class CondVar {
 public:
  void Wait(Mutex& mutex) KV_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    --Mutex::held_;
    condition_.wait(lock);
    ++Mutex::held_;
    lock.release();
  }

  // False when `deadline` has passed.
  bool WaitUntil(Mutex& mutex, std::chrono::steady_clock::time_point deadline) KV_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    --Mutex::held_;
    const bool in_time = condition_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    ++Mutex::held_;
    lock.release();
    return in_time;
  }

  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

// A lock with a deadline, for a resource that is held over slow calls. Built of Mutex and CondVar, because the timed
// lock of pthread is not known to every ThreadSanitizer. It does not count in Mutex::HeldByThisThread().
class KV_CAPABILITY("mutex") TimedMutex {
 public:
  TimedMutex() = default;
  TimedMutex(const TimedMutex&) = delete;
  TimedMutex& operator=(const TimedMutex&) = delete;

  void Lock() KV_ACQUIRE() {
    MutexLock lock(mutex_);
    while (locked_) released_.Wait(mutex_);
    locked_ = true;
  }

  // False when it could not be had by `deadline`; tried at least once.
  bool TryLockUntil(std::chrono::steady_clock::time_point deadline) KV_TRY_ACQUIRE(true) {
    MutexLock lock(mutex_);
    while (locked_) {
      if (!released_.WaitUntil(mutex_, deadline) && locked_) return false;
    }
    locked_ = true;
    return true;
  }
  bool TryLockFor(std::chrono::nanoseconds duration) KV_TRY_ACQUIRE(true) {
    return TryLockUntil(std::chrono::steady_clock::now() + duration);
  }

  void Unlock() KV_RELEASE() {
    {
      MutexLock lock(mutex_);
      locked_ = false;
    }
    released_.NotifyOne();
  }

 private:
  Mutex mutex_;
  CondVar released_;
  bool locked_ KV_GUARDED_BY(mutex_) = false;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_MUTEX_H_
