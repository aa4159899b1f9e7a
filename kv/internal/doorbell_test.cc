#include "kv/internal/doorbell.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "kv/test_util.h"

namespace kv::internal {
namespace {

// Waits on `bell` until it has been rung; true if that took a ring and not the timeout.
class Listener {
 public:
  explicit Listener(const Doorbell& bell) : seen_(bell.Value()), thread_([this, &bell] { Listen(bell); }) {}
  ~Listener() { thread_.join(); }

 private:
  void Listen(const Doorbell& bell) {
    while (bell.Value() == seen_) bell.Wait(seen_, absl::InfiniteDuration());
  }
  const uint32_t seen_;
  std::thread thread_;
};

TEST(DoorbellTest, RingsEveryoneOnTheFile) {
  const TempDir folder;
  Doorbell one(folder / "bell");
  Doorbell two(folder / "bell");
  Listener own(one);
  Listener other(two);
  one.Ring();
}

TEST(DoorbellTest, ARingBeforeTheWaitIsNotMissed) {
  const TempDir folder;
  Doorbell bell(folder / "bell");
  const uint32_t seen = bell.Value();
  bell.Ring();
  bell.Wait(seen, absl::InfiniteDuration());
  EXPECT_NE(bell.Value(), seen);
}

TEST(DoorbellTest, AWaitEndsAtItsTimeout) {
  const TempDir folder;
  Doorbell bell(folder / "bell");
  bell.Wait(bell.Value(), absl::Milliseconds(1));
}

TEST(DoorbellTest, WithoutAFileItIsHeardInThisProcess) {
  const TempDir folder;
  Doorbell bell(folder / "no/such/folder/bell");
  Listener own(bell);
  bell.Ring();
}

TEST(DoorbellTest, RefreshTakesUpAReplacedFile) {
  const TempDir folder;
  Doorbell old(folder / "bell");
  std::filesystem::remove(folder / "bell");
  Doorbell fresh(folder / "bell");
  // Refresh looks at most every few milliseconds.
  const uint32_t before = fresh.Value();
  for (int i = 0; i < 2000 && fresh.Value() == before; ++i) {
    old.Refresh();
    old.Ring();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_NE(fresh.Value(), before);
}

TEST(DoorbellTest, TheFileIsAllocated) {
  const TempDir folder;
  const Doorbell bell(folder / "bell");
  struct stat file;
  ASSERT_EQ(stat((folder / "bell").c_str(), &file), 0);
  EXPECT_EQ(file.st_size, 4096);
  EXPECT_GT(file.st_blocks, 0) << "a hole: writing to it on a full disk would be a SIGBUS";
  EXPECT_EQ(file.st_mode & 0777, 0600u);
}

}  // namespace
}  // namespace kv::internal
