// Long queues of copies in few and in many processes: served in order, at a price per hand-over that does not depend on
// their number.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kv/nats_connection.h"
#include "tests/nats/nats_copies.h"
#include "tests/nats/traffic.h"

namespace nats_test {
namespace {

using process_test::Lines;

// The consumers of the processes' watches send heartbeats while nothing else comes.
constexpr absl::Duration kHeartbeat = absl::Seconds(1);

class ScaleTest : public NatsCopiesTest {
 protected:
  struct Waiter {
    Process* process;
    std::string instance;
    std::string command;
    int tag = 0;
  };

  // `copies` in `processes` of them, in the order in which they will queue: neighbours are in different processes.
  std::vector<Waiter> StartCopies(int copies, int processes) {
    std::vector<Process*> joining;
    for (int i = 0; i < processes; ++i) {
      processes_.push_back(Start(absl::StrCat("p", i), kNoBeats));
      joining.push_back(processes_.back().get());
    }
    Join(joining);
    std::vector<int> more(static_cast<size_t>(processes), 0);
    std::vector<Waiter> waiters;
    for (int i = 0; i < copies; ++i) {
      const size_t at = static_cast<size_t>(i % processes);
      const int index = more[at]++;
      waiters.push_back({processes_[at].get(), absl::StrCat(processes_[at]->instance(), ".", index),
                         absl::StrCat("copy-turn ", index, " lock 500000 ", folder_ / "log")});
    }
    for (size_t i = 0; i < processes_.size(); ++i) {
      const Reply joined = processes_[i]->Call(absl::StrCat("copies ", more[i], " 30000"));
      EXPECT_TRUE(joined.ok()) << joined.status;
    }
    return waiters;
  }

