// Repeatable choices. Each use has a stream of its own, named, so that leaving one out changes the others as little as
// possible: what fails still fails when the rest is taken away.

#ifndef TESTS_SIM_DICE_H_
#define TESTS_SIM_DICE_H_

#include <cmath>
#include <cstdint>
#include <string_view>

#include "absl/time/time.h"

namespace sim {

class Dice {
 public:
  Dice(uint64_t seed, std::string_view stream) : state_(seed * 0x9e3779b97f4a7c15) {
    for (const char c : stream) state_ = (state_ ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    Next();
  }

  // splitmix64.
  uint64_t Next() {
    uint64_t mixed = state_ += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
  }
  uint64_t Below(uint64_t limit) { return Next() % limit; }
  bool Chance(uint64_t percent) { return Below(100) < percent; }
  double Share() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  absl::Duration Upto(absl::Duration limit) { return limit * Share(); }
  // Mostly near the mean, at times far above it: exponential.
  absl::Duration Around(absl::Duration mean) { return mean * -std::log(1.0 - Share()); }

 private:
  uint64_t state_;
};

}  // namespace sim

#endif  // TESTS_SIM_DICE_H_
