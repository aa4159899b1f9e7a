#include "coord/internal/hints.h"

#include <utility>

namespace coord::internal {

using kv::internal::MutexLock;

Hints::Hints(const Hub& hub, std::shared_ptr<EventDriver> driver, std::string plugin)
    : sink_(hub.HintSink()), driver_(hub.has_watch() ? nullptr : std::move(driver)), plugin_(std::move(plugin)) {}

Hints::~Hints() { Stop(); }

void Hints::Connect() {
  if (driver_ == nullptr) return;
  {
    MutexLock lock(mu_);
    if (stopped_ || channel_ != nullptr) return;
  }
  std::shared_ptr<HintChannel> made = driver_->MakeHints(plugin_, sink_);
  MutexLock lock(mu_);
  if (!stopped_ && channel_ == nullptr) channel_.swap(made);  // one too many is destroyed after the lock
}

void Hints::Wrote(std::string_view key) {
  std::shared_ptr<HintChannel> channel;
  {
    MutexLock lock(mu_);
    channel = channel_;
  }
  if (channel != nullptr) channel->Send(key);
}

void Hints::Stop() {
  std::shared_ptr<HintChannel> last;  // destroyed after the lock
  MutexLock lock(mu_);
  stopped_ = true;
  channel_.swap(last);
}

}  // namespace coord::internal
