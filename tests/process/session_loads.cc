// Loads: what goes on until loads-stop, whatever happens to the store. A call that fails is counted and made again.
//
// load-mutex MUTEX CELL FILE SEED        takes the mutex, counts in the fenced cell, lets go
// load-election ELECTION CELL FILE SEED  stands; counts in the fenced cell while it leads, steps down soon
//                                        Of each count that was acknowledged FILE has a line "FENCE REVISION COUNT FROM
//                                        UNTIL": between these times, BootNanos in microseconds, this copy was the
//                                        owner
// load-value NAME FILE SEED              adds 1 to an AtomicValue; a line "SUM" for each that was acknowledged
// load-subscribe TOPIC CURSOR GOT        returns once it has subscribed; GOT has a line "LABEL N" for each event that
//                                        came, or "gap" and why
// load-events TOPIC SENT SEED            publishes reliable events 1, 2, ..., many at a time. SENT has a line "stored
// N",
//                                        "unknown N" or "failed N" for each whose outcome is known
// loads-report                           every 100 ms the event "progress TURNS TERMS ADDITIONS PUBLISHED LABEL N...":
//                                        how far each load is, and what came last of each publisher
// loads-stop                             ends them: each of the load-... returns, once all it has begun is settled,
//                                        ACKNOWLEDGED UNKNOWN FAILED; of events STORED OTHERS

#include <atomic>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "tests/process/session.h"

namespace process_test {
namespace {

using coord::Cluster;
using coord::Grant;

constexpr absl::Duration kCallTime = absl::Seconds(2);
constexpr int64_t kEventsUnderWay = 200;

int64_t BootMicros() { return BootNanos() / 1000; }

// A pause of up to `most`.
void Pause(std::mt19937& random, absl::Duration most) {
  absl::SleepFor(most * std::uniform_real_distribution<double>(0, 1)(random));
}

// What became of the calls of one load.
struct Outcomes {
  std::atomic<int64_t> acknowledged{0}, unknown{0}, failed{0};

  // Not OK: an outcome that no fault of the store explains.
  absl::Status Count(const absl::Status& status) {
    if (status.ok()) {
      ++acknowledged;
    } else if (absl::IsDeadlineExceeded(status)) {
      ++unknown;
    } else if (absl::IsUnavailable(status)) {
      ++failed;
    } else {
      return status;
    }
    return absl::OkStatus();
  }
  std::string Text() const { return absl::StrCat(acknowledged.load(), " ", unknown.load(), " ", failed.load()); }
};

class Loads {
 public:
  absl::StatusOr<std::string> Mutex(Cluster& cluster, const Arguments& arguments);
  absl::StatusOr<std::string> Election(Cluster& cluster, const Arguments& arguments);
  absl::StatusOr<std::string> Value(Cluster& cluster, const Arguments& arguments);
  absl::StatusOr<std::string> Subscribe(Cluster& cluster, const Arguments& arguments);
  absl::StatusOr<std::string> Events(Cluster& cluster, const Arguments& arguments);
  std::string Report(Session& session);
  void Stop() { stop_ = true; }

 private:
  absl::Status CountIn(coord::FencedCell cell, const Grant& grant, const std::string& file, Outcomes& outcomes);
  absl::Status Turn(coord::Mutex& mutex, const coord::FencedCell& cell, const std::string& file, std::mt19937& random);
  void OnEvent(const coord::Event& event, const std::string& file);
  void OnOutcome(int64_t n, const absl::Status& status, const std::string& file);

