// Turns the wall clock deadline of a call into one on a clock that does not jump, once, on entry.

#ifndef KV_INTERNAL_DEADLINE_H_
#define KV_INTERNAL_DEADLINE_H_

#include <algorithm>
#include <chrono>
#include <optional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace kv::internal {

using SteadyTime = std::chrono::steady_clock::time_point;

// Nothing when `deadline` has passed. A deadline further off than ten years, as absl::InfiniteFuture(), is ten years.
inline std::optional<SteadyTime> SteadyDeadline(absl::Time deadline) {
  absl::Duration left = absl::Hours(24 * 3650);
  if (deadline != absl::InfiniteFuture()) left = std::min(left, deadline - absl::Now());
  if (left <= absl::ZeroDuration()) return std::nullopt;
  return std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(left);
}

}  // namespace kv::internal

#endif  // KV_INTERNAL_DEADLINE_H_
