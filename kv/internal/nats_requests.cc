#include "kv/internal/nats_requests.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "kv/internal/callback_gate.h"

namespace kv::internal {
namespace {

constexpr size_t kFewAlarms = 1024;

thread_local bool calls_done = false;

class CallingDone {
 public:
  CallingDone() { calls_done = true; }
  ~CallingDone() { calls_done = false; }
  CallingDone(const CallingDone&) = delete;
  CallingDone& operator=(const CallingDone&) = delete;

 private:
  const CallbackScope scope_;
};

absl::Status NoAnswer(const std::string& refusal) {
  return absl::DeadlineExceededError(
      absl::StrCat("no answer came from the NATS server in time; the request may have been carried out",
                   refusal.empty() ? "" : "; the server had said: ", refusal));
}

absl::Status LostConnection() {
  return absl::DeadlineExceededError(
      "the connection to the NATS server was lost before the answer came; the request may have been carried out");
}

}  // namespace

NatsRequests::NatsRequests() : thread_([this] { Run(); }) {}

NatsRequests::~NatsRequests() { Stop(absl::UnavailableError("the NATS connection is closed")); }

absl::StatusOr<uint64_t> NatsRequests::Add(SteadyTime deadline, Done done) {
  MutexLock lock(mutex_);
  if (stopped_) return absl::UnavailableError("the NATS connection is closed; not sent");
  if (waiting_.size() >= kMaxWaiting) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kMaxWaiting, " requests wait for an answer of the NATS server; send fewer at a time"));
  }
  const uint64_t id = next_id_++;
  waiting_.emplace(id, Waiting{std::move(done), deadline, losses_, false});
  AddAlarm(deadline, id);
  return id;
}

void NatsRequests::Sent(uint64_t id) {
  MutexLock lock(mutex_);
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return;
  found->second.sent = true;
  if (found->second.losses != losses_) {
    sweep_ = true;
    changed_.NotifyOne();
  }
}

void NatsRequests::Fail(uint64_t id, absl::Status status) {
  MutexLock lock(mutex_);
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return;
  failed_.emplace_back(std::move(found->second.done), std::move(status));
  waiting_.erase(found);
  changed_.NotifyOne();
}

bool NatsRequests::TakeBack(uint64_t id) {
  Done done;  // destroyed without the lock
  MutexLock lock(mutex_);
  const auto found = waiting_.find(id);
  if (found == waiting_.end()) return false;
  done = std::move(found->second.done);
  waiting_.erase(found);
  lock.Unlock();
  return true;
}

void NatsRequests::Answer(uint64_t id, NatsMessage message) {
  Done done;
  {
    MutexLock lock(mutex_);
    const auto found = waiting_.find(id);
    if (found == waiting_.end()) return;
    done = std::move(found->second.done);
    waiting_.erase(found);
  }
  const CallingDone calling;
  if (message.IsNoResponders()) {
    done(absl::UnavailableError("nobody listens on the subject of the request"));
  } else {
    done(std::move(message));
  }
}

void NatsRequests::ConnectionLost() {
  MutexLock lock(mutex_);
  ++losses_;
  sweep_ = true;
  changed_.NotifyOne();
}

bool NatsRequests::OnOwnThread() { return calls_done; }

void NatsRequests::SetRefusal(const std::string& text) {
  MutexLock lock(mutex_);
  refusal_ = text;
}

void NatsRequests::Stop(const absl::Status& status) {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    for (auto& [id, waiting] : waiting_) failed_.emplace_back(std::move(waiting.done), status);
    waiting_.clear();
    changed_.NotifyOne();
  }
  if (thread_.joinable()) thread_.join();
}

void NatsRequests::Run() {
  MutexLock lock(mutex_);
  while (true) {
    Ended ended = std::move(failed_);
    failed_.clear();
    CollectLate(std::chrono::steady_clock::now(), ended);
    if (sweep_) CollectLost(ended);
    if (!ended.empty()) {
      lock.Unlock();
      const CallingDone calling;
      for (auto& [done, status] : ended) done(std::move(status));
      ended.clear();
      lock.Lock();
      continue;
    }
    if (stopped_) return;
    if (alarms_.empty()) {
      changed_.Wait(mutex_);
    } else {
      const SteadyTime next = alarms_.front().first;
      changed_.WaitUntil(mutex_, next);
    }
  }
}

void NatsRequests::CollectLate(SteadyTime now, Ended& ended) {
  while (!alarms_.empty() && alarms_.front().first <= now) {
    const auto found = waiting_.find(alarms_.front().second);
    if (found != waiting_.end()) {
      ended.emplace_back(std::move(found->second.done), NoAnswer(refusal_));
      waiting_.erase(found);
    }
    std::pop_heap(alarms_.begin(), alarms_.end(), std::greater<>());
    alarms_.pop_back();
  }
}

void NatsRequests::CollectLost(Ended& ended) {
  sweep_ = false;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (it->second.sent && it->second.losses != losses_) {
      ended.emplace_back(std::move(it->second.done), LostConnection());
      it = waiting_.erase(it);
    } else {
      ++it;
    }
  }
}

void NatsRequests::AddAlarm(SteadyTime deadline, uint64_t id) {
  if (alarms_.size() > kFewAlarms && alarms_.size() > 2 * waiting_.size()) DropStaleAlarms();
  alarms_.emplace_back(deadline, id);
  std::push_heap(alarms_.begin(), alarms_.end(), std::greater<>());
  if (alarms_.front().second == id) changed_.NotifyOne();
}

void NatsRequests::DropStaleAlarms() {
  const auto stale = [this](const Alarm& alarm)
                         KV_NO_THREAD_SAFETY_ANALYSIS { return waiting_.count(alarm.second) == 0; };
  alarms_.erase(std::remove_if(alarms_.begin(), alarms_.end(), stale), alarms_.end());
  std::make_heap(alarms_.begin(), alarms_.end(), std::greater<>());
}

}  // namespace kv::internal
