#include "tests/sim/faults.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/world.h"

namespace sim {

Faults::Faults(World& world) : world_(world), dice_(world.config.seed, "faults") {
  for (int i = 0; i < kFaults; ++i) {
    const auto fault = static_cast<Fault>(i);
    if (world.config.has(fault) && fault != Fault::kCancel) possible_.push_back(fault);
  }
}

void Faults::Start() {
  if (world_.config.model == Model::kFollowerReads) {
    for (auto& copy : world_.copies) {
      if (dice_.Chance(70)) copy->port().weather.read_lag = dice_.Upto(world_.config.max_ttl);
    }
  }
  if (!possible_.empty()) Tick();
}

void Faults::Tick() {
  if (ended_) return;
  Inject(possible_[dice_.Below(possible_.size())]);
  if ((world_.config.model == Model::kForgetting || world_.config.sabotage == Sabotage::kForgets) && dice_.Chance(50))
    world_.server.Keep();
  world_.network.After(dice_.Around(world_.config.fault_every), [this] { Tick(); });
}

// That the store is another, which is not true: no lock may be lost by it. Values that are kept in memory may go back
// then, and a store that keeps everything does not say so.
bool Faults::MayClaimAnEpoch() const {
  const auto& names = world_.config.workloads;
  return std::none_of(names.begin(), names.end(), [](const std::string& name) {
    return name.compare(0, 6, "shared") == 0 && name != "shared_mutex";
  });
}

Copy& Faults::AnyCopy() { return *world_.copies[dice_.Below(world_.copies.size())]; }

void Faults::Inject(Fault fault) {
  ++world_.report.faults[static_cast<int>(fault)];
  if (fault == Fault::kCrashStore) return CrashStore();
  if (fault == Fault::kOutage) return Outage();
  Copy& copy = AnyCopy();
  copy.NoteFault(fault);
  InjectProcess(fault, copy);
  InjectWeather(fault, copy);
}

void Faults::InjectProcess(Fault fault, Copy& copy) {
  const absl::Duration ttl = world_.config.ttl;
  switch (fault) {
    case Fault::kCrash:
      if (!copy.running()) return;
      copy.Kill();
      return world_.network.After(dice_.Upto(ttl * 2), [&copy] { copy.Start(); });
    case Fault::kPause:
      if (!copy.running() || copy.paused()) return;
      copy.Pause();
      return world_.network.After(dice_.Upto(dice_.Chance(50) ? ttl : ttl * 3), [&copy] { copy.Resume(); });
    case Fault::kLeave:
      return copy.AskToLeave(true);
    case Fault::kBreak: {
      const std::string session = AnyCopy().session();
      if (session.empty()) return;
      return copy.Ask([&copy, session, ttl](coord::Cluster& cluster) { (void)cluster.Break(session, copy.In(ttl)); });
    }
    case Fault::kWallJump: {
      const absl::Duration most = dice_.Chance(50) ? ttl * 4 : absl::Duration(absl::Hours(2));
      const absl::Duration by = dice_.Upto(most * 2) - most;
      world_.timeline.Tell(copy.number(), "jump", 0, [&] { return "wall clock jumps by " + absl::FormatDuration(by); });
      return world_.runtime.JumpWallClock(copy.number(), by);
    }
    case Fault::kResync:
      world_.timeline.Tell(copy.number(), "resync", 0, [] { return "its watch is interrupted"; });
      return copy.port().Interrupt(dice_.Chance(10) && MayClaimAnEpoch() ? kv::WatchKind::kEpochChanged
                                                                         : kv::WatchKind::kResync);
    default:
      return;
  }
}

void Faults::Weather(Copy& copy, absl::Duration longest, const std::function<void(Port::Weather&)>& change) {
  change(copy.port().weather);
  world_.network.After(dice_.Upto(longest), [this, &copy] {
    if (ended_) return;
    Port::Weather calm;
    calm.latency = world_.config.latency;
    calm.read_lag = copy.port().weather.read_lag;
    calm.down = copy.port().weather.down;
    calm.down_refuses = copy.port().weather.down_refuses;
    copy.port().weather = calm;
    world_.timeline.Tell(copy.number(), "calm", 0, [] { return "its link is well again"; });
    copy.port().Heal();
  });
}

void Faults::InjectWeather(Fault fault, Copy& copy) {
  const absl::Duration ttl = world_.config.ttl;
  const int percent = 1 << dice_.Below(7);
  const auto tell = [&](const std::string& what) {
    world_.timeline.Tell(copy.number(), FaultName(fault), static_cast<uint64_t>(percent), [&] { return what; });
  };
  switch (fault) {
    case Fault::kCut: {
      const uint64_t way = dice_.Below(3);
      const bool keeps = dice_.Chance(50);
      tell(absl::StrCat("is cut off ",
                        way == 0   ? "towards"
                        : way == 1 ? "from"
                                   : "towards and from",
                        " the store", keeps ? ", what is sent waits" : ""));
      return Weather(copy, ttl * 2, [&](Port::Weather& weather) {
        weather.cut_to = way != 1;
        weather.cut_from = way != 0;
        weather.cut_keeps = keeps;
      });
    }
    case Fault::kSlow: {
      const absl::Duration latency = dice_.Upto(ttl / 4);
      tell(absl::StrCat("its link takes ", absl::FormatDuration(latency)));
      return Weather(copy, ttl * 2, [&](Port::Weather& weather) { weather.latency = latency; });
    }
    case Fault::kLoss:
      tell(absl::StrCat("its link loses ", percent, " %"));
      return Weather(copy, ttl * 3, [&](Port::Weather& weather) { weather.lose_percent = percent; });
    case Fault::kLate:
      tell(absl::StrCat(percent, " % of its requests arrive late"));
      return Weather(copy, ttl * 3, [&](Port::Weather& weather) { weather.late_percent = percent; });
    case Fault::kWatchLag: {
      const absl::Duration lag = dice_.Upto(ttl * 2);
      tell(absl::StrCat("its watch is up to ", absl::FormatDuration(lag), " late"));
      return Weather(copy, ttl * 3, [&](Port::Weather& weather) { weather.watch_lag = lag; });
    }
    case Fault::kDuplicate:
      tell("its watch repeats itself");
      return Weather(copy, ttl * 5, [&](Port::Weather& weather) { weather.duplicate_percent = percent; });
    case Fault::kReorder:
      tell("its watch comes in disorder");
      return Weather(copy, ttl * 5, [&](Port::Weather& weather) { weather.reorder_percent = percent; });
    default:
      return;
  }
}

void Faults::Outage() {
  const bool refuses = dice_.Chance(50);
  const bool lost = dice_.Chance(50);
  world_.timeline.Tell(kStore, "down", 0, [&] { return refuses ? "is down, and refuses" : "is down, and silent"; });
  for (auto& copy : world_.copies) {
    copy->NoteFault(Fault::kOutage);
    copy->port().weather.down = true;
    copy->port().weather.down_refuses = refuses;
    if (lost) copy->port().DropReplies();
  }
  const absl::Duration most = world_.config.ttl * (dice_.Chance(70) ? 0.3 : 2.0);
  world_.network.After(dice_.Upto(most), [this] {
    if (ended_) return;
    world_.timeline.Tell(kStore, "up", 0, [] { return "is up again"; });
    for (auto& copy : world_.copies) {
      copy->port().weather.down = false;
      copy->port().Heal();
    }
  });
}

void Faults::CrashStore() {
  const Model model = world_.config.model;
  for (auto& copy : world_.copies) copy->NoteFault(Fault::kCrashStore);
  if (model == Model::kEvicting && dice_.Chance(70)) {
    std::vector<kv::KeyedEntry> entries = world_.server.List("");
    if (entries.empty()) return;
    const std::string& key = entries[dice_.Below(entries.size())].key;
    world_.timeline.Tell(kStore, "evict", 0, [&] { return absl::StrCat("drops ", key); });
    world_.server.Evict(key);
    return world_.observer->Forgot();
  }
  uint64_t lost = 0;
  if (model == Model::kForgetting || world_.config.sabotage == Sabotage::kForgets) {
    lost = world_.server.FallBack();
    if (lost > 0) world_.observer->Forgot();
  } else if (model == Model::kVolatile || model == Model::kEvicting) {
    world_.server.Restart();
  }
  world_.timeline.Tell(kStore, "crash", lost, [&] {
    return model == Model::kForgetting ? absl::StrCat("crashes, and has forgotten ", lost, " writes")
           : world_.config.keeps()     ? std::string("crashes, and has kept everything")
                                       : std::string("crashes, and is empty");
  });
  const bool epoch = !world_.config.keeps() && dice_.Chance(30);
  for (auto& copy : world_.copies) {
    const auto kind = epoch ? kv::WatchKind::kEpochChanged : kv::WatchKind::kResync;
    copy->port().DropReplies();
    copy->port().Disconnect(kind);
    // A driver takes its time to connect again.
    world_.network.After(dice_.Upto(world_.config.ttl / 3), [&copy, kind] { copy->port().Interrupt(kind); });
  }
  if (dice_.Chance(70)) Outage();
}

void Faults::End() {
  ended_ = true;
  world_.timeline.Tell(kStore, "healing", 0, [] { return "---- all faults end ----"; });
  for (auto& copy : world_.copies) {
    copy->Resume();
    copy->port().weather = Port::Weather();
    copy->port().weather.latency = world_.config.latency;
    copy->port().Heal();
    if (world_.config.sabotage == Sabotage::kDeaf && copy->number() == 1) copy->port().weather.cut_from = true;
    // What came in disorder is set right.
    if (world_.config.has(Fault::kReorder)) copy->port().Interrupt(kv::WatchKind::kResync);
  }
}

}  // namespace sim
