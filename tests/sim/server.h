// The store that all copies of a run share, as its server sees it: data and revisions, at once and without failing.
// What lies between it and a copy is Link's. Conforms to kv/store.h as far as its model does (config.h).
//
// Fault model: what was acknowledged can be rolled back to a state that was kept (FallBack), all can be gone (Restart),
// or one entry (Evict). Reads can be answered from the past.

#ifndef TESTS_SIM_SERVER_H_
#define TESTS_SIM_SERVER_H_

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv/store.h"
#include "tests/sim/config.h"
#include "tests/sim/network.h"

namespace sim {

struct WriteRequest {
  enum Kind { kCreate, kUpdate, kDelete, kPut };
  Kind kind = kPut;
  int copy = 0;  // who sends it
  std::string key;
  std::string value;
  kv::Revision expected = 0;
  absl::Time client_time;  // the sender's wall clock: revisions where they are clocks
};

// A write that was applied.
struct Commit {
  int copy = 0;
  const std::string& key;
  const std::string& value;
  kv::Revision revision = 0;
  bool deleted = false;
};

class Server {
 public:
  Server(const Config& config, const Network& network);

  const kv::Traits& traits() const { return traits_; }

  // Called with every write that is applied, in their order.
  void OnCommit(std::function<void(const Commit&)> fn) { on_commit_.push_back(std::move(fn)); }

  absl::StatusOr<kv::Entry> Get(std::string_view key, absl::Duration lag) const;
  kv::WriteResult Write(const WriteRequest& request);
  std::vector<kv::KeyedEntry> List(std::string_view prefix) const;

  // Remembers the present state for FallBack: it is synced.
  void Keep();
  // As a server that crashed before it synced: all writes since Keep() are gone, and revisions go on from there.
  // Returns how many revisions were lost.
  uint64_t FallBack();
  void Restart();
  bool Evict(std::string_view key);

 private:
  struct Record {
    std::string value;
    kv::Revision revision = 0;
    absl::Time written;
  };
  using Records = std::map<std::string, Record, std::less<>>;
  struct Past {
    absl::Time since;
    std::optional<Record> record;
  };

  kv::Entry ToEntry(const Record& record) const;
  kv::Revision NextRevision(const Record* before, absl::Time client_time);
  void Remember(const std::string& key, const std::optional<Record>& record);

  const Model model_;
  const Sabotage sabotage_;
  const Network& network_;
  kv::Traits traits_;
  Records records_;
  kv::Revision revision_ = 0;
  Records kept_;
  kv::Revision kept_revision_ = 0;
  std::map<std::string, std::vector<Past>, std::less<>> history_;  // where reads may lag
  std::vector<std::function<void(const Commit&)>> on_commit_;
};

}  // namespace sim

#endif  // TESTS_SIM_SERVER_H_
