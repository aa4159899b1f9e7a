// What happened in a run: for the hash that tells two runs apart always, and as text for a person where it is wanted.

#ifndef TESTS_SIM_TIMELINE_H_
#define TESTS_SIM_TIMELINE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "tests/sim/network.h"

namespace sim {

inline constexpr int kStore = 0;  // in the place of a copy's number

enum class TimelineMode {
  kHash,   // no text
  kKeep,   // for Text()
  kPrint,  // at once, for a run that will not come to its end
};

class Timeline {
 public:
  Timeline(const Network& network, TimelineMode mode) : network_(network), begin_(network.now()), mode_(mode) {}

  // `number` is what else distinguishes the event.
  void Note(int copy, std::string_view what, uint64_t number = 0) {
    Mix(static_cast<uint64_t>(absl::ToInt64Nanoseconds(network_.now() - begin_)));
    Mix(static_cast<uint64_t>(copy) << 32 ^ number);
    for (const char c : what) hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }

  // The same, and with words: `text` is called only where they are kept.
  template <typename Text>
  void Tell(int copy, std::string_view what, uint64_t number, Text text) {
    Note(copy, what, number);
    if (mode_ != TimelineMode::kHash) Add(copy, text());
  }

  uint64_t hash() const { return hash_; }

  // What comes much later than the first call is of no interest.
  void Mark() {
    if (marked_ == 0) marked_ = lines_.size();
  }

  // "+12.345678s copy 2  what": one line each; of those until a little after the mark (or the end) the last `most`.
  std::string Text(size_t most) const;

 private:
  struct Line {
    absl::Duration at;
    int copy;
    std::string text;
  };

  void Add(int copy, std::string text);
  void Mix(uint64_t number) { hash_ = (hash_ ^ number) * 0x9e3779b97f4a7c15 ^ (hash_ >> 29); }

  const Network& network_;
  const absl::Time begin_;
  const TimelineMode mode_;
  uint64_t hash_ = 0xcbf29ce484222325;
  std::vector<Line> lines_;
  size_t marked_ = 0;  // 0: nowhere
};

}  // namespace sim

#endif  // TESTS_SIM_TIMELINE_H_
