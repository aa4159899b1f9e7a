// Reliable events over the store: each copy publishes, and reads on with a cursor of its own, over restarts. Per
// publisher they come in order and without repetition within one subscription, and complete unless a gap is told.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/grants.h"
#include "tests/sim/workloads.h"
#include "tests/sim/world.h"

namespace sim {
namespace {

// What has been published and acknowledged, and what has come to each copy, over all of its processes.
struct Record {
  std::map<std::string, absl::Time> published;  // payload, acknowledged -> since when it was being published
  struct Reader {
    absl::Time since = absl::InfiniteFuture();  // the cursor was made before this
    std::set<std::string> got;
    bool gap = false;
  };
  std::map<int, Reader> readers;
};

class EventsWorker : public Worker {
 public:
  EventsWorker(Copy& copy, int thread, Record& record)
      : copy_(copy),
        reads_(thread == 0),
        dice_(copy.NewDice(absl::StrCat("events", thread))),
        prefix_(absl::StrCat(copy.number(), ".", copy.life(), ".", thread, ".")),
        record_(record) {}

  bool Step() override {
    World& world = copy_.world();
    const absl::Time deadline = copy_.In(world.config.ttl);
    if (reads_ && !subscription_ && !Subscribe(deadline)) return false;
    const std::string payload = absl::StrCat(prefix_, ++events_);
    coord::PublishOptions options;
    options.delivery = coord::Delivery::kReliable;
    const absl::Time begun = world.network.now();
    const absl::Status published = copy_.cluster().events().Publish("t", payload, deadline, options);
    ++world.report.operations;
    world.timeline.Tell(copy_.number(), "publish", static_cast<uint64_t>(published.code()),
                        [&] { return absl::StrCat("publishes ", payload, ": ", published.ToString()); });
    if (published.ok()) record_.published[payload] = begun;
    if (!published.ok()) CheckFailure(copy_, "Publish", published);
    return published.ok();
  }

 private:
  bool Subscribe(absl::Time deadline) {
    coord::SubscribeOptions options;
    options.cursor = absl::StrCat("c", copy_.number());
    auto subscribed = copy_.cluster().events().Subscribe(
        "t", [this](const coord::Event& event) { Got(event); }, deadline, options);
    if (!subscribed.ok()) {
      CheckFailure(copy_, "Subscribe", subscribed.status());
      return false;
    }
    subscription_ = *std::move(subscribed);
    Record::Reader& reader = record_.readers[copy_.number()];
    reader.since = std::min(reader.since, copy_.world().network.now());
    return true;
  }

  void Got(const coord::Event& event) {
    World& world = copy_.world();
    Record::Reader& reader = record_.readers[copy_.number()];
    world.timeline.Tell(copy_.number(), "event", event.number, [&] {
      return absl::StrCat(event.gap ? "is told of a gap: " : "gets ", event.payload, " #", event.number, " of ",
                          event.publisher);
    });
    if (event.gap) {
      reader.gap = true;
      numbers_.clear();
      return;
    }
    reader.got.insert(event.payload);
    uint64_t& last = numbers_[event.publisher];
    if (world.config.keeps() && event.number <= last) {
      world.report.Violation("event-order", absl::StrCat("copy ", copy_.number(), " gets ", event.payload, " #",
                                                         event.number, " after #", last, " of ", event.publisher));
    }
    last = event.number;
  }

  Copy& copy_;
  const bool reads_;
  Dice dice_;
  const std::string prefix_;
  Record& record_;
  int events_ = 0;
  std::map<std::string, uint64_t> numbers_;
  coord::Subscription subscription_;
};

class EventsWorkload : public Workload {
 public:
  explicit EventsWorkload(World& world) : world_(world) {}

  std::unique_ptr<Worker> Start(Copy& copy, int thread) override {
    return std::make_unique<EventsWorker>(copy, thread, record_);
  }

  void Finish() override {
    // Where events of the watch overtake each other, against its contract, one may be taken for a repetition.
    if (!world_.config.keeps() || world_.config.has(Fault::kReorder)) return;
    for (const auto& [copy, reader] : record_.readers) {
      if (reader.gap) continue;
      for (const auto& [payload, at] : record_.published) {
        if (at < reader.since || reader.got.count(payload) != 0) continue;
        world_.report.Violation("event-lost",
                                absl::StrCat("copy ", copy, " never got ", payload, ", and was told of no gap"));
      }
    }
  }

 private:
  World& world_;
  Record record_;
};

}  // namespace

std::unique_ptr<Workload> MakeEvents(World& world) { return std::make_unique<EventsWorkload>(world); }

}  // namespace sim
