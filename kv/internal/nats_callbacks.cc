#include "kv/internal/nats_callbacks.h"

#include <cstdint>
#include <map>
#include <utility>

#include "kv/internal/callback_gate.h"
#include "kv/internal/mutex.h"
#include "kv/internal/nats_message.h"

namespace kv::internal {
namespace {

struct Registry {
  Mutex mutex;
  uintptr_t last KV_GUARDED_BY(mutex) = 0;
  std::map<void*, std::weak_ptr<NatsEvents>> entries KV_GUARDED_BY(mutex);
};

Registry& TheRegistry() {
  static Registry* const registry = new Registry;  // never destroyed: callbacks may come while the process ends
  return *registry;
}

void* Register(const std::shared_ptr<NatsEvents>& events) {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mutex);
  void* number = reinterpret_cast<void*>(++registry.last);
  registry.entries[number] = events;
  return number;
}

std::shared_ptr<NatsEvents> Find(void* number) {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mutex);
  const auto found = registry.entries.find(number);
  return found == registry.entries.end() ? nullptr : found->second.lock();
}

template <void (NatsEvents::*event)()>
void Call(natsConnection*, void* closure) {
  const CallbackScope scope;
  if (const std::shared_ptr<NatsEvents> events = Find(closure)) (events.get()->*event)();
}

// Of the subscription nothing may be used here: it may have been destroyed already.
void Error(natsConnection* connection, natsSubscription*, natsStatus status, void* closure) {
  if (status != NATS_NOT_PERMITTED) return;
  const CallbackScope scope;
  const std::shared_ptr<NatsEvents> events = Find(closure);
  const char* text = nullptr;
  if (events == nullptr || natsConnection_GetLastError(connection, &text) != status || text == nullptr) return;
  events->OnRefused(text);
}

const char* Token(void* closure) {
  const CallbackScope scope;
  const std::shared_ptr<NatsEvents> events = Find(closure);
  return events == nullptr ? nullptr : events->OnConnecting();
}

void Answer(natsConnection*, natsSubscription*, natsMsg* raw, void* closure) {
  const CallbackScope scope;
  NatsMessage message = NatsMessageAccess::Make(raw);
  if (const std::shared_ptr<NatsEvents> events = Find(closure)) events->OnAnswer(std::move(message));
}

}  // namespace

NatsClosure::NatsClosure(const std::shared_ptr<NatsEvents>& events) : number_(Register(events)) {}

NatsClosure::~NatsClosure() {
  MutexLock lock(TheRegistry().mutex);
  TheRegistry().entries.erase(number_);
}

natsStatus NatsClosure::Listen(natsOptions* settings) const {
  natsStatus s = natsOptions_SetDisconnectedCB(settings, &Call<&NatsEvents::OnDisconnected>, number_);
  if (s == NATS_OK) s = natsOptions_SetReconnectedCB(settings, &Call<&NatsEvents::OnReconnected>, number_);
  if (s == NATS_OK) s = natsOptions_SetDiscoveredServersCB(settings, &Call<&NatsEvents::OnServersChanged>, number_);
  if (s == NATS_OK) s = natsOptions_SetClosedCB(settings, &Call<&NatsEvents::OnClosed>, number_);
  if (s == NATS_OK) s = natsOptions_SetErrorHandler(settings, &Error, number_);  // by default errors are printed
  if (s == NATS_OK) s = natsOptions_SetTokenHandler(settings, &Token, number_);
  return s;
}

natsStatus NatsClosure::SubscribeToAnswers(natsSubscription** subscription, natsConnection* connection,
                                           const std::string& subject) {
  return natsConnection_Subscribe(subscription, connection, subject.c_str(), &Answer, number_);
}

}  // namespace kv::internal
