#include "coord/guarantees.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace coord {
namespace {

// What the kinds of stores differ in beyond their traits.
struct Words {
  std::string exclusion;
  std::string fence;
  std::string durability;
  std::string watch;
  std::string order;
  std::string events;
  std::string settings;
};

// A store whose copies all end with its machine needs no durability for a lock: nobody is left who could hold it.
bool OneMachine(const kv::Traits& traits) { return traits.proves_incarnation; }

Holds Exclusion(const kv::Traits& traits) {
  if (traits.evicting || traits.volatile_storage) return Holds::kLimited;
  return traits.durable || OneMachine(traits) ? Holds::kYes : Holds::kLimited;
}

Holds Fence(const kv::Traits& traits) {
  if (!traits.monotonic_revisions) return Holds::kNo;
  return traits.durable ? Holds::kYes : Holds::kLimited;
}

Holds Durability(const kv::Traits& traits, bool outlives_process) {
  if (traits.durable) return Holds::kYes;
  return traits.volatile_storage || traits.evicting || !outlives_process ? Holds::kNo : Holds::kLimited;
}

Holds Order(const kv::Traits& traits) {
  return traits.monotonic_revisions && traits.linearizable_reads ? Holds::kYes : Holds::kLimited;
}

Holds YesIf(bool yes) { return yes ? Holds::kYes : Holds::kNo; }

Guarantees Row(std::string url, std::string what, const kv::Traits& traits, Words words, bool outlives_process = true) {
  Guarantees row;
  row.url = std::move(url);
  row.what = std::move(what);
  row.traits = traits;
  row.exclusion = {Exclusion(traits), std::move(words.exclusion)};
  row.fence = {Fence(traits), std::move(words.fence)};
  row.durability = {Durability(traits, outlives_process), std::move(words.durability)};
  row.watch = {YesIf(traits.watch), std::move(words.watch)};
  row.order = {Order(traits), std::move(words.order)};
  row.events = {YesIf(traits.watch && traits.list && traits.monotonic_revisions), std::move(words.events)};
  row.settings = std::move(words.settings);
  row.needs_accept_weaker = traits.evicting || traits.volatile_storage || !traits.monotonic_revisions;
  return row;
}

const char kStoreEvents[] =
    "Best effort, and reliable ones kept in the store: at least once, in each publisher's order, replayed; for 24 h "
    "or 10,000 of a topic.";

Guarantees Memory() {
  kv::Traits traits;
  traits.name = "memory";
  traits.watch = traits.age = traits.proves_incarnation = true;
  Words words;
  words.exclusion = "Among the Clusters of one process.";
  words.fence = "Grows for the life of the process.";
  words.durability = "Nothing outlives the process.";
  words.watch = "At once.";
  words.order = "One order of everything.";
  words.events = kStoreEvents;
  words.settings = "None. For tests, and for programs of one process.";
  return Row("memory:", "in the memory of one process", traits, std::move(words), /*outlives_process=*/false);
}

Guarantees Sqlite(bool sync_full) {
  kv::Traits traits;
  traits.name = "sqlite";
  traits.durable = sync_full;
  traits.watch = traits.age = traits.proves_incarnation = true;
  Words words;
  words.exclusion = "All copies run on the machine of the file, so that what stops it stops every holder.";
  words.watch = "Pushed to all processes of the machine, in about 0.1 ms.";
  words.order = "One order of everything.";
  words.events = kStoreEvents;
  if (sync_full) {
    words.fence = "Grows over crashes of processes and of the machine, and over a file that was lost or restored.";
    words.durability = "Every commit is synced: it survives a power failure if the disk keeps what it says it has.";
    words.settings = "A file system of this machine. Network file systems are refused.";
    return Row("sqlite:PATH?sync=full", "a file, every commit synced", traits, std::move(words));
  }
  words.fence =
      "Grows over crashes of processes, and over a file that was lost or restored. After a power failure, fences of "
      "the "
      "commits that it lost may be given again.";
  words.durability =
      "Kept over crashes of processes. The last commits before a power failure or a crash of the kernel may be lost; "
      "the "
      "file stays whole.";
  words.settings = "A file system of this machine; network file systems are refused. sync=full syncs every commit.";
  return Row("sqlite:PATH", "a file: the default", traits, std::move(words));
}

const char kNatsEvents[] =
    "Over the store's own watch, if no other bus is asked for. OpenBackends takes NATS itself instead: best effort on "
    "plain subjects; reliable on a stream of its own, at least once, in each publisher's order, replayed, for 24 h or "
    "256 MiB, kept as safely as the bucket is.";

const char kSyncInterval[] =
    "A server acknowledges a write before it is synced to its disk, and syncs every sync_interval: 2 minutes by "
    "default, fixed so before nats-server 2.10. sync_interval: always syncs first; say sync=always in the URL then. "
    "Servers do not tell their setting, so that nobody checks it.";

std::string Settings(int replicas) {
  std::string text = kSyncInterval;
  if (replicas > 1) {
    absl::StrAppend(
        &text,
        " Put the servers where they do not lose power together. Needs nats-server 2.10 or later; 2.9 has a "
        "row of its own.");
  }
  return text;
}

Guarantees NatsFile(int replicas, bool sync_always) {
  kv::Traits traits;
  traits.name = "nats";
  traits.watch = true;
  traits.durable = sync_always;
  traits.linearizable_reads = replicas == 1;
  const bool many = replicas > 1;
  const std::string loss = many ? "a majority of the servers' machines fails at once, or one does while others are "
                                  "cut off or behind"
                                : "the server's machine fails";
  Words words;
  words.watch = "Pushed; one consumer for all watches of a process.";
  words.order = "One order of all changes of the bucket.";
  if (many) {
    absl::StrAppend(&words.order,
                    " A leader that was cut off from the others may answer reads from its past for some seconds; no "
                    "write of it succeeds, and no lock rests on a read.");
  }
  words.events = kNatsEvents;
  words.settings = Settings(replicas);
  if (sync_always) {
    words.exclusion = many
                          ? "Holds over the end of any server or machine; a minority may be down or cut off."
                          : "Holds over the end of the server and of its machine. While it is down nobody gets a lock.";
    words.fence = "Grows over the same, and over a bucket that was lost and made again.";
    words.durability = "Synced before it is acknowledged, on a majority: as safe as the disks.";
    if (!many) words.durability = "Synced before it is acknowledged: as safe as the disk.";
  } else {
    words.exclusion = absl::StrCat("Holds over the end of server processes. If ", loss,
                                   ", the last writes may be lost, and a grant with them: two copies may then hold "
                                   "it until the first notices, at its next beat (ttl/3).");
    words.fence =
        "Grows over the end of server processes, and over a bucket that was lost and made again. After a loss of "
        "writes as above, until it is noticed, a fence may be given twice.";
    words.durability = absl::StrCat("Kept over kill -9 of servers. If ", loss,
                                    ", acknowledged writes of the last sync_interval may be lost.");
  }
  std::string url = many ? "nats://HOST,HOST,HOST?replicas=3" : "nats://HOST";
  if (sync_always) absl::StrAppend(&url, many ? "&" : "?", "sync=always");
  return Row(url,
             absl::StrCat(many ? "three servers or five, in files" : "one server, in files",
                          sync_always ? ", synced before every acknowledgement" : ""),
             traits, std::move(words));
}

Guarantees NatsMemory(int replicas) {
  kv::Traits traits;
  traits.name = "nats";
  traits.watch = true;
  traits.volatile_storage = true;
  traits.linearizable_reads = replicas == 1;
  const bool many = replicas > 1;
  const std::string loss = many ? "If a majority of the servers restarts" : "If the server restarts";
  Words words = {};
  words.exclusion = absl::StrCat(loss, ", every grant is lost, and nobody gets one until ",
                                 many ? "twice max_ttl" : "max_ttl", " has passed.");
  words.fence = absl::StrCat(loss,
                             ", fences go on from the time of day, so that they grow if clocks were not set back "
                             "meanwhile.");
  words.durability = absl::StrCat(loss, ", all is gone, values and events too.");
  words.watch = "Pushed; one consumer for all watches of a process.";
  words.order = NatsFile(replicas, false).order.sentence;
  words.events = kNatsEvents;
  words.settings = "storage=memory is for what may be lost.";
  if (many) absl::StrAppend(&words.settings, " Replicas need nats-server 2.10 or later.");
  return Row(many ? "nats://HOST,HOST,HOST?replicas=3&storage=memory" : "nats://HOST?storage=memory",
             many ? "three servers or five, in their memory" : "one server, in its memory", traits, std::move(words));
}

// In files or in memory.
Guarantees NatsReplicasOf29() {
  kv::Traits traits;
  traits.name = "nats";
  traits.watch = true;
  traits.evicting = true;
  traits.linearizable_reads = false;
  const std::string loss = "If the leader is killed, stopped or cut off";
  Words words;
  words.exclusion = absl::StrCat(loss,
                                 ", a grant may be lost with it: two copies may then hold it until the first notices, "
                                 "at its next beat (ttl/3).");
  words.fence = absl::StrCat(loss, ", a fence may be given twice until that is noticed.");
  words.durability = absl::StrCat(loss, ", acknowledged writes may be gone, for good or on some of the servers.");
  words.watch = "Pushed; one consumer for all watches of a process.";
  words.order = absl::StrCat("One order of all changes, as long as the leader stays. ", loss,
                             ", the servers may have different ones from then on.");
  words.events = kNatsEvents;
  words.settings =
      "None helps: use nats-server 2.10 or later, or one server. The servers of the distribution are such ones.";
  return Row("nats://HOST,HOST,HOST?replicas=3 on nats-server 2.9", "three servers or five of version 2.9", traits,
             std::move(words));
}

Guarantees Memcached() {
  kv::Traits traits;
  traits.name = "memcached";
  traits.monotonic_revisions = false;
  traits.list = false;
  traits.evicting = true;
  traits.volatile_storage = true;
  Words words;
  words.exclusion =
      "If the server drops the record of a lock (memory is full, flush_all), its holder notices at its next beat "
      "(ttl/3), and until then another may hold it too. If it restarts, every grant is lost, and nobody gets one until "
      "max_ttl has passed.";
  words.fence =
      "Not promised. Once its record was dropped, the next one begins above what the copy that makes it has seen, "
      "which may be less than others have.";
  words.durability = "Everything may be dropped at any time, and is with a restart.";
  words.watch = "None. Waiting copies are woken by hints over NATS, where a bus is given; else they read now and then.";
  words.order = "Of each key alone.";
  words.events = "None of its own: give a bus, such as --events nats://HOST.";
  words.settings =
      "One server for the copies alone. With -M it refuses writes when its memory is full, instead of dropping "
      "records.";
  return Row("memcached://HOST", "one server: for work that may rarely be done twice", traits, std::move(words));
}

}  // namespace

const std::vector<Guarantees>& AllGuarantees() {
  static const auto& rows = *new std::vector<Guarantees>{
      Sqlite(false), Sqlite(true),  NatsFile(1, false), NatsFile(1, true), NatsFile(3, false), NatsFile(3, true),
      NatsMemory(1), NatsMemory(3), NatsReplicasOf29(), Memcached(),       Memory(),
  };
  return rows;
}

const Guarantees* FindGuarantees(const kv::Traits& traits) {
  for (const Guarantees& row : AllGuarantees()) {
    const kv::Traits& own = row.traits;
    if (own.name != traits.name || own.evicting != traits.evicting) continue;
    // A store that may drop anything has one row, whatever it is kept in.
    if (own.evicting || (own.durable == traits.durable && own.linearizable_reads == traits.linearizable_reads &&
                         own.volatile_storage == traits.volatile_storage)) {
      return &row;
    }
  }
  return nullptr;
}

}  // namespace coord
