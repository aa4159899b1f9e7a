// The clock that stamps entries shared by processes: CLOCK_BOOTTIME of this boot in this time namespace.

#ifndef KV_INTERNAL_BOOT_CLOCK_H_
#define KV_INTERNAL_BOOT_CLOCK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace kv::internal {

// Immutable, thread-safe.
class BootClock {
 public:
  // Of this process; without an id, and so without ages, where /proc does not tell boot id and namespace.
  BootClock();
  // For tests.
  BootClock(std::string_view boot_id, std::string_view time_namespace);

  // Equal for two processes if and only if their clocks are one; 0 where that cannot be told.
  int64_t id() const { return id_; }

  int64_t NowNanos() const;

  // Nothing where `stamp` is of another clock or lies ahead.
  std::optional<absl::Duration> Since(int64_t stamp_nanos, int64_t clock_id) const;

 private:
  int64_t id_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_BOOT_CLOCK_H_
