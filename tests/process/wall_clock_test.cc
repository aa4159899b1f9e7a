// The wall clock jumps while the process runs: deadlines made by the runtime are taken by stores as they were meant, at
// once and not when the library of times has noticed.

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "coord/runtime.h"

namespace process_test {
namespace {

constexpr char kFakeTime[] = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
constexpr char kFile[] = "FAKETIME_TIMESTAMP_FILE";

void SetClock(const std::string& offset) {
  const std::string file = getenv(kFile);
  std::ofstream(file + ".new") << offset << "\n";
  std::filesystem::rename(file + ".new", file);
}

TEST(WallClockTest, TheRuntimeAndTheStoresReadOneClock) {
  coord::Runtime& runtime = coord::RealRuntime();
  const absl::Time before = absl::Now();
  bool jumped = false;
  for (const char* offset : {"+7200", "-7200", "+0"}) {
    SetClock(offset);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    while (std::chrono::steady_clock::now() < end) {
      // As a call of a store: made here, taken there.
      const absl::Time deadline = runtime.WallDeadline(runtime.Now() + absl::Seconds(2));
      const absl::Duration left = deadline - absl::Now();
      // The jump itself may come in between, once.
      const absl::Duration again = runtime.WallDeadline(runtime.Now() + absl::Seconds(2)) - absl::Now();
      EXPECT_TRUE(absl::AbsDuration(left - absl::Seconds(2)) < absl::Seconds(1) ||
                  absl::AbsDuration(again - absl::Seconds(2)) < absl::Seconds(1))
          << offset << ": " << left << " and " << again;
      if (HasFailure()) return;
      jumped = jumped || absl::AbsDuration(absl::Now() - before) > absl::Hours(1);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  EXPECT_TRUE(jumped);
}

// This program once more, with a clock that can be set.
int RunAgain(char** argv) {
  if (!std::filesystem::exists(kFakeTime)) {
    std::fprintf(stderr, "%s is absent: install the package libfaketime\n", kFakeTime);
    return 1;
  }
  const char* folder = getenv("TEST_TMPDIR");
  setenv(kFile, (std::string(folder != nullptr ? folder : "/tmp") + "/clock").c_str(), 1);
  setenv("LD_PRELOAD", kFakeTime, 1);
  setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
  setenv("FAKETIME_CACHE_DURATION", "1", 1);
  SetClock("+0");
  execv("/proc/self/exe", argv);
  std::perror("execv");
  return 1;
}

}  // namespace
}  // namespace process_test

int main(int argc, char** argv) {
  if (getenv(process_test::kFile) == nullptr) return process_test::RunAgain(argv);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
