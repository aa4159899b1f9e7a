// What the tests of the event bus share.

#ifndef COORD_EVENT_TEST_UTIL_H_
#define COORD_EVENT_TEST_UTIL_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coord/cluster.h"
#include "coord/event_bus.h"
#include "coord/subscription.h"
#include "coord/testing.h"
#include "gtest/gtest.h"
#include "kv/store.h"

namespace coord {

inline const PublishOptions kReliably = {Delivery::kReliable, ""};

// Subscribes, and keeps what comes. Under virtual time only: nothing is locked.
class Listener {
 public:
  Listener(testing::World& world, Cluster& cluster, const std::string& topic, SubscribeOptions options = {}) {
    absl::StatusOr<Subscription> made = cluster.events().Subscribe(
        topic, [this](const Event& event) { Note(event); }, world.In(absl::Seconds(10)), options);
    status = made.status();
    EXPECT_TRUE(made.ok()) << made.status();
    if (made.ok()) subscription = *std::move(made);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Payloads in order, "GAP" for gaps, separated by blanks; forgets them.
  std::string Take() {
    std::string text;
    for (const Event& event : events) {
      if (!text.empty()) text += " ";
      text += event.gap ? "GAP" : event.payload;
    }
    events.clear();
    return text;
  }

  std::vector<Event> events;
  absl::Status status;
  Subscription subscription;

 private:
  void Note(const Event& event) { events.push_back(event); }
};

// As a cluster on a world, with a short name for what tests do most.
class EventBusTest : public ::testing::Test {
 protected:
  // Lets everything come to rest; a tenth of a second passes.
  void Settle() { world_.runtime().SleepFor(absl::Milliseconds(100)); }

  std::unique_ptr<Cluster> Join(const std::string& instance, const StoreEventOptions& options = {}) {
    JoinOptions join = world_.Options(instance);
    join.ttl = absl::Seconds(60);  // few beats: some tests take days
    join.events = StoreEvents(options);
    return world_.Join(std::move(join));
  }

  absl::Status Publish(Cluster& cluster, const std::string& payload, const PublishOptions& options = kReliably,
                       const std::string& topic = "t") {
    return cluster.events().Publish(topic, payload, world_.In(absl::Seconds(10)), options);
  }

  // Publishes "<first>" to "<last>" reliably.
  void PublishNumbers(Cluster& cluster, int first, int last) {
    for (int i = first; i <= last; ++i) ASSERT_TRUE(Publish(cluster, std::to_string(i)).ok());
  }

  size_t CountKeys(const std::string& prefix) {
    auto entries = world_.data().List(prefix, absl::InfiniteFuture());
    return entries.ok() ? entries->size() : 0;
  }

  static std::string Numbers(int first, int last) {
    std::string text;
    for (int i = first; i <= last; ++i) text += (i == first ? "" : " ") + std::to_string(i);
    return text;
  }

  testing::World world_;
};

}  // namespace coord

#endif  // COORD_EVENT_TEST_UTIL_H_
