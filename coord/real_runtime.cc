#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "coord/runtime.h"

namespace coord {
namespace {

constexpr int64_t kNanosPerSecond = 1'000'000'000;

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "coord: %s: %s\n", what, std::strerror(errno));
  std::abort();
}

// CLOCK_BOOTTIME and CLOCK_REALTIME are answered without a system call.
int64_t ClockNanos(clockid_t clock) {
  timespec now;
  if (clock_gettime(clock, &now) != 0) Die("the clock cannot be read");
  return now.tv_sec * kNanosPerSecond + now.tv_nsec;
}

// What is added to CLOCK_BOOTTIME to give Now(): it looks like wall time as it was when the process first asked, which
// makes logs readable. Nothing may rely on it.
int64_t BootOffsetNanos() {
  static const int64_t offset = ClockNanos(CLOCK_REALTIME) - ClockNanos(CLOCK_BOOTTIME);
  return offset;
}

absl::Time SteadyNow() { return absl::FromUnixNanos(ClockNanos(CLOCK_BOOTTIME) + BootOffsetNanos()); }

class PlainCondition final : public Condition {
 public:
  void Wait(kv::internal::Mutex& mu, absl::Time until) KV_REQUIRES(mu) override {
    if (until == absl::InfiniteFuture()) return changed_.Wait(mu);
    // Beyond a day the wait ends early, as a spurious return: it keeps the sum below from overflowing.
    const absl::Duration left = std::clamp(until - SteadyNow(), absl::ZeroDuration(), absl::Hours(24));
    const auto left_rounded_up = std::chrono::nanoseconds(absl::ToInt64Nanoseconds(left) + 1);
    changed_.WaitUntil(mu, std::chrono::steady_clock::now() + left_rounded_up);
  }

  void NotifyAll() override { changed_.NotifyAll(); }

 private:
  kv::internal::CondVar changed_;
};

// One waiter, woken by a timer that counts suspended time too (no condition variable can) or through an event counter.
class AlarmCondition final : public Condition {
 public:
  // Takes over both descriptors.
  AlarmCondition(int timer_fd, int event_fd) : timer_fd_(timer_fd), event_fd_(event_fd) {}
  ~AlarmCondition() override {
    close(timer_fd_);
    close(event_fd_);
  }

  void Wait(kv::internal::Mutex& mu, absl::Time until) KV_REQUIRES(mu) override {
    // Set before `mu` is released: who changes something under `mu` after the caller looked sees it and signals.
    if (waiting_.exchange(true)) {
      std::fprintf(stderr, "coord: two threads wait on one alarm condition; only one at a time may\n");
      std::abort();
    }
    Arm(until);
    mu.Unlock();
    pollfd fds[2] = {{timer_fd_, POLLIN, 0}, {event_fd_, POLLIN, 0}};
    // An interrupted poll is a spurious return.
    if (poll(fds, 2, -1) < 0 && errno != EINTR) Die("waiting for a timer failed");
    waiting_ = false;
    if ((fds[1].revents & POLLIN) != 0) Drain();
    mu.Lock();
  }

  void NotifyAll() override {
    if (!waiting_) return;
    const uint64_t one = 1;
    // Fails only when the counter is full, and then the waiter wakes anyway.
    while (write(event_fd_, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
  }

 private:
  // An expired timer stays readable until it is set anew, so that setting it to the same time again is needless.
  void Arm(absl::Time until) {
    if (until == armed_until_) return;
    itimerspec spec = {};  // all zero: never
    if (until != absl::InfiniteFuture()) {
      int64_t nanos = 1;  // long past
      if (until > SteadyNow()) {
        nanos = absl::ToUnixNanos(until);
        if (absl::FromUnixNanos(nanos) < until) ++nanos;
        nanos -= BootOffsetNanos();
      }
      spec.it_value.tv_sec = nanos / kNanosPerSecond;
      spec.it_value.tv_nsec = nanos % kNanosPerSecond;
    }
    if (timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &spec, nullptr) != 0) Die("a timer cannot be set");
    armed_until_ = until;
  }

  void Drain() {
    uint64_t count;
    while (read(event_fd_, &count, sizeof(count)) < 0 && errno == EINTR) {
    }
  }

  const int timer_fd_;
  const int event_fd_;
  std::atomic<bool> waiting_{false};
  absl::Time armed_until_ = absl::InfiniteFuture();  // of the one waiter
};

class RealThread final : public Thread {
 public:
  RealThread(const std::string& name, std::function<void()> body) : self_(std::make_shared<char>()) {
    thread_ = std::thread([self = self_, name = name.substr(0, 15), body = std::move(body)]() mutable {
      current_ = self.get();
      pthread_setname_np(pthread_self(), name.c_str());
      body();
      body = nullptr;  // what it captured dies while IsCurrent() still tells the truth
      current_ = nullptr;
    });
  }

  ~RealThread() override {
    if (IsCurrent()) Detach();
    if (thread_.joinable()) thread_.join();
  }

  bool IsCurrent() const override { return current_ == self_.get(); }

  void Detach() override {
    if (thread_.joinable()) thread_.detach();
  }

 private:
  static inline thread_local const char* current_ = nullptr;

  // Its address tells threads apart; kept alive by the thread, so that it is not used again while that runs.
  const std::shared_ptr<char> self_;
  std::thread thread_;
};

class RealRuntimeImpl final : public Runtime {
 public:
  absl::Time Now() override { return SteadyNow(); }
  // The clock that users and stores read. After a jump of the system's it can be a second behind, so that a deadline
  // made by the one and taken by the other would be off by the jump.
  absl::Time WallNow() override { return absl::Now(); }

  // Not buffered: a buffer would repeat itself in a forked child, and the numbers go into writes that cost far more.
  uint64_t Random() override {
    uint64_t bits;
    ssize_t got;
    do {
      got = getrandom(&bits, sizeof(bits), 0);
    } while (got < 0 && errno == EINTR);
    if (got != sizeof(bits)) Die("the operating system gives no random numbers");
    return bits;
  }

  uint64_t CurrentThread() override {
    static thread_local char here;  // one per living thread
    return reinterpret_cast<uintptr_t>(&here);
  }

  std::unique_ptr<Condition> NewCondition(ConditionKind kind) override {
    if (kind == ConditionKind::kPlain) return std::make_unique<PlainCondition>();
    const int timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    const int event_fd = timer_fd < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd >= 0) return std::make_unique<AlarmCondition>(timer_fd, event_fd);
    std::fprintf(
        stderr,
        "coord: no timer could be made (%s); raise the limit on open files (ulimit -n). Until then a deadline may "
        "be noticed late, by as long as the machine was suspended.\n",
        std::strerror(errno));
    if (timer_fd >= 0) close(timer_fd);
    return std::make_unique<PlainCondition>();
  }

  std::unique_ptr<Thread> StartThread(const std::string& name, std::function<void()> body) override {
    try {
      return std::make_unique<RealThread>(name, std::move(body));
    } catch (const std::system_error& error) {
      throw std::system_error(error.code(), "coord: thread '" + name +
                                                "' cannot be started; the limit on processes (ulimit -u, pids.max) or "
                                                "memory may be reached");
    }
  }
};

}  // namespace

Runtime& RealRuntime() {
  static Runtime* const runtime = new RealRuntimeImpl;
  return *runtime;
}

}  // namespace coord
