// Writes to the bucket: each is one publish, which the server stores if the last message on the key's subject is the
// expected one.
//
// With replicas, and servers before 2.9.21, every write that expects an entry also bears the id "<key>@<expected>".
// Those servers compare the expected sequence before they agree on a write and not when they apply it, so that several
// can win; the id is compared when it is applied, in all versions, and the second of two writes over one entry is
// always to fail. That holds as long as nothing else changes an entry, which rules out two things: a write without an
// expectation (Put reads first), and a write over a marker, which a concurrent removal of the marker would let win
// against a Create (so it is removed first). A write that expects nothing (0) is compared when it is applied in all
// versions, and bears no id: one of an earlier life of the key would count as its duplicate.
//
// Which of the servers leads, now or in a moment, is not known, so that this is done as long as any of them is, or may
// be, such a server: while a cluster is upgraded one by one, and while one of it cannot be asked.
//
// With replicas, and later servers, every write bears an id of its own, for what a server refuses is not always
// refused: a leader that stood still does not know for some 100 ms after it goes on that there is another one, both get
// the write, and its answer may be the first. It is to be believed where it names a sequence above the expected one,
// for what it has seen is true, if old. Where it names an older one, two looks at the stream tell whether there is such
// a leader. Where it names none, a conflict with a write under way, the same write is sent again: it is stored once at
// most, and the answer for a duplicate says that it was. What cannot be settled in time is unknown. (What is left is a
// Create that such a leader refuses for an entry which was deleted, and whose marker was removed, while it stood still;
// and a leader that neither look meets.)
//
// With servers before 2.9.21, and replicas, every write also expects the last sequence of the whole stream, and is
// tried again with the one that the server names, as long as nobody has written the key. For when such a server is
// started again it applies the end of its log once more, as many entries as were refused when they were applied; ids
// are forgotten with the entries that bore them, and what is then stored a second time makes its replica another one
// than those of the other servers, for good. What expects the stream as it was is refused the second time in any case.
// It takes a second try where two write to the bucket in the same moment.
//
// Thread-safe.

#ifndef KV_INTERNAL_NATS_WRITES_H_
#define KV_INTERNAL_NATS_WRITES_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kv/internal/deadline.h"
#include "kv/internal/nats_bucket.h"
#include "kv/internal/nats_deletes.h"
#include "kv/internal/nats_gate.h"
#include "kv/internal/nats_mirror.h"
#include "kv/internal/nats_reads.h"
#include "kv/nats_connection.h"
#include "kv/store.h"

namespace kv::internal {

class NatsWrites {
 public:
  // What the writes need; all must outlive them.
  struct Parts {
    const NatsBucket* bucket;
    NatsGate* gate;
    NatsDeletes* deletes;
    const NatsMirror* mirror;
    NatsReads* reads;
  };
  NatsWrites(std::shared_ptr<NatsConnection> connection, const Parts& parts);

  // As the methods of Store, with keys and values that have been checked.
  WriteResult Create(std::string_view key, std::string_view value, SteadyTime deadline);
  WriteResult Update(std::string_view key, std::string_view value, Revision expected, SteadyTime deadline);
  WriteResult Delete(std::string_view key, Revision expected, SteadyTime deadline);
  WriteResult Put(std::string_view key, std::string_view value, SteadyTime deadline);

 private:
  struct Publish {
    std::string_view key;
    std::string_view value;
    std::optional<Revision> expected;
    bool marker = false;
  };
  // What came of it: `status` is Ok, Aborted for a conflict (then with what is there, if the server said so), or final.
  struct Outcome {
    absl::Status status;
    Revision revision = 0;
    std::optional<Revision> present;
    uint64_t incarnation = 0;
  };
  // What is sent along with a write.
  struct Extras {
    std::string id;                // empty: none
    bool own_id = false;           // of this write alone: its duplicate is this write
    std::optional<Revision> last;  // what is to be the last sequence of the stream
  };
  Outcome Send(const Publish& publish, SteadyTime deadline);
  Outcome SendInLine(const Publish& publish, bool mixed, SteadyTime deadline);
  Outcome SendUntilSettled(const Publish& publish, SteadyTime deadline);
  Outcome SendOnce(const Publish& publish, const Extras& extras, SteadyTime deadline);
  Outcome Interpret(const NatsPublished& published, const Extras& extras, const NatsGate::Pass& pass,
                    SteadyTime deadline);
  Outcome SettleNumbered(const Publish& publish, const Outcome& refused, SteadyTime deadline);
  absl::Status AwaitLeader(uint64_t incarnation, SteadyTime deadline);
  static NatsHeaders Headers(const Publish& publish, const Extras& extras);
  std::string NewId();
  // What the servers of the bucket do with a write.
  enum class Servers {
    kOne,      // no replicas
    kCompare,  // when they apply it
    kIgnore,   // compare before they agree on it
    kMixed,    // one or the other, or it is not known
  };
  Servers servers() const;
  bool OneAtATime() const { return servers() == Servers::kIgnore || servers() == Servers::kMixed; }

  WriteResult Change(const Publish& publish, SteadyTime deadline);
  absl::StatusOr<NatsPresent> Resolve(std::string_view key, std::optional<Revision> present, SteadyTime deadline);
  WriteResult Lost(std::string_view key, Revision expected, std::optional<Revision> present, SteadyTime deadline);
  absl::StatusOr<Revision> ClearTheWay(Revision marker, SteadyTime deadline);

  const std::shared_ptr<NatsConnection> connection_;
  const NatsBucket& bucket_;
  NatsGate& gate_;
  NatsDeletes& deletes_;
  const NatsMirror& mirror_;
  NatsReads& reads_;
  const uint64_t id_;  // random: no other object's writes have the same ids
  std::atomic<uint64_t> writes_{0};
};

}  // namespace kv::internal

#endif  // KV_INTERNAL_NATS_WRITES_H_
