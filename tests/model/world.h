// A small world of copies that share one lock record, to be explored exhaustively (explore.h). The record and its
// changes are the library's own (coord/internal/grant_transitions.h); the world adds what the pure functions leave out:
// copies that act on views as old as can be, conditional writes, sessions, and faults.
//
// Each copy acquires and releases `rounds` times, may cancel while it waits, and at any step may crash or pass its
// local deadline without a beat. A session may be evicted only after its copy's local deadline: that is what the ttl
// and its margin guarantee, and all that the world knows of time.

#ifndef TESTS_MODEL_WORLD_H_
#define TESTS_MODEL_WORLD_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "coord/internal/grant_transitions.h"
#include "coord/internal/records.h"

namespace model {

inline constexpr int kMaxCopies = 4;

// Mistakes that the exploration must find.
struct Bugs {
  bool head_only = false;        // only the head of the queue observes anyone
  bool old_view = false;         // a push counts even if it is older than what the copy has seen
  bool late_give_up = false;     // a release counts as given up only when its reply is there
  bool reuse_tickets = false;    // every request of a copy has the same ticket
  bool keep_strays = false;      // own tickets that no request holds stay
  bool missing_is_dead = false;  // a session without record is taken out
  bool broken_is_ended = false;  // a broken session is taken out without the wait for silence
  bool blind_eviction = false;   // a session is ended though it has beaten since it was looked at
  bool no_settling = false;      // a write of unknown outcome is forgotten
  bool jump_queue = false;       // a new request goes to the head of the queue
  bool old_fence = false;        // a grant does not raise the fence
  bool any_waiter_acts = false;  // harmless: whoever waits acts on the one before it, as in a chain
};

struct World {
  int copies = 2;
  int rounds = 2;
  uint32_t capacity = 1;
  std::vector<uint32_t> weights;  // of each copy's requests; empty: 1 each
  int try_only = 0;               // so many of the last copies never queue

  // How many there may be of each, in all.
  int lost_replies = 0;  // a write whose reply is lost; the write itself was applied, or comes later, or never
  int late_pushes = 0;   // a record on its way to a copy, overtaken by newer ones
  int vanishings = 0;    // a session record that the store forgets
  int breaks = 0;        // a session that somebody breaks
  int beats = 0;         // rewrites of session records
  int deletes = 0;       // removals of a free record

  bool local_waiters = false;  // a release with more rounds to go queues again in the same write, or passes on locally
  bool retain = false;         // a released lock may be kept while nobody else waits
  bool downgrade = false;      // a writer may become a reader
  Bugs bugs;
};

enum Pc : uint8_t { kIdle, kWant, kWait, kHold, kDowngrade, kRetained, kRelease, kCancel, kDone, kDead };
enum Mark : uint8_t { kLive, kBroken, kEnded, kMissing };

struct Copy {
  uint8_t pc = kIdle;
  uint8_t rounds = 0;
  uint8_t ticket = 0;
  uint8_t valid = 1;       // by its own clock
  uint8_t downgraded = 0;  // its weight is 1
  uint8_t mark = kLive;    // of its session's record
  uint8_t beaten = 0;      // how often that was rewritten
  uint8_t unknown = 0;     // the number of a write of unknown outcome, 0: none
  uint8_t expected = 0;    // the revision that it was conditional on
  uint8_t sent_create = 0;
  uint16_t unused = 0;
  uint32_t seen = 0;  // version of the record
  uint32_t push = 0;  // on its way to the copy
  uint32_t sent = 0;  // a write on its way to the store
};

struct State {
  uint32_t record = 0;  // version
  uint8_t highest = 0;  // fence
  uint8_t lost_replies = 0, late_pushes = 0, vanishings = 0, breaks = 0, beats = 0, deletes = 0;
  uint8_t unused = 0;
  Copy copies[kMaxCopies];
};
static_assert(std::has_unique_object_representations_v<State>);

struct Move {
  const char* name;
  int8_t copy;
  int8_t other = -1;
  bool fault = false;  // need not happen: everything must be able to finish without
};

// Called with each move out of a state and the state after it; `violation` is empty where all checks hold.
using Emit = std::function<void(const Move& move, const State& after, const std::string& violation)>;

class Model {
 public:
  explicit Model(const World& world);

  State Start() const;
  void Moves(const State& state, const Emit& emit);
  bool Finished(const State& state) const;
  // Empty, or how the valid holders are too many.
  std::string CheckHolders(const State& state) const;

 private:
  struct Version {
    uint32_t revision = 0;
    std::optional<coord::internal::GrantRecord> record;
  };
  // The copies whose sessions a waiter may end or take out, as bits.
  struct Act {
    uint32_t evict = 0, create = 0, take_out = 0;
  };

  uint32_t Intern(uint32_t revision, std::optional<coord::internal::GrantRecord> record);
  bool Names(uint32_t version, int i, const Copy& copy) const;   // as an owner
  bool Queues(uint32_t version, int i, const Copy& copy) const;  // in the queue
  bool OthersWait(uint32_t version, int i) const;
  bool Absent(uint32_t version) const { return !versions_[version].record.has_value(); }
  bool Current(const State& state, const Copy& copy) const;
  uint32_t WeightOf(int i, const Copy& copy) const;
  void Begin(Copy& copy) const;
  Copy Succeeded(int i, Copy copy, uint32_t version) const;
  Act ToDo(const State& state, int i) const;
  std::string SetRecord(State& state, uint32_t version) const;
  // The version after copy i's write; nullopt if the transition refuses it.
  std::optional<uint32_t> Write(const State& state, int i, uint32_t take_out, int nonce);

  void MovesOfCopy(const State& state, int i, const Emit& emit);
  void MovesOfWaiting(const State& state, int i, const Emit& emit);
  void MovesOfHolding(const State& state, int i, const Emit& emit);
  void MovesOfUnknown(const State& state, int i, const Emit& emit);
  void MovesOfTry(const State& state, int i, const Emit& emit);
  void MovesOfActing(const State& state, int i, const Emit& emit);
  void MovesOfSession(const State& state, int i, const Emit& emit);
  void MovesOfNetwork(const State& state, int i, const Emit& emit);
  void EmitWrite(const State& state, int i, const char* name, uint32_t take_out, const Emit& emit);

  World world_;
  std::vector<Version> versions_;
  std::unordered_map<std::string, uint32_t> version_of_;
  std::unordered_map<uint64_t, std::optional<uint32_t>> writes_;
};

}  // namespace model

#endif  // TESTS_MODEL_WORLD_H_
