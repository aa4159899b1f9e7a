// What the clients of a server have sent it and what it has sent them, counted by the server itself.

#ifndef TESTS_NATS_TRAFFIC_H_
#define TESTS_NATS_TRAFFIC_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/process/process.h"
#include "tests/servers/servers.h"

namespace nats_test {

struct Traffic {
  int64_t in = 0;   // messages published by clients, requests included; not pings, not subscriptions
  int64_t out = 0;  // messages delivered to clients: replies, pushed entries, heartbeats of consumers

  friend Traffic operator-(const Traffic& a, const Traffic& b) { return {a.in - b.in, a.out - b.out}; }
  friend bool operator==(const Traffic& a, const Traffic& b) { return a.in == b.in && a.out == b.out; }
};

class Meter {
 public:
  explicit Meter(const servers::NatsServer& server) : server_(server) {}

  Traffic Now() const {
    const absl::StatusOr<int64_t> in = server_.Varz("in_msgs");
    const absl::StatusOr<int64_t> out = server_.Varz("out_msgs");
    EXPECT_TRUE(in.ok()) << in.status();
    EXPECT_TRUE(out.ok()) << out.status();
    return {in.value_or(0), out.value_or(0)};
  }

  // Once nothing is under way: the server adds a message to its counts a moment after it has answered or passed it on.
  Traffic Rested() const {
    Traffic last = Now();
    EXPECT_TRUE(process_test::Eventually([&] {
      absl::SleepFor(absl::Milliseconds(20));
      return std::exchange(last, Now()).in == last.in;
    })) << "the traffic never rests";
    return last;
  }

  // What came since `before`, once there is at least `least` of both.
  Traffic Since(const Traffic& before, const Traffic& least) const {
    Traffic since;
    EXPECT_TRUE(process_test::Eventually([&] {
      since = Now() - before;
      return since.in >= least.in && since.out >= least.out;
    })) << "only "
        << since.in << " and " << since.out << " messages came, not " << least.in << " and " << least.out;
    return since;
  }

 private:
  const servers::NatsServer& server_;
};

}  // namespace nats_test

#endif  // TESTS_NATS_TRAFFIC_H_
