// A store in a JetStream stream of a NATS server or cluster.
//
// Layout. The stream KV_<bucket> with one subject an entry, $KV.<bucket>.<key>, and one message a subject: a bucket as
// NATS's own tools know it, so that `nats kv get` and `nats kv watch` show it. A level of a key is a token of the
// subject ("a/b" is a.b there), and a byte other than a letter, a digit, '-' and '_' is written as =XX. The revision is
// the stream's sequence. What other clients write into the bucket under a subject that is no key's is left alone.
//
// Conditional writes are publishes with the expected sequence of their subject. With replicas they also bear a message
// id, and Put reads before it writes. With servers before 2.9.21, which compare the expected sequence before they agree
// on the write and not when they apply it, the id is "<key>@<expected>", so that the second of two is refused as a
// duplicate, and every write expects the last sequence of the stream as well: writes to one bucket then stand in one
// line. That is done as long as any server of the cluster is such a one, or has not said its version: then a refusal
// that may be mistaken is DeadlineExceeded. With later servers alone the id is the write's own. A leader that stood
// still, and does not know yet that there is another one, may refuse what the other one applies: such an answer is
// settled by looking and by sending the same write again, and is DeadlineExceeded where that does not help.
//
// Deletes leave a marker for `delete_linger`, so that every watch sees it, and then nothing: the marker is removed by
// whoever wrote it, or, by whoever watches, if its writer has not done so in three times that time. A process that
// deletes and ends at once leaves its markers to others.
//
// Reads come from the stream's leader, never from a follower. With replicas, a leader that was cut off from the others
// may answer for some seconds before it notices: traits().linearizable_reads is false then. No write of it succeeds.
//
// One watch. All watches of a store are served by one consumer over the whole bucket and one copy of it in memory,
// which the first watch makes. After a lost connection, missed heartbeats or a hole in the consumer's own count, the
// bucket is read again (kResync). A watch queues at most 4,096 events or 32 MiB of values while its callback is at
// work; more are replaced by kResync as well. Stores opened with one connection and equal options share all that.
//
// Incarnations. A bucket that is lost, or deleted and made again, is noticed by the number in its description (of one
// that other tools have made, by its time of creation: do not edit the description while copies run), and by sequences
// that fall behind: at once at a reconnect, else when the next call fails or the consumer ends. It is made again if
// nobody has; watches get kEpochChanged. Between a reconnect and that look no call is let through. A call that was
// under way meanwhile is never reported as applied in a bucket that its caller does not know.
//
// Durability. A server acknowledges before it syncs to the disk, unless its setting sync_interval is "always" (2.10 and
// later; before, every two minutes, fixed). So a file bucket survives the end of any process, but a power failure may
// lose the last writes: traits().durable is false, unless `sync_always` says that all servers are set so. A memory
// bucket is gone with its server.
//
// What a killed server may bring back. nats-server from 2.10 on, with file storage, may after a SIGKILL or a crash (not
// after an ordered end) find values again that had been deleted, once the marker of their delete has been removed
// (issue 8505 of nats-server, with replicas as well). Two things are done against it: the marker is covered by a second
// one before it is removed, so that normally it is a marker that comes back, and a store that remembers a delete (the
// last 131,072 of those that it did itself, watched or read) shows no older value of that key and deletes it again.
// What remains are values that are much older than their delete, where no process that saw the delete is left.
//
// Replicas need 2.10. Earlier servers do not keep the replicas of a stream alike when their leader is killed, stopped
// or cut off, so that acknowledged writes may be gone: traits().evicting is true, and durable false, if the server that
// it is opened at is one of them.
//
// Refused: nats-server before 2.9, and 2.10.19 with one replica, whose conditional writes do not hold.
//
// Threads: one for the consumer and the removal of markers, started by the first watch or delete, one for callbacks,
// started by the first watch. Not fork-safe.

#ifndef KV_NATS_STORE_H_
#define KV_NATS_STORE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/nats_connection.h"
#include "kv/store.h"

namespace kv {

struct NatsStoreOptions {
  // A name of 1 to 64 letters, digits, '-' and '_'. A process sees the traffic of its whole bucket: give large
  // deployments one each.
  std::string bucket = "coord";
  // 1, 3 or 5. With more than one, a majority keeps the store alive.
  int replicas = 1;
  // In files; else in the memory of the servers.
  bool file_storage = true;
  // Said by the operator: every server has sync_interval: always.
  bool sync_always = false;
  // How long the marker of a delete stays: above 0, at most 24 h. Longer than a watch may lag behind.
  absl::Duration delete_linger = absl::Seconds(30);
};

// Opens the bucket, made if it does not exist. FailedPrecondition: it exists with other settings (the message lists
// each with both values), JetStream is off, or the server's version is refused. InvalidArgument: options. Unavailable:
// the server cannot be reached, or its cluster has no majority. Blocks until `deadline` at most. `connection` is not
// null.
//
// Values have up to 1 MiB, and less where the server takes smaller messages (by default up to 1 MiB with headers, so
// that 1,044,480 bytes are left): traits().max_value_bytes.
absl::StatusOr<std::shared_ptr<Store>> OpenNatsStore(std::shared_ptr<NatsConnection> connection,
                                                     const NatsStoreOptions& options, absl::Time deadline);

}  // namespace kv

#endif  // KV_NATS_STORE_H_
