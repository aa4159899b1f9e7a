// A bucket as its administrator sees it.

#ifndef TESTS_NATS_BUCKET_H_
#define TESTS_NATS_BUCKET_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kv/nats_connection.h"
#include "nlohmann/json.hpp"

namespace nats_test {

class Bucket {
 public:
  // `address` is "host:port".
  Bucket(const std::string& address, const std::string& name) : name_(name) {
    kv::NatsOptions options;
    options.servers = {address};
    auto connected = kv::NatsConnection::Connect(options, absl::Now() + absl::Seconds(20));
    EXPECT_TRUE(connected.ok()) << connected.status();
    if (connected.ok()) connection_ = *std::move(connected);
  }

  // Messages in the stream: entries, and the marks that deletes leave.
  int64_t Messages() const { return Ask("INFO")["state"]["messages"].get<int64_t>(); }

  void Delete() const { EXPECT_EQ(Ask("DELETE")["success"], true); }

 private:
  nlohmann::json Ask(const std::string& what) const {
    const auto answer = connection_->Request(absl::StrCat("$JS.API.STREAM.", what, ".KV_", name_), "", {},
                                             absl::Now() + absl::Seconds(20));
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? nlohmann::json::parse(answer->data()) : nlohmann::json();
  }

  const std::string name_;
  std::shared_ptr<kv::NatsConnection> connection_;
};

}  // namespace nats_test

#endif  // TESTS_NATS_BUCKET_H_
