// Does a store keep the contract of kv/store.h? For those who write a backend, and for those who run one: the checks
// are a plain function, work on a store in use, and touch only keys under a random prefix, which they remove again.
//
//   for (const kv::Failure& failure : kv::RunConformance(*store)) {
//     std::cerr << failure.check << ": " << failure.message << "\n";
//   }
//
// A new backend's test is that and the means to open it; kv/conformance_test.cc shows one.
//
// Not checked: what a store does when it is stopped, cut off or full; durability.

#ifndef KV_CONFORMANCE_H_
#define KV_CONFORMANCE_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "kv/store.h"

namespace kv {

// Where a store is allowed to fall short of the full contract. The default is that of FromTraits: what a store does not
// claim is not asked of it.
struct Deviations {
  bool no_list = false;                 // List is Unimplemented
  bool no_watch = false;                // WatchPrefix is Unimplemented
  bool no_age = false;                  // entries carry no age
  bool no_monotonic_revisions = false;  // revisions are not compared over keys, deletes and re-creations
  bool no_linearizable_reads = false;   // a Get may be behind: reads are repeated for a while

  static Deviations FromTraits(const Traits& traits);
};

struct ConformanceOptions {
  // Another handle to the same data, opened separately: checks that the two see each other's writes.
  Store* second = nullptr;

  // Of all keys written. Empty: a random one. Must not be in use, and leaves 400 bytes to the store's key limit.
  std::string prefix;

  // The contention of the checks with several threads.
  int threads = 8;
  int rounds = 50;

  // For each single call, and for the arrival of each awaited event. Raise them for a slow store.
  absl::Duration call_timeout = absl::Seconds(10);
  absl::Duration event_timeout = absl::Seconds(10);

  // Runs only the check of this name.
  std::string only;

  std::optional<Deviations> deviations;

  // Gets the name of each check as it begins.
  std::function<void(const std::string& check)> progress;
};

struct Failure {
  std::string check;    // its name
  std::string message;  // what was expected and what came, as a sentence
};

// Runs all checks, one after the other, and returns what failed. Blocks for some seconds at most on a store that works.
std::vector<Failure> RunConformance(Store& store, const ConformanceOptions& options = {});

// The names of all checks.
std::vector<std::string> ConformanceChecks();

}  // namespace kv

#endif  // KV_CONFORMANCE_H_
