#include "kv/internal/boot_clock.h"

#include <time.h>
#include <unistd.h>

#include <fstream>

namespace kv::internal {
namespace {

std::string ReadBootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

std::string ReadTimeNamespace() {
  char name[64];
  const ssize_t size = readlink("/proc/self/ns/time", name, sizeof(name));
  // A kernel without time namespaces has one clock for all.
  return size > 0 ? std::string(name, static_cast<size_t>(size)) : "none";
}

// FNV-1a.
uint64_t Hash(std::string_view text, uint64_t hash) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

int64_t ClockId(std::string_view boot_id, std::string_view time_namespace) {
  if (boot_id.empty() || time_namespace.empty()) return 0;
  const uint64_t hash = Hash(time_namespace, Hash("/", Hash(boot_id, 0xcbf29ce484222325u)));
  return static_cast<int64_t>(hash | 1);  // never 0
}

}  // namespace

BootClock::BootClock() : BootClock(ReadBootId(), ReadTimeNamespace()) {}

BootClock::BootClock(std::string_view boot_id, std::string_view time_namespace)
    : id_(ClockId(boot_id, time_namespace)) {}

int64_t BootClock::NowNanos() const {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{1000000000} * now.tv_sec + now.tv_nsec;
}

std::optional<absl::Duration> BootClock::Since(int64_t stamp_nanos, int64_t clock_id) const {
  const int64_t age = NowNanos() - stamp_nanos;
  if (id_ == 0 || clock_id != id_ || age < 0) return std::nullopt;
  return absl::Nanoseconds(age);
}

}  // namespace kv::internal
