#include "tests/sim/timeline.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace sim {
namespace {

std::string Format(absl::Duration at, int copy, const std::string& text) {
  const std::string who = copy == kStore ? "store" : absl::StrCat("copy ", copy);
  return absl::StrFormat("  %+13.6fs  %-7s %s\n", absl::ToDoubleSeconds(at), who, text);
}

}  // namespace

void Timeline::Add(int copy, std::string text) {
  const absl::Duration at = network_.now() - begin_;
  if (mode_ == TimelineMode::kPrint) {
    std::fputs(Format(at, copy, text).c_str(), stdout);
  } else {
    lines_.push_back({at, copy, std::move(text)});
  }
}

std::string Timeline::Text(size_t most) const {
  std::string text;
  const size_t end = marked_ == 0 ? lines_.size() : std::min(lines_.size(), marked_ + 20);
  const size_t first = end > most ? end - most : 0;
  if (first > 0) text = absl::StrCat("  (", first, " earlier lines are left out)\n");
  for (size_t i = first; i < end; ++i) text += Format(lines_[i].at, lines_[i].copy, lines_[i].text);
  return text;
}

}  // namespace sim
