// One connection to a memcached server, through libmemcached: four commands, each with a deadline and an answer that
// says what is known. Not thread-safe.
//
// libmemcached (1.1.4) needs care; what is handled here:
//   * A handle that had an error may connect anew by itself, to a restarted server, and its stream may be off by one
//     answer. So usable() is false after anything but a clear answer, and such a connection is only destroyed.
//   * Where the answer to a get is an error or breaks off, it says NOT FOUND. So an absence is believed only while the
//     connection is still open, for every such error closes it. This holds for the binary protocol; in the text
//     protocol some errors leave the connection open.
//   * A cas with the id 0 overwrites unconditionally (binary), or ends the process by an assertion a call later (text).
//     A server that runs without ids (-C) gives 0. It is refused.
//   * memcached itself removes the old item when a `set` finds no memory or a too large value. There is no set here.
//   * Time-outs are whole milliseconds, 0 is an error, and each interruption by a signal spoils the remaining time, in
//     the end to "for ever". So signals are held back during a command.

#ifndef KV_INTERNAL_MEMCACHED_CONNECTION_H_
#define KV_INTERNAL_MEMCACHED_CONNECTION_H_

#include <libmemcached/memcached.h>

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/memcached_address.h"

namespace kv::internal {

enum class MemcachedAnswer {
  kDone,
  kAbsent,    // no such item
  kExists,    // Add: there is one. Replace, Expire: it has another id
  kFull,      // the server has no memory for it. Nothing was done
  kTooLarge,  // the server takes no item of this size. Nothing was done
  kNoIds,     // the server gives items no ids. Nothing was done
  kDenied,    // the server wants a login. Nothing was done
  kNotSent,   // the deadline had passed. Nothing was done
  kTimeout,   // no answer by the deadline
  kBroken,    // the connection broke, or the answer makes no sense
};

// What an answer means depends on what might have reached the server before.
enum class MemcachedStage {
  kConnect,
  kRead,
  kReadBeforeWrite,  // of a call that has written nothing yet
  kWrite,
};

struct MemcachedItem {
  std::string bytes;
  uint64_t id = 0;  // never 0 in an item that was read
};

// What `stats settings` says.
struct MemcachedSettings {
  size_t item_size_max = 0;  // 0: unknown
  bool ids = true;
  bool binary = true;  // it speaks the binary protocol
};

class MemcachedConnection {
 public:
  // Asks the server for its settings, over a connection of its own. Unavailable where it cannot be reached,
  // FailedPrecondition where what answers is not memcached or cannot serve, PermissionDenied where it wants a login.
  static absl::StatusOr<MemcachedSettings> Inspect(const MemcachedAddress& address, SteadyTime until);

  // Connects, and has the server tell its version: so that what fails later does not fail for a server that is not
  // there or not memcached. Unavailable where that cannot be done by `until`.
  static absl::StatusOr<std::unique_ptr<MemcachedConnection>> Open(const MemcachedAddress& address, SteadyTime until);

  MemcachedConnection(const MemcachedConnection&) = delete;
  MemcachedConnection& operator=(const MemcachedConnection&) = delete;
  // Does not block.
  ~MemcachedConnection();

  MemcachedAnswer Get(const std::string& name, SteadyTime until, MemcachedItem* item);
  MemcachedAnswer Add(const std::string& name, const std::string& bytes, SteadyTime until);
  // Only if the item still has the id that the Get just before this call gave.
  MemcachedAnswer Replace(const std::string& name, const std::string& bytes, uint64_t id, SteadyTime until);
  // As Replace, by an item that has already expired: a delete with a condition, which libmemcached does not have.
  MemcachedAnswer Expire(const std::string& name, uint64_t id, SteadyTime until);

  bool usable() const { return usable_; }
  SteadyTime last_answer() const { return last_answer_; }

  // The one place where an answer becomes a status. Not for kDone, kAbsent and kExists.
  absl::Status Error(MemcachedAnswer answer, MemcachedStage stage) const;

 private:
  enum class Protocol { kText, kBinary };
  struct Free {
    void operator()(memcached_st* handle) const { memcached_free(handle); }
  };

  explicit MemcachedConnection(const MemcachedAddress& address);
  MemcachedAnswer Hello(Protocol protocol, SteadyTime until);
  MemcachedAnswer ReadSettings(SteadyTime until, MemcachedSettings* settings);
  bool Prepare(SteadyTime until);
  bool IsOpen() const;
  MemcachedAnswer Judge(memcached_return_t code);
  MemcachedAnswer Swap(const std::string& name, const std::string& bytes, time_t expiry, uint64_t id, SteadyTime until);
  std::string Cause() const;

  const MemcachedAddress address_;
  std::unique_ptr<memcached_st, Free> handle_;
  bool usable_ = true;
  SteadyTime last_answer_;
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_MEMCACHED_CONNECTION_H_