  std::atomic<bool> stop_{false};
  Outcomes turns_, terms_, additions_;
  std::atomic<int64_t> turns_taken_{0}, terms_taken_{0};
  std::atomic<int64_t> published_{0}, settled_{0}, stored_{0};
  std::mutex mutex_;
  std::map<std::string, int64_t> got_;  // by the publisher's label
  absl::Status events_wrong_;
  coord::Subscription subscription_;  // the last, so that it ends first
};

// One count in a cell that only the owner may write. The value is "COUNT FENCE" of the last writer.
absl::Status Loads::CountIn(coord::FencedCell cell, const Grant& grant, const std::string& file, Outcomes& outcomes) {
  // The grant was given before, so that this copy is the owner at least from here until the last look that says so.
  const int64_t from = BootMicros();
  if (grant.Lost()) return absl::OkStatus();
  int64_t count = 0;
  const absl::StatusOr<coord::Fenced> written = cell.Update(
      grant,
      [&](const std::optional<std::string>& now) -> absl::StatusOr<std::string> {
        const std::vector<std::string> words = absl::StrSplit(now.value_or("0 0"), ' ');
        if (words.size() != 2 || !absl::SimpleAtoi(words[0], &count)) {
          return absl::DataLossError(absl::StrCat("the cell is torn: ", *now));
        }
        return absl::StrCat(++count, " ", grant.fence());
      },
      absl::Now() + kCallTime);
  const int64_t now = BootMicros();
  const bool lost = grant.Lost();
  if (lost && absl::IsFailedPrecondition(written.status())) return absl::OkStatus();  // nothing was written
  if (written.ok()) {
    AppendRecord(file, absl::StrCat(grant.fence(), " ", written->revision.number, " ", count, " ", from, " ",
                                    lost ? from : now));
  }
  return outcomes.Count(written.status());
}

absl::Status Loads::Turn(coord::Mutex& mutex, const coord::FencedCell& cell, const std::string& file,
                         std::mt19937& random) {
  absl::StatusOr<Grant> grant = mutex.Acquire(absl::Now() + absl::Seconds(5));
  if (absl::IsDeadlineExceeded(grant.status())) return absl::OkStatus();
  if (!grant.ok()) return grant.status();
  const int64_t before = turns_.acknowledged;
  if (absl::Status status = CountIn(cell, *grant, file, turns_); !status.ok()) return status;
  if (turns_.acknowledged > before) ++turns_taken_;
  Pause(random, absl::Milliseconds(5));
  const absl::Status released = grant->Release(kCallTime);
  const bool may_be = released.ok() || absl::IsDeadlineExceeded(released) || absl::IsUnavailable(released) ||
                      absl::IsFailedPrecondition(released);
  return may_be ? absl::OkStatus() : released;
}

absl::StatusOr<std::string> Loads::Mutex(Cluster& cluster, const Arguments& arguments) {
  std::mt19937 random(static_cast<unsigned>(arguments.Number(3)));
  coord::Mutex mutex = cluster.Mutex(arguments.Text(0));
  const coord::FencedCell cell = cluster.FencedCell(arguments.Text(1));
  while (!stop_) {
    if (absl::Status status = Turn(mutex, cell, arguments.Text(2), random); !status.ok()) return status;
    Pause(random, absl::Milliseconds(10));
  }
  return turns_.Text();
}

absl::StatusOr<std::string> Loads::Election(Cluster& cluster, const Arguments& arguments) {
  std::mt19937 random(static_cast<unsigned>(arguments.Number(3)));
  const coord::FencedCell cell = cluster.FencedCell(arguments.Text(1));
  const std::unique_ptr<coord::Candidate> candidate =
      cluster.Election(arguments.Text(0)).Stand({cluster.instance(), nullptr, nullptr, nullptr});
  while (!stop_) {
    absl::SleepFor(absl::Milliseconds(2));
    const std::shared_ptr<const Grant> term = candidate->Term();
    if (term == nullptr) continue;
    const int64_t before = terms_.acknowledged;
    for (int i = 0; i < 2 && !term->Lost(); ++i) {
      if (absl::Status status = CountIn(cell, *term, arguments.Text(2), terms_); !status.ok()) return status;
      Pause(random, absl::Milliseconds(10));
    }
    if (terms_.acknowledged > before) ++terms_taken_;
    const absl::Status stepped = candidate->StepDown(kCallTime);
    if (!stepped.ok() && !absl::IsDeadlineExceeded(stepped) && !absl::IsUnavailable(stepped) &&
        !absl::IsFailedPrecondition(stepped)) {
      return stepped;
    }
  }
  return terms_.Text();
}

absl::StatusOr<std::string> Loads::Value(Cluster& cluster, const Arguments& arguments) {
  std::mt19937 random(static_cast<unsigned>(arguments.Number(2)));
  coord::AtomicValue value = cluster.AtomicValue(arguments.Text(0));
  while (!stop_) {
    const absl::StatusOr<coord::Versioned> added = value.Update(PlusOne, absl::Now() + kCallTime);
    if (absl::Status status = additions_.Count(added.status()); !status.ok()) return status;
    if (added.ok()) AppendRecord(arguments.Text(1), added->value);
    Pause(random, absl::Milliseconds(60));
  }
  return additions_.Text();
}

void Loads::OnEvent(const coord::Event& event, const std::string& file) {
  if (event.gap) {
    if (event.delivery != coord::Delivery::kReliable) return;  // nobody publishes others
    AppendRecord(file, absl::StrCat("gap ", event.payload).substr(0, 62));
    return;
  }
  AppendRecord(file, event.payload);
  const std::vector<std::string> words = absl::StrSplit(event.payload, ' ');
  int64_t n = 0;
  if (words.size() != 2 || !absl::SimpleAtoi(words[1], &n)) return;  // the test finds it in the file
  std::lock_guard<std::mutex> lock(mutex_);
  got_[words[0]] = n;
}

void Loads::OnOutcome(int64_t n, const absl::Status& status, const std::string& file) {
  const bool unknown = absl::IsDeadlineExceeded(status);
  if (status.ok() || unknown || absl::IsUnavailable(status)) {
    AppendRecord(file, absl::StrCat(status.ok() ? "stored " : unknown ? "unknown " : "failed ", n));
  } else {
    std::lock_guard<std::mutex> lock(mutex_);
    events_wrong_ = status;
  }
  if (status.ok()) ++stored_;
  ++settled_;
}

absl::StatusOr<std::string> Loads::Subscribe(Cluster& cluster, const Arguments& arguments) {
  const std::string got = arguments.Text(2);
  coord::SubscribeOptions place;
  place.cursor = arguments.Text(1);
  absl::StatusOr<coord::Subscription> subscription = cluster.events().Subscribe(
      arguments.Text(0), [this, got](const coord::Event& event) { OnEvent(event, got); },
      absl::Now() + absl::Seconds(20), place);
  if (!subscription.ok()) return subscription.status();
  // It stays until the end: others may still publish.
  subscription_ = *std::move(subscription);
  return std::string("subscribed");
}

absl::StatusOr<std::string> Loads::Events(Cluster& cluster, const Arguments& arguments) {
  std::mt19937 random(static_cast<unsigned>(arguments.Number(2)));
  const std::string sent = arguments.Text(1);
  coord::PublishOptions reliable;
  reliable.delivery = coord::Delivery::kReliable;
  while (!stop_) {
    Pause(random, absl::Milliseconds(100));
    if (published_ - settled_ >= kEventsUnderWay) continue;
    const int64_t n = ++published_;
    // Some callers give up in the middle of an outage.
    const absl::Duration patience = absl::Seconds(std::uniform_int_distribution<int>(1, 20)(random));
    cluster.events().PublishAsync(
        arguments.Text(0), absl::StrCat(cluster.instance(), " ", n), absl::Now() + patience,
        [this, n, sent](const absl::Status& status) { OnOutcome(n, status, sent); }, reliable);
  }
  while (settled_ < published_) absl::SleepFor(absl::Milliseconds(5));
  std::lock_guard<std::mutex> lock(mutex_);
  if (!events_wrong_.ok()) return events_wrong_;
  return absl::StrCat(stored_.load(), " ", published_ - stored_);
}

std::string Loads::Report(Session& session) {
  while (!stop_) {
    std::string text = absl::StrCat("progress ", turns_taken_.load(), " ", terms_taken_.load(), " ",
                                    additions_.acknowledged.load(), " ", published_.load());
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (const auto& [publisher, n] : got_) absl::StrAppend(&text, " ", publisher, " ", n);
    }
    session.Event(text);
    absl::SleepFor(absl::Milliseconds(100));
  }
  return "stopped";
}

}  // namespace

void AddLoadCommands(Session& session) {
  auto loads = std::make_shared<Loads>();
  session.AddJoined("load-mutex",
                    [loads](Cluster& cluster, const Arguments& arguments) { return loads->Mutex(cluster, arguments); });
  session.AddJoined("load-election", [loads](Cluster& cluster, const Arguments& arguments) {
    return loads->Election(cluster, arguments);
  });
  session.AddJoined("load-value",
                    [loads](Cluster& cluster, const Arguments& arguments) { return loads->Value(cluster, arguments); });
  session.AddJoined("load-subscribe", [loads](Cluster& cluster, const Arguments& arguments) {
    return loads->Subscribe(cluster, arguments);
  });
  session.AddJoined("load-events", [loads](Cluster& cluster, const Arguments& arguments) {
    return loads->Events(cluster, arguments);
  });
  session.Add("loads-report",
              [&session, loads](const Arguments&) -> absl::StatusOr<std::string> { return loads->Report(session); });
  session.Add("loads-stop", [loads](const Arguments&) -> absl::StatusOr<std::string> {
    loads->Stop();
    return std::string("stopping");
  });
}

}  // namespace process_test
