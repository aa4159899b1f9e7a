// The store cannot be used for a while. All waits end in time and say why, nobody crashes, nothing acknowledged is
// lost, and when the cause is gone everything goes on.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/process/copies.h"
#include "tests/process/small_disk.h"

namespace process_test {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kTtl = absl::Seconds(2);
constexpr absl::Duration kCallTimeout = absl::Milliseconds(500);
constexpr absl::Duration kWait = absl::Milliseconds(700);
// For a machine that does other things as well.
constexpr absl::Duration kSlack = absl::Milliseconds(800);

// What a wait came to.
struct Outcome {
  absl::StatusCode code;
  absl::Duration took;
  std::string text;
};

class OutageTest : public CopiesTest {
 protected:
  std::string folder() const { return folder_ / "data"; }
  std::string file() const { return folder() + "/coord.db"; }

  std::unique_ptr<Process> StartHere(const std::string& instance, absl::Duration ttl = kTtl) const {
    Process::Options options = OptionsOf(instance, ttl);
    options.store = "sqlite:" + file();
    options.call_timeout = kCallTimeout;
    return std::make_unique<Process>(options);
  }

  void StartAll() {
    fs::create_directories(folder());
    waiting_ = StartHere("waiting");
    leaving_ = StartHere("leaving");
    counting_ = StartHere("counting");
    ASSERT_NO_FATAL_FAILURE(Join({waiting_.get(), leaving_.get(), counting_.get()}));
    const Reply prepared = waiting_->Call("prepare");
    ASSERT_TRUE(prepared.ok()) << prepared.status;
    ASSERT_TRUE(waiting_->Call("acquire held lock 20000").ok());
    ASSERT_TRUE(leaving_->Call("acquire other lock-of-the-leaver 20000").ok());
    tally_ = counting_->Send("tally count");
    AwaitTally(5);
  }

  // Until the tally has reached `least`.
  void AwaitTally(int64_t least) {
    EXPECT_TRUE(Eventually([&] { return Tally() >= least; })) << "the tally stands at " << Tally();
  }
  int64_t Tally() { return waiting_->Call("get count 5000").Number(0); }

  // In the middle of the outage. `all_fail`: no write can succeed, and each says `cause`.
  void CheckWaits(const std::string& cause, bool all_fail) {
    const int leaving = leaving_->Send("leave 1000");
    const Reply waits = waiting_->Call(absl::StrCat("waits ", absl::ToInt64Milliseconds(kWait)));
    ASSERT_TRUE(waits.ok()) << waits.status;
    std::map<std::string, Outcome> outcomes;
    for (const std::string& event : waiting_->TakeEvents("wait ")) AddOutcome(event, &outcomes);
    EXPECT_EQ(outcomes.size(), static_cast<size_t>(waits.Number(0)));
    for (const auto& [call, outcome] : outcomes) CheckOutcome(call, outcome);
    if (all_fail) CheckAllFailed(outcomes, cause);

    const Reply left = leaving_->Await(leaving);
    EXPECT_LE(left.took, absl::Seconds(1) + kSlack);
    if (all_fail) {
      EXPECT_TRUE(absl::IsUnavailable(left.status) || absl::IsDeadlineExceeded(left.status)) << left.status;
    }
  }

  static void AddOutcome(const std::string& event, std::map<std::string, Outcome>* outcomes) {
    const std::vector<std::string> words = Words(event);
    ASSERT_GE(words.size(), 3u) << event;
    int code = 0;
    int64_t micros = 0;
    ASSERT_TRUE(absl::SimpleAtoi(words[1], &code) && absl::SimpleAtoi(words[2], &micros)) << event;
    const size_t text = words[0].size() + words[1].size() + words[2].size() + 3;
    (*outcomes)[words[0]] = {static_cast<absl::StatusCode>(code), absl::Microseconds(micros),
                             text < event.size() ? event.substr(text) : ""};
  }

