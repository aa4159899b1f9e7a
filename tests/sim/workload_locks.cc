// Locks of all kinds: a mutex in three variants, a semaphore, a shared mutex, and a semaphore whose size changes.

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/grants.h"
#include "tests/sim/workloads.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

constexpr uint64_t kAll = 0xffffffffu;
constexpr uint32_t kPermits = 3;

// Few names, so that copies meet.
std::string Name(Dice& dice, const char* prefix) { return absl::StrCat(prefix, dice.Chance(80) ? 0 : 1); }

class MutexWorker : public Worker {
 public:
  MutexWorker(Copy& copy, int thread, const char* name, coord::MutexOptions options)
      : copy_(copy), dice_(copy.NewDice(absl::StrCat(name, thread))), name_(name), options_(options) {}

  bool Step() override {
    const std::string name = Name(dice_, name_);
    coord::Mutex mutex = copy_.cluster().Mutex(name, options_);
    Request request;
    request.name = "mutex/" + name;
    request.fence_each = options_.fence_each;
    const uint64_t how = dice_.Below(6);
    if (how == 0) {
      request.ask = [mutex](absl::Time deadline, const coord::CancelToken&) mutable {
        return mutex.TryAcquire(deadline);
      };
    } else if (how == 1) {
      request.ask_async = [mutex](absl::Time deadline, coord::GrantCallback done,
                                  const coord::CancelToken& cancel) mutable {
        mutex.AcquireAsync(deadline, std::move(done), cancel);
      };
    } else {
      request.ask = [mutex](absl::Time deadline, const coord::CancelToken& cancel) mutable {
        return mutex.Acquire(deadline, cancel);
      };
    }
    return AskAndHold(copy_, dice_, request);
  }

 private:
  Copy& copy_;
  Dice dice_;
  const char* const name_;
  const coord::MutexOptions options_;
};

class SemaphoreWorker : public Worker {
 public:
  SemaphoreWorker(Copy& copy, int thread) : copy_(copy), dice_(copy.NewDice(absl::StrCat("semaphore", thread))) {}

  bool Step() override {
    const std::string name = Name(dice_, "s");
    coord::Semaphore semaphore = copy_.cluster().Semaphore(name, kPermits);
    const uint32_t permits = 1 + static_cast<uint32_t>(dice_.Below(kPermits));
    Request request;
    request.name = "semaphore/" + name;
    request.capacity = kPermits;
    request.weight = permits;
    const bool attempt = dice_.Chance(20);
    request.ask = [semaphore, permits, attempt](absl::Time deadline, const coord::CancelToken& cancel) mutable {
      return attempt ? semaphore.TryAcquire(permits, deadline) : semaphore.Acquire(permits, deadline, cancel);
    };
    return AskAndHold(copy_, dice_, request);
  }

 private:
  Copy& copy_;
  Dice dice_;
};

class SharedMutexWorker : public Worker {
 public:
  SharedMutexWorker(Copy& copy, int thread) : copy_(copy), dice_(copy.NewDice(absl::StrCat("shared", thread))) {}

  bool Step() override {
    const std::string name = Name(dice_, "r");
    coord::SharedMutex mutex = copy_.cluster().SharedMutex(name);
    const bool reads = dice_.Chance(60);
    const bool attempt = dice_.Chance(20);
    Request request;
    request.name = "shared_mutex/" + name;
    request.capacity = kAll;
    request.weight = reads ? 1 : kAll;
    request.ask = [mutex, reads, attempt](absl::Time deadline, const coord::CancelToken& cancel) mutable {
      if (attempt) return reads ? mutex.TryAcquireShared(deadline) : mutex.TryAcquire(deadline);
      return reads ? mutex.AcquireShared(deadline, cancel) : mutex.Acquire(deadline, cancel);
    };
    if (!reads && dice_.Chance(40)) {
      request.hold = [this, mutex](coord::Grant& grant, Hold* hold) mutable { Downgrade(mutex, grant, hold); };
    }
    return AskAndHold(copy_, dice_, request);
  }

 private:
  void Downgrade(coord::SharedMutex& mutex, coord::Grant& grant, Hold* hold) {
    copy_.runtime().SleepFor(dice_.Upto(absl::Milliseconds(50)));
    // It counts as shared from the moment at which the call begins to tell the store.
    copy_.world().observer->Downgraded(hold);
    const absl::Status status = mutex.Downgrade(grant, copy_.In(absl::Seconds(2)));
    if (!status.ok()) CheckFailure(copy_, "Downgrade", status, /*may_be_refused=*/true);
  }

  Copy& copy_;
  Dice dice_;
};

template <typename MadeWorker, typename... Options>
class LockWorkload : public Workload {
 public:
  explicit LockWorkload(Options... options) : options_(options...) {}
  std::unique_ptr<Worker> Start(Copy& copy, int thread) override {
    return std::apply([&](Options... options) { return std::make_unique<MadeWorker>(copy, thread, options...); },
                      options_);
  }

 private:
  const std::tuple<Options...> options_;
};

std::unique_ptr<Workload> MakeMutexWith(const char* name, bool retain, bool fence_each) {
  coord::MutexOptions options;
  options.retain = retain;
  options.fence_each = fence_each;
  return std::make_unique<LockWorkload<MutexWorker, const char*, coord::MutexOptions>>(name, options);
}

}  // namespace

std::unique_ptr<Workload> MakeMutex(World&) { return MakeMutexWith("m", false, false); }
std::unique_ptr<Workload> MakeRetain(World&) { return MakeMutexWith("retained", true, false); }
std::unique_ptr<Workload> MakeFenceEach(World&) { return MakeMutexWith("each", false, true); }
std::unique_ptr<Workload> MakeSemaphore(World&) { return std::make_unique<LockWorkload<SemaphoreWorker>>(); }
std::unique_ptr<Workload> MakeSharedMutex(World&) { return std::make_unique<LockWorkload<SharedMutexWorker>>(); }

}  // namespace sim
