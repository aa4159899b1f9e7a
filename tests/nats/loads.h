// Many copies under load (tests/process/session_loads.cc): all take turns at one mutex, stand for one election, add to
// one value, and publish reliable events to all. Starts them, sees whether they get on, and judges what they did.

#ifndef TESTS_NATS_LOADS_H_
#define TESTS_NATS_LOADS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/process/process.h"

namespace nats_test {

class Loads {
 public:
  // The copies have joined. Files go to `folder`.
  Loads(std::vector<process_test::Process*> copies, std::string folder, unsigned seed);

  void Start();

  // From now on: everything gets on when every copy has had turns and terms, has added, and has received of every copy
  // an event that was published from now on.
  void Mark();
  // Whether it has; what is missing is in *missing.
  bool GotOn(std::string* missing);

  // Ends the loads, and waits until every event that was stored has come everywhere.
  void Stop();

  // After Stop. No two owners at a time and none twice with a fence, no acknowledged write lost, none applied that was
  // reported as not applied; events in order, once, and all that were stored.
  void Check();

 private:
  // What one copy has reported last.
  struct Progress {
    int64_t reports = 0;  // since Mark
    int64_t turns = 0, terms = 0, additions = 0, published = 0;
    std::map<std::string, int64_t> got;  // by the publisher's label
  };
  struct Outcomes {
    int64_t acknowledged = 0, unknown = 0, failed = 0;
  };
  // One acknowledged write of a fenced cell.
  struct Count {
    std::string copy;
    uint64_t fence = 0, revision = 0;
    int64_t count = 0, from = 0, until = 0;
  };

  std::string FileOf(const std::string& load, const process_test::Process& copy) const;
  void TakeReports();
  Outcomes Sum(const std::string& load);
  std::vector<Count> ReadCounts(const std::string& load) const;
  void CheckFenced(const std::string& load, bool one_each);
  static void CheckOwners(const std::string& load, std::vector<Count> counts);
  void CheckValue();
  std::set<int64_t> Events(const process_test::Process& publisher, const std::string& outcome) const;
  // By the publisher's label, in the order in which they came.
  std::map<std::string, std::vector<int64_t>> Received(const process_test::Process& copy, int64_t* gaps) const;
  bool AllCame() const;
  void CheckEvents();

  const std::vector<process_test::Process*> copies_;
  const std::string folder_;
  unsigned seed_;
  std::map<std::string, std::vector<int>> tags_;  // by load, in the order of copies_
  std::map<const process_test::Process*, Progress> base_, now_;
};

}  // namespace nats_test

#endif  // TESTS_NATS_LOADS_H_
