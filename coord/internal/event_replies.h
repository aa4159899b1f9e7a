// The answers to the questions of one bus, gathered from the watch.

#ifndef COORD_INTERNAL_EVENT_REPLIES_H_
#define COORD_INTERNAL_EVENT_REPLIES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/event_bus.h"
#include "coord/internal/core.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// Thread-safe.
class EventReplies : public std::enable_shared_from_this<EventReplies> {
 public:
  static constexpr size_t kMaxAsks = 1024;       // questions under way
  static constexpr size_t kMaxReplies = 4096;    // of one question; what comes beyond is left out
  static constexpr size_t kMaxBytes = 16 << 20;  // likewise

  EventReplies(std::shared_ptr<Core> core, const std::string& bus);

  // "<plugin>/reply/<bus>/": where answers for `bus` are written.
  static std::string Prefix(const Core& core, std::string_view bus);

  // A new question, by its number. ResourceExhausted: kMaxAsks.
  absl::StatusOr<uint64_t> Begin();

  // Waits until `enough` answers have come (0: never), until `until` (steady) or Close; ends the question, and returns
  // what came.
  std::vector<Reply> Finish(uint64_t ask, size_t enough, absl::Time until);

  void Close();

 private:
  struct Ask {
    std::vector<Reply> replies;
    std::set<std::string> keys;  // a watch may repeat itself
    size_t bytes = 0;
    std::unique_ptr<Condition> changed;
  };
  void OnWatch(const kv::WatchEvent& event);

  const std::shared_ptr<Core> core_;
  const std::string prefix_;
  kv::internal::Mutex mu_;
  bool closed_ KV_GUARDED_BY(mu_) = false;
  uint64_t last_ KV_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, std::shared_ptr<Ask>> asks_ KV_GUARDED_BY(mu_);
  std::unique_ptr<Hub::Registration> registration_ KV_GUARDED_BY(mu_);  // made by the first question
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_REPLIES_H_