  static void CheckOutcome(const std::string& call, const Outcome& outcome) {
    const absl::Duration bound = call == "~Cluster" ? absl::Seconds(1) : kWait;
    EXPECT_LE(outcome.took, bound + kSlack) << call << ": " << outcome.text;
    const std::set<absl::StatusCode> sensible = {
        absl::StatusCode::kOk,       absl::StatusCode::kUnavailable,        absl::StatusCode::kDeadlineExceeded,
        absl::StatusCode::kNotFound, absl::StatusCode::kFailedPrecondition,
    };
    EXPECT_EQ(sensible.count(outcome.code), 1u)
        << call << ": " << absl::StatusCodeToString(outcome.code) << ", " << outcome.text;
    EXPECT_TRUE(outcome.code == absl::StatusCode::kOk || !outcome.text.empty()) << call << " does not say why";
  }

  static void CheckAllFailed(const std::map<std::string, Outcome>& outcomes, const std::string& cause) {
    for (const char* call :
         {"Mutex.Acquire", "Mutex.TryAcquire", "Semaphore.Acquire", "Semaphore.SetPermits", "SharedMutex.Acquire",
          "SharedMutex.AcquireShared", "Grant.Release", "Election.Campaign", "Election.Proclaim", "Candidate.StepDown",
          "AtomicValue.Set", "AtomicValue.Update", "FencedCell.Set", "SharedValue.Set", "SharedMap.Set",
          "Publish.reliable", "Join", "Leave"}) {
      const auto found = outcomes.find(call);
      ASSERT_NE(found, outcomes.end()) << call;
      const Outcome& outcome = found->second;
      EXPECT_TRUE(outcome.code == absl::StatusCode::kUnavailable || outcome.code == absl::StatusCode::kDeadlineExceeded)
          << call << ": " << absl::StatusCodeToString(outcome.code) << ", " << outcome.text;
      // Leave says what is left undone.
      if (std::string(call) == "Leave") continue;
      EXPECT_NE(outcome.text.find(cause), std::string::npos)
          << call << " does not say \"" << cause << "\": " << outcome.text;
    }
  }

  // The outage was longer than the ttl: the grant is lost, and told so once.
  void AwaitLoss() {
    EXPECT_TRUE(waiting_->AwaitEvent("lost held").has_value()) << "no loss was signalled";
    EXPECT_EQ(waiting_->Call("is-lost held").text, "1");
    waiting_->TakeEvents("state ");
  }

  // The cause is gone. `lost`: the grant is known to be lost.
  void CheckGoesOn(bool lost) {
    AwaitTally(Tally() + 5);
    if (lost) {
      EXPECT_TRUE(waiting_->AwaitEvent("state attached").has_value()) << "it did not join again";
    } else {
      // Its beats may have come through or not.
      const Reply released = waiting_->Call("release held 10000");
      EXPECT_TRUE(released.ok() || absl::IsFailedPrecondition(released.status)) << released.status;
    }
    for (const char* lock : {"lock", "waits/release", "lock-of-the-leaver"}) {
      const Reply acquired = waiting_->Call(absl::StrCat("acquire again ", lock, " 30000"));
      EXPECT_TRUE(acquired.ok()) << lock << ": " << acquired.status;
    }
    const auto late = StartHere("late");
    ASSERT_NO_FATAL_FAILURE(Join({late.get()}));
    ASSERT_TRUE(counting_->Call("tally-stop count").ok());
    const Reply tally = counting_->Await(tally_);
    ASSERT_TRUE(tally.ok()) << tally.status;
    const int64_t stands = late->Call("get count 10000").Number(0);
    std::cout << "acknowledged " << tally.Number(0) << ", unknown " << tally.Number(1) << ", failed " << tally.Number(2)
              << "; the tally stands at " << stands << "\n";
    EXPECT_GE(stands, tally.Number(0)) << "an acknowledged addition is lost";
    EXPECT_LE(stands, tally.Number(0) + tally.Number(1)) << "an addition was made twice";
    for (Process* copy : {waiting_.get(), counting_.get(), leaving_.get(), late.get()}) {
      EXPECT_EQ(copy->Quit(), 0) << copy->instance();
    }
  }

