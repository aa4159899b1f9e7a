#include "kv/internal/memcached_connection.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace kv::internal {
namespace {

// Beyond 30 days an expiry is a date: this one is in January 1970.
constexpr time_t kExpired = 60 * 60 * 24 * 30 + 1;
// What libmemcached says of a server whose version it does not know, which is so while no connection is open.
constexpr uint8_t kNoVersion = 0xFF;

// Keeps signals from this thread, but for those that report its own faults.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;
  ~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// Rounded up; 0 when the time is over.
uint64_t MillisecondsTo(SteadyTime until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
  return static_cast<uint64_t>(std::clamp<int64_t>(left.count(), 0, std::numeric_limits<int32_t>::max()));
}

memcached_return_t KeepSetting(const memcached_instance_st*, const char* key, size_t key_size, const char* value,
                               size_t value_size, void* context) {
  auto* settings = static_cast<MemcachedSettings*>(context);
  const std::string name(key, key_size);
  const std::string text(value, value_size);
  if (name == "item_size_max" && !absl::SimpleAtoi(text, &settings->item_size_max)) settings->item_size_max = 0;
  if (name == "binding_protocol") settings->binary = text != "ascii";
  if (name == "cas_enabled") settings->ids = text != "no";
  return MEMCACHED_SUCCESS;
}

}  // namespace

MemcachedConnection::MemcachedConnection(const MemcachedAddress& address)
    : address_(address), handle_(memcached_create(nullptr)), last_answer_(std::chrono::steady_clock::now()) {
  // One server and none of the behaviours that would send a key elsewhere: no ejection, no replicas.
  memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_SUPPORT_CAS, 1);
  memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_TCP_NODELAY, 1);
  memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_TCP_KEEPALIVE, 1);
  memcached_server_add(handle_.get(), address.host.c_str(), address.port);
}

MemcachedConnection::~MemcachedConnection() {
  const SignalsHeld held;
  // It says good-bye, which must not wait for a server that does not read.
  memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_POLL_TIMEOUT, 1);
  handle_.reset();
}

absl::StatusOr<std::unique_ptr<MemcachedConnection>> MemcachedConnection::Open(const MemcachedAddress& address,
                                                                               SteadyTime until) {
  std::unique_ptr<MemcachedConnection> connection(new MemcachedConnection(address));
  const MemcachedAnswer answer = connection->Hello(Protocol::kBinary, until);
  if (answer != MemcachedAnswer::kDone) return connection->Error(answer, MemcachedStage::kConnect);
  return connection;
}

// Begins in the text protocol, for a server that speaks that alone does not answer the other at all.
absl::StatusOr<MemcachedSettings> MemcachedConnection::Inspect(const MemcachedAddress& address, SteadyTime until) {
  const std::string server = absl::StrCat("memcached: the server at ", address.Text(), " ");
  MemcachedConnection text(address);
  MemcachedConnection binary(address);
  MemcachedConnection* speaking = &text;
  MemcachedAnswer answer = text.Hello(Protocol::kText, until);
  const memcached_return_t reason = memcached_last_error(text.handle_.get());
  if (answer == MemcachedAnswer::kBroken && reason != MEMCACHED_CLIENT_ERROR) {
    speaking = &binary;
    answer = binary.Hello(Protocol::kBinary, until);
  }
  MemcachedSettings settings;
  if (answer == MemcachedAnswer::kDone) answer = speaking->ReadSettings(until, &settings);
  if (answer == MemcachedAnswer::kBroken && reason == MEMCACHED_SUCCESS) {
    return absl::UnavailableError(
        absl::StrCat(server, "turns connections away: its limit (-c) may be reached, or it is not memcached"));
  }
  if (answer == MemcachedAnswer::kBroken && reason == MEMCACHED_UNKNOWN_READ_FAILURE) {
    return absl::FailedPreconditionError(absl::StrCat(server, "does not answer as memcached does"));
  }
  if (reason == MEMCACHED_CLIENT_ERROR || !settings.binary) {
    return absl::FailedPreconditionError(absl::StrCat(
        server, "does not speak the binary protocol, which this store uses: start it without -B ascii and without -Y"));
  }
  if (answer == MemcachedAnswer::kDone && !settings.ids) answer = MemcachedAnswer::kNoIds;
  if (answer != MemcachedAnswer::kDone) return speaking->Error(answer, MemcachedStage::kConnect);
  return settings;
}

