// A file that remembers when a process led, also after it was killed: mapped memory that one process writes and a test
// reads.

#ifndef TESTS_PROCESS_TERMS_H_
#define TESTS_PROCESS_TERMS_H_

#include <atomic>
#include <cstdint>

namespace process_test {

// Between the two times, CLOCK_BOOTTIME in nanoseconds, the process certainly led with this fence.
struct Term {
  std::atomic<uint64_t> fence;
  std::atomic<int64_t> first;  // after a look that said so
  std::atomic<int64_t> last;   // before the latest look that said so
};

struct Terms {
  static constexpr int kMost = 64;
  Term terms[kMost];
};

}  // namespace process_test

#endif  // TESTS_PROCESS_TERMS_H_