  std::unique_ptr<Process> waiting_, leaving_, counting_;
  int tally_ = 0;
};

TEST_F(OutageTest, AFileInTheFoldersPlace) {
  ASSERT_NO_FATAL_FAILURE(StartAll());
  fs::rename(folder(), folder_ / "away");
  std::ofstream(folder()) << "not a folder\n";
  CheckWaits("coord.db", true);
  AwaitLoss();
  fs::remove(folder());
  fs::rename(folder_ / "away", folder());
  CheckGoesOn(true);
}

TEST_F(OutageTest, AFolderInTheDatabasesPlace) {
  ASSERT_NO_FATAL_FAILURE(StartAll());
  // In one step, so that the path is never absent: a database that is gone is made anew.
  fs::create_directories(folder_ / "decoy/coord.db");
  ASSERT_EQ(renameat2(AT_FDCWD, folder().c_str(), AT_FDCWD, (folder_ / "decoy").c_str(), RENAME_EXCHANGE), 0)
      << strerror(errno);
  CheckWaits("is a folder", true);
  AwaitLoss();
  ASSERT_EQ(renameat2(AT_FDCWD, folder().c_str(), AT_FDCWD, (folder_ / "decoy").c_str(), RENAME_EXCHANGE), 0);
  CheckGoesOn(true);
}

// Every write of every process fails as on a full disk.
TEST_F(OutageTest, NoFileCanGrow) {
  ASSERT_NO_FATAL_FAILURE(StartAll());
  const auto limit_all = [this](rlim_t bytes) {
    const rlimit limit = {bytes, RLIM_INFINITY};
    for (Process* copy : {waiting_.get(), leaving_.get(), counting_.get()}) {
      EXPECT_EQ(prlimit(copy->pid(), RLIMIT_FSIZE, &limit, nullptr), 0) << strerror(errno);
    }
  };
  limit_all(1);
  CheckWaits("disk is full", true);
  AwaitLoss();
  limit_all(RLIM_INFINITY);
  CheckGoesOn(true);
}

TEST_F(OutageTest, TheDiskIsFull) {
  fs::create_directories(folder());
  const SmallDisk disk(folder());
  if (!disk.mounted()) {
    GTEST_SKIP() << "left out: only root can mount a small file system (" << disk.error()
                 << "); NoFileCanGrow shows the same by a limit on the size of files";
  }
  ASSERT_NO_FATAL_FAILURE(StartAll());
  disk.Fill();
  const Reply filled = waiting_->Call("fill large 500");
  EXPECT_TRUE(absl::IsUnavailable(filled.status)) << filled.status;
  EXPECT_NE(std::string(filled.status.message()).find("disk is full"), std::string::npos) << filled.status;
  // Small writes may still find room in the log.
  CheckWaits("disk is full", false);
  disk.MakeRoom();
  CheckGoesOn(false);
}

TEST_F(OutageTest, AnotherProgramHoldsTheDatabase) {
  ASSERT_NO_FATAL_FAILURE(StartAll());
  const auto program = StartHere("another-program");
  const Reply locked = program->Call("lock-database " + file());
  ASSERT_TRUE(locked.ok()) << locked.status;
  CheckWaits(absl::StrCat("process ", program->pid()), true);
  AwaitLoss();
  ASSERT_TRUE(program->Call("unlock-database").ok());
  CheckGoesOn(true);
}

TEST_F(OutageTest, ACopyIsStoppedInsideACommit) {
  ASSERT_NO_FATAL_FAILURE(StartAll());
  const auto busy = StartHere("busy");
  const int writing = busy->Send("busy");
  bool inside = false;
  for (int i = 0; i < 1000 && !inside; ++i) {
    busy->Signal(SIGSTOP);
    ASSERT_TRUE(busy->AwaitStopped());
    inside = absl::IsUnavailable(waiting_->Call("set probe x 300").status);
    if (!inside) busy->Signal(SIGCONT);
  }
  ASSERT_TRUE(inside) << "it was never stopped inside a commit";
  CheckWaits(absl::StrCat("process ", busy->pid()), true);
  // Whoever asks first in its process is told what to do.
  const Reply joined = StartHere("outside")->Call("join 600");
  EXPECT_NE(std::string(joined.status.message()).find(absl::StrCat("continue it (kill -CONT ", busy->pid())),
            std::string::npos)
      << joined.status;
  AwaitLoss();
  busy->Signal(SIGCONT);
  ASSERT_TRUE(busy->Call("busy-stop").ok());
  EXPECT_TRUE(busy->Await(writing).ok());
  CheckGoesOn(true);
}

}  // namespace
}  // namespace process_test