// A time-out for the next command; false when there is no time left.
bool MemcachedConnection::Prepare(SteadyTime until) {
  const uint64_t left = MillisecondsTo(until);
  if (left == 0) return false;
  memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_POLL_TIMEOUT, left);
  memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_CONNECT_TIMEOUT, left);
  return true;
}

bool MemcachedConnection::IsOpen() const {
  return memcached_server_major_version(memcached_server_instance_by_position(handle_.get(), 0)) != kNoVersion;
}

MemcachedAnswer MemcachedConnection::Hello(Protocol protocol, SteadyTime until) {
  const SignalsHeld held;
  memcached_behavior_set(handle_.get(), MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, protocol == Protocol::kBinary ? 1 : 0);
  if (!Prepare(until)) return MemcachedAnswer::kNotSent;
  const memcached_return_t code = memcached_version(handle_.get());
  return Judge(code == MEMCACHED_SUCCESS && !IsOpen() ? MEMCACHED_PROTOCOL_ERROR : code);
}

// Of a command that has ended with `code`.
MemcachedAnswer MemcachedConnection::Judge(memcached_return_t code) {
  const memcached_return_t last = memcached_last_error(handle_.get());
  if (code == MEMCACHED_SUCCESS || code == MEMCACHED_DATA_EXISTS || code == MEMCACHED_NOTSTORED ||
      code == MEMCACHED_NOTFOUND) {
    // The only answers after which the connection goes on, if it does.
    if (IsOpen() && last == MEMCACHED_SUCCESS) {
      last_answer_ = std::chrono::steady_clock::now();
      if (code == MEMCACHED_SUCCESS) return MemcachedAnswer::kDone;
      return code == MEMCACHED_NOTFOUND ? MemcachedAnswer::kAbsent : MemcachedAnswer::kExists;
    }
  }
  usable_ = false;
  if (code == MEMCACHED_AUTH_FAILURE) return MemcachedAnswer::kDenied;
  if (code == MEMCACHED_E2BIG) return MemcachedAnswer::kTooLarge;
  // The server's word; a failure to allocate in this process leaves an error.
  if (code == MEMCACHED_MEMORY_ALLOCATION_FAILURE && last == MEMCACHED_SUCCESS) return MemcachedAnswer::kFull;
  return code == MEMCACHED_TIMEOUT || last == MEMCACHED_TIMEOUT ? MemcachedAnswer::kTimeout : MemcachedAnswer::kBroken;
}

MemcachedAnswer MemcachedConnection::Get(const std::string& name, SteadyTime until, MemcachedItem* item) {
  const SignalsHeld held;
  if (!Prepare(until)) return MemcachedAnswer::kNotSent;
  const char* const key = name.data();
  const size_t key_size = name.size();
  memcached_return_t code = memcached_mget(handle_.get(), &key, &key_size, 1);
  if (code != MEMCACHED_SUCCESS) return Judge(code == MEMCACHED_NOTFOUND ? MEMCACHED_PROTOCOL_ERROR : code);
  memcached_result_st result;
  memcached_result_create(handle_.get(), &result);
  const bool found = memcached_fetch_result(handle_.get(), &result, &code) != nullptr && code == MEMCACHED_SUCCESS;
  if (found) {
    item->bytes.assign(memcached_result_value(&result), memcached_result_length(&result));
    item->id = memcached_result_cas(&result);
    // The end of the answer.
    if (memcached_fetch_result(handle_.get(), &result, &code) != nullptr) {
      code = MEMCACHED_PROTOCOL_ERROR;
    } else if (code == MEMCACHED_END || code == MEMCACHED_NOTFOUND) {
      code = MEMCACHED_SUCCESS;
    }
  }
  memcached_result_free(&result);
  const MemcachedAnswer answer = Judge(code);
  if (answer != MemcachedAnswer::kDone || item->id != 0) return answer;
  usable_ = false;
  return MemcachedAnswer::kNoIds;
}

MemcachedAnswer MemcachedConnection::Add(const std::string& name, const std::string& bytes, SteadyTime until) {
  const SignalsHeld held;
  if (!usable_ || !IsOpen() || !Prepare(until)) return MemcachedAnswer::kNotSent;
  return Judge(memcached_add(handle_.get(), name.data(), name.size(), bytes.data(), bytes.size(), 0, 0));
}

MemcachedAnswer MemcachedConnection::Replace(const std::string& name, const std::string& bytes, uint64_t id,
                                             SteadyTime until) {
  return Swap(name, bytes, 0, id, until);
}

