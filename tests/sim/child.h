// A child process that sends messages to its parent.

#ifndef TESTS_SIM_CHILD_H_
#define TESTS_SIM_CHILD_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <utility>
#include <vector>

namespace sim {

class Child {
 public:
  // Sends a message of a type.
  using Sink = std::function<void(char type, const std::string& text)>;

  // Forks; the child calls `body` and exits. The parent must have one thread.
  explicit Child(const std::function<void(const Sink&)>& body);
  ~Child();  // kills it if it has not ended
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Blocks until one of them has sent something or ended.
  static void WaitForAny(std::list<Child>& children);

  // What came since the last call, without blocking.
  std::vector<std::pair<char, std::string>> Take();
  bool ended() const { return pid_ == 0; }
  // "it was ended by signal 6", once it has.
  std::string HowItEnded() const;

  // For whoever reads.
  uint64_t seed = 0;
  std::vector<std::string> violations;

 private:
  pid_t pid_ = 0;
  int pipe_ = -1;
  int status_ = 0;
  std::string buffer_;
};

}  // namespace sim

#endif  // TESTS_SIM_CHILD_H_
