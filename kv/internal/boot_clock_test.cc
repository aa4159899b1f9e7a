#include "kv/internal/boot_clock.h"

#include <gtest/gtest.h>

namespace kv::internal {
namespace {

TEST(BootClockTest, MeasuresOnItsOwnClockOnly) {
  const BootClock clock;
  ASSERT_NE(clock.id(), 0);
  EXPECT_EQ(clock.id(), BootClock().id());
  const int64_t stamp = clock.NowNanos();
  const auto age = clock.Since(stamp, clock.id());
  ASSERT_TRUE(age.has_value());
  EXPECT_GE(*age, absl::ZeroDuration());
  EXPECT_LT(*age, absl::Seconds(10));
  EXPECT_FALSE(clock.Since(stamp, clock.id() + 2).has_value());
  EXPECT_FALSE(clock.Since(stamp, 0).has_value());
  EXPECT_FALSE(clock.Since(stamp + 1000000000000, clock.id()).has_value()) << "a stamp of the future has no age";
}

TEST(BootClockTest, ARebootOrAnotherTimeNamespaceIsAnotherClock) {
  const BootClock clock("boot-1", "time:[1]");
  EXPECT_EQ(clock.id(), BootClock("boot-1", "time:[1]").id());
  EXPECT_NE(clock.id(), BootClock("boot-2", "time:[1]").id());
  EXPECT_NE(clock.id(), BootClock("boot-1", "time:[2]").id());
  EXPECT_NE(BootClock("a", "bc").id(), BootClock("ab", "c").id());
}

TEST(BootClockTest, WhereTheKernelDoesNotTellThereAreNoAges) {
  const BootClock clock("", "time:[1]");
  EXPECT_EQ(clock.id(), 0);
  EXPECT_FALSE(clock.Since(clock.NowNanos(), 0).has_value());
}

}  // namespace
}  // namespace kv::internal
