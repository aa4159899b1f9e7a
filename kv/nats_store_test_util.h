// Shared by the tests of the NATS store.

#ifndef KV_NATS_STORE_TEST_UTIL_H_
#define KV_NATS_STORE_TEST_UTIL_H_

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kv/nats_connection.h"
#include "kv/nats_store.h"
#include "kv/store.h"
#include "kv/test_util.h"
#include "nlohmann/json.hpp"

namespace kv {

// A connection of its own to "host:port,...": this process shares those with equal options, and `number` makes the
// options differ.
inline std::shared_ptr<NatsConnection> ConnectNats(const std::string& addresses, int number = 0) {
  NatsOptions options;
  options.servers = absl::StrSplit(addresses, ',');
  for (int i = 0; i < number; ++i) options.servers.push_back(options.servers[0]);
  auto connection = NatsConnection::Connect(options, Soon());
  EXPECT_TRUE(connection.ok()) << connection.status();
  return connection.ok() ? *std::move(connection) : nullptr;
}

inline std::shared_ptr<Store> OpenNats(const std::shared_ptr<NatsConnection>& connection,
                                       const NatsStoreOptions& options = {}) {
  if (connection == nullptr) return nullptr;
  auto store = OpenNatsStore(connection, options, In(absl::Seconds(60)));
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

// The stream as its administrator sees it.
class NatsAdmin {
 public:
  explicit NatsAdmin(std::shared_ptr<NatsConnection> connection, std::string bucket = "coord")
      : connection_(std::move(connection)), bucket_(std::move(bucket)) {}

  nlohmann::json Ask(const std::string& request, const std::string& body = "") const {
    return AskOf(absl::StrCat("$JS.API.STREAM.", request, ".KV_", bucket_), body);
  }
  // Also while the connection is coming back.
  nlohmann::json AskOf(const std::string& subject, const std::string& body) const {
    const absl::Time limit = Soon();
    auto answer = connection_->Request(subject, body, {}, limit);
    while (absl::IsUnavailable(answer.status()) && absl::Now() < limit) {
      absl::SleepFor(absl::Milliseconds(10));
      answer = connection_->Request(subject, body, {}, limit);
    }
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? nlohmann::json::parse(answer->data(), nullptr, false) : nlohmann::json();
  }
  nlohmann::json State() const { return Ask("INFO")["state"]; }
  int64_t Messages() const { return State()["messages"].get<int64_t>(); }
  void Delete() const { EXPECT_EQ(Ask("DELETE")["success"], true); }
  // Publishes as any client may; the answer.
  nlohmann::json Publish(const std::string& subject, const std::string& value, const NatsHeaders& headers = {}) const {
    const auto answer = connection_->Request(absl::StrCat("$KV.", bucket_, ".", subject), value, headers, Soon());
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? nlohmann::json::parse(answer->data(), nullptr, false) : nlohmann::json();
  }

 private:
  const std::shared_ptr<NatsConnection> connection_;
  const std::string bucket_;
};

// Waits until `holds`; false after a long time.
inline bool Eventually(const std::function<bool()>& holds, absl::Duration limit = absl::Seconds(20)) {
  const absl::Time end = absl::Now() + limit;
  while (!holds()) {
    if (absl::Now() > end) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return true;
}

}  // namespace kv

#endif  // KV_NATS_STORE_TEST_UTIL_H_
