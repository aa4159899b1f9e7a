// One leader among the copies of a plugin, with standbys in the order in which they came.
//
// By hand:
//   auto term = cluster->Election("digest").Campaign("http://10.0.0.1", deadline);   // blocks until this copy leads
//   while (!term->Lost()) Work(term->fence());
//
// Or as a standing candidate, which campaigns again after every loss:
//   auto candidate = election.Stand({.value = url, .on_elected = ..., .on_lost = ..., .on_new_leader = ...});
//
// Threads and errors as in Mutex. A copy campaigns once per name at a time; further campaigns of it wait their turn.

#ifndef COORD_ELECTION_H_
#define COORD_ELECTION_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "coord/mutex.h"
#include "coord/subscription.h"

namespace coord {

struct LeaderInfo {
  std::string instance;  // the leader's label
  std::string session;
  std::string value;   // what it proclaims
  uint64_t fence = 0;  // of its term
  absl::Time since;    // by its own wall clock
};

struct CandidateOptions {
  // Proclaimed with every term; at most 1 KiB.
  std::string value;
  // On the Cluster's callback thread: this copy leads from now on, with this fence. The grant is the term: check Lost()
  // while working.
  std::function<void(std::shared_ptr<const Grant> term)> on_elected;
  // On the Cluster's loss thread, so perhaps while on_elected still runs: the term has ended by loss (not by StepDown
  // or the destructor). The candidate is standing again by itself.
  std::function<void()> on_lost;
  // On the callback thread: another term has begun, of this copy or another. Terms that follow quickly may be skipped;
  // the last never is.
  std::function<void(const LeaderInfo&)> on_new_leader;
};

// A copy that leads or stands by. Destroying it withdraws: it resigns if it leads, and hands over to the next in line;
// it waits for a running callback, except from inside it. Thread-safe.
class Candidate {
 public:
  virtual ~Candidate() = default;
  // The present term, or null while another leads. No store call.
  virtual std::shared_ptr<const Grant> Term() const = 0;
  // Resigns the present term and goes to the end of the line. FailedPrecondition if this copy does not lead.
  virtual absl::Status StepDown(absl::Duration timeout = absl::Seconds(2)) = 0;
  // Proclaims another value, now and with later terms.
  virtual absl::Status Proclaim(std::string_view value, absl::Time deadline) = 0;
};

class Election {
 public:
  // Waits until this copy leads, with `value` proclaimed in the same write. The grant is the term; releasing it
  // resigns.
  absl::StatusOr<Grant> Campaign(std::string_view value, absl::Time deadline, const CancelToken& cancel = {});

  // Changes what the leader proclaims. FailedPrecondition if `term` is lost or of another election.
  absl::Status Proclaim(const Grant& term, std::string_view value, absl::Time deadline);

  // Ends the term, the same as term.Release().
  absl::Status Resign(Grant& term, absl::Duration timeout = absl::Seconds(2));

  // Campaigns from now on until the candidate is destroyed.
  std::unique_ptr<Candidate> Stand(CandidateOptions options);

  // The leader as far as this copy has heard; null if there is none. The first call for a name reads the store (for
  // call_timeout at most; an error is that of the read); later ones are answered from memory in tens of nanoseconds,
  // and may be late by one push, or by ttl/8 on a store without watch. A leader that has just died is named until a
  // standby has taken over.
  absl::StatusOr<std::shared_ptr<const LeaderInfo>> Leader();

  // Calls `fn` on the callback thread with the present leader, if any, and with every later one.
  Subscription Observe(std::function<void(const LeaderInfo&)> fn);

  absl::StatusOr<NameInfo> Inspect(absl::Time deadline);

 private:
  friend class Cluster;
  Election(std::shared_ptr<internal::Core> core, std::shared_ptr<const internal::GrantName> name)
      : core_(std::move(core)), name_(std::move(name)) {}
  std::shared_ptr<internal::Core> core_;
  std::shared_ptr<const internal::GrantName> name_;
};

}  // namespace coord

#endif  // COORD_ELECTION_H_
