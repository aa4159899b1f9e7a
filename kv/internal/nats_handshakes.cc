#include "kv/internal/nats_handshakes.h"

#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "kv/internal/deadline.h"
#include "kv/internal/mutex.h"

namespace kv::internal {
namespace {

thread_local bool begins_here = false;

// Where nats.c notes the natsConnection.
constexpr int kOwnerIndex = 0;

// One for the process, never destroyed: OpenSSL calls until the end.
class Handshakes {
 public:
  static Handshakes& Get() {
    static Handshakes* const handshakes = new Handshakes;
    return *handshakes;
  }

  void Watch(natsConnection* connection) {
    MutexLock lock(mutex_);
    connections_.insert(connection);
  }

  void Forget(natsConnection* connection) {
    MutexLock lock(mutex_);
    connections_.erase(connection);
  }

 private:
  struct Begun {
    SSL* ssl;
    SteadyTime due;
    bool here;
  };

  Handshakes() {
    SSL_get_ex_new_index(0, this, &OnNew, nullptr, &OnFree);
    std::thread([this] { Run(); }).detach();
  }

  static void OnNew(void* parent, void*, CRYPTO_EX_DATA*, int, long, void* self) {
    static_cast<Handshakes*>(self)->Begin(static_cast<SSL*>(parent));
  }

  // Before the object is taken apart. Waits while it is looked at.
  static void OnFree(void* parent, void*, CRYPTO_EX_DATA*, int, long, void* self) {
    static_cast<Handshakes*>(self)->End(static_cast<SSL*>(parent));
  }

  void Begin(SSL* ssl) {
    const SteadyTime due = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(kHandshakeTimeout);
    MutexLock lock(mutex_);
    begun_.push_back({ssl, due, begins_here});
    changed_.NotifyOne();
  }

  void End(SSL* ssl) {
    MutexLock lock(mutex_);
    begun_.erase(std::remove_if(begun_.begin(), begun_.end(), [ssl](const Begun& begun) { return begun.ssl == ssl; }),
                 begun_.end());
  }

  void Run() {
    MutexLock lock(mutex_);
    while (true) {
      if (begun_.empty()) {
        changed_.Wait(mutex_);
      } else if (begun_.front().due > std::chrono::steady_clock::now()) {
        changed_.WaitUntil(mutex_, SteadyTime(begun_.front().due));
      } else {
        EndIfStalled(begun_.front());
        begun_.erase(begun_.begin());
      }
    }
  }

  void EndIfStalled(const Begun& begun) KV_REQUIRES(mutex_) {
    if (SSL_is_init_finished(begun.ssl)) return;
    const auto* owner = static_cast<natsConnection*>(SSL_get_ex_data(begun.ssl, kOwnerIndex));
    const bool ours = begun.here || std::find(connections_.begin(), connections_.end(), owner) != connections_.end();
    if (const int socket = SSL_get_fd(begun.ssl); ours && socket >= 0) shutdown(socket, SHUT_RDWR);
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<Begun> begun_ KV_GUARDED_BY(mutex_);  // in the order of time; few are younger than the limit
  std::set<natsConnection*> connections_ KV_GUARDED_BY(mutex_);
};

}  // namespace

NatsHandshakesHere::NatsHandshakesHere() {
  Handshakes::Get();
  begins_here = true;
}

NatsHandshakesHere::~NatsHandshakesHere() { begins_here = false; }

void WatchNatsHandshakes(natsConnection* connection) { Handshakes::Get().Watch(connection); }

void ForgetNatsHandshakes(natsConnection* connection) { Handshakes::Get().Forget(connection); }

}  // namespace kv::internal
