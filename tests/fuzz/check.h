// What a harness says of an input for which a property does not hold.

#ifndef TESTS_FUZZ_CHECK_H_
#define TESTS_FUZZ_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <string>

namespace fuzz {

// Ends the program with a sentence, so that the input is kept.
inline void Check(bool holds, const char* property, const std::string& detail = "") {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n%s\n", property, detail.c_str());
  std::abort();
}

}  // namespace fuzz

#endif  // TESTS_FUZZ_CHECK_H_
