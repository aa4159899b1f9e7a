#include "coord/sim/fiber.h"

#include <cxxabi.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COORD_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define COORD_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define COORD_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define COORD_TSAN 1
#endif

#if defined(COORD_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if defined(COORD_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace coord::internal {
namespace {

#if defined(COORD_ASAN) || defined(COORD_TSAN)
constexpr size_t kStackFactor = 4;
#else
constexpr size_t kStackFactor = 1;
#endif

// The two ends of the switch under way: a context's entry takes no pointer, and the sanitizer tells only the new fiber
// about the stack of the old one.
thread_local Fiber* switching_from = nullptr;
thread_local Fiber* switching_to = nullptr;

#if defined(COORD_TSAN)
void* TsanCurrent() { return __tsan_get_current_fiber(); }
void* TsanCreate() { return __tsan_create_fiber(0); }
void TsanDestroy(void* fiber) { __tsan_destroy_fiber(fiber); }
#else
void* TsanCurrent() { return nullptr; }
void* TsanCreate() { return nullptr; }
void TsanDestroy(void*) {}
#endif

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "coord: %s: %s\n", what, std::strerror(errno));
  std::abort();
}

}  // namespace

Fiber::Fiber() : tsan_fiber_(TsanCurrent()) {}

Fiber::Fiber(size_t stack_bytes, std::function<void()> entry) : entry_(std::move(entry)), tsan_fiber_(TsanCreate()) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  stack_bytes_ = (stack_bytes * kStackFactor + page - 1) / page * page;
  mapping_bytes_ = stack_bytes_ + page;
  mapping_ = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED) Die("no memory for the stack of a simulated thread");
  if (mprotect(mapping_, page, PROT_NONE) != 0) Die("the stack of a simulated thread cannot be guarded");
  char* const stack = static_cast<char*>(mapping_) + page;
  stack_ = stack;
#if defined(COORD_ASAN)
  __asan_unpoison_memory_region(stack, stack_bytes_);  // the address may have been another stack's
#endif
  if (getcontext(&context_) != 0) Die("a simulated thread cannot be made");
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = stack_bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::Start, 0);
  // AddressSanitizer would forget, at every switch, all that it knows of a stack that is named here.
  context_.uc_stack.ss_size = 0;
}

Fiber::~Fiber() { FreeStack(); }

void Fiber::FreeStack() {
  if (mapping_ == nullptr) return;
  TsanDestroy(tsan_fiber_);
  munmap(mapping_, mapping_bytes_);
  mapping_ = nullptr;
}

void Fiber::Abandon(Fiber* fiber) {
  static auto* const abandoned = new std::vector<Fiber*>;
  abandoned->push_back(fiber);
#if defined(COORD_ASAN)
  __lsan_register_root_region(fiber->stack_, fiber->stack_bytes_);
#else
  fiber->FreeStack();
#endif
}

void Fiber::Start() {
  Fiber* const self = switching_to;
  FinishSwitch(*self);
  // noexcept: there is nothing to unwind into.
  [self]() noexcept { self->entry_(); }();
  std::fprintf(stderr, "coord: the function of a fiber returned\n");
  std::abort();
}

void Fiber::FinishSwitch(Fiber& to) {
#if defined(COORD_ASAN)
  __sanitizer_finish_switch_fiber(to.fake_stack_, &switching_from->stack_, &switching_from->stack_bytes_);
#endif
  std::memcpy(abi::__cxa_get_globals(), &to.exceptions_, sizeof(Exceptions));
}

void Fiber::DoSwitch(Fiber& from, Fiber& to, void** fake_stack_save) {
  switching_from = &from;
  switching_to = &to;
  std::memcpy(static_cast<void*>(&from.exceptions_), abi::__cxa_get_globals(), sizeof(Exceptions));
#if defined(COORD_ASAN)
  __sanitizer_start_switch_fiber(fake_stack_save, to.stack_, to.stack_bytes_);
#else
  (void)fake_stack_save;
#endif
#if defined(COORD_TSAN)
  __tsan_switch_to_fiber(to.tsan_fiber_, 0);
#endif
  if (swapcontext(&from.context_, &to.context_) != 0) Die("a simulated thread cannot be resumed");
  FinishSwitch(from);
}

void Fiber::Switch(Fiber& from, Fiber& to) { DoSwitch(from, to, &from.fake_stack_); }

void Fiber::SwitchForever(Fiber& from, Fiber& to) {
  DoSwitch(from, to, nullptr);
  std::fprintf(stderr, "coord: a fiber that had ended was resumed\n");
  std::abort();
}

}  // namespace coord::internal
