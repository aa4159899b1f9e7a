#include "kv/internal/doorbell.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <utility>

namespace kv::internal {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr std::chrono::milliseconds kRefreshPeriod(20);

}  // namespace

class Doorbell::Page {
 public:
  // Of the file at `path`, or null.
  static std::shared_ptr<Page> Map(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return nullptr;
    std::shared_ptr<Page> page;
    struct stat file;
    // Allocated, not only made longer: a write into a hole on a full disk would be a SIGBUS.
    if (posix_fallocate(fd, 0, kPageBytes) == 0 && fstat(fd, &file) == 0) {
      void* memory = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (memory != MAP_FAILED) page = std::make_shared<Page>(memory, file.st_dev, file.st_ino);
    }
    close(fd);
    return page;
  }

  static std::shared_ptr<Page> Private() {
    void* memory = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : std::make_shared<Page>(memory, 0, 0);
  }

  Page(void* memory, dev_t device, ino_t inode)
      : word_(static_cast<std::atomic<uint32_t>*>(memory)), device_(device), inode_(inode) {}
  ~Page() { munmap(word_, kPageBytes); }

  bool IsFile(const std::string& path) const {
    struct stat file;
    return inode_ != 0 && stat(path.c_str(), &file) == 0 && file.st_dev == device_ && file.st_ino == inode_;
  }

  uint32_t value() const { return word_->load(std::memory_order_acquire); }

  void Ring() {
    word_->fetch_add(1, std::memory_order_acq_rel);
    syscall(SYS_futex, word_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }

  void Wait(uint32_t seen, absl::Duration timeout) const {
    timespec left = absl::ToTimespec(timeout);
    syscall(SYS_futex, word_, FUTEX_WAIT, seen, timeout == absl::InfiniteDuration() ? nullptr : &left, nullptr, 0);
  }

 private:
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "the kernel reads the word");
  std::atomic<uint32_t>* const word_;
  const dev_t device_;
  const ino_t inode_;
};

Doorbell::Doorbell(std::string path) : path_(std::move(path)) {
  MutexLock lock(mutex_);
  page_ = Page::Map(path_);
  if (page_ == nullptr) page_ = Page::Private();
  refreshed_ = std::chrono::steady_clock::now();
}

Doorbell::~Doorbell() = default;

std::shared_ptr<Doorbell::Page> Doorbell::page() const {
  MutexLock lock(mutex_);
  return page_;
}

void Doorbell::Ring() {
  if (const auto bell = page(); bell != nullptr) bell->Ring();
}

uint32_t Doorbell::Value() const {
  const auto bell = page();
  return bell == nullptr ? 0 : bell->value();
}

void Doorbell::Wait(uint32_t seen, absl::Duration timeout) const {
  const auto bell = page();
  if (bell != nullptr) {
    bell->Wait(seen, timeout);
  } else {
    // Not even one page of memory: the safety poll is all there is.
    timespec nap = absl::ToTimespec(std::min(timeout, absl::Milliseconds(50)));
    nanosleep(&nap, nullptr);
  }
}

void Doorbell::Refresh() {
  MutexLock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (now - refreshed_ < kRefreshPeriod) return;
  refreshed_ = now;
  if (page_ != nullptr && page_->IsFile(path_)) return;
  std::shared_ptr<Page> fresh = Page::Map(path_);
  if (fresh == nullptr) return;
  fresh.swap(page_);
  // Whoever waits on the old page looks again, and then waits on the new one.
  if (fresh != nullptr) fresh->Ring();
}

}  // namespace kv::internal