  void AwaitPushes();
  void Run(int copies, int processes);
  void CheckOrder(std::vector<Waiter>& waiters, const Reply& held, const Reply& released);

  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<int64_t> micros_;  // from one release to the next grant
};

// What the queueing pushed to everybody must have been looked at by everybody: whoever lags behind releases over a
// record that has changed since, and publishes once in vain.
void ScaleTest::AwaitPushes() {
  for (const auto& process : processes_) {
    const Reply follows = process->Call("copies-follow queued 60000");
    ASSERT_TRUE(follows.ok()) << process->instance() << ": " << follows.status;
  }
  // One that writes sees its own write sooner, so that another does it, and goes again.
  const std::unique_ptr<Process> writer = Joined("writer", kNoBeats);
  ASSERT_TRUE(writer->Call("value-open queued 60000").ok());
  ASSERT_TRUE(writer->Call("value-set queued all 60000").ok());
  for (const auto& process : processes_) {
    const Reply seen = process->Await(process->Send("copies-see all 60000"), absl::Seconds(90));
    ASSERT_TRUE(seen.ok()) << process->instance() << ": " << seen.status << " " << seen.text;
  }
  ASSERT_TRUE(writer->Call("leave 60000").ok());
}

void ScaleTest::CheckOrder(std::vector<Waiter>& waiters, const Reply& held, const Reply& released) {
  int64_t last_fence = held.Number(0);
  int64_t last_release = released.Number(0);
  for (Waiter& waiter : waiters) {
    const Reply turn = waiter.process->Await(waiter.tag, absl::Seconds(120));
    ASSERT_TRUE(turn.ok()) << waiter.instance << ": " << turn.status;
    EXPECT_GT(turn.Number(0), last_fence) << waiter.instance;
    EXPECT_GT(turn.Number(1), last_release) << waiter.instance << " was in before the one ahead of it let go";
    micros_.push_back((turn.Number(1) - last_release) / 1000);
    last_fence = turn.Number(0);
    last_release = turn.Number(2);
  }
  const std::vector<std::string> served = Lines(folder_ / "log");
  ASSERT_EQ(served.size(), waiters.size());
  for (size_t i = 0; i < waiters.size(); ++i) EXPECT_EQ(served[i], waiters[i].instance) << "turn " << i;
}

void ScaleTest::Run(int copies, int processes) {
  const Meter meter(*server_);
  std::vector<Waiter> waiters = StartCopies(copies, processes);
  ASSERT_FALSE(HasFailure());
  Process& first = *processes_[0];
  const Reply held = first.Call("acquire a lock 20000");
  ASSERT_TRUE(held.ok()) << held.status;
  std::string queue;
  for (Waiter& waiter : waiters) {
    waiter.tag = waiter.process->Send(waiter.command);
    absl::StrAppend(&queue, queue.empty() ? "" : " ", waiter.instance);
    ASSERT_NO_FATAL_FAILURE(AwaitQueue(first, "lock", first.instance(), queue));
  }
  ASSERT_NO_FATAL_FAILURE(AwaitPushes());
  // A consumer that was sent much is asked how far it is, and answers by a publish.
  kv::NatsOptions options;
  options.servers = {server_->address()};
  const auto tap = kv::NatsConnection::Connect(options, absl::Now() + absl::Seconds(10));
  ASSERT_TRUE(tap.ok()) << tap.status();
  std::atomic<int64_t> flow{0};
  const auto flow_replies = (*tap)->Subscribe("$JS.FC.>", [&flow](const kv::NatsMessage&) { ++flow; });
  ASSERT_TRUE(flow_replies.ok()) << flow_replies.status();
  ASSERT_EQ((*tap)->Flush(absl::Now() + absl::Seconds(10)), absl::OkStatus());
  const Traffic before = meter.Rested();
  const absl::Time begun = absl::Now();
  const Reply released = first.Call("release a 20000");
  ASSERT_TRUE(released.ok()) << released.status;
  ASSERT_NO_FATAL_FAILURE(CheckOrder(waiters, held, released));
  // Every turn ends in a release, the last one too.
  const int64_t releases = copies + 1;
  // To each process the record, to the releaser the acknowledgement.
  const int64_t deliveries = releases * (processes + 1);
  const Traffic spent = meter.Since(before, {releases, deliveries});
  const absl::Duration took = absl::Now() - begun;
  const int64_t heartbeats = processes * (static_cast<int64_t>(absl::FDivDuration(took, kHeartbeat)) + 1);
  std::sort(micros_.begin(), micros_.end());
  const double times = static_cast<double>(releases);
  std::printf("%7s %10s %12s %14s %15s %12s %12s\n", "copies", "processes", "hand-overs", "in each", "out each",
              "median us", "longest us");
  std::printf("%7d %10d %12d %14.3f %15.3f %12lld %12lld\n", copies, processes, static_cast<int>(releases),
              static_cast<double>(spent.in) / times, static_cast<double>(spent.out) / times,
              static_cast<long long>(micros_[micros_.size() / 2]), static_cast<long long>(micros_.back()));
  ASSERT_EQ((*tap)->Flush(absl::Now() + absl::Seconds(10)), absl::OkStatus());
  EXPECT_EQ(spent.in - flow, releases) << "one publish each";
  EXPECT_GE(spent.out, deliveries);
  // For each answer a question, and what the tap hears.
  EXPECT_LE(spent.out, deliveries + heartbeats + 2 * flow);
}

TEST_F(ScaleTest, TwoCopiesInTwoProcesses) { Run(2, 2); }
TEST_F(ScaleTest, TwentyCopiesInEightProcesses) { Run(20, 8); }
TEST_F(ScaleTest, SixtyFourCopiesInEightProcesses) { Run(64, 8); }
TEST_F(ScaleTest, TwoHundredCopiesInEightProcesses) { Run(200, 8); }
TEST_F(ScaleTest, SixtyFourCopiesInSixtyFourProcesses) { Run(64, 64); }

}  // namespace
}  // namespace nats_test
