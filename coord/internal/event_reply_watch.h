// Brings the answers to the questions of one bus from the store's watch.

#ifndef COORD_INTERNAL_EVENT_REPLY_WATCH_H_
#define COORD_INTERNAL_EVENT_REPLY_WATCH_H_

#include <memory>
#include <string>
#include <string_view>

#include "coord/internal/core.h"
#include "coord/internal/event_replies.h"
#include "kv/internal/mutex.h"

namespace coord::internal {

// Thread-safe.
class EventReplyWatch {
 public:
  EventReplyWatch(std::shared_ptr<Core> core, const std::string& bus, std::shared_ptr<EventReplies> replies);

  // "<plugin>/reply/<bus>/": where answers for `bus` are written.
  static std::string Prefix(const Core& core, std::string_view bus);

  // Begins to watch. Idempotent.
  void Start();

  // Nothing is brought after it has returned.
  void Close();

 private:
  const std::shared_ptr<Core> core_;
  const std::string prefix_;
  const std::shared_ptr<EventReplies> replies_;
  kv::internal::Mutex mu_;
  bool closed_ KV_GUARDED_BY(mu_) = false;
  std::unique_ptr<Hub::Registration> registration_ KV_GUARDED_BY(mu_);
};

}  // namespace coord::internal

#endif  // COORD_INTERNAL_EVENT_REPLY_WATCH_H_
