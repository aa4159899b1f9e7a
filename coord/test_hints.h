// Hints between the copies of a test, on virtual time: late, lost, repeated and out of order as told.

#ifndef COORD_TEST_HINTS_H_
#define COORD_TEST_HINTS_H_

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "coord/internal/executor.h"
#include "coord/runtime.h"
#include "kv/internal/mutex.h"

namespace coord::testing {

// What becomes of each hint on its way to each copy. Percentages.
struct HintFaults {
  int lost = 0;
  int twice = 0;
  absl::Duration latest = absl::Microseconds(200);  // it takes up to this, so that hints overtake each other
};

// A driver with hints and without events.
class FakeHints final : public EventDriver {
 public:
  FakeHints(Runtime& runtime, uint64_t seed, HintFaults faults = {})
      : state_(std::make_shared<State>(runtime, seed, faults)) {
    thread_ = runtime.StartThread("hints", [state = state_] { state->Run(); });
  }
  ~FakeHints() override { state_->Stop(); }

  absl::StatusOr<std::unique_ptr<EventBus>> MakeBus(std::shared_ptr<internal::Core>) override {
    return std::unique_ptr<EventBus>(std::make_unique<NoBus>());
  }
  std::unique_ptr<HintChannel> MakeHints(const std::string& plugin,
                                         std::function<void(std::string_view)> on_hint) override {
    if (!up_) return nullptr;
    auto made = std::make_unique<Channel>();
    made->state = state_;
    made->self = std::make_shared<Receiver>(state_->runtime, plugin, std::move(on_hint));
    kv::internal::MutexLock lock(state_->mu);
    state_->receivers.push_back(made->self);
    return made;
  }

  // No channel can be made while it is down.
  void SetUp(bool up) { up_ = up; }
  void SetFaults(HintFaults faults) {
    kv::internal::MutexLock lock(state_->mu);
    state_->faults = faults;
  }
  // As somebody else on the transport could.
  void Forge(const std::string& plugin, std::string_view key) { state_->Send(plugin, key, nullptr); }

  int sent() const {
    kv::internal::MutexLock lock(state_->mu);
    return state_->sent;
  }

 private:
  // Hands on to one copy, on a thread of that copy's process, by its clock.
  struct Receiver {
    Receiver(Runtime& runtime, std::string of, std::function<void(std::string_view)> fn)
        : plugin(std::move(of)), on_hint(std::move(fn)), thread(runtime, "hints-in") {}
    const std::string plugin;
    const std::function<void(std::string_view)> on_hint;
    internal::Executor thread;
  };

  struct State {
    State(Runtime& rt, uint64_t seed, HintFaults given)
        : runtime(rt), changed(rt.NewCondition()), random(seed), faults(given) {}

    void Send(const std::string& plugin, std::string_view key, const Receiver* from) {
      kv::internal::MutexLock lock(mu);
      ++sent;
      for (const std::shared_ptr<Receiver>& to : receivers) {
        if (to.get() == from || to->plugin != plugin) continue;
        const int copies = Roll(faults.lost) ? 0 : Roll(faults.twice) ? 2 : 1;
        for (int i = 0; i < copies; ++i) {
          const double share = static_cast<double>(random() >> 11) * 0x1p-53;
          due.emplace(runtime.Now() + faults.latest * share, std::make_pair(to, std::string(key)));
        }
      }
      changed->NotifyAll();
    }

    bool Roll(int percent) KV_REQUIRES(mu) { return static_cast<int>(random() % 100) < percent; }

    void Run() {
      kv::internal::MutexLock lock(mu);
      while (!stopped) {
        if (due.empty() || runtime.Now() < due.begin()->first) {
          changed->Wait(mu, due.empty() ? absl::InfiniteFuture() : due.begin()->first);
          continue;
        }
        const auto [to, key] = due.begin()->second;
        due.erase(due.begin());
        to->thread.Post([receiver = to.get(), hint = key] { receiver->on_hint(hint); });
      }
    }

    void Stop() {
      kv::internal::MutexLock lock(mu);
      stopped = true;
      changed->NotifyAll();
    }

    Runtime& runtime;
    const std::unique_ptr<Condition> changed;
    mutable kv::internal::Mutex mu;
    std::mt19937_64 random KV_GUARDED_BY(mu);
    HintFaults faults KV_GUARDED_BY(mu);
    std::vector<std::shared_ptr<Receiver>> receivers KV_GUARDED_BY(mu);
    std::multimap<absl::Time, std::pair<std::shared_ptr<Receiver>, std::string>> due KV_GUARDED_BY(mu);
    int sent KV_GUARDED_BY(mu) = 0;
    bool stopped KV_GUARDED_BY(mu) = false;
  };

  struct Channel final : HintChannel {
    ~Channel() override {
      {
        kv::internal::MutexLock lock(state->mu);
        auto& all = state->receivers;
        all.erase(std::remove(all.begin(), all.end(), self), all.end());
      }
      self->thread.Stop(absl::InfinitePast());
    }
    void Send(std::string_view key) override { state->Send(self->plugin, key, self.get()); }
    std::shared_ptr<State> state;
    std::shared_ptr<Receiver> self;
  };

  class NoBus final : public EventBus {
   public:
    absl::Status Publish(std::string_view, std::string_view, absl::Time, const PublishOptions&) override { return no_; }
    void PublishAsync(std::string_view, std::string_view, absl::Time, PublishDone done,
                      const PublishOptions&) override {
      if (done) done(no_);
    }
    absl::Status Flush(absl::Time) override { return no_; }
    absl::StatusOr<Subscription> Subscribe(std::string_view, EventHandler, absl::Time,
                                           const SubscribeOptions&) override {
      return no_;
    }
    absl::StatusOr<std::vector<Reply>> Ask(std::string_view, std::string_view, absl::Time, size_t,
                                           std::string_view) override {
      return no_;
    }
    absl::StatusOr<Subscription> Answer(std::string_view, AskHandler, absl::Time) override { return no_; }
    size_t max_payload() const override { return 0; }
    void Close(absl::Time) override {}

   private:
    const absl::Status no_ = absl::UnimplementedError("hints only");
  };

  const std::shared_ptr<State> state_;
  bool up_ = true;
  std::unique_ptr<Thread> thread_;
};

}  // namespace coord::testing

#endif  // COORD_TEST_HINTS_H_
