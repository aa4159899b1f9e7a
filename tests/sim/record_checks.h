// What must hold of the lock records as the store sees them, write by write. Pure.

#ifndef TESTS_SIM_RECORD_CHECKS_H_
#define TESTS_SIM_RECORD_CHECKS_H_

#include <set>
#include <string>
#include <string_view>

namespace sim {

// "mutex", "semaphore", ... if `key` is that of a lock record; else "".
std::string LockKind(std::string_view key);

// `before`: empty if there was none. The sentence names what is wrong: more weight than the capacity; a session that
// owns or waits twice; a fence that falls; somebody who became owner before another that waited longer and still does.
// Empty: nothing is.
std::string CheckTransition(const std::string& before, const std::string& after);

// When all copies have left: names one of `left`, the sessions that were left in good order, if the record still has it
// as an owner or a waiter.
std::string CheckLeftover(const std::string& record, const std::set<std::string>& left);

}  // namespace sim

#endif  // TESTS_SIM_RECORD_CHECKS_H_
