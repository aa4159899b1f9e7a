// The answers to the questions of one bus, gathered as they come; the same for every transport.

#ifndef COORD_INTERNAL_EVENT_REPLIES_H_
#define COORD_INTERNAL_EVENT_REPLIES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "coord/internal/core.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// Thread-safe.
class EventReplies {
 public:
  static constexpr size_t kMaxAsks = 1024;       // questions under way
  static constexpr size_t kMaxReplies = 4096;    // of one question; what comes beyond is left out
  static constexpr size_t kMaxBytes = 16 << 20;  // likewise

  explicit EventReplies(std::shared_ptr<Core> core) : core_(std::move(core)) {}

  // A new question, by its number. ResourceExhausted: kMaxAsks.
  absl::StatusOr<uint64_t> Begin();

  // Waits until `enough` answers have come (0: never), until `until` (steady) or Close; ends the question, and returns
  // what came.
  std::vector<Reply> Finish(uint64_t ask, size_t enough, absl::Time until);

  // An answer has come. `id` tells a repeat from another answer; empty: the transport does not repeat itself. Answers
  // to questions that have ended are dropped. Blocks nobody.
  void Add(uint64_t ask, const std::string& id, Reply reply);

  void Close();

 private:
  struct Ask {
    std::vector<Reply> replies;
    std::set<std::string> ids;
    size_t bytes = 0;
    std::unique_ptr<Condition> changed;
  };

  const std::shared_ptr<Core> core_;
  kv::internal::Mutex mu_;
  bool closed_ KV_GUARDED_BY(mu_) = false;
  uint64_t last_ KV_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, std::shared_ptr<Ask>> asks_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_REPLIES_H_
