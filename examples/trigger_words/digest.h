// The digest: one file with a line for each alert of any copy, written by one copy at a time, the leader.
//
// How each alert gets exactly one line, although leaders are killed, paused and replaced at any point:
//   1. The copy that got the post puts the alert into the outbox, a SharedMap. From then on it is safe.
//   2. The leader takes it by a compare-and-set, which fails if an earlier leader has done it meanwhile.
//   3. It writes down, in a FencedCell, the line and the place in the file where it belongs. A leader that has been
//   replaced is refused here.
//   4. It writes the line to that place, and removes the alert from the outbox.
// Whoever leads next first makes the cell its own, and does step 4 again: the same bytes at the same place. A late
// write of its predecessor is those bytes too. All copies must name one file on one machine for this. Where they write
// to files of their own, or to their standard output, a line whose leader died in step 4 may appear in two of them;
// none is lost.

#ifndef EXAMPLES_TRIGGER_WORDS_DIGEST_H_
#define EXAMPLES_TRIGGER_WORDS_DIGEST_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/coord.h"
#include "examples/trigger_words/alert.h"
#include "examples/trigger_words/digest_file.h"

namespace trigger_words {

// Thread-safe. One thread of its own writes.
class Digest {
 public:
  static constexpr size_t kMaxWaiting = 1024;
  using Log = std::function<void(const std::string& line)>;

  // Stands for election at once. The Cluster must outlive the Digest. Blocks until `deadline` at most.
  static absl::StatusOr<std::unique_ptr<Digest>> Start(coord::Cluster* cluster, DigestFile file, Log log,
                                                       absl::Time deadline);
  ~Digest();

  // Hands the alert to the leader, whoever that is or will be. ResourceExhausted: kMaxWaiting alerts are waiting; else
  // as SharedMap::Set.
  absl::Status Submit(const Alert& alert, absl::Time deadline);

  // FailedPrecondition if this copy does not lead.
  absl::Status StepDown();

  // Null: nobody, as far as this copy has heard.
  std::shared_ptr<const coord::LeaderInfo> Leader() { return election_.Leader().value_or(nullptr); }

  uint64_t lines() const { return lines_; }  // written by this copy
  size_t waiting() const { return outbox_->Get()->size(); }

 private:
  Digest(coord::Cluster* cluster, DigestFile file, Log log, std::shared_ptr<coord::SharedMap> outbox);

  void Wake();
  void Run();
  bool WaitForWork(bool failed);
  absl::Status WriteWaiting();
  absl::Status TakeOver(const coord::Grant& term);
  absl::Status FinishLast();
  absl::Status Write(const coord::Grant& term, const std::string& id, const coord::Versioned& waiting);

  const Log log_;
  coord::Election election_;
  coord::FencedCell cell_;
  const std::shared_ptr<coord::SharedMap> outbox_;
  std::atomic<uint64_t> lines_{0};

  // Used by the writing thread alone.
  DigestFile file_;
  uint64_t taken_over_ = 0;   // fence of the term whose cell is ours; 0: none
  DigestRecord last_;         // what the cell says
  std::string last_written_;  // the last alert that this process wrote

  std::mutex mutex_;
  std::condition_variable wake_;
  bool work_ = true;   // guarded by mutex_
  bool stop_ = false;  // guarded by mutex_

  std::unique_ptr<coord::Candidate> candidate_;
  coord::Subscription arrivals_;
  std::thread thread_;
};

}  // namespace trigger_words

#endif  // EXAMPLES_TRIGGER_WORDS_DIGEST_H_
