#include "tests/chaos/round.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/open.h"
#include "kv/store.h"

namespace chaos {

using process_test::Process;
using process_test::Reply;

namespace {

constexpr int kCopies = 4;
constexpr absl::Duration kTtl = absl::Seconds(3);
// In which all loads of all copies must have got on once the engine works again: two rounds of beats and take-overs.
constexpr absl::Duration kBound = absl::Seconds(15);
constexpr absl::Duration kPatience = absl::Seconds(60);

// The distribution's, without which there are no jumps of the wall clock.
constexpr char kFakeTime[] = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

bool HasFakeTime() { return std::filesystem::exists(kFakeTime); }

// What a worker that is started while this lives has in its environment.
class Environment {
 public:
  explicit Environment(const std::string& clock_file) : faked_(HasFakeTime()) {
    if (!faked_) return;
    setenv("LD_PRELOAD", kFakeTime, 1);
    setenv("FAKETIME_TIMESTAMP_FILE", clock_file.c_str(), 1);
    setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
    setenv("FAKETIME_CACHE_DURATION", "1", 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    if (!faked_) return;
    for (const char* name :
         {"LD_PRELOAD", "FAKETIME_TIMESTAMP_FILE", "FAKETIME_DONT_FAKE_MONOTONIC", "FAKETIME_CACHE_DURATION"}) {
      unsetenv(name);
    }
  }

 private:
  const bool faked_;
};

void SetClock(const std::string& file, int64_t seconds) {
  const std::string fresh = file + ".new";
  std::ofstream(fresh) << (seconds < 0 ? "" : "+") << seconds << "\n";
  std::filesystem::rename(fresh, file);
}

}  // namespace

Round::Round(Engine* engine, unsigned seed, std::function<void(const std::string&)> say)
    : engine_(*engine), seed_(seed), random_(seed), say_(std::move(say)) {
  loads_ = std::make_unique<Loads>(folder_.path(), seed, engine_.forgets());
  for (int i = 0; i < kCopies; ++i) {
    places_.emplace_back();
    places_.back().name = absl::StrCat("copy-", i);
    SetClock(folder_ / (places_.back().name + ".clock"), 0);
  }
}

absl::Duration Round::Any(absl::Duration least, absl::Duration most) {
  return least + (most - least) * std::uniform_real_distribution<double>(0, 1)(random_);
}

void Round::Fail(const std::string& violation) {
  say_("VIOLATION: " + violation);
  result_.violations.push_back(violation);
}

// Another life of the place joins, as soon as it can.
bool Round::Begin(Place& place) {
  Process::Options options;
  options.store = engine_.store();
  options.events = engine_.events();
  options.instance = absl::StrCat(place.name, "-", ++place.lives);
  options.ttl = options.max_ttl = kTtl;
  options.accept_weaker = engine_.forgets();
  const Environment environment(folder_ / (place.name + ".clock"));
  place.process = std::make_unique<Process>(options);
  Reply joined;
  const absl::Time begun = absl::Now();
  do {
    joined = place.process->Call("join 10000");
  } while (!joined.ok() && absl::Now() < begun + kPatience);
  absl::Status status = joined.status;
  if (status.ok()) status = loads_->Subscribe(place.process.get(), place.name);
  if (!status.ok()) Fail(absl::StrCat(options.instance, " could not join and subscribe: ", status.ToString()));
  return status.ok();
}

std::vector<Fault> Round::CopyFaults() {
  std::vector<Fault> faults;
  for (Place& place : places_) {
    faults.push_back({"copy killed",
                      [this, &place] {
                        place.process->Kill();
                        loads_->Gone(place.process.get());
                        place.dead.push_back(std::move(place.process));
                        return absl::OkStatus();
                      },
                      [this, &place] {
                        if (Begin(place)) loads_->Start(place.process.get());
                        return absl::OkStatus();
                      }});
    faults.push_back({"copy stopped",
                      [&place] {
                        place.process->Signal(SIGSTOP);
                        return place.process->AwaitStopped() ? absl::OkStatus() : absl::UnknownError("did not stop");
                      },
                      [&place] {
                        place.process->Signal(SIGCONT);
                        return absl::OkStatus();
                      }});
    if (!HasFakeTime()) continue;
    const std::string clock = folder_ / (place.name + ".clock");
    faults.push_back({"wall clock jumped",
                      [this, clock] {
                        SetClock(clock, std::uniform_int_distribution<int>(-7200, 7200)(random_));
                        return absl::OkStatus();
                      },
                      [clock] {
                        SetClock(clock, 0);
                        return absl::OkStatus();
                      }});
  }
  return faults;
}

void Round::BeginFault(const Fault& fault) {
  say_(fault.name);
  ++result_.faults[fault.name];
  if (const absl::Status status = fault.begin(); !status.ok()) Fail(absl::StrCat(fault.name, ": ", status.ToString()));
}

void Round::EndFault(const Fault& fault) {
  say_("over: " + fault.name);
  if (const absl::Status status = fault.end(); !status.ok()) {
    Fail(absl::StrCat("the end of: ", fault.name, ": ", status.ToString()));
  }
}

// One thing or two at a time, for less or more than a ttl.
void Round::Hurt(const std::vector<Fault>& engine_faults, const std::vector<Fault>& copy_faults) {
  const auto any = [this](const std::vector<Fault>& of) -> const Fault& {
    return of[std::uniform_int_distribution<size_t>(0, of.size() - 1)(random_)];
  };
  const int kind = std::uniform_int_distribution<int>(0, 3)(random_);
  const Fault* at_engine = kind != 0 && !engine_faults.empty() ? &any(engine_faults) : nullptr;
  const Fault* at_copy = kind <= 1 || at_engine == nullptr ? &any(copy_faults) : nullptr;
  const bool engine_first = random_() % 2 == 0;
  if (at_engine != nullptr && engine_first) BeginFault(*at_engine);
  if (at_copy != nullptr) BeginFault(*at_copy);
  if (at_engine != nullptr && !engine_first) BeginFault(*at_engine);
  absl::SleepFor(random_() % 2 == 0 ? Any(absl::Milliseconds(100), kTtl / 2) : Any(kTtl / 2, 3 * kTtl));
  // A copy that begins anew needs the engine.
  if (at_engine != nullptr) EndFault(*at_engine);
  if (at_copy != nullptr) EndFault(*at_copy);
  if (const absl::Status whole = engine_.AwaitWhole(); !whole.ok()) Fail(whole.ToString());
}

bool Round::AwaitGettingOn(const std::string& since) {
  const absl::Time begun = absl::Now();
  const absl::Duration bound = kBound + engine_.recovery();
  std::string missing;
  loads_->Mark();
  while (!loads_->GotOn(&missing)) {
    if (absl::Now() > begun + bound) {
      Fail(absl::StrCat("no progress ", absl::FormatDuration(bound), " after ", since, ": ", missing));
      return false;
    }
    absl::SleepFor(absl::Milliseconds(50));
  }
  say_(absl::StrCat("all loads get on, ", absl::FormatDuration(absl::Trunc(absl::Now() - begun, absl::Milliseconds(1))),
                    " after ", since));
  return true;
}

// Of a store that can tell: one live session for each copy, and free locks.
void Round::CheckNothingIsLeft() {
  const auto store = kv::Open(engine_.store(), absl::Seconds(20));
  if (!store.ok()) return Fail(store.status().ToString());
  if (!(*store)->traits().list) return;
  std::string left;
  const auto clean = [&](size_t sessions) {
    absl::SleepFor(absl::Milliseconds(200));
    left = "";
    size_t live = 0;
    const auto entries = (*store)->List("process-test/", absl::Now() + absl::Seconds(20));
    if (!entries.ok()) return left = entries.status().ToString(), false;
    for (const kv::KeyedEntry& each : *entries) {
      const std::string& value = each.entry.value;
      const bool session = each.key.rfind("process-test/session/", 0) == 0;
      const bool lock =
          each.key.rfind("process-test/mutex/", 0) == 0 || each.key.rfind("process-test/election/", 0) == 0;
      if (session && value.find("\"mark\":\"ended\"") == std::string::npos) ++live;
      const bool free = value.find("\"owners\":[],\"queue\":[]") != std::string::npos;
      if (lock && !free) absl::StrAppend(&left, each.key, " ", value, "; ");
    }
    if (live != sessions) absl::StrAppend(&left, live, " live sessions instead of ", sessions);
    return left.empty();
  };
  if (!process_test::Eventually([&] { return clean(places_.size()); })) Fail("left behind before the end: " + left);
  for (Place& place : places_) {
    if (place.process == nullptr) continue;
    const int status = place.process->Quit();
    if (status != 0) Fail(absl::StrCat(place.name, " ended with status ", status));
  }
  if (!process_test::Eventually([&] { return clean(0); })) Fail("left behind: " + left);
}

Result Round::Run(int faults) {
  for (Place& place : places_) {
    if (!Begin(place)) return std::move(result_);
  }
  for (Place& place : places_) loads_->Start(place.process.get());
  const std::vector<Fault> copy_faults = CopyFaults();
  bool moves = AwaitGettingOn("the start");
  for (int i = 0; i < faults && moves && result_.violations.empty(); ++i) {
    Hurt(engine_.faults(), copy_faults);
    if (random_() % 2 == 0) {
      moves = AwaitGettingOn("the fault");
    } else {
      absl::SleepFor(Any(absl::ZeroDuration(), absl::Seconds(1)));
    }
  }
  if (moves && result_.violations.empty()) AwaitGettingOn("the last fault");
  loads_->Stop();
  for (const std::string& violation : loads_->Judge()) Fail(violation);
  CheckNothingIsLeft();
  result_.operations = loads_->operations();
  result_.summary = loads_->summary();
  if (!result_.violations.empty()) {
    const char* outputs = getenv("TEST_UNDECLARED_OUTPUTS_DIR");
    const std::string kept =
        absl::StrCat(outputs != nullptr ? outputs : std::filesystem::temp_directory_path().string(), "/chaos-", seed_);
    std::error_code error;
    std::filesystem::copy(folder_.path(), kept, std::filesystem::copy_options::recursive, error);
    say_(absl::StrCat("the histories are in ", kept));
  }
  return std::move(result_);
}

}  // namespace chaos