MemcachedAnswer MemcachedConnection::Expire(const std::string& name, uint64_t id, SteadyTime until) {
  return Swap(name, "", kExpired, id, until);
}

MemcachedAnswer MemcachedConnection::Swap(const std::string& name, const std::string& bytes, time_t expiry, uint64_t id,
                                          SteadyTime until) {
  const SignalsHeld held;
  if (id == 0) return MemcachedAnswer::kNoIds;
  // Would connect anew, where the id means nothing.
  if (!usable_ || !IsOpen() || !Prepare(until)) return MemcachedAnswer::kNotSent;
  return Judge(memcached_cas(handle_.get(), name.data(), name.size(), bytes.data(), bytes.size(), expiry, 0, id));
}

MemcachedAnswer MemcachedConnection::ReadSettings(SteadyTime until, MemcachedSettings* settings) {
  const SignalsHeld held;
  if (!Prepare(until)) return MemcachedAnswer::kNotSent;
  const memcached_return_t code = memcached_stat_execute(handle_.get(), "settings", KeepSetting, settings);
  // A server that wants a login tells its version to everybody; its refusal leaves no other trace than this.
  const bool refused = !IsOpen() && memcached_last_error(handle_.get()) == MEMCACHED_SUCCESS;
  return Judge(refused ? MEMCACHED_AUTH_FAILURE : code);
}

// The error behind the last answer, in the words of the system where it has some.
std::string MemcachedConnection::Cause() const {
  const int number = memcached_last_error_errno(handle_.get());
  if (number != 0) return std::generic_category().message(number);
  const memcached_return_t code = memcached_last_error(handle_.get());
  if (code == MEMCACHED_SUCCESS) return "it closed the connection or refused the command";
  if (code == MEMCACHED_CONNECTION_FAILURE) return "it closed the connection";
  if (code == MEMCACHED_UNKNOWN_READ_FAILURE) return "its answer makes no sense";
  return memcached_strerror(handle_.get(), code);
}

absl::Status MemcachedConnection::Error(MemcachedAnswer answer, MemcachedStage stage) const {
  const std::string server = absl::StrCat("memcached: the server at ", address_.Text(), " ");
  const bool writing = stage == MemcachedStage::kWrite;
  switch (answer) {
    case MemcachedAnswer::kFull:
      return absl::ResourceExhaustedError(
          absl::StrCat(server, "has no memory left for the write: give it more (-m), or let it evict (without -M)"));
    case MemcachedAnswer::kTooLarge:
      return absl::InvalidArgumentError(
          absl::StrCat(server, "takes no item of this size: its limit (-I) is smaller than when the store was opened"));
    case MemcachedAnswer::kNoIds:
      return absl::FailedPreconditionError(
          absl::StrCat(server, "runs without CAS ids (-C), so that no write can be conditional: start it without -C"));
    case MemcachedAnswer::kDenied:
      return absl::PermissionDeniedError(
          absl::StrCat(server, "wants a login (-S), which this store does not support; protect it by its network"));
    case MemcachedAnswer::kNotSent:
      if (stage == MemcachedStage::kRead) {
        return absl::DeadlineExceededError(absl::StrCat(server, "was not asked before the deadline"));
      }
      return absl::UnavailableError(absl::StrCat(server, "was not reached before the deadline; nothing was written"));
    case MemcachedAnswer::kTimeout:
      if (writing) {
        return absl::DeadlineExceededError(
            absl::StrCat(server, "did not acknowledge the write in time; it may have been applied, or may still be"));
      }
      if (stage == MemcachedStage::kRead) {
        return absl::DeadlineExceededError(absl::StrCat(server, "did not answer in time"));
      }
      return absl::UnavailableError(absl::StrCat(server, "did not answer in time; nothing was written"));
    case MemcachedAnswer::kDone:
    case MemcachedAnswer::kAbsent:
    case MemcachedAnswer::kExists:
    case MemcachedAnswer::kBroken:
      break;
  }
  if (writing) {
    return absl::DeadlineExceededError(absl::StrCat(server, "did not acknowledge the write (", Cause(),
                                                    "); it may have been applied, or may still be"));
  }
  if (stage == MemcachedStage::kConnect)
    return absl::UnavailableError(absl::StrCat(server, "cannot be reached: ", Cause()));
  return absl::UnavailableError(absl::StrCat(server, "did not answer: ", Cause()));
}

}  // namespace kv::internal
