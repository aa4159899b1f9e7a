// Copies under load (tests/process/session_loads.cc): all take turns at one mutex, stand for one election, add to one
// value, and publish reliable events to all. Starts them, sees whether they get on, and judges what they did.
//
// A copy may be killed and begun anew, as another life of the same place: it goes on with the place's cursor.

#ifndef TESTS_CHAOS_LOADS_H_
#define TESTS_CHAOS_LOADS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tests/chaos/judge.h"
#include "tests/process/process.h"

namespace chaos {

class Loads {
 public:
  // Files go to `folder`. `forgets`: the store may lose what was acknowledged, so that the value is left out, and of
  // the fenced cells no more is judged than the order of their owners.
  Loads(std::string folder, unsigned seed, bool forgets = false);

  // The copy has joined, under a label that no other life has. It must live until Gone or the end of this object.
  // Events that are published once this has returned OK are to come to it.
  absl::Status Subscribe(process_test::Process* copy, const std::string& place);
  // After Subscribe, the first time of all copies.
  void Start(process_test::Process* copy);
  // It was killed: what it had under way is unknown.
  void Gone(const process_test::Process* copy);

  // From now on: everything gets on when every copy has had turns and terms, has added, and has received of every copy
  // an event that was published from now on.
  void Mark();
  // Whether it has; what is missing is in *missing.
  bool GotOn(std::string* missing);

  // Ends the loads, and waits until every event that was stored has come everywhere, or for `patience`.
  void Stop(absl::Duration patience = process_test::kPatience);

  // After Stop.
  Violations Judge();
  // What there was of each load, one line each. After Judge.
  const std::string& summary() const { return summary_; }
  // Acknowledged writes and stored events. After Judge.
  int64_t operations() const { return operations_; }

 private:
  // What one life has reported last.
  struct Progress {
    int64_t reports = 0;  // since Mark
    int64_t turns = 0, terms = 0, additions = 0, published = 0;
    std::map<std::string, int64_t> got;  // by the publisher's life
  };
  struct Life {
    process_test::Process* process = nullptr;  // null: gone
    std::string name;                          // of its copy
    std::string place;
    std::map<std::string, int> tags;                  // of its loads
    std::map<std::string, process_test::Reply> ends;  // what they said, once they had ended
    Progress now;
    bool has_base = false;
    Progress base;
  };

  std::string FileOf(const std::string& load, const Life& life) const;
  void TakeReports(Life& life);
  bool AllCame() const;
  Outcomes OutcomesOf(const std::string& load, const Life& life, int64_t written) const;
  void JudgeCell(const std::string& load, const std::string& cell, bool one_each, Violations* violations);
  void JudgeValue(Violations* violations);
  void JudgeBus(Violations* violations);
  EventHistory ReadEvents(std::vector<std::string>* gaps) const;
  process_test::Process& Living() const;
  void Say(const std::string& load, const Outcomes& outcomes, const std::string& more);

  const std::string folder_;
  unsigned seed_;
  const bool forgets_;
  std::vector<std::unique_ptr<Life>> lives_;
  std::string summary_;
  int64_t operations_ = 0;
};

}  // namespace chaos

#endif  // TESTS_CHAOS_LOADS_H_
