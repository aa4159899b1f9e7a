#include "tests/sim/config.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/sim/dice.h"

namespace sim {
namespace {

constexpr const char* kModelNames[] = {"linearizable", "follower_reads", "no_watch",
                                       "forgetting",   "volatile",       "evicting"};
constexpr const char* kFaultNames[] = {"crash", "pause",   "leave",  "break",      "cut",    "slow",
                                       "loss",  "late",    "outage", "jump",       "resync", "watch_lag",
                                       "twice", "reorder", "cancel", "crash_store"};
constexpr const char* kSabotageNames[] = {"none", "writes", "pushes", "forgets", "deaf"};
static_assert(std::size(kFaultNames) == kFaults, "a name for every fault");

template <size_t n>
int IndexOf(const char* const (&names)[n], std::string_view name) {
  const auto found = std::find(std::begin(names), std::end(names), name);
  return found == std::end(names) ? -1 : static_cast<int>(found - std::begin(names));
}

absl::Status Senseless(std::string_view word, const std::string& wanted) {
  return absl::InvalidArgumentError(absl::StrCat("the setting \"", std::string(word), "\" makes no sense: ", wanted));
}

absl::Status SetDuration(const std::string& word, const std::string& value, absl::Duration* to) {
  absl::Duration parsed;
  if (!absl::ParseDuration(value, &parsed) || parsed <= absl::ZeroDuration()) {
    return Senseless(word, "a duration such as 500ms is wanted");
  }
  *to = parsed;
  return absl::OkStatus();
}

absl::Status SetFaults(const std::string& word, const std::string& value, uint32_t* to) {
  uint32_t bits = 0;
  for (const auto& part : absl::StrSplit(value, ',', absl::SkipEmpty())) {
    const std::string name(part);
    if (name == "none") continue;
    const int index = IndexOf(kFaultNames, name);
    if (index < 0) return Senseless(word, absl::StrCat("the faults are none, ", absl::StrJoin(kFaultNames, ", ")));
    bits |= 1u << index;
  }
  *to = bits;
  return absl::OkStatus();
}

absl::Status SetWorkloads(const std::string& word, const std::string& value, const std::vector<std::string>& known,
                          std::vector<std::string>* to) {
  std::vector<std::string> names;
  for (const auto& part : absl::StrSplit(value, ',', absl::SkipEmpty())) {
    names.emplace_back(part);
    if (std::find(known.begin(), known.end(), names.back()) == known.end()) {
      return Senseless(word, absl::StrCat("the workloads are ", absl::StrJoin(known, ", ")));
    }
  }
  if (names.empty()) return Senseless(word, "at least one workload is wanted");
  *to = std::move(names);
  return absl::OkStatus();
}

absl::Status SetNumber(const std::string& word, const std::string& value, int least, int most, int* to) {
  int parsed = 0;
  if (!absl::SimpleAtoi(value, &parsed) || parsed < least || parsed > most) {
    return Senseless(word, absl::StrCat("a number from ", least, " to ", most, " is wanted"));
  }
  *to = parsed;
  return absl::OkStatus();
}

absl::Status SetBool(const std::string& word, const std::string& value, bool* to) {
  int parsed = 0;
  absl::Status status = SetNumber(word, value, 0, 1, &parsed);
  if (status.ok()) *to = parsed != 0;
  return status;
}

absl::Status Set(const std::string& word, const std::string& key, const std::string& value,
                 const std::vector<std::string>& known, Config* config) {
  if (key == "model") {
    const int index = IndexOf(kModelNames, value);
    if (index < 0) return Senseless(word, absl::StrCat("the models are ", absl::StrJoin(kModelNames, ", ")));
    config->model = kModels[index];
    return absl::OkStatus();
  }
  if (key == "sabotage") {
    const int index = IndexOf(kSabotageNames, value);
    if (index < 0) return Senseless(word, absl::StrCat("there are ", absl::StrJoin(kSabotageNames, ", ")));
    config->sabotage = static_cast<Sabotage>(index);
    return absl::OkStatus();
  }
  if (key == "copies") return SetNumber(word, value, 1, 8, &config->copies);
  if (key == "threads") return SetNumber(word, value, 1, 8, &config->threads);
  if (key == "ttl") return SetDuration(word, value, &config->ttl);
  if (key == "max_ttl") return SetDuration(word, value, &config->max_ttl);
  if (key == "length") return SetDuration(word, value, &config->length);
  if (key == "latency") return SetDuration(word, value, &config->latency);
  if (key == "every") return SetDuration(word, value, &config->fault_every);
  if (key == "think") return SetDuration(word, value, &config->think);
  if (key == "age") return SetBool(word, value, &config->age);
  if (key == "proves") return SetBool(word, value, &config->proves_incarnation);
  if (key == "hints") return SetBool(word, value, &config->hints);
  if (key == "records") return SetBool(word, value, &config->check_records);
  if (key == "faults") return SetFaults(word, value, &config->faults);
  if (key == "workloads") return SetWorkloads(word, value, known, &config->workloads);
  if (key == "drift") {
    double drift = 0;
    if (!absl::SimpleAtod(value, &drift) || drift < 0 || drift > 0.45) return Senseless(word, "0 to 0.45 is wanted");
    config->drift = drift;
    return absl::OkStatus();
  }
  return Senseless(word, "see the line that names the configuration");
}

// What does not go together.
void Settle(Config* config) {
  config->max_ttl = std::max(config->max_ttl, config->ttl);
  // Such clocks are one machine's.
  if (config->model != Model::kLinearizable) config->age = config->proves_incarnation = false;
  if (config->age) config->drift = 0;
  if (config->watch()) config->hints = false;
}

}  // namespace

const char* ModelName(Model model) { return kModelNames[static_cast<int>(model)]; }
const char* FaultName(Fault fault) { return kFaultNames[static_cast<int>(fault)]; }

Config DrawConfig(uint64_t seed, const std::vector<std::string>& known_workloads) {
  Dice dice(seed, "config");
  Config config;
  config.seed = seed;
  config.model = dice.Chance(40) ? Model::kLinearizable : kModels[dice.Below(std::size(kModels))];
  config.copies = 2 + static_cast<int>(std::min(dice.Below(5), dice.Below(5)));
  config.threads = dice.Chance(30) ? 2 : 1;
  config.ttl = absl::Milliseconds(500 << dice.Below(4));
  config.max_ttl = config.ttl * (dice.Chance(50) ? 1 : 2);
  config.length = config.ttl * 3 + absl::Seconds(3) + absl::Seconds(1) * static_cast<int64_t>(dice.Below(8));
  config.latency = absl::Microseconds(20 << dice.Below(10));
  config.fault_every = config.ttl / static_cast<int64_t>(1 + dice.Below(5));
  config.think = absl::Milliseconds(40 << dice.Below(5));
  config.drift = dice.Chance(20) ? 0 : 0.08;
  config.age = dice.Chance(20);
  config.proves_incarnation = dice.Chance(30);
  config.hints = dice.Chance(50);
  config.check_records = dice.Chance(50);
  const uint64_t share = 10 + dice.Below(60);
  for (int i = 0; i < kFaults; ++i) config.faults |= dice.Chance(share) ? 1u << i : 0;
  if (!config.keeps()) config.faults |= 1u << static_cast<int>(Fault::kCrashStore);
  const uint64_t want = 1 + dice.Below(3);
  while (config.workloads.size() < std::min<size_t>(want, known_workloads.size())) {
    const std::string& name = known_workloads[dice.Below(known_workloads.size())];
    const bool there = std::find(config.workloads.begin(), config.workloads.end(), name) != config.workloads.end();
    if (!there) config.workloads.push_back(name);
  }
  Settle(&config);
  return config;
}

std::string ToString(const Config& config) {
  std::vector<std::string> faults;
  for (int i = 0; i < kFaults; ++i) {
    if (config.has(static_cast<Fault>(i))) faults.push_back(kFaultNames[i]);
  }
  std::string text = absl::StrCat(
      "model=", ModelName(config.model), " copies=", config.copies, " threads=", config.threads,
      " ttl=", absl::FormatDuration(config.ttl), " max_ttl=", absl::FormatDuration(config.max_ttl),
      " length=", absl::FormatDuration(config.length), " latency=", absl::FormatDuration(config.latency),
      " every=", absl::FormatDuration(config.fault_every), " think=", absl::FormatDuration(config.think),
      " drift=", config.drift, " age=", config.age, " proves=", config.proves_incarnation, " hints=", config.hints);
  absl::StrAppend(&text, " records=", config.check_records,
                  " faults=", faults.empty() ? "none" : absl::StrJoin(faults, ","),
                  " workloads=", absl::StrJoin(config.workloads, ","));
  if (config.sabotage != Sabotage::kNone) {
    absl::StrAppend(&text, " sabotage=", kSabotageNames[static_cast<int>(config.sabotage)]);
  }
  return text;
}

absl::Status Override(std::string_view settings, const std::vector<std::string>& known_workloads, Config* config) {
  for (const auto& part : absl::StrSplit(std::string(settings), ' ', absl::SkipEmpty())) {
    const std::string word(part);
    const size_t equals = word.find('=');
    if (equals == std::string::npos) return Senseless(word, "name=value is wanted");
    absl::Status status = Set(word, word.substr(0, equals), word.substr(equals + 1), known_workloads, config);
    if (!status.ok()) return status;
  }
  Settle(config);
  return absl::OkStatus();
}

}  // namespace sim
