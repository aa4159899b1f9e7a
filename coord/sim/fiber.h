// Stacks that take turns on one operating system thread, with what AddressSanitizer and ThreadSanitizer need to follow
// them. No scheduling here: that is SimRuntime's.

#ifndef COORD_SIM_FIBER_H_
#define COORD_SIM_FIBER_H_

#include <ucontext.h>

#include <cstddef>
#include <functional>

namespace coord::internal {

// Used by the thread that made it alone.
class Fiber {
 public:
  // Stands for the calling thread's own stack, so that others can switch back to it.
  Fiber();

  // A new stack of `stack_bytes` (four times as many under a sanitizer) with a guard page below it. The first switch to
  // it calls `entry`, which must never return: it leaves with SwitchForever. An exception out of it ends the process.
  Fiber(size_t stack_bytes, std::function<void()> entry);

  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Frees the stack and unwinds nothing. Not of the running fiber.
  ~Fiber();

  // Goes on in `to`; returns when something switches to `from`, the running fiber, again.
  static void Switch(Fiber& from, Fiber& to);

  // The same for the last time.
  [[noreturn]] static void SwitchForever(Fiber& from, Fiber& to);

  // Instead of the destructor, for a fiber that is inside `entry`, or before it, and will never run again: nothing of
  // what `entry` holds or its stack refers to is destroyed. Frees the stack, save under AddressSanitizer, which then
  // finds what is reachable from it and does not report it as leaked.
  static void Abandon(Fiber* fiber);

 private:
  // The exceptions in flight, which the C++ runtime keeps by thread: void* and unsigned int by its ABI.
  struct Exceptions {
    void* caught = nullptr;
    unsigned int uncaught = 0;
  };

  static void Start();
  static void FinishSwitch(Fiber& to);
  static void DoSwitch(Fiber& from, Fiber& to, void** fake_stack_save);

  void FreeStack();

  std::function<void()> entry_;
  void* mapping_ = nullptr;  // guard page, then the stack; null for a thread's own
  size_t mapping_bytes_ = 0;
  const void* stack_ = nullptr;  // as the sanitizer wants it
  size_t stack_bytes_ = 0;
  ucontext_t context_ = {};
  Exceptions exceptions_;
  void* fake_stack_ = nullptr;
  void* const tsan_fiber_;
};

}  // namespace coord::internal

#endif  // COORD_SIM_FIBER_H_
